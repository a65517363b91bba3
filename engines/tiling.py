"""How an image is cut into tiles, as a pure function.

    |<------------- outer ------------->|
    |<- context ->|<-inner->|<- context ->|      at the image's border the context is cut off, and nothing is lost:
                                                 there the whole image has none either

Every tile of a tiling has the same outer size, so that a runtime that compiles or tunes per shape sees one shape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo.errors import ShapeError
from mimo.spec import WHOLE_IMAGE, Shape, ShapeRange

Image = NDArray[np.float32]
"""(3,H,W) float32 RGB in [0,1]."""


@dataclass(frozen=True)
class Box:
    """Rows from ``top`` up to ``bottom`` and columns from ``left`` up to ``right``, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> slice:
        """For indexing."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """For indexing."""
        return slice(self.left, self.right)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class Tile:
    """``outer`` goes through the network, and of the result only ``inner`` is kept."""

    outer: Box
    """In the image padded to the multiple."""
    inner: Box
    """In the image itself."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut: the inner boxes cover it once, the outer ones are equal in size and start on the multiple."""

    height: int
    width: int
    tiles: tuple[Tile, ...]
    context: int
    """Pixels on each side of what a tile keeps, where the image goes on."""
    exact: bool = True
    """Whether the tiles together equal the whole image; False where the network sees further than :attr:`context`."""

    @property
    def outer(self) -> tuple[int, int]:
        """Height and width that every tile has."""
        return self.tiles[0].outer.size

    @property
    def recomputation(self) -> float:
        """How many times more pixels go through the network than the image has; 1.0 for one tile without padding."""
        height, width = self.outer
        return len(self.tiles) * height * width / (self.height * self.width)


def choose_tiling(
    height: int, width: int, *, context: int, most_pixels: int, multiple: int = 4, shapes: ShapeRange | None = None
) -> Tiling:
    """The tiling that sends the fewest pixels through the network with at most ``most_pixels`` in a tile, context included.

    ``context``: pixels on each side of what a tile keeps, rounded up to ``multiple``. ``shapes``: what the engine takes.
    Raises :class:`ShapeError` when the image is under 16 pixels or under ``shapes``, or when tiles that small hold nothing
    but context.
    """
    padded = Shape(1, height, width).padded(multiple)
    context = -(-context // multiple) * multiple
    if context < 0:
        raise ShapeError(f"the context must be at least 0 pixels, got {context}.")
    low = shapes.min if shapes else Shape(1, 16, 16)
    high = shapes.max if shapes else padded
    if padded.height < low.height or padded.width < low.width:
        raise ShapeError(
            f"{height}x{width} is smaller than the engine's profile {shapes}: build it again with a smaller --min."
        )

    rows = _divisions(padded.height, context, multiple, low.height, high.height)
    columns = _divisions(padded.width, context, multiple, low.width, high.width)
    best: tuple[int, int, _Division, _Division] | None = None
    for row in rows:
        # The largest width that fits: columns are sorted by falling side.
        found = bisect_left(columns, -(most_pixels // row.side), key=lambda column: -column.side)
        if found < len(columns):
            column = columns[found]
            count = row.count * column.count
            if best is None or (count * row.side * column.side, count) < best[:2]:
                best = (count * row.side * column.side, count, row, column)
    if best is None:
        if context >= WHOLE_IMAGE:
            cure = "build the engine again with a larger --max" if shapes else "use a larger tile"
            raise ShapeError(
                f"{height}x{width} is more than fits at once, and this network looks at the whole image, so that no tile gives "
                f"the same: {cure}, or a smaller picture."
            )
        cure = "build the engine again with a larger --max" if shapes else f"use --tile {max(64, 4 * context)} or more"
        limit = f"{most_pixels / 1e6:.2f} megapixels" + (f" in the profile {shapes}" if shapes else "")
        raise ShapeError(
            f"a tile of at most {limit} cannot carry {context} pixels of context on each side: {cure}, or accept an "
            "approximation with a smaller --context."
        )
    _, _, row, column = best
    return Tiling(
        height,
        width,
        tuple(
            Tile(
                Box(top, left, top + row.side, left + column.side),
                Box(inner_top, inner_left, min(inner_bottom, height), min(inner_right, width)),
            )
            for top, inner_top, inner_bottom in _spans(padded.height, row, context)
            for left, inner_left, inner_right in _spans(padded.width, column, context)
        ),
        context,
    )


@dataclass(frozen=True)
class _Division:
    """One axis cut into ``count`` overlapping pieces of ``side`` pixels."""

    count: int
    side: int


def _divisions(length: int, context: int, multiple: int, low: int, high: int) -> list[_Division]:
    """Every way to cut an axis, by falling side: for each count the smallest side that covers it with full context."""
    found = [_Division(1, length)] if length <= high else []
    smallest = max(2 * context + multiple, low)
    last, count = length, 1
    while last > smallest:
        count += 1
        # The first and the last piece lack one context each: count * side - 2 * context * (count - 1) >= length.
        side = -(-(length + 2 * context * (count - 1)) // count)
        side = max(-(-side // multiple) * multiple, smallest)
        if side < last:
            last = side
            if side <= high:
                found.append(_Division(count, side))
    return found


def _spans(length: int, division: _Division, context: int) -> Iterator[tuple[int, int, int]]:
    """Start of each piece, and first and end of what it keeps."""
    kept = 0
    for index in range(division.count):
        start = min(index * (division.side - 2 * context), length - division.side)
        end = length if index == division.count - 1 else start + division.side - context
        yield start, kept, end
        kept = end
