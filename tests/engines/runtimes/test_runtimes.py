"""Every runtime that works without a GPU, against PyTorch, at shapes that change from call to call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.runtimes.base import Engine, Images, Runtime, restore
from engines.runtimes.opening import open_engine
from mimo.errors import ArtifactError, EngineUnavailable, MimoError, ShapeError
from tests.tiny import Tiny


def noise(*shape: int) -> Images:
    return np.random.default_rng(sum(shape)).random(shape, dtype=np.float32)


@pytest.fixture(scope="module")
def reference(tiny: Tiny) -> Iterator[Engine]:
    with open_engine(tiny.checkpoint, device="cpu") as engine:
        yield engine


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest, tiny: Tiny) -> Iterator[Engine]:
    with open_engine(tiny.onnx, request.param, "cpu") as opened:
        yield opened


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (2, 3, 64, 48), (1, 3, 20, 100), (3, 3, 36, 28), (1, 3, 16, 16)])
def test_equal_to_pytorch_whatever_shape_came_before(engine: Engine, reference: Engine, shape: tuple[int, ...]) -> None:
    images = noise(*shape)
    np.testing.assert_allclose(engine(images), reference(images), atol=2e-3 if engine.compute == "bf16" else 1e-5)


@pytest.mark.parametrize("size", [(17, 16), (19, 30), (33, 35)])
def test_any_height_and_width(engine: Engine, reference: Engine, size: tuple[int, int]) -> None:
    images = noise(1, 3, *size)
    result = restore(engine, images)
    assert result.shape == images.shape
    below, right = -size[0] % 4, -size[1] % 4
    mirrored = np.pad(images, ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect")
    np.testing.assert_allclose(result, reference(mirrored)[:, :, : size[0], : size[1]], atol=1e-5)


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
        if runtime == "openvino":
            monkeypatch.setattr(engine, "_infer", lambda: None)
        else:
            monkeypatch.setattr(engine, "_run", lambda *_: None)
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
        ("engine", "tensorrt", "auto", "build it with --runtime tensorrt"),
        ("engine", "openvino", "auto", "ONNX files only"),
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
    from benchmarks.context import describe_gpu

    return describe_gpu() is not None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("a.onnx", "a.engine", "a.safetensors"):
        with pytest.raises(MimoError, match="is not there"):
            open_engine(tmp_path / name)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(ArtifactError, match="no sidecar"):
        open_engine(tmp_path / "photo.jpg")
