"""One image of any size through an engine, in tiles that give the same pixels as the whole image would.

Where a network looks at the whole image there are no such tiles; then they are an approximation, for who accepts one, and
:mod:`engines.seams` says how good it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import isqrt

import numpy as np

from engines.runtimes.base import Engine
from engines.runtimes.table import runtime_info
from engines.seams import Seams
from engines.tiling import Box, Image, Tiling, choose_tiling
from mimo.errors import EngineError
from mimo.padding import pad_to
from mimo.spec import WHOLE_IMAGE, Shape

Cut = Callable[[slice, slice], Image]
"""Rows and columns of an image -> those pixels, (3,h,w)."""

MEMORY = 3_000_000_000
"""Bytes that a process restoring one photograph after the other aims to stay within when nobody chose a tile."""
FIXED_BYTES = 350_000_000
"""Of these: Python, the runtime, the weights and libvips."""
GPU_PART = 0.8
"""Of the GPU's memory that was free when the engine was opened, what a tile may take; the rest is the library's workspace."""
BYTES_PER_IMAGE_PIXEL = 60
"""Of these, for each pixel of a photograph: itself, its file, its result, and its neighbours being decoded and encoded, at
16 bits."""
MOST_CONTEXT = 128
"""Pixels around a tile that stands for the whole image; less in small tiles, an eighth of their side."""


def tiling_for(
    engine: Engine,
    height: int,
    width: int,
    *,
    tile: int | None = None,
    context: int | None = None,
    approximate: bool = False,
) -> Tiling:
    """How one image is cut for ``engine``.

    ``tile``: no tile, context included, holds more than ``tile * tile`` pixels. By default the largest the engine's profile
    allows, on a GPU without one what :data:`GPU_PART` of its free memory holds, or else what keeps the process within
    :data:`MEMORY`, but at least 512 pixels or three contexts squared, below
    which nearly everything would be computed many times: MIMO-UNet+ with its 580 pixels takes up to 3 megapixels at once and
    so up to 11 GB. ``context``: by default the engine's, with which the result equals the whole image's; less is faster,
    takes less memory, and is an approximation.

    ``approximate``: for a network that looks at the whole image, cut what is more than one tile holds with a context of an
    eighth of the tile's side, at most :data:`MOST_CONTEXT` pixels; the tiling is then not exact. Without it such an image is
    one tile, whatever memory that takes, or refused where the profile or ``tile`` forbids it.

    Raises :class:`ShapeError`, see :func:`choose_tiling`.
    """
    shapes = engine.shapes
    sees_all = engine.context >= WHOLE_IMAGE
    chosen = engine.context if context is None else context
    most_pixels = default_tile(engine, height, width, chosen, approximate) if tile is None else max(tile, 0) ** 2
    if sees_all and approximate and context is None and not _is_one_tile(engine, height, width, most_pixels):
        sides = (shapes.max.height, shapes.max.width) if shapes else ()
        side = min((isqrt(most_pixels), *sides))
        chosen = min(MOST_CONTEXT, side // 8 // engine.size_multiple * engine.size_multiple)
    tiling = choose_tiling(
        height,
        width,
        context=chosen,
        most_pixels=most_pixels,
        multiple=engine.size_multiple,
        shapes=shapes,
    )
    return replace(tiling, exact=len(tiling.tiles) == 1 or tiling.context >= engine.context)


def default_tile(engine: Engine, height: int, width: int, context: int, approximate: bool = False) -> int:
    """The most pixels of a tile, context included, when nobody chose them, see :func:`tiling_for`."""
    if engine.shapes is not None:
        return engine.shapes.max.height * engine.shapes.max.width
    least = 512 if context >= WHOLE_IMAGE and approximate else max(512, 3 * context)
    row = runtime_info(engine.runtime)
    if engine.free_bytes is not None and row.cuda_bytes_per_pixel is not None:
        a_pixel = row.cuda_bytes_per_pixel * (0.5 if engine.compute in ("fp16", "bf16") else 1.0)
        return max(int(GPU_PART * engine.free_bytes / a_pixel), least**2)
    free = MEMORY - FIXED_BYTES - BYTES_PER_IMAGE_PIXEL * height * width
    most: int = max(free // row.bytes_per_pixel, least**2)
    return most


def _is_one_tile(engine: Engine, height: int, width: int, most_pixels: int) -> bool:
    padded = Shape(1, height, width).padded(engine.size_multiple)
    shapes = engine.shapes
    fits = shapes is None or (padded.height <= shapes.max.height and padded.width <= shapes.max.width)
    return fits and padded.height * padded.width <= most_pixels


def restored_tiles(engine: Engine, tiling: Tiling, cut: Cut, seams: Seams | None = None) -> Iterator[tuple[Box, Image]]:
    """Restore tile after tile: each inner box with its pixels (3,h,w), which may leave [0,1] a little.

    ``seams``, begun with this tiling, measures the error where its tiles meet, unless it is exact.

    Below and right the image is reflected up to the multiple, as :func:`~engines.runtimes.base.restore` does, tile by tile.
    Raises :class:`EngineError` when a result is not finite, and what ``engine`` raises.
    """
    measured = None if tiling.exact else seams
    for tile in tiling.tiles:
        outer, inner = tile.outer, tile.inner
        pixels = cut(slice(outer.top, min(outer.bottom, tiling.height)), slice(outer.left, min(outer.right, tiling.width)))
        restored = engine(np.ascontiguousarray(pad_to(pixels, *outer.size))[np.newaxis])[0]
        kept = restored[:, inner.top - outer.top : inner.bottom - outer.top, inner.left - outer.left : inner.right - outer.left]
        if not np.isfinite(kept).all():
            raise EngineError(
                f"the result of {engine.name} holds NaN or infinity: run mimo verify on it, or use another precision."
            )
        if measured is not None:
            measured.add(tile, restored)
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

    ``tile`` and ``context`` as in :func:`tiling_for`; ``progress`` is told the tiles done and their number after each.
    Raises :class:`ShapeError`, :class:`EngineError`, and ``TypeError`` for another dtype or rank.
    """
    if image.dtype != np.float32 or image.ndim != 3 or image.shape[0] != 3:
        raise TypeError(f"the image must be float32 (3,H,W), got {image.dtype} {image.shape}")
    tiling = tiling_for(engine, image.shape[1], image.shape[2], tile=tile, context=context)
    result = np.empty(image.shape, np.float32)
    for done, (box, pixels) in enumerate(restored_tiles(engine, tiling, lambda rows, columns: image[:, rows, columns]), 1):
        result[:, box.rows, box.columns] = pixels
        if progress is not None:
            progress(done, len(tiling.tiles))
    return result
