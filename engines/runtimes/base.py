"""What every runtime offers: one protocol, used to deblur, to verify and to measure."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mimo.errors import ShapeError
from mimo.spec import Shape, ShapeRange

Runtime = Literal["pytorch", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
"""What arithmetic can be asked for."""
Images = NDArray[np.float32]
"""(N,3,H,W) float32 RGB in [0,1], C-contiguous, on the host."""


class Engine(Protocol):
    """A loaded artifact on one runtime and one device. Close it, or use it as a context manager."""

    @property
    def name(self) -> str:
        """What a person reads in a table, such as ``openvino cpu bf16``."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def device(self) -> Device: ...

    @property
    def compute(self) -> str:
        """The precision the arithmetic really runs in: ``fp32``, ``bf16`` or ``fp16``."""

    @property
    def size_multiple(self) -> int: ...

    @property
    def context(self) -> int:
        """Pixels around a tile with which it equals the whole image, see :class:`~mimo.spec.ModelSpec`."""

    @property
    def shapes(self) -> ShapeRange | None:
        """The only shapes it takes; None for every multiple of :attr:`size_multiple`."""

    @property
    def memory_bytes(self) -> int | None:
        """What the runtime says it takes for the shape of the last launch, beside the weights; None when it says nothing."""

    def __call__(self, images: Images) -> Images:
        """Restore ``images``, height and width multiples of :attr:`size_multiple`; the result has the same shape.

        Values may leave [0,1] a little. The output buffer is filled with NaN first, so what the runtime did not write
        is seen. Raises :class:`ShapeError` outside :attr:`shapes`, :class:`~mimo.errors.EngineError` when the runtime
        fails.
        """

    def launcher(self, images: Images) -> Callable[[], None]:
        """Copy ``images`` to the device and return a call that only enqueues their restoration: what is timed.

        It is valid until the next ``launcher`` or ``__call__`` of this engine.
        """

    def synchronize(self) -> None:
        """Wait until all enqueued work is done. Nothing to wait for on a CPU: there the launch itself is the work."""

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        """Seconds between two device events recorded around one launch, after waiting for it; None on a CPU."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


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
    if padded != shape:
        rest = ((0, 0), (0, 0), (0, padded.height - shape.height), (0, padded.width - shape.width))
        images = np.pad(images, rest, mode="reflect")
    return engine(np.ascontiguousarray(images))[:, :, : shape.height, : shape.width]
