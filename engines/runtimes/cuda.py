"""The few lines of CUDA that the engines need, through cuda-bindings or PyCUDA. Both use the primary context, as torch does.

Pointers and stream handles are integers; sizes are bytes. Every failure raises :class:`EngineError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from mimo.errors import EngineError, EngineUnavailable
from mimo.installing import install

Bindings = Literal["cuda-bindings", "pycuda"]


class CudaDevice(Protocol):
    """Device 0: memory, streams and events."""

    def allocate(self, size: int) -> int: ...

    def free(self, pointer: int) -> None: ...

    def free_bytes(self) -> int:
        """Memory of the device that nobody holds now."""

    def fill(self, pointer: int, byte: int, size: int, stream: int) -> None:
        """Enqueue setting ``size`` bytes to ``byte``."""

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        """Enqueue the copy of a C-contiguous host array to the device."""

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        """Enqueue the copy from the device into a C-contiguous host array."""

    def create_stream(self) -> int: ...

    def destroy_stream(self, stream: int) -> None: ...

    def synchronize(self, stream: int) -> None: ...

    def time(self, stream: int, launch: Callable[[], None]) -> float:
        """Seconds between two events recorded on ``stream`` around ``launch``, after waiting for the second."""


def open_cuda(bindings: Bindings | None = None) -> CudaDevice:
    """Device 0 through ``bindings``, by default cuda-bindings where it is installed and PyCUDA otherwise.

    Raises :class:`EngineUnavailable` when neither is installed or there is no GPU.
    """
    match bindings:
        case "cuda-bindings":
            return CudaBindings()
        case "pycuda":
            return PyCuda()
        case None:
            try:
                import cuda.bindings.runtime  # noqa: F401
            except ImportError:
                return PyCuda()
            return CudaBindings()


def cuda_is_here() -> bool:
    """Whether :func:`open_cuda` would succeed: a runtime that uses it asks, beside what it needs itself."""
    try:
        open_cuda()
    except EngineUnavailable:
        return False
    return True


class CudaBindings:
    """:class:`CudaDevice` through NVIDIA's cuda-bindings wheels."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise EngineUnavailable("cuda-bindings is not installed: pip install cuda-bindings.") from error
        self._cuda = runtime
        try:
            self._call(runtime.cudaSetDevice, 0)
            self._call(runtime.cudaFree, 0)  # makes the primary context now, not inside what is timed
        except (EngineError, RuntimeError) as error:
            raise EngineUnavailable(
                f"no NVIDIA GPU can be used on this machine ({error}): use another machine, or the ONNX file with --device cpu."
            ) from error

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if status != self._cuda.cudaError_t.cudaSuccess:
            raise EngineError(f"{function.__name__} failed: {status.name}")
        return results[0] if results else None

    def allocate(self, size: int) -> int:
        return int(self._call(self._cuda.cudaMalloc, size))

    def free(self, pointer: int) -> None:
        self._call(self._cuda.cudaFree, pointer)

    def free_bytes(self) -> int:
        status, free, _ = self._cuda.cudaMemGetInfo()
        if status != self._cuda.cudaError_t.cudaSuccess:
            raise EngineError(f"cudaMemGetInfo failed: {status.name}")
        return int(free)

    def fill(self, pointer: int, byte: int, size: int, stream: int) -> None:
        self._call(self._cuda.cudaMemsetAsync, pointer, byte, size, stream)

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._cuda.cudaMemcpyAsync, pointer, array.ctypes.data, array.nbytes, kind, stream)

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._cuda.cudaMemcpyAsync, array.ctypes.data, pointer, array.nbytes, kind, stream)

    def create_stream(self) -> int:
        return int(self._call(self._cuda.cudaStreamCreateWithFlags, self._cuda.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        self._call(self._cuda.cudaStreamDestroy, stream)

    def synchronize(self, stream: int) -> None:
        self._call(self._cuda.cudaStreamSynchronize, stream)

    def time(self, stream: int, launch: Callable[[], None]) -> float:
        start, end = self._call(self._cuda.cudaEventCreate), self._call(self._cuda.cudaEventCreate)
        try:
            self._call(self._cuda.cudaEventRecord, start, stream)
            launch()
            self._call(self._cuda.cudaEventRecord, end, stream)
            self._call(self._cuda.cudaEventSynchronize, end)
            return float(self._call(self._cuda.cudaEventElapsedTime, start, end)) / 1e3
        finally:
            self._call(self._cuda.cudaEventDestroy, start)
            self._call(self._cuda.cudaEventDestroy, end)


class PyCuda:
    """:class:`CudaDevice` through PyCUDA, on the device's primary context."""

    def __init__(self) -> None:
        try:
            from pycuda import driver
        except (ImportError, OSError) as error:
            raise EngineUnavailable(f"PyCUDA is not installed or cannot be loaded ({error}): {install('pycuda')}.") from error
        self._cuda = driver
        try:
            driver.init()
            self._context = driver.Device(0).retain_primary_context()
        except driver.Error as error:
            raise EngineUnavailable(
                f"no NVIDIA GPU can be used on this machine ({error}): use another machine, or the ONNX file with --device cpu."
            ) from error
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}

    @contextmanager
    def _current(self) -> Iterator[None]:
        """The context current in this thread, and no longer than needed.

        PyCUDA ends the process with an abort when a context is still current at exit, and a thread has none of its own.
        """
        try:
            self._context.push()
            try:
                yield
            finally:
                self._context.pop()
        except self._cuda.Error as error:
            raise EngineError(f"CUDA failed: {str(error)[:300]}") from error

    def allocate(self, size: int) -> int:
        with self._current():
            memory = self._cuda.mem_alloc(size)
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, pointer: int) -> None:
        with self._current():
            self._memory.pop(pointer).free()

    def free_bytes(self) -> int:
        with self._current():
            return int(self._cuda.mem_get_info()[0])

    def fill(self, pointer: int, byte: int, size: int, stream: int) -> None:
        with self._current():
            self._cuda.memset_d8_async(pointer, byte, size, self._streams[stream])

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        with self._current():
            self._cuda.memcpy_htod_async(pointer, array, self._streams[stream])

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        with self._current():
            self._cuda.memcpy_dtoh_async(array, pointer, self._streams[stream])

    def create_stream(self) -> int:
        with self._current():
            stream = self._cuda.Stream(1)  # not blocking: independent of the default stream, as CudaBindings' are
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        with self._current():
            del self._streams[stream]

    def synchronize(self, stream: int) -> None:
        with self._current():
            self._streams[stream].synchronize()

    def time(self, stream: int, launch: Callable[[], None]) -> float:
        with self._current():
            start, end = self._cuda.Event(), self._cuda.Event()
            start.record(self._streams[stream])
            launch()
            end.record(self._streams[stream])
            end.synchronize()
            return float(start.time_till(end)) / 1e3
