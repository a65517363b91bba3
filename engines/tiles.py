"""One image of any size through an engine, in tiles that give the same pixels as the whole image would.

    |<------------- outer ------------->|
    |<- context ->|<-inner->|<- context ->|      at the image's border the context is cut off, and nothing is lost:
                                                 there the whole image has none either

Every tile of a plan has the same outer size, so that a runtime that compiles or tunes per shape sees one shape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Engine
from engines.runtimes.table import runtime_info
from mimo.errors import EngineError, ShapeError
from mimo.padding import pad_to
from mimo.spec import WHOLE_IMAGE, Shape, ShapeRange

Image = NDArray[np.float32]
"""(3,H,W) float32 RGB in [0,1]."""
Cut = Callable[[slice, slice], Image]
"""Rows and columns of an image -> those pixels, (3,h,w)."""

MEMORY = 3_000_000_000
"""Bytes that a process restoring one photograph after the other aims to stay within when nobody chose a tile."""
FIXED_BYTES = 350_000_000
"""Of these: Python, the runtime, the weights and libvips."""
BYTES_PER_IMAGE_PIXEL = 60
"""Of these, for each pixel of a photograph: itself, its file, its result, and its neighbours being decoded and encoded, at
16 bits."""


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
class TilePlan:
    """How an image is cut: the inner boxes cover it once, the outer ones are equal in size and start on the multiple."""

    height: int
    width: int
    tiles: tuple[Tile, ...]

    @property
    def outer(self) -> tuple[int, int]:
        """Height and width that every tile has."""
        return self.tiles[0].outer.size

    @property
    def recomputation(self) -> float:
        """How many times more pixels go through the network than the image has; 1.0 for one tile without padding."""
        height, width = self.outer
        return len(self.tiles) * height * width / (self.height * self.width)


def plan_tiles(
    height: int, width: int, *, context: int, most_pixels: int, multiple: int = 4, shapes: ShapeRange | None = None
) -> TilePlan:
    """The plan that sends the fewest pixels through the network with at most ``most_pixels`` in a tile, context included.

    ``context``: pixels on each side of what a tile keeps, rounded up to ``multiple``. ``shapes``: what the engine takes.
    Raises :class:`ShapeError` when the image is under 16 pixels or under ``shapes``, or when tiles that small hold nothing
    but context.
    """
    padded = Shape(1, height, width).padded(multiple)
    context = -(-context // multiple) * multiple
    if context < 0:
        raise ShapeError(f"a context of {context} pixels cannot be: use 0 or more.")
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
            raise ShapeError(
                f"{height}x{width} is more than fits at once, and this network looks at the whole image: no tile gives the "
                "same. Accept an approximation with --context 64, or give it smaller photographs."
            )
        cure = "build the engine again with a larger --max" if shapes else f"use --tile {max(64, 4 * context)} or more"
        limit = f"{most_pixels / 1e6:.2f} megapixels" + (f" in the profile {shapes}" if shapes else "")
        raise ShapeError(
            f"a tile of at most {limit} cannot carry {context} pixels of context on each side: {cure}, or accept an "
            "approximation with a smaller --context."
        )
    _, _, row, column = best
    return TilePlan(
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


def plan_for(engine: Engine, height: int, width: int, *, tile: int | None = None, context: int | None = None) -> TilePlan:
    """The plan for one image on ``engine``.

    ``tile``: no tile, context included, holds more than ``tile * tile`` pixels. By default the largest the engine's profile
    allows, or else what keeps the process within :data:`MEMORY`, but at least 512 pixels or three contexts squared, below
    which nearly everything would be computed many times: MIMO-UNet+ with its 580 pixels takes up to 3 megapixels at once and
    so up to 11 GB. ``context``: by default the engine's, with which the result equals the whole image's; less is faster,
    takes less memory, and is an approximation.

    Raises :class:`ShapeError`, see :func:`plan_tiles`.
    """
    shapes = engine.shapes
    context = engine.context if context is None else context
    if tile is not None:
        most_pixels = max(tile, 0) ** 2
    elif shapes is not None:
        most_pixels = shapes.max.height * shapes.max.width
    else:
        free = MEMORY - FIXED_BYTES - BYTES_PER_IMAGE_PIXEL * height * width
        most_pixels = max(free // runtime_info(engine.runtime).bytes_per_pixel, max(512, 3 * context) ** 2)
    return plan_tiles(
        height,
        width,
        context=context,
        most_pixels=most_pixels,
        multiple=engine.size_multiple,
        shapes=shapes,
    )


def restored_tiles(engine: Engine, plan: TilePlan, cut: Cut) -> Iterator[tuple[Box, Image]]:
    """Restore tile after tile: each inner box with its pixels (3,h,w), which may leave [0,1] a little.

    Below and right the image is reflected up to the multiple, as :func:`~engines.runtimes.base.restore` does, tile by tile.
    Raises :class:`EngineError` when a result is not finite, and what ``engine`` raises.
    """
    for tile in plan.tiles:
        outer, inner = tile.outer, tile.inner
        pixels = cut(slice(outer.top, min(outer.bottom, plan.height)), slice(outer.left, min(outer.right, plan.width)))
        restored = engine(np.ascontiguousarray(pad_to(pixels, *outer.size))[np.newaxis])[0]
        kept = restored[:, inner.top - outer.top : inner.bottom - outer.top, inner.left - outer.left : inner.right - outer.left]
        if not np.isfinite(kept).all():
            raise EngineError(
                f"the result of {engine.name} holds NaN or infinity: run mimo verify on it, or use another precision."
            )
        yield inner, kept


def restore_tiled(
    engine: Engine,
    image: Image,
    *,
    tile: int | None = None,
    context: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Image:
    """Restore one image (3,H,W) of any height and width of at least 16; the result has the same shape.

    ``tile`` and ``context`` as in :func:`plan_for`; ``progress`` is told the tiles done and their number after each.
    Raises :class:`ShapeError`, :class:`EngineError`, and ``TypeError`` for another dtype or rank.
    """
    if image.dtype != np.float32 or image.ndim != 3 or image.shape[0] != 3:
        raise TypeError(f"the image must be float32 (3,H,W), got {image.dtype} {image.shape}")
    plan = plan_for(engine, image.shape[1], image.shape[2], tile=tile, context=context)
    result = np.empty(image.shape, np.float32)
    for done, (box, pixels) in enumerate(restored_tiles(engine, plan, lambda rows, columns: image[:, rows, columns]), 1):
        result[:, box.rows, box.columns] = pixels
        if progress is not None:
            progress(done, len(plan.tiles))
    return result
