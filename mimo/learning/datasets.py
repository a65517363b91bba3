"""Pairs of blurry and sharp pictures on disk: what is a dataset, and whether every picture of it can be used. No torch.

A dataset is any folder with ``blur/`` and ``sharp/`` that hold pictures of equal names. A name is ``<scene>_<frame>``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mimo.errors import DataError, ImageError
from mimo.files import sha256_of
from mimo.images import PHOTO_SUFFIXES, read_photo
from mimo.pictures import named_as_pictures

Samples = NDArray[np.uint8]
"""(H,W,3) RGB, C-contiguous."""

Watch = Callable[[int, int], None]
"""Told after each file: how many are done, of how many."""


@dataclass(frozen=True)
class Pair:
    """One blurry picture and its sharp truth."""

    name: str
    blur: Path
    sharp: Path

    @property
    def scene(self) -> str:
        """What stands before the last underscore of the name; the whole stem where there is none."""
        stem = PurePosixPath(self.name).stem
        return stem.rpartition("_")[0] or stem


@dataclass(frozen=True)
class Photograph:
    """A sharp picture to shake."""

    name: str
    path: Path


def open_photographs(folder: Path) -> tuple[Photograph, ...]:
    """The sharp photographs in ``folder``, in the order of their names. Raises :class:`DataError` when there are none."""
    found = pictures_in(folder) if folder.is_dir() else {}
    if not found:
        raise DataError(f"{folder}: expected a folder of sharp photographs; {found_in(folder)}")
    return tuple(Photograph(name, path) for name, path in found.items())


def open_pairs(folder: Path) -> tuple[Pair, ...]:
    """The pairs of ``folder/blur`` and ``folder/sharp``, in the order of their names. Nothing is decoded yet.

    Files that are no pictures by their suffix, and hidden ones, are passed over. Raises :class:`DataError` when a folder
    is missing or empty, or a picture has no partner of its name; all of those are named, up to five.
    """
    blur, sharp = (pictures_in(need_folder(folder / side, folder, ("blur", "sharp"))) for side in ("blur", "sharp"))
    need_same_names(folder, blur, sharp, "blur", "sharp")
    if not blur:
        raise DataError(f"{folder}: blur/ and sharp/ hold no pictures ({', '.join(sorted(PHOTO_SUFFIXES))}).")
    return tuple(Pair(name, blur[name], sharp[name]) for name in blur)


def training_pairs(folder: Path) -> tuple[Pair, ...]:
    """The pairs of ``folder/train`` where there is one (a prepared dataset), of ``folder`` itself otherwise."""
    return open_pairs(folder / "train" if (folder / "train").is_dir() else folder)


def validation_pairs(folder: Path) -> tuple[Pair, ...]:
    """The pairs of ``folder/val`` where there is one; otherwise none. ``test`` is never taken in its place."""
    return open_pairs(folder / "val") if (folder / "val").is_dir() else ()


def digest(*groups: Sequence[Pair | Photograph]) -> str:
    """SHA-256 of all names and contents, wherever they lie: says whether pictures came, went or were exchanged.

    Raises :class:`DataError` for a file that cannot be read.
    """
    paths = list(dict.fromkeys(path for group in groups for one in group for path in files_of(one)))
    try:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            known = dict(zip(paths, pool.map(sha256_of, paths), strict=True))
        facts = [[[one.name, *(known[path] for path in files_of(one))] for one in group] for group in groups]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror or error}.") from error
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def files_of(one: Pair | Photograph) -> tuple[Path, ...]:
    """Where it lies."""
    return (one.blur, one.sharp) if isinstance(one, Pair) else (one.path,)


def read_photograph(photograph: Photograph, smallest: int = 1) -> Samples:
    """The picture, upright, 8 bits, grey as RGB. Raises as :func:`read_pair`."""
    picture = read_picture(photograph.path)
    _need_size(photograph.path, picture, smallest)
    return picture


def read_pair(pair: Pair, smallest: int = 1) -> tuple[Samples, Samples]:
    """The blurry and the sharp picture, upright, 8 bits, grey as RGB.

    Raises :class:`ImageError` for a picture that cannot be read, :class:`DataError` when the two differ in size or a side
    is shorter than ``smallest`` pixels.
    """
    blur, sharp = read_picture(pair.blur), read_picture(pair.sharp)
    (height, width), truth = blur.shape[:2], sharp.shape[:2]
    if (height, width) != truth:
        raise DataError(f"{pair.blur} has {width}x{height} pixels and {pair.sharp} {truth[1]}x{truth[0]}: take the pair away.")
    _need_size(pair.blur, blur, smallest)
    return blur, sharp


def _need_size(path: Path, picture: Samples, smallest: int) -> None:
    height, width = picture.shape[:2]
    if min(height, width) < smallest:
        raise DataError(
            f"{path} has {width}x{height} pixels, too few for patches of {smallest}: take it away, "
            "or train with a smaller --patch-size."
        )


def check_pairs(
    pairs: Sequence[object], read: Callable[[int], object], *, workers: int = 4, watch: Watch | None = None
) -> None:
    """Call ``read`` (such as :func:`read_pair` of one place) for every pair, in threads, and report what is broken at once.

    Every picture is decoded in full: a file cut off in the middle has a good header. Raises :class:`DataError` that names
    up to five of them.
    """

    def trouble(place: int) -> str:
        # Nothing but the text leaves the thread: the pictures of a whole dataset would not fit into memory.
        try:
            read(place)
        except (ImageError, DataError) as error:
            return str(error)
        return ""

    broken: list[str] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, text in enumerate(pool.map(trouble, range(len(pairs))), 1):
            if text:
                broken.append(text)
            if watch is not None:
                watch(done, len(pairs))
    if broken:
        more = [f"... and {len(broken) - 5} more"] if len(broken) > 5 else []
        raise DataError(f"{len(broken)} of {len(pairs)} pairs or photographs cannot be used:", *broken[:5], *more)


def read_picture(path: Path) -> Samples:
    """A picture, upright, 8 bits, grey as RGB. Raises :class:`ImageError`."""
    samples = read_photo(path).samples
    if samples.dtype != np.uint8:
        # To the nearest: 65535 / 257 is 255.
        samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(samples, (*samples.shape[:2], 3)), np.uint8)


def pictures_in(folder: Path) -> dict[str, Path]:
    """Pictures by name, sorted: regular files, or links to such. What else has a picture's name is in :func:`not_regular`.

    Raises :class:`DataError` for an empty file, which is what an interrupted unpacking leaves, and for a folder that cannot
    be read.
    """
    found = {path.name: path for path in _named_as_pictures(folder) if path.is_file()}
    for path in found.values():
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: copy or unpack it again.")
    return found


def not_regular(folder: Path) -> list[str]:
    """Names of pictures in ``folder`` that are none: devices, pipes, folders, links that lead nowhere or to themselves."""
    return [path.name for path in _named_as_pictures(folder) if not path.is_file()]


def _named_as_pictures(folder: Path) -> list[Path]:
    try:
        return named_as_pictures(folder)
    except ImageError as error:
        raise DataError(str(error)) from error


def need_folder(folder: Path, parent: Path, expected: Sequence[str], what: str = "") -> Path:
    """``folder`` itself. Raises :class:`DataError` that says what ``parent`` should hold and what it does."""
    if folder.is_dir():
        return folder
    wanted = what or "a folder with " + " and ".join(f"{name}/" for name in expected)
    raise DataError(f"{parent}: expected {wanted}; {found_in(parent)}")


def found_in(folder: Path) -> str:
    """The end of a sentence that says what a folder holds, up to five names."""
    if not folder.exists():
        return "found no such folder."
    if not folder.is_dir():
        return "found a file."
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return f"found {some(names)}." if names else "found it empty."


def some(names: Sequence[str]) -> str:
    """Up to five of ``names``, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def need_same_names(folder: Path, blur: Iterable[str], sharp: Iterable[str], blur_side: str, sharp_side: str) -> None:
    """Raises :class:`DataError` that names the pictures of ``folder`` without a partner, each with its side."""
    blur, sharp = set(blur), set(sharp)
    lonely = [f"{blur_side}/{name}" for name in sorted(blur - sharp)]
    lonely += [f"{sharp_side}/{name}" for name in sorted(sharp - blur)]
    if lonely:
        raise DataError(
            f"{folder}: {len(lonely)} of {len(blur | sharp)} pictures have no partner of the same name: {some(lonely)}. "
            "Add the missing ones or take these away."
        )
