"""Real TensorRT-RTX builds, which need no GPU, and their receipts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import engines.build
from engines.build import DEFAULT_SHAPES, build_engine, precision_of, read_network
from engines.runtimes.tensorrt_api import explain, load_tensorrt
from mimo.artifact import Artifact, Receipt, open_artifact
from mimo.errors import BuildError, EngineUnavailable, ShapeError
from mimo.networks.registry import ADOPTED
from mimo.spec import ModelSpec, Shape, ShapeRange
from tests.tiny import PROFILE, Tiny

SMALL = ShapeRange(Shape(1, 16, 16), Shape(1, 64, 64), Shape(2, 128, 128))
CONVOLUTIONS = 40
"""With one residual block a stage: 124 with eight, transposed ones included, less 7 blocks of 2 in each of 6 stages."""


@pytest.fixture
def onnx(tiny: Tiny, tmp_path: Path) -> Artifact:
    for path in (tiny.onnx, tiny.fp16):
        shutil.copy(path, tmp_path)
        shutil.copy(path.with_name(path.name + ".json"), tmp_path)
    return open_artifact(tmp_path / tiny.onnx.name)


@pytest.fixture
def fp16(onnx: Artifact, tiny: Tiny) -> Artifact:
    return open_artifact(onnx.path.with_name(tiny.fp16.name))


def test_fp16(fp16: Artifact) -> None:
    out = fp16.path.with_name("a.engine")
    built = build_engine(fp16, out, shapes=SMALL)
    assert built.receipt == Receipt({"fp16": CONVOLUTIONS}, {"fp16": 6}, 0)
    assert (built.format, built.precision, built.shapes, built.parent_sha256) == ("tensorrt-rtx", "fp16", SMALL, fp16.sha256)
    assert built.checkpoint_sha256 == fp16.checkpoint_sha256
    assert open_artifact(out) == built
    assert out.read_bytes()[:4] == b"vtrt"  # the plan itself, with nothing of ours around it


@pytest.mark.slow
def test_fp32(onnx: Artifact) -> None:
    built = build_engine(onnx, onnx.path.with_name("b.engine"), shapes=SMALL)
    assert built.receipt == Receipt({"fp32": CONVOLUTIONS}, {"fp32": 6}, 0)
    assert built.precision == "fp32"


@pytest.mark.slow
def test_chosen_gpus(fp16: Artifact) -> None:
    built = build_engine(fp16, fp16.path.with_name("c.engine"), shapes=SMALL, compute_capabilities=("8.6", "8.9"))
    assert built.compute_capabilities == ("8.6", "8.9")
    with pytest.raises(BuildError, match=r"compute capability 1\.0: choose from .*8\.9"):
        build_engine(fp16, fp16.path.with_name("d.engine"), shapes=SMALL, compute_capabilities=("1.0",))
    assert not fp16.path.with_name("d.engine").exists()


@pytest.mark.slow
def test_an_fp32_convolution_under_fp16_is_an_error_unless_allowed(onnx: Artifact) -> None:
    """A graph that calls itself FP16 and is not: the receipt comes from what TensorRT parsed, not from the name."""
    liar = replace(onnx, precision="fp16")
    out = onnx.path.with_name("e.engine")
    with pytest.raises(BuildError, match=rf"not all in fp16 \(convolutions: {CONVOLUTIONS} in fp32.*--allow-mixed"):
        build_engine(liar, out, shapes=SMALL)
    assert not out.exists()
    assert not out.with_name(out.name + ".json").exists()
    assert build_engine(liar, out, shapes=SMALL, allow_mixed=True).precision == "fp32"


def test_the_receipt_can_be_read_again(fp16: Artifact, onnx: Artifact) -> None:
    assert read_network(fp16, "tensorrt-rtx").convolutions == {"fp16": CONVOLUTIONS}
    assert read_network(onnx, "tensorrt-rtx").convolutions == {"fp32": CONVOLUTIONS}


@pytest.mark.parametrize(
    ("convolutions", "precision"),
    [({"fp16": 3}, "fp16"), ({"fp32": 3}, "fp32"), ({"fp16": 119, "fp32": 1}, "mixed"), ({}, "mixed")],
)
def test_precision(convolutions: dict[str, int], precision: str) -> None:
    assert precision_of(Receipt(convolutions, {}, 0)) == precision


def test_a_profile_the_network_cannot_take() -> None:
    with pytest.raises(ShapeError, match="min <= opt <= max"):
        ShapeRange(Shape(1, 64, 64), Shape(1, 32, 64), Shape(1, 64, 64))
    with pytest.raises(ShapeError, match="multiples of 4"):
        ShapeRange(Shape(1, 62, 64), Shape(1, 64, 64), Shape(1, 64, 64))
    assert str(DEFAULT_SHAPES) == "1x64x64 .. 1x720x1280 .. 4x2160x3840"


@pytest.mark.parametrize(("multiple", "side", "taken"), [(8, 64, True), (8, 68, False)])
def test_a_profile_holds_multiples_of_what_the_network_takes(
    fp16: Artifact, tmp_path: Path, multiple: int, side: int, taken: bool
) -> None:
    """Whatever the range itself was made for: 64 is a multiple of 8 although 4 was asked of it."""
    spec = ModelSpec("elsewhere", ADOPTED, {}, multiple)
    source = replace(fp16, spec=spec)
    shape = Shape(1, side, side)
    shapes = ShapeRange(shape, shape, shape, 2)
    if taken:
        assert build_engine(source, tmp_path / "a.engine", shapes=shapes).shapes == replace(shapes, multiple=multiple)
        assert open_artifact(tmp_path / "a.engine").shapes == replace(shapes, multiple=multiple)
    else:
        with pytest.raises(ShapeError, match="multiples of 8; 1x72x72 is the next one"):
            build_engine(source, tmp_path / "a.engine", shapes=shapes)


@pytest.mark.slow
def test_an_engine_is_no_source(fp16: Artifact) -> None:
    built = build_engine(fp16, fp16.path.with_name("f.engine"), shapes=SMALL)
    with pytest.raises(BuildError, match="is a TensorRT-RTX engine: build from the ONNX file"):
        build_engine(built, fp16.path.with_name("g.engine"))


def test_a_graph_tensorrt_cannot_read(onnx: Artifact) -> None:
    onnx.path.write_bytes(b"\x08\x0agarbage")
    with pytest.raises(BuildError, match="cannot read"):
        build_engine(onnx, onnx.path.with_name("h.engine"), shapes=SMALL)


def test_a_builder_that_returns_nothing(fp16: Artifact) -> None:
    """TensorRT fails by logging and returning None: nothing is written, and what it said is translated."""
    real = load_tensorrt("tensorrt-rtx")

    class FailingBuilder:
        def __init__(self, logger: Any) -> None:
            self._logger, self._builder = logger, real.Builder(logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._builder, name)

        def build_serialized_network(self, network: object, config: object) -> None:
            self._logger.log(real.ILogger.ERROR, "[x] Error Code 2: OutOfMemory (Requested size was 9803980800 bytes.)")

    module = SimpleNamespace(**{name: getattr(real, name) for name in dir(real)})
    module.Builder = FailingBuilder
    out = fp16.path.with_name("i.engine")
    with pytest.raises(BuildError, match="memory ran out; use a smaller --max"):
        build_engine(fp16, out, shapes=SMALL, trt=module)  # type: ignore[arg-type]
    assert not out.exists()


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)",
            "no NVIDIA GPU",
        ),
        ("CUDA initialization failure with error: 100", "no NVIDIA GPU"),
        ("Error Code 2: OutOfMemory (Requested size was 9803980800 bytes.)", "memory ran out"),
        ("The engine plan file is not compatible with this version of TensorRT", "another version"),
        ("IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Version tag does not match)", "another version"),
        ("IBuilder::buildSerializedNetwork: Error Code 1: Myelin (Error during shape inference of resize)", "for one size"),
        ("IBuilder: optimization profile 0 is invalid", "profile does not fit"),
        ("something new", "something new"),
    ],
)
def test_translations(said: str, cause: str) -> None:
    sentence = explain("x could not be built", [said])
    assert cause in sentence
    assert said in sentence


def test_without_tensorrt() -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(EngineUnavailable, match=r"\[tensorrt\]"):
            load_tensorrt("tensorrt")


def test_float32_is_float32_and_not_tensorfloat(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's own default is TF32, which keeps 10 bits of the mantissa."""
    trt = load_tensorrt("tensorrt-rtx")
    seen: list[bool] = []

    class Stop(Exception):
        pass

    def look(trt: Any, config: Any, *_: object) -> None:
        seen.append(config.get_flag(trt.BuilderFlag.TF32))
        raise Stop

    monkeypatch.setattr(engines.build, "_set_targets", look)
    with pytest.raises(Stop):
        build_engine(open_artifact(tiny.onnx), tmp_path / "a.engine", shapes=PROFILE, trt=trt)
    assert seen == [False]
