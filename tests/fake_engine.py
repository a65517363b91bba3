"""An engine without a runtime: any function over batches."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from engines.runtimes.base import Device, Images, Runtime, check_images
from mimo.spec import Shape, ShapeRange


class FakeEngine:
    """Runs any function over batches and notes the shapes it saw."""

    name = "fake cpu fp32"
    runtime: Runtime = "onnxruntime"
    device: Device = "cpu"
    compute = "fp32"
    size_multiple = 4
    memory_bytes: int | None = None

    def __init__(self, function: Callable[[Images], Images], context: int, shapes: ShapeRange | None = None) -> None:
        self.function = function
        self.context = context
        self.shapes = shapes
        self.seen: list[Shape] = []

    def __call__(self, images: Images) -> Images:
        self.seen.append(check_images(self, images))
        assert images.flags["C_CONTIGUOUS"]
        return self.function(images)

    def launcher(self, images: Images) -> Callable[[], None]:
        raise NotImplementedError

    def synchronize(self) -> None: ...

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        return None

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


RADIUS = 8


def neighbours(images: Images) -> Images:
    """Sums what is exactly RADIUS away in the four directions, zeros outside, as zero-padded convolutions see it."""
    wide = np.pad(images, ((0, 0), (0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)))
    height, width = images.shape[2:]
    result: Images = (
        wide[:, :, :height, RADIUS:-RADIUS]
        + wide[:, :, 2 * RADIUS :, RADIUS:-RADIUS]
        + wide[:, :, RADIUS:-RADIUS, :width]
        + wide[:, :, RADIUS:-RADIUS, 2 * RADIUS :]
    )
    return result
