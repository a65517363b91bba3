"""One way in and one way out for all containers: what a source carries, and a file of the result that carries it too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimo.containers import exif, jpeg, photoshop, png, tiff, webp, xmp
from mimo.containers.change import Carried, Change, Notes
from mimo.containers.identify import Format

Samples = NDArray[np.uint8] | NDArray[np.uint16]
_NAMES: dict[Format, str] = {"jpeg": "JPEG", "png": "PNG", "tiff": "TIFF", "webp": "WebP"}


@dataclass(frozen=True)
class Result:
    """The pixels of the result, and a file of libvips' that holds them and nothing besides."""

    samples: Samples
    """(H,W,C), of which the last is transparency with ``alpha``."""
    alpha: bool
    picture: bytes
    """Empty for TIFF, which takes the samples."""


def orientation_of(kind: Format, data: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or nonsense."""
    if kind == "tiff":
        return exif.orientation_of(data)
    block = {"jpeg": jpeg, "png": png, "webp": webp}[kind].extracted(data).exif
    return exif.orientation_of(block.removeprefix(b"Exif\0\0")) if block else 1


def same_container(kind: Format, source: bytes, result: Result, change: Change) -> tuple[bytes, Notes]:
    """The file of the result, and what could not be kept.

    Raises :class:`~mimo.containers.ifd.MalformedError`.
    """
    notes = Notes()
    if kind == "tiff":
        return tiff.rebuilt(source, result.samples, result.alpha, change, notes), notes
    return {"jpeg": jpeg, "png": png, "webp": webp}[kind].rebuilt(source, result.picture, change, notes), notes


def other_container(kind: Format, target: Format, source: bytes, result: Result, change: Change) -> tuple[bytes, Notes]:
    """As :func:`same_container`, from ``kind`` to ``target``: EXIF, XMP, ICC profile, IPTC and resolution are mapped."""
    notes = Notes()
    carried = {"jpeg": jpeg, "png": png, "tiff": tiff, "webp": webp}[kind].extracted(source)
    for other in dict.fromkeys(carried.others):
        notes.add(f"{other}, for which {_NAMES[target]} has no place" if " " not in other else other)
    _patch(carried, result.samples.shape[2] >= 3 or target == "webp", change, notes)
    if target == "jpeg":
        return jpeg.embedded(result.picture, carried, notes), notes
    if target == "png":
        return png.embedded(result.picture, carried, notes), notes
    if target == "webp":
        return webp.embedded(result.picture, carried, change, notes), notes
    base = tiff.extended(carried.exif or tiff.EMPTY, carried)
    return tiff.rebuilt(base, result.samples, result.alpha, Change(change.width, change.height, change.colour), notes), notes


def _patch(carried: Carried, colour: bool, change: Change, notes: Notes) -> None:
    if carried.exif:
        carried.exif = exif.patched(carried.exif.removeprefix(b"Exif\0\0"), change, notes) or None
    if carried.xmp:
        # What stood behind the picture did not come along.
        carried.xmp = xmp.patched(carried.xmp, change, xmp.Dropped(pictures=True, video=True), notes) or None
    if carried.photoshop:
        carried.photoshop = photoshop.without_thumbnails(carried.photoshop, notes) or None
    if carried.resolution and change.sideways:
        carried.resolution = carried.resolution[::-1]
    if carried.icc and carried.icc[16:20] != (b"RGB " if colour else b"GRAY"):
        notes.add("an ICC profile of another colour space than the result's")
        carried.icc = None
