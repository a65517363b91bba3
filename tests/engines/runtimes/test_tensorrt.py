"""What the TensorRT engine asks of TensorRT and CUDA, without either: a fake module and a fake device that check it.

The numbers come from tests/gpu; here it is the order of calls, the memory and the cache that can be wrong.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import engines.runtimes.tensorrt
from engines.runtimes.tensorrt import TensorRTEngine
from engines.runtimes.tensorrt_api import explain, load_tensorrt
from mimo.artifact import Artifact, open_artifact
from mimo.errors import EngineError, ShapeError
from tests.tiny import Tiny


class FakeCuda:
    """Host memory that plays device memory; a copy or a launch before the pointers are set would crash or be noticed."""

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.most = 1 << 40

    def allocate(self, size: int) -> int:
        if size > self.most:
            raise EngineError("cudaMalloc failed: cudaErrorMemoryAllocation")
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, pointer: int) -> None:
        del self.memory[pointer]

    def free_bytes(self) -> int:
        return self.most

    def fill(self, pointer: int, byte: int, size: int, stream: int) -> None:
        ctypes.memset(pointer, byte, size)

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        assert array.flags["C_CONTIGUOUS"]
        ctypes.memmove(pointer, array.ctypes.data, array.nbytes)

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        ctypes.memmove(array.ctypes.data, pointer, array.nbytes)

    def create_stream(self) -> int:
        self.streams.add(7)
        return 7

    def destroy_stream(self, stream: int) -> None:
        self.streams.remove(stream)

    def synchronize(self, stream: int) -> None:
        assert stream in self.streams

    def time(self, stream: int, launch: Callable[[], None]) -> float:
        launch()
        return 0.25


class FakeContext:
    """Halves its input, if everything was set before."""

    def __init__(self, trt: FakeTrt) -> None:
        self.trt = trt
        self.shape: tuple[int, ...] = ()
        self.address: dict[str, int] = {}
        self.scratch = (0, 0)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "blur"

    def update_device_memory_size_for_shapes(self) -> int:
        return 0 if self.trt.query_fails else int(np.prod(self.shape)) * 2

    def set_device_memory(self, pointer: int, size: int) -> None:
        self.scratch = (pointer, size)

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.address[name] = pointer
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream in self.trt.cuda.streams
        assert self.scratch[1] >= int(np.prod(self.shape)) * 2
        assert self.scratch[0] in self.trt.cuda.memory
        if self.trt.fails:
            self.trt.logger.log(self.trt.ILogger.ERROR, "Error Code 2: OutOfMemory")
            return False
        count = int(np.prod(self.shape))
        source = np.ctypeslib.as_array(ctypes.cast(self.address["blur"], ctypes.POINTER(ctypes.c_float)), (count,))
        target = np.ctypeslib.as_array(ctypes.cast(self.address["sharp"], ctypes.POINTER(ctypes.c_float)), (count,))
        if not self.trt.lazy:
            target[:] = source / 2
        return True


class FakeTrt:
    """As much of the module as the engine touches."""

    ILogger = load_tensorrt("tensorrt-rtx").ILogger
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager", LAZY="lazy")
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")

    def __init__(self) -> None:
        self.cuda = FakeCuda()
        self.fails = self.lazy = self.refuses = self.query_fails = False
        self.cache_is_stale = False
        self.loaded: bytes | None = None
        self.config = SimpleNamespace(
            set_execution_context_allocation_strategy=lambda strategy: None, set_runtime_cache=self._keep
        )
        self.config.create_runtime_cache = lambda: SimpleNamespace(deserialize=self._deserialize, serialize=lambda: b"kernels")

    def _keep(self, cache: Any) -> None:
        self.cache = cache

    def _deserialize(self, content: bytes) -> bool:
        self.loaded = content
        return not self.cache_is_stale

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        self.logger = logger
        return self

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if self.refuses:
            self.logger.log(self.ILogger.ERROR, "The engine plan file is not compatible with this version of TensorRT")
            return None
        return SimpleNamespace(
            create_runtime_config=lambda: self.config,
            create_execution_context=lambda _: FakeContext(self),
            device_memory_size_v2=1_000_000,
        )


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTrt:
    fake = FakeTrt()
    monkeypatch.setattr(engines.runtimes.tensorrt, "open_cuda", lambda bindings: fake.cuda)
    return fake


@pytest.fixture
def artifact(tiny: Tiny, tmp_path: Path) -> Artifact:
    copied = open_artifact(tiny.engine)
    path = tmp_path / tiny.engine.name
    path.write_bytes(tiny.engine.read_bytes())
    return Artifact(**{**copied.__dict__, "path": path})


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def opened(artifact: Artifact, trt: FakeTrt, **options: Any) -> TensorRTEngine:
    return TensorRTEngine(artifact, trt=trt, **options)  # type: ignore[arg-type]


def test_shapes_grow_and_shrink(artifact: Artifact, trt: FakeTrt) -> None:
    with opened(artifact, trt) as engine:
        for shape in ((1, 3, 16, 16), (2, 3, 64, 96), (1, 3, 32, 32), (2, 3, 64, 96)):
            images = noise(*shape)
            np.testing.assert_array_equal(engine(images), images / 2)
        assert len(trt.cuda.memory) == 3, "outgrown buffers are freed"
    assert not trt.cuda.memory
    assert not trt.cuda.streams


def test_the_profile_is_held(artifact: Artifact, trt: FakeTrt) -> None:
    with opened(artifact, trt) as engine, pytest.raises(ShapeError, match="outside the profile"):
        engine(noise(1, 3, 64, 400))


def test_what_is_not_written_is_nan(artifact: Artifact, trt: FakeTrt) -> None:
    with opened(artifact, trt) as engine:
        engine(noise(1, 3, 16, 16))
        trt.lazy = True
        assert np.isnan(engine(noise(1, 3, 16, 16))).all()


def test_a_launcher_only_enqueues(artifact: Artifact, trt: FakeTrt, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(artifact, trt) as engine:
        launch = engine.launcher(noise(1, 3, 16, 16))
        for call in ("upload", "download", "allocate", "synchronize"):
            monkeypatch.setattr(trt.cuda, call, lambda *_: pytest.fail("a launch does nothing but enqueue"))
        launch()
        assert engine.device_seconds(launch) == 0.25
        monkeypatch.undo()


def test_failures_are_translated(artifact: Artifact, trt: FakeTrt) -> None:
    with opened(artifact, trt) as engine:
        trt.fails = True
        with pytest.raises(EngineError, match="memory ran out"):
            engine(noise(1, 3, 16, 16))
    trt.refuses = True
    with pytest.raises(EngineError, match="another version of TensorRT"):
        opened(artifact, trt)


@pytest.mark.parametrize("part", ["images", "scratch"])
def test_memory_that_runs_out_leaves_the_engine_usable(artifact: Artifact, trt: FakeTrt, part: str) -> None:
    small, large = noise(1, 3, 16, 16), noise(2, 3, 64, 96)
    with opened(artifact, trt) as engine:
        engine(small)
        # Scratch is half of an image's bytes here: it alone fails where the images fit by then.
        trt.cuda.most = large.nbytes - 1 if part == "images" else large.nbytes
        if part == "scratch":
            trt.query_fails = True
        for call in (lambda: engine(large), lambda: engine.launcher(large)):
            with pytest.raises(EngineError, match="cudaMalloc"):
                call()
        assert not trt.cuda.memory, "what was allocated for it is given back"
        trt.query_fails = False
        np.testing.assert_array_equal(engine(small), small / 2)
        trt.cuda.most = 1 << 40
        np.testing.assert_array_equal(engine(large), large / 2)
    assert not trt.cuda.memory


def test_a_query_of_scratch_memory_that_fails_is_answered_by_the_engines_own_size(artifact: Artifact, trt: FakeTrt) -> None:
    trt.query_fails = True
    with opened(artifact, trt) as engine:
        engine(noise(1, 3, 16, 16))
        assert engine._context.scratch[1] == 1_000_000


def test_a_device_that_fails_hides_no_error_and_closing_gives_everything_back(
    artifact: Artifact, trt: FakeTrt, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(artifact, trt)
    engine(noise(1, 3, 16, 16))

    def broken(stream: int) -> None:
        raise EngineError("cudaStreamSynchronize failed: cudaErrorIllegalAddress")

    monkeypatch.setattr(trt.cuda, "synchronize", broken)
    with pytest.raises(EngineError, match="IllegalAddress"):
        engine.close()
    assert not trt.cuda.memory
    assert not trt.cuda.streams
    engine.close()


def test_a_gpu_that_tensorrt_rtx_does_not_know_is_called_that() -> None:
    said = explain(
        "net.engine could not be loaded",
        ["IRuntime::deserializeCudaEngine: The engine cannot run on this GPU, which has compute capability 9.0. "
         "TensorRT-RTX does not support this compute capability, so the engine cannot be rebuilt for it."],
    )  # fmt: skip
    assert "--runtime tensorrt" in said
    assert "another version" not in said


@pytest.mark.parametrize(("eager", "strategy"), [(True, "eager"), (False, "lazy")])
def test_the_runtime_is_configured(artifact: Artifact, trt: FakeTrt, eager: bool, strategy: str) -> None:
    with opened(artifact, trt, eager=eager, cuda_graph=eager):
        assert trt.config.dynamic_shapes_kernel_specialization_strategy == strategy
        assert hasattr(trt.config, "cuda_graph_strategy") == eager


@pytest.mark.parametrize("stale", [False, True])
def test_compiled_kernels_are_kept_and_replaced_when_stale(artifact: Artifact, trt: FakeTrt, stale: bool) -> None:
    cache = artifact.path.with_name(artifact.path.name + ".cache")
    with opened(artifact, trt):
        pass
    assert trt.loaded is None
    assert cache.read_bytes() == b"kernels"
    cache.write_bytes(b"older kernels")
    trt.cache_is_stale = stale
    with opened(artifact, trt):
        assert trt.loaded == b"older kernels"
    assert cache.read_bytes() == b"kernels"


def test_a_cache_that_cannot_be_written_costs_no_result_and_is_said_once(
    artifact: Artifact, trt: FakeTrt, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact.path.with_name(artifact.path.name + ".cache").mkdir()
    for _ in range(3):
        with opened(artifact, trt):
            pass
    err = capfd.readouterr().err
    assert err.count("are not kept") == 1
    assert f"{artifact.path.name}.cache could not be written: there is a folder of that name" in err
    assert not [path for path in artifact.path.parent.iterdir() if path.name.endswith(".tmp")]


def test_the_real_modules_have_what_the_engine_calls() -> None:
    trt = load_tensorrt("tensorrt-rtx")
    names = {
        trt.IExecutionContext: "set_input_shape set_tensor_address set_device_memory execute_async_v3 "
        "update_device_memory_size_for_shapes",
        trt.ICudaEngine: "create_runtime_config create_execution_context device_memory_size_v2",
        trt.IRuntimeConfig: "create_runtime_cache set_runtime_cache set_execution_context_allocation_strategy "
        "cuda_graph_strategy dynamic_shapes_kernel_specialization_strategy",
        trt.IRuntimeCache: "serialize deserialize",
        trt.ExecutionContextAllocationStrategy: "USER_MANAGED",
        trt.DynamicShapesKernelSpecializationStrategy: "EAGER LAZY",
        trt.CudaGraphStrategy: "WHOLE_GRAPH_CAPTURE",
    }
    for owner, wanted in names.items():
        assert not [name for name in wanted.split() if not hasattr(owner, name)], owner
    runtime = pytest.importorskip("cuda.bindings.runtime")
    wanted = (
        "Malloc Free MemsetAsync MemcpyAsync StreamCreateWithFlags StreamNonBlocking StreamDestroy StreamSynchronize SetDevice"
    )
    assert not [name for name in wanted.split() if not hasattr(runtime, "cuda" + name)]
    wanted = "Create Record Synchronize ElapsedTime Destroy"
    assert not [name for name in wanted.split() if not hasattr(runtime, "cudaEvent" + name)]
