"""Every runtime that works without a GPU, against PyTorch, at shapes that change from call to call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import openvino
import pytest

from engines.runtimes.base import Engine, Images, Precision, Runtime, restore
from engines.runtimes.opening import open_engine
from mimo.errors import ArtifactError, EngineUnavailable, MimoError, ShapeError
from tests.engines.runtimes.processor import Processor
from tests.tiny import Tiny


def noise(*shape: int) -> Images:
    return np.random.default_rng(sum(shape)).random(shape, dtype=np.float32)


@pytest.fixture(scope="module")
def reference(tiny: Tiny) -> Iterator[Engine]:
    with open_engine(tiny.checkpoint, device="cpu") as engine:
        yield engine


@pytest.fixture(scope="module", params=["onnxruntime", "openvino fp32", "openvino bf16"])
def engine(request: pytest.FixtureRequest, tiny: Tiny) -> Iterator[Engine]:
    """In bfloat16 too, on any processor: see :class:`Processor`."""
    runtime, _, precision = request.param.partition(" ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "openvino", Processor(openvino, bf16=True))
        with open_engine(tiny.onnx, runtime, "cpu", precision=precision or "auto") as opened:
            assert opened.compute == (precision or "fp32")
            yield opened


def tolerance(engine: Engine) -> float:
    """bfloat16 has 8 bits of mantissa."""
    return 1e-2 if engine.compute == "bf16" else 1e-5


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (2, 3, 64, 48), (1, 3, 20, 100), (3, 3, 36, 28), (1, 3, 16, 16)])
def test_equal_to_pytorch_whatever_shape_came_before(engine: Engine, reference: Engine, shape: tuple[int, ...]) -> None:
    images = noise(*shape)
    np.testing.assert_allclose(engine(images), reference(images), atol=tolerance(engine))


@pytest.mark.parametrize("size", [(17, 16), (19, 30), (33, 35)])
def test_any_height_and_width(engine: Engine, reference: Engine, size: tuple[int, int]) -> None:
    images = noise(1, 3, *size)
    result = restore(engine, images)
    assert result.shape == images.shape
    below, right = -size[0] % 4, -size[1] % 4
    mirrored = np.pad(images, ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect")
    np.testing.assert_allclose(result, reference(mirrored)[:, :, : size[0], : size[1]], atol=tolerance(engine))


@pytest.mark.parametrize(
    ("bf16", "asked", "computes"), [(True, "auto", "bf16"), (True, "fp32", "fp32"), (False, "auto", "fp32")]
)
def test_openvino_takes_bfloat16_where_the_processor_has_it_and_float32_on_request(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, bf16: bool, asked: Precision | Literal["auto"], computes: str
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", Processor(openvino, bf16=bf16))
    with open_engine(tiny.onnx, "openvino", "cpu", precision=asked) as engine:
        assert (engine.compute, engine.name) == (computes, f"openvino cpu {computes}")


@pytest.mark.parametrize(
    ("file", "runtime", "precision", "says"),
    [
        ("onnx", "openvino", "bf16", "no bfloat16"),
        ("onnx", "openvino", "fp16", "fp32 and bf16"),
        ("onnx", "onnxruntime", "bf16", "mimo-unet-w8-b1.onnx is computed in fp32 on the cpu"),
        ("fp16", "onnxruntime", "fp16", "is computed in fp32 on the cpu"),
        ("engine", "tensorrt-rtx", "fp32", "computed in fp16 on the cuda"),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, file: str, runtime: Runtime, precision: Precision, says: str
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", Processor(openvino, bf16=False))
    with pytest.raises(EngineUnavailable, match=says):
        open_engine(getattr(tiny, file), runtime, precision=precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_pytorch_computes_in_the_precision_asked_for(tiny: Tiny, reference: Engine, precision: Precision) -> None:
    images = noise(1, 3, 32, 48)
    with open_engine(tiny.checkpoint, device="cpu", precision=precision) as engine:
        assert engine.compute == precision
        np.testing.assert_allclose(engine(images), reference(images), atol=tolerance(engine))


def test_results_of_earlier_calls_stay_as_they_were(engine: Engine) -> None:
    first = engine(noise(1, 3, 32, 32))
    kept = first.copy()
    engine(noise(1, 3, 32, 32)[:, :, ::-1].copy())
    np.testing.assert_array_equal(first, kept)


def test_a_launcher_computes_each_time_it_is_called(engine: Engine) -> None:
    launch = engine.launcher(noise(1, 3, 64, 64))
    for _ in range(3):
        launch()
        engine.synchronize()
    assert engine.device_seconds(launch) is None


def test_refused_input(engine: Engine) -> None:
    with pytest.raises(ShapeError, match="multiples of 4"):
        engine(noise(1, 3, 18, 16))
    with pytest.raises(ShapeError, match="at least 16"):
        engine(noise(1, 3, 12, 16))
    with pytest.raises(TypeError):
        engine(noise(1, 3, 16, 16).astype(np.float64))
    with pytest.raises(ShapeError, match="at least 16"):
        restore(engine, noise(1, 3, 15, 40))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_output_is_poisoned_first(tiny: Tiny, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that writes nothing must be seen: take the run away and NaN comes out."""
    with open_engine(tiny.onnx, runtime, "cpu") as engine:
        engine(noise(1, 3, 16, 16))
        monkeypatch.setattr(engine, "_infer", lambda *_: None)
        assert np.isnan(engine(noise(1, 3, 16, 16))).all()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_fp16_graphs_run_on_the_cpu_too(tiny: Tiny, reference: Engine, runtime: Runtime) -> None:
    images = noise(1, 3, 32, 48)
    with open_engine(tiny.fp16, runtime, "cpu") as engine:
        np.testing.assert_allclose(engine(images), reference(images), atol=1e-2)
        assert engine.compute in ("fp32", "bf16")  # not fp16: no CPU kernel computes in it


def test_auto_takes_openvino_on_a_cpu(tiny: Tiny) -> None:
    with open_engine(tiny.onnx, device="cpu") as engine:
        assert (engine.runtime, engine.device) == ("openvino", "cpu")


@pytest.mark.parametrize(
    ("file", "runtime", "device", "says"),
    [
        ("onnx", "onnxruntime", "cuda", "--device cpu"),
        ("onnx", "openvino", "cuda", "onnxruntime"),
        ("checkpoint", "pytorch", "cuda", "no CUDA device"),
        ("checkpoint", "openvino", "cpu", "export it first"),
        ("onnx", "tensorrt-rtx", "auto", "build it"),
        ("engine", "tensorrt", "auto", "build it with mimo build-engine --runtime tensorrt"),
        ("engine", "openvino", "auto", "takes an OpenVINO IR or an ONNX file only"),
        ("engine", "tensorrt-rtx", "cpu", "NVIDIA GPUs only"),
        ("engine", "auto", "auto", "GPU"),
    ],
)
def test_what_was_asked_for_and_is_not_here_fails_and_is_not_replaced(
    tiny: Tiny, file: str, runtime: Runtime, device: str, says: str
) -> None:
    if "cuda" in (device, "auto") and _gpu_is_here():
        pytest.skip("this machine has a GPU: tests/gpu looks at what works there")
    with pytest.raises(EngineUnavailable, match=says):
        open_engine(getattr(tiny, file), runtime, device)  # type: ignore[arg-type]


def _gpu_is_here() -> bool:
    from benchmarks.machine import describe_gpu

    return describe_gpu() is not None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("a.onnx", "a.engine", "a.safetensors"):
        with pytest.raises(MimoError, match="does not exist"):
            open_engine(tmp_path / name)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(ArtifactError, match="no sidecar"):
        open_engine(tmp_path / "photo.jpg")
