"""Real photographs as input, for verification and for measuring: what an engine does on noise says little."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engines.runtimes.base import Images
from mimo.errors import ImageError
from mimo.images import PHOTO_SUFFIXES, read_rgb
from mimo.learning.datasets import open_pairs
from mimo.padding import pad_to
from mimo.pictures import pictures_of
from mimo.spec import Shape


def photograph_batch(photographs: Sequence[Path], shape: Shape, *, first: int = 0) -> Images:
    """Real input of ``shape``: the middle of as many photographs, from number ``first`` on.

    A photograph that is too small is mirrored at its edges. Raises :class:`ImageError` for one that cannot be read.
    """
    batch = []
    for index in range(shape.batch):
        image = pad_to(read_rgb(photographs[(first + index) % len(photographs)]), shape.height, shape.width)
        top, left = (image.shape[1] - shape.height) // 2, (image.shape[2] - shape.width) // 2
        batch.append(image[:, top : top + shape.height, left : left + shape.width])
    return np.ascontiguousarray(np.stack(batch))


def list_photographs(folder: Path) -> list[Path]:
    """The photographs in ``folder``, or in its ``blur/``, sorted. Raises :class:`ImageError` when there is none."""
    place = folder / "blur" if (folder / "blur").is_dir() else folder
    found = pictures_of(place) if place.is_dir() else []
    if not found:
        raise ImageError(f"{folder} holds no photographs ({', '.join(sorted(PHOTO_SUFFIXES))}): name a folder that does.")
    return found


def list_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """(blurry, sharp) of a folder with ``blur/`` and ``sharp/``; empty without these two.

    Raises :class:`~mimo.errors.DataError` for a picture without its partner.
    """
    if not ((folder / "blur").is_dir() and (folder / "sharp").is_dir()):
        return []
    return [(pair.blur, pair.sharp) for pair in open_pairs(folder)]
