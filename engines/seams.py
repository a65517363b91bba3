"""How far neighbouring tiles disagree where they meet, when tiles are an approximation of the whole image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from engines.tiling import Image, Tile, Tiling

STRIP = 8
"""Pixels to the right of a seam, or below it, that both tiles have computed and that are compared."""


@dataclass
class Seams:
    """The error of a run's seams, over all its photographs that went through in tiles that do not equal the whole image.

    Both tiles at a seam compute the pixels beside it, each with its own surroundings. What they say differently there is what
    the missing context costs, where it costs most; the sum goes over the first :data:`STRIP` pixels that the second tile keeps.
    """

    photographs: int = 0
    tiles: int = 0
    context: int = 0
    """The least of the photographs', in pixels."""
    values: int = 0
    """Samples compared."""
    squares: float = 0.0
    largest: float = 0.0
    """The largest difference, of pictures in [0,1]."""
    _right: Image | None = field(default=None, repr=False)
    _below: list[tuple[Tile, Image]] = field(default_factory=list, repr=False)

    @property
    def rms(self) -> float:
        """Root of the mean square of the differences, of pictures in [0,1]; NaN where nothing was compared."""
        return math.sqrt(self.squares / self.values) if self.values else math.nan

    def begin(self, tiling: Tiling) -> None:
        """The next photograph, cut as ``tiling`` says."""
        self.context = min(self.context, tiling.context) if self.photographs else tiling.context
        self.photographs += 1
        self.tiles += len(tiling.tiles)
        self._right, self._below = None, []

    def add(self, tile: Tile, restored: Image) -> None:
        """All of a tile's result, (3,h,w) with its context; tiles come row after row, as they stand in the tiling."""
        outer, inner = tile.outer, tile.inner
        top, left = inner.top - outer.top, inner.left - outer.left
        bottom, right = inner.bottom - outer.top, inner.right - outer.left
        if inner.left > 0 and self._right is not None:
            self._compare(self._right, restored[:, top:bottom, left:])
        for above, strip in self._below:
            if (above.inner.left, above.inner.bottom) == (inner.left, inner.top):
                self._compare(strip, restored[:, top:, left:right])
        self._right = restored[:, top:bottom, right : right + STRIP].copy()
        self._below = [(above, strip) for above, strip in self._below if above.inner.left != inner.left]
        self._below.append((tile, restored[:, bottom : bottom + STRIP, left:right].copy()))

    def _compare(self, first: Image, second: Image) -> None:
        height, width = (min(a, b) for a, b in zip(first.shape[1:], second.shape[1:], strict=True))
        if not height or not width:
            return
        pair = (np.clip(image[:, :height, :width], 0, 1).astype(np.float64) for image in (first, second))
        difference = np.abs(next(pair) - next(pair))
        self.values += difference.size
        self.squares += float(np.square(difference).sum())
        self.largest = max(self.largest, float(difference.max()))

    def __str__(self) -> str:
        which = "1 photograph" if self.photographs == 1 else f"{self.photographs} photographs"
        text = f"{which} in {self.tiles} tiles with {self.context} pixels of context, an approximation of the whole image: "
        if not self.values:
            return text + "without context the error at the seams cannot be measured."
        return text + (
            f"where tiles meet they differ by {255 * self.rms:.2g} of 255 (root mean square), {255 * self.largest:.2g} at most."
        )
