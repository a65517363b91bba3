"""A whole picture through an engine, once or turned four times, in bounded memory: the result is larger than its picture."""

from __future__ import annotations

import os
import tempfile

import numpy as np

from engines.runtimes.base import Engine
from engines.tiles import restored_tiles, tiling_for
from mimo.errors import OutputError
from mimo.files import cause_of
from mimo.images import Pixels
from mimo.metrics import Rectangles, Whole

MOST_BYTES = 256_000_000
"""Of a result in memory, some 21 megapixels; a larger one lies in a temporary file, of which the system keeps what it can."""


def restored(engine: Engine, picture: Rectangles) -> Pixels:
    """``picture`` restored, (3,H,W), not clamped: a tile at a time of it becomes float.

    Raises :class:`~mimo.errors.ShapeError`, :class:`~mimo.errors.EngineError`, and :class:`OutputError` when a result of
    more than :data:`MOST_BYTES` has no room on the disk.
    """
    tiling = tiling_for(engine, picture.height, picture.width)
    result = _room(picture)
    for box, pixels in restored_tiles(engine, tiling, picture.crop):
        result[:, box.rows, box.columns] = pixels
    return result


def restored_rot4(engine: Engine, picture: Rectangles) -> Pixels:
    """The mean in float of ``picture`` restored at 0, 90, 180 and 270 degrees and turned back; not clamped.

    With MIMO-UNet+ this is MIMO-UNet++. The authors ran it as two batches of two; one after the other gives the same
    with a quarter of the memory, and on an engine built for a batch of 1. Raises as :func:`restored` does.
    """
    total = _room(picture)
    for quarters in range(4):
        turned = _Turned(picture, quarters)
        for box, pixels in restored_tiles(engine, tiling_for(engine, turned.height, turned.width), turned.crop):
            rows, columns = turned.place(box.rows, box.columns)
            total[:, rows, columns] += np.rot90(pixels, -quarters, axes=(1, 2))
    total /= np.float32(4)
    return total


def restore_rot4(engine: Engine, image: Pixels) -> Pixels:
    """:func:`restored_rot4` of an array (3,H,W)."""
    return restored_rot4(engine, Whole(image))


class _Turned:
    """A picture turned counterclockwise by some quarters, of which only a rectangle at a time is in memory."""

    def __init__(self, picture: Rectangles, quarters: int) -> None:
        self._picture, self._quarters = picture, quarters
        upright = quarters % 2 == 0
        self.height, self.width = (picture.height, picture.width) if upright else (picture.width, picture.height)

    def crop(self, rows: slice, columns: slice) -> Pixels:
        """(3,h,w), C-contiguous."""
        pixels = self._picture.crop(*self.place(rows, columns))
        return np.ascontiguousarray(np.rot90(pixels, self._quarters, axes=(1, 2)))

    def place(self, rows: slice, columns: slice) -> tuple[slice, slice]:
        """Where a rectangle of the turned picture lies in the picture."""
        for _ in range(self._quarters):
            # The first row of what was turned once was the last column.
            rows, columns = columns, rows
        height, width = self._picture.height, self._picture.width
        if self._quarters in (2, 3):
            rows = slice(height - rows.stop, height - rows.start)
        if self._quarters in (1, 2):
            columns = slice(width - columns.stop, width - columns.start)
        return rows, columns


def _room(picture: Rectangles) -> Pixels:
    """Zeros (3,H,W)."""
    shape = (3, picture.height, picture.width)
    size = 12 * picture.height * picture.width
    if size <= MOST_BYTES:
        return np.zeros(shape, np.float32)
    try:
        with tempfile.TemporaryFile(prefix="mimo-") as file:
            # Without its room on the disk a write into the mapping would end the process.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.float32, "r+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"{tempfile.gettempdir()} has no room for a result of {size / 1e9:.1f} GB: {cause_of(error)}"
        ) from error
