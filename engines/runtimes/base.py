"""What every runtime offers: one base class with the common part, used to deblur, to verify and to measure."""

from __future__ import annotations

import re
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.table import Device, Precision, Runtime
from mimo.errors import EngineError, MimoError, OutOfMemory, ShapeError
from mimo.padding import pad_to
from mimo.spec import Shape, ShapeRange

__all__ = ["Device", "Engine", "Images", "Precision", "Runtime", "check_images", "restore", "runtime_errors"]

Images = NDArray[np.float32]
"""(N,3,H,W) float32 RGB in [0,1], C-contiguous, on the host."""


class Engine(ABC):
    """A loaded artifact on one runtime and one device. Close it, or use it as a context manager.

    A runtime's class sets the attributes and gives :meth:`_run` and :meth:`_launcher`; on a GPU also :meth:`synchronize` and
    :meth:`device_seconds`. Whatever a runtime raises comes out as :class:`EngineError`, from launches too.
    """

    name: str
    """What a person reads in a table, such as ``openvino cpu bf16``."""
    runtime: Runtime
    device: Device
    compute: str
    """The precision the arithmetic really runs in: ``fp32``, ``bf16`` or ``fp16``."""
    size_multiple: int
    context: int
    """Pixels around a tile with which it equals the whole image, see :class:`~mimo.spec.ModelSpec`."""
    shapes: ShapeRange | None = None
    """The only shapes it takes; None for every multiple of :attr:`size_multiple`."""
    threads: int | None = None
    """Threads it computes with, as the runtime says; None on a GPU."""
    specialises: bool = False
    """Whether every new shape costs a compilation, so that none is tried only to see what a change of shape costs."""
    memory_bytes: int | None = None
    """What the runtime says it takes for the shape of the last launch, beside the weights; None when it says nothing."""
    free_bytes: int | None = None
    """Memory of the GPU that was free when the engine had been opened; None on a CPU, whose memory is planned otherwise."""
    dtype: np.dtype[Any] = np.dtype(np.float32)
    """Element type of the graph's input and output."""

    def __call__(self, images: Images) -> Images:
        """Restore ``images``, height and width multiples of :attr:`size_multiple`; the result has the same shape.

        Values may leave [0,1] a little. The result is filled with NaN first, on every runtime, so what the runtime did not
        write is seen. Raises :class:`ShapeError` outside :attr:`shapes`, ``TypeError`` for another dtype or rank,
        :class:`EngineError` when the runtime fails; the engine can be used again after each of them.
        """
        shape = check_images(self, images)
        result = np.full(images.shape, np.nan, self.dtype)
        with runtime_errors(f"{self.name} failed at {shape}"):
            self._run(np.ascontiguousarray(images, self.dtype), result)
        return result.astype(np.float32, copy=False)

    def launcher(self, images: Images) -> Callable[[], None]:
        """Copy ``images`` to the device and return a call that only enqueues their restoration: what is timed.

        It is valid until the next ``launcher`` or ``__call__`` of this engine. Both raise as ``__call__`` does.
        """
        shape = check_images(self, images)
        what = f"{self.name} failed at {shape}"
        with runtime_errors(what):
            enqueue = self._launcher(np.ascontiguousarray(images, self.dtype))

        def launch() -> None:
            try:
                enqueue()
            except MimoError:
                raise
            except Exception as error:
                raise _as_engine_error(what, error) from error

        return launch

    @abstractmethod
    def _run(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        """Restore ``source`` into ``result``, both :attr:`dtype` and C-contiguous, and wait for it."""

    @abstractmethod
    def _launcher(self, source: NDArray[Any]) -> Callable[[], None]:
        """See :meth:`launcher`."""

    def synchronize(self) -> None:  # noqa: B027
        """Wait until all enqueued work is done. Nothing to wait for on a CPU: there the launch itself is the work."""

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        """Seconds between two device events recorded around one launch, after waiting for it; None on a CPU."""
        return None

    def counters(self) -> Mapping[str, int]:
        """Totals of what a server says of its own work, see :mod:`engines.runtimes.triton`; none where nobody else works."""
        return {}

    def close(self) -> None:  # noqa: B027
        """Give memory back. May be called again; nothing else may be called afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemory|MemoryAllocation|bad_alloc|[Ff]ailed to allocate|can't alloc|not (enough|allocate) memory"
)


@contextmanager
def runtime_errors(what: str) -> Iterator[None]:
    """Turn whatever a runtime raises into :class:`EngineError`; errors of ours pass. Runtimes' exceptions share no base."""
    try:
        yield
    except MimoError:
        raise
    except Exception as error:
        raise _as_engine_error(what, error) from error


def _as_engine_error(what: str, error: Exception) -> EngineError:
    said = brief(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        # What the failed call had allocated lives in its frames, and those in the error, for as long as somebody keeps it.
        traceback.clear_frames(error.__traceback__)
        return OutOfMemory(f"{what}: memory ran out ({said}): use smaller tiles, a smaller size or a smaller batch.")
    return EngineError(f"{what}: {said}")


def brief(error: Exception) -> str:
    """What ``error`` says, on one line of at most 300 characters: the first line, for OpenVINO the last that says something.

    OpenVINO's messages begin with where in its sources they arose and end with what happened.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[-1] if lines[0].startswith(("Exception from", "Check '")) else lines[0]
    return re.sub(r"[^ -~\u00a0-\ud7ff]", "?", line)[:300]


def check_images(engine: Engine, images: Images) -> Shape:
    """The shape of ``images``. Raises :class:`ShapeError` when ``engine`` cannot take it, ``TypeError`` for another dtype."""
    if images.dtype != np.float32 or images.ndim != 4 or images.shape[1] != 3:
        raise TypeError(f"images must be float32 (N,3,H,W), got {images.dtype} {images.shape}")
    shape = Shape(images.shape[0], images.shape[2], images.shape[3])
    if shape != shape.padded(engine.size_multiple):
        raise ShapeError(
            f"{shape}: {engine.name} takes heights and widths that are multiples of {engine.size_multiple}; pad first."
        )
    if engine.shapes is not None and shape not in engine.shapes:
        raise ShapeError(
            f"{shape} is outside the profile {engine.shapes} of {engine.name}: build the engine again with other --min/--max."
        )
    return shape


def restore(engine: Engine, images: Images) -> Images:
    """Restore images of any height and width of at least 16: reflect-pad below and right to the multiple, run, crop back.

    Raises :class:`ShapeError` for smaller ones, and what ``engine`` raises.
    """
    shape = Shape(images.shape[0], images.shape[2], images.shape[3])
    padded = shape.padded(engine.size_multiple)
    images = pad_to(images, padded.height, padded.width)
    return engine(np.ascontiguousarray(images))[:, :, : shape.height, : shape.width]
