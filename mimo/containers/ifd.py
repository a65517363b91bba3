"""TIFF directories: read within bounds, patched where they stand. TIFF files and EXIF blocks are both made of them.

Source: TIFF Revision 6.0 (Adobe, 1992), section 2; BigTIFF (2007) for eight-byte offsets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value by its type's number."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
ORIENTATION, X_RESOLUTION, Y_RESOLUTION = 0x0112, 0x011A, 0x011B
EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
IMAGE_WIDTH, IMAGE_LENGTH, PIXEL_X, PIXEL_Y = 0x0100, 0x0101, 0xA002, 0xA003
FOCAL_PLANE_X, FOCAL_PLANE_Y = 0xA20E, 0xA20F
_MOST_ENTRIES = 4096

Range = tuple[int, int]
"""First byte and the one past the last."""


class MalformedError(ValueError):
    """Bytes that are no TIFF structure, or one whose directory lies outside of them."""


@dataclass(frozen=True)
class Entry:
    """One tag of a directory."""

    tag: int
    kind: int
    """The number of its type."""
    count: int
    at: int
    """Where the entry itself stands."""
    value_at: int
    """Where its value stands: in the entry when it is short."""
    size: int
    """Of the value, in bytes."""

    @property
    def value(self) -> Range:
        """The bytes of its value."""
        return self.value_at, self.value_at + self.size


@dataclass(frozen=True)
class Directory:
    """An IFD: its entries in the order of the file, and where the pointer to the next one stands."""

    at: int
    entries: tuple[Entry, ...]
    next_at: int
    next: int
    end: int

    def get(self, tag: int) -> Entry | None:
        """The first entry of ``tag``."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


@dataclass(frozen=True)
class Layout:
    """Byte order and width of offsets, from the header."""

    order: Literal["<", ">"]
    big: bool

    @property
    def offset_size(self) -> int:
        """Of an offset, in bytes; also the room that an entry has for its value."""
        return 8 if self.big else 4

    @property
    def offset_code(self) -> str:
        """For :mod:`struct`."""
        return self.order + ("Q" if self.big else "I")

    def pack(self, value: int) -> bytes:
        """An offset as it is stored."""
        return struct.pack(self.offset_code, value)


def layout_of(data: bytes | bytearray) -> tuple[Layout, int]:
    """The layout and the offset of the first directory. Raises :class:`MalformedError`."""
    order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
    try:
        magic = struct.unpack_from(order + "H", data, 2)[0] if data[:2] in (b"II", b"MM") else 0
        if magic == 42:
            return Layout(order, False), struct.unpack_from(order + "I", data, 4)[0]
        if magic == 43 and struct.unpack_from(order + "HH", data, 4) == (8, 0):
            return Layout(order, True), struct.unpack_from(order + "Q", data, 8)[0]
    except struct.error as error:
        raise MalformedError("cut off in the header") from error
    raise MalformedError("no TIFF header")


def read_directory(data: bytes | bytearray, layout: Layout, at: int) -> Directory:
    """The directory at ``at``. An entry whose value lies outside of ``data`` is left out. Raises :class:`MalformedError`."""
    count_code, count_size, entry_size = (layout.order + "Q", 8, 20) if layout.big else (layout.order + "H", 2, 12)
    try:
        (count,) = struct.unpack_from(count_code, data, at)
        next_at = at + count_size + entry_size * count
        (following,) = struct.unpack_from(layout.offset_code, data, next_at) if next_at < len(data) else (0,)
    except struct.error as error:
        raise MalformedError("a directory outside of the data") from error
    if at < 8 or count > _MOST_ENTRIES or next_at > len(data):
        raise MalformedError("a directory outside of the data")
    entries = []
    for start in range(at + count_size, next_at, entry_size):
        tag, kind = struct.unpack_from(layout.order + "HH", data, start)
        (number,) = struct.unpack_from(layout.offset_code, data, start + 4)
        room = start + 4 + layout.offset_size
        size = number * TYPE_SIZES.get(kind, 0)
        value_at = room if size <= layout.offset_size else struct.unpack_from(layout.offset_code, data, room)[0]
        if value_at + size <= len(data):
            entries.append(Entry(tag, kind, number, start, value_at, size))
    end = min(next_at + layout.offset_size, len(data))
    return Directory(at, tuple(entries), next_at, following, end)


def integers(data: bytes | bytearray, layout: Layout, entry: Entry | None) -> tuple[int, ...]:
    """The values of an entry of whole numbers; none for any other."""
    if entry is None or entry.kind not in _INTEGERS:
        return ()
    return struct.unpack_from(f"{layout.order}{entry.count}{_INTEGERS[entry.kind]}", data, entry.value_at)


def set_integer(data: bytearray, layout: Layout, entry: Entry, value: int) -> None:
    """Overwrite the single whole number of ``entry``; one too large for its type becomes a LONG where it stands."""
    if entry.count != 1 or entry.kind not in _INTEGERS:
        return
    if value >= 256 ** TYPE_SIZES[entry.kind]:
        struct.pack_into(layout.order + "H", data, entry.at + 2, 4)
        struct.pack_into(layout.order + "I", data, entry.value_at, value)
    else:
        struct.pack_into(layout.order + _INTEGERS[entry.kind], data, entry.value_at, value)


def swap(data: bytearray, directory: Directory, one: int, other: int) -> None:
    """Exchange the values of two tags of the same type and size."""
    first, second = directory.get(one), directory.get(other)
    if first and second and (first.kind, first.size) == (second.kind, second.size):
        a, b = slice(*first.value), slice(*second.value)
        data[a], data[b] = data[b], data[a]


def children(data: bytes | bytearray, layout: Layout, directory: Directory, tags: tuple[int, ...]) -> Iterator[Directory]:
    """The directories that the tags point at, as far as they can be read."""
    for tag in tags:
        for at in integers(data, layout, directory.get(tag)):
            try:
                yield read_directory(data, layout, at)
            except MalformedError:
                continue


def subtract(ranges: list[Range], taken: list[Range]) -> list[Range]:
    """The parts of ``ranges`` that no range of ``taken`` covers, sorted, merged."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    left: list[Range] = []
    holes = sorted(hole for hole in taken if hole[1] > hole[0])
    for start, end in merged:
        position = start
        for first, last in holes:
            if last <= position:
                continue
            if first >= end:
                break
            if first > position:
                left.append((position, first))
            position = max(position, last)
        if position < end:
            left.append((position, end))
    return left
