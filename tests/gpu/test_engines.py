"""What only an NVIDIA GPU can show. Not run elsewhere, and said to be skipped there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.machine import describe_gpu
from benchmarks.measurement import Latency, StoppingRule, measure
from engines.runtimes.base import Engine
from engines.runtimes.cuda import Bindings, open_cuda
from engines.runtimes.opening import open_engine
from engines.runtimes.tensorrt import TensorRTEngine
from engines.sample_images import list_photographs, photograph_batch
from engines.verification import TOLERANCES, compare_images
from mimo.artifact import open_artifact, sidecar_of
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import EngineUnavailable
from mimo.spec import Shape
from tests.tiny import Tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(describe_gpu() is None, reason="no NVIDIA GPU, or nvidia-ml-py not installed"),
]

SHAPES = (Shape(1, 16, 16), Shape(1, 64, 96), Shape(2, 128, 64), Shape(1, 256, 384), Shape(1, 64, 96))


@pytest.fixture(scope="module")
def reference(tiny: Tiny) -> Iterator[Engine]:
    with open_engine(tiny.checkpoint, device="cpu") as engine:
        yield engine


@pytest.fixture
def engine_file(tiny: Tiny, tmp_path: Path) -> Path:
    for path in (tiny.engine, sidecar_of(tiny.engine)):
        shutil.copy(path, tmp_path)
    return tmp_path / tiny.engine.name


def agree(engine: Engine, reference: Engine, precision: str) -> None:
    for number, shape in enumerate(SHAPES):
        images = photograph_batch(list_photographs(PHOTOGRAPHS), shape, first=number)
        case = compare_images(reference(images), engine(images), TOLERANCES[precision])
        assert case, f"{engine.name}: {case}"


def test_pytorch_on_cuda(tiny: Tiny, reference: Engine) -> None:
    with open_engine(tiny.checkpoint, device="cuda") as engine:
        agree(engine, reference, "fp32")


def test_onnxruntime_on_cuda(tiny: Tiny, reference: Engine) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime is built without CUDA")
    for path, precision in ((tiny.onnx, "fp32"), (tiny.fp16, "fp16")):
        with open_engine(path, "onnxruntime", "cuda") as engine:
            agree(engine, reference, precision)


@pytest.mark.parametrize("bindings", ["cuda-bindings", "pycuda"])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_tensorrt_rtx(engine_file: Path, reference: Engine, bindings: Bindings, cuda_graph: bool) -> None:
    try:
        open_cuda(bindings)
    except EngineUnavailable as error:
        pytest.skip(str(error))
    with TensorRTEngine(open_artifact(engine_file), bindings=bindings, cuda_graph=cuda_graph) as engine:
        agree(engine, reference, "fp16")
        # A replayed graph must read the new input.
        images = photograph_batch(list_photographs(PHOTOGRAPHS), SHAPES[-1])
        assert not np.array_equal(engine(images), engine(images[:, :, ::-1].copy()))


def test_the_asynchronous_time_is_not_the_latency(tiny: Tiny) -> None:
    with open_engine(tiny.checkpoint, device="cuda") as engine:
        images = photograph_batch(list_photographs(PHOTOGRAPHS), Shape(4, 720, 1280))
        measured = measure(Latency(engine, images), StoppingRule(max_seconds=2.0))
    assert measured.summary_events is not None
    assert measured.summary_enqueued is not None
    assert measured.summary_enqueued.median < measured.median
    assert measured.summary_events.median == pytest.approx(measured.median, rel=0.2)
