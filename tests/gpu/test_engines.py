"""What only an NVIDIA GPU can show. Not run elsewhere, and said to be skipped there.

Each test asks for the files and libraries that it needs itself: a machine without TensorRT-RTX or Polygraphy runs the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.machine import describe_gpu
from benchmarks.measurement import Latency, StoppingRule, measure
from engines.runtimes.base import Engine, Images
from engines.runtimes.cuda import Bindings, open_cuda
from engines.runtimes.opening import open_engine
from mimo.errors import EngineUnavailable
from mimo.spec import Shape

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(describe_gpu() is None, reason="no NVIDIA GPU, or nvidia-ml-py not installed"),
]

SHAPES = (Shape(1, 16, 16), Shape(1, 64, 96), Shape(2, 128, 64), Shape(1, 256, 384), Shape(1, 64, 96))
FURTHEST = {"fp32": 1e-4, "fp16": 1e-2}


def pictures(shape: Shape, seed: int = 0) -> Images:
    """Smooth noise in [0,1], as photographs are smooth."""
    coarse = np.random.default_rng(seed).random((shape.batch, 3, -(-shape.height // 8), -(-shape.width // 8)), np.float32)
    return np.ascontiguousarray(coarse.repeat(8, 2).repeat(8, 3)[:, :, : shape.height, : shape.width])


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> Iterator[Engine]:
    with open_engine(tiny_checkpoint, device="cpu") as engine:
        yield engine


@pytest.fixture
def engine_file(tiny_onnx: tuple[Path, Path], tmp_path: Path) -> Path:
    """A TensorRT-RTX plan of the tiny network; skipped where it cannot be built or does not run on this GPU."""
    pytest.importorskip("tensorrt_rtx")
    from engines.build import build_engine
    from engines.runtimes.tensorrt import TensorRTEngine
    from mimo.artifact import open_artifact
    from mimo.errors import EngineError
    from tests.tiny import PROFILE

    copied = Path(shutil.copy(tiny_onnx[1], tmp_path))
    shutil.copy(tiny_onnx[1].with_name(tiny_onnx[1].name + ".json"), tmp_path)
    artifact = build_engine(open_artifact(copied), tmp_path / "tiny.engine", shapes=PROFILE)
    try:
        with TensorRTEngine(artifact):
            pass
    except EngineError as error:
        if "not one of those that TensorRT-RTX runs on" in str(error):
            pytest.skip(str(error))
        raise
    return artifact.path


def agree(engine: Engine, reference: Engine, precision: str) -> None:
    for number, shape in enumerate(SHAPES):
        images = pictures(shape, number)
        furthest = float(np.abs(reference(images) - engine(images)).max())
        assert furthest <= FURTHEST[precision], f"{engine.name} at {shape}"


def test_pytorch_on_cuda(tiny_checkpoint: Path, reference: Engine) -> None:
    with open_engine(tiny_checkpoint, device="cuda", precision="fp32") as engine:
        agree(engine, reference, "fp32")


def test_pytorch_on_cuda_as_it_runs_by_default(tiny_checkpoint: Path, reference: Engine) -> None:
    with open_engine(tiny_checkpoint, device="cuda") as engine:
        assert engine.name == "pytorch cuda fp16 (lean, channels last, CUDA graph)"
        agree(engine, reference, "fp16")
        images = pictures(SHAPES[-1])  # a replayed graph must read the new input
        assert not np.array_equal(engine(images), engine(images[:, :, ::-1].copy()))


def test_onnxruntime_on_cuda(tiny_onnx: tuple[Path, Path], reference: Engine) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime is built without CUDA")
    for path, precision in zip(tiny_onnx, ("fp32", "fp16"), strict=True):
        with open_engine(path, "onnxruntime", "cuda") as engine:
            agree(engine, reference, precision)


@pytest.mark.parametrize("bindings", ["cuda-bindings", "pycuda"])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_tensorrt_rtx(engine_file: Path, reference: Engine, bindings: Bindings, cuda_graph: bool) -> None:
    from engines.runtimes.tensorrt import TensorRTEngine
    from mimo.artifact import open_artifact

    try:
        open_cuda(bindings)
    except EngineUnavailable as error:
        pytest.skip(str(error))
    with TensorRTEngine(open_artifact(engine_file), bindings=bindings, cuda_graph=cuda_graph) as engine:
        agree(engine, reference, "fp16")
        # A replayed graph must read the new input.
        images = pictures(SHAPES[-1])
        assert not np.array_equal(engine(images), engine(images[:, :, ::-1].copy()))


def test_the_asynchronous_time_is_not_the_latency(tiny_checkpoint: Path) -> None:
    with open_engine(tiny_checkpoint, device="cuda", precision="fp32") as engine:
        measured = measure(Latency(engine, pictures(Shape(4, 720, 1280))), StoppingRule(max_seconds=2.0))
    assert measured.summary_events is not None
    assert measured.summary_enqueued is not None
    assert measured.summary_enqueued.median < measured.median
    assert measured.summary_events.median == pytest.approx(measured.median, rel=0.2)
