"""An engine without a runtime: any function over batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Device, Engine, Images, Runtime, check_images
from mimo.spec import Shape, ShapeRange


class FakeEngine(Engine):
    """Runs any function over batches and notes the shapes it saw."""

    name = "fake cpu fp32"
    runtime: Runtime = "onnxruntime"
    device: Device = "cpu"
    compute = "fp32"
    size_multiple = 4

    def __init__(self, function: Callable[[Images], Images], context: int, shapes: ShapeRange | None = None) -> None:
        self.function = function
        self.context = context
        self.shapes = shapes
        self.seen: list[Shape] = []

    def __call__(self, images: Images) -> Images:
        self.seen.append(check_images(self, images))
        assert images.flags["C_CONTIGUOUS"]
        return self.function(images)

    def _run(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        result[:] = self.function(source)

    def _launcher(self, source: NDArray[Any]) -> Callable[[], None]:
        raise NotImplementedError


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
