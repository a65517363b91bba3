"""EXIF blocks, patched where they stand: nothing moves, so what a maker note points at is where it was.

Source: Exif 2.32 (CIPA DC-008-2019); the structure is that of TIFF, see :mod:`mimo.containers.ifd`.
"""

from __future__ import annotations

from mimo.containers.change import Change, Notes
from mimo.containers.ifd import (
    EXIF,
    FOCAL_PLANE_X,
    FOCAL_PLANE_Y,
    GPS,
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    INTEROPERABILITY,
    ORIENTATION,
    PIXEL_X,
    PIXEL_Y,
    X_RESOLUTION,
    Y_RESOLUTION,
    Directory,
    Layout,
    MalformedError,
    Range,
    children,
    integers,
    layout_of,
    read_directory,
    set_integer,
    subtract,
    swap,
)

UNREADABLE = "EXIF that is damaged"
THUMBNAIL = "the thumbnail in EXIF"
_STRIPS = ((0x0111, 0x0117), (0x0201, 0x0202))
"""Offsets and sizes: of the strips of an uncompressed thumbnail, of a JPEG one."""


def orientation_of(block: bytes) -> int:
    """1 to 8; 1 too where there is none, or nonsense."""
    try:
        layout, at = layout_of(block)
        values = integers(block, layout, read_directory(block, layout, at).get(ORIENTATION))
    except MalformedError:
        return 1
    return values[0] if len(values) == 1 and 1 <= values[0] <= 8 else 1


def patched(block: bytes, change: Change, notes: Notes) -> bytes:
    """``block`` with orientation, sizes and resolution as the result has them, and without its thumbnail.

    The bytes of the thumbnail become zero, or are cut off where nothing comes after them. Nothing is left of a block that
    cannot be read: some readers refuse the whole picture for it.
    """
    data = bytearray(block)
    try:
        layout, at = layout_of(data)
        first = read_directory(data, layout, at)
    except MalformedError:
        notes.add(UNREADABLE)
        return b""
    patch_directories(data, layout, first, change)
    if first.next and _drop_thumbnail(data, layout, first):
        notes.add(THUMBNAIL)
    return bytes(data)


def patch_directories(data: bytearray, layout: Layout, first: Directory, change: Change) -> None:
    """Orientation, sizes and resolution in the first directory and in the EXIF one that it points at."""
    if not change.turned:
        return
    orientation = first.get(ORIENTATION)
    if orientation is not None:
        set_integer(data, layout, orientation, 1)
    if not change.sideways:
        return
    swap(data, first, X_RESOLUTION, Y_RESOLUTION)
    _set_size(data, layout, first, (IMAGE_WIDTH, IMAGE_LENGTH), change)
    for exif in children(data, layout, first, (EXIF,)):
        _set_size(data, layout, exif, (PIXEL_X, PIXEL_Y), change)
        swap(data, exif, FOCAL_PLANE_X, FOCAL_PLANE_Y)


def _set_size(data: bytearray, layout: Layout, directory: Directory, tags: tuple[int, int], change: Change) -> None:
    for tag, value in zip(tags, (change.width, change.height), strict=True):
        entry = directory.get(tag)
        if entry is not None:
            set_integer(data, layout, entry, value)


def used_by(data: bytes | bytearray, layout: Layout, directory: Directory) -> list[Range]:
    """The bytes of a directory, of its values, and of the EXIF, GPS and interoperability directories below it."""
    ranges = [(directory.at, directory.end), *(entry.value for entry in directory.entries)]
    for child in children(data, layout, directory, (EXIF, GPS, INTEROPERABILITY)):
        if child.at != directory.at:
            ranges += [(child.at, child.end), *(entry.value for entry in child.entries)]
            for grandchild in children(data, layout, child, (INTEROPERABILITY,)):
                ranges += [(grandchild.at, grandchild.end), *(entry.value for entry in grandchild.entries)]
    return ranges


def picture_of(data: bytes | bytearray, layout: Layout, directory: Directory) -> list[Range]:
    """The bytes of a directory, of its values and of the picture it describes."""
    ranges = [(directory.at, directory.end), *(entry.value for entry in directory.entries)]
    for offsets, sizes in _STRIPS:
        places = integers(data, layout, directory.get(offsets)), integers(data, layout, directory.get(sizes))
        ranges += [(start, min(start + size, len(data))) for start, size in zip(*places, strict=False)]
    return ranges


def _drop_thumbnail(data: bytearray, layout: Layout, first: Directory) -> bool:
    """Whether there was a directory of one behind the first."""
    thumbnail: list[Range] = []
    seen, at = {first.at}, first.next
    while at and at not in seen:
        seen.add(at)
        try:
            directory = read_directory(data, layout, at)
        except MalformedError:
            break
        thumbnail += picture_of(data, layout, directory)
        at = directory.next
    data[first.next_at : first.next_at + layout.offset_size] = bytes(layout.offset_size)
    for start, end in reversed(subtract(thumbnail, [(0, 16 if layout.big else 8), *used_by(data, layout, first)])):
        if end >= len(data):
            del data[start:]
        else:
            data[start:end] = bytes(end - start)
    return bool(thumbnail)
