"""TIFF files: the source stays where it is, its pixels make room for those of the result.

What a maker note or a private tag points at is an offset in the file, known to its maker alone. So nothing that is kept
moves: the new strips go where the old ones were, what does not fit comes at the end, and the rest of the room is zero.

Sources: TIFF Revision 6.0 (Adobe, 1992) and its Technical Notes; BigTIFF (2007); TIFF/EP; XMP Part 3 (tag 700).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mimo.containers import exif, photoshop, xmp
from mimo.containers.change import Carried, Change, Notes
from mimo.containers.ifd import (
    EXIF,
    GPS,
    INTEROPERABILITY,
    ORIENTATION,
    TYPE_SIZES,
    X_RESOLUTION,
    Y_RESOLUTION,
    Directory,
    Entry,
    Layout,
    MalformedError,
    Range,
    children,
    integers,
    layout_of,
    read_directory,
    subtract,
)

EMPTY = b"II*\0\x08\0\0\0" + bytes(6)
"""A TIFF structure whose only directory holds nothing."""
_SUBFILE, _OLD_SUBFILE, _COMPRESSION, _UNIT, _SUB_DIRECTORIES = 254, 255, 259, 296, 330
_XMP, _IPTC, _PHOTOSHOP, _ICC, _MAKER_NOTE, _C2PA = 700, 33723, 34377, 34675, 0x927C, 0xCD41
_CODING = {
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 288, 289, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339, 347,
    *range(512, 522), 529, 530, 531, 532,
}  # fmt: skip
"""How the pixels are stored: the result's own take their place."""
_EXTREMES = {280, 281, 340, 341}
_DESCRIBING = {
    0x010E, 0x010F, 0x0110, ORIENTATION, X_RESOLUTION, Y_RESOLUTION, _UNIT, 0x012D, 0x0131, 0x0132, 0x013B, 0x013C, 0x013E,
    0x013F, 0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, 0xC4A5,
}  # fmt: skip
"""Tags of the first directory that an EXIF block has too."""
_ASCII, _SHORT, _LONG, _BYTES, _LONG8, _RATIONAL = 2, 3, 4, 7, 16, 5
_STRIP = 1 << 18


def further_pages(data: bytes) -> list[int]:
    """The NewSubfileType of each page after the first; 0 for one that is a picture of its own."""
    layout, first = _first(data)
    return [_subfile(data, layout, page) for page in _chain(data, layout, first)]


def first_page(data: bytes) -> dict[int, tuple[int, ...]]:
    """The whole numbers in the first directory, by tag. Raises :class:`MalformedError`."""
    layout, first = _first(data)
    return {entry.tag: integers(data, layout, entry)[:16] for entry in first.entries if entry.size <= 64}


def pixels_alone(data: bytes) -> bytes:
    """``data`` with a first directory of nothing but how pixels are stored, and none after it.

    What a decoder makes of an odd tag, or of a text that is not UTF-8, then costs no picture. Data whose directory cannot be
    read is returned as it is: the decoder has the words for what is wrong.
    """
    try:
        layout, first = _first(data)
    except MalformedError:
        return data
    size = 4 + 2 * layout.offset_size
    entries = [data[entry.at : entry.at + size] for entry in first.entries if entry.tag in _CODING]
    count = struct.pack(layout.order + ("Q" if layout.big else "H"), len(entries))
    padding = bytes(len(data) % 2)
    start, end = (8, 16) if layout.big else (4, 8)
    directory = count + b"".join(entries) + layout.pack(0)
    try:
        return b"".join((data[:start], layout.pack(len(data) + len(padding)), data[end:], padding, directory))
    except struct.error:  # No room for an offset behind 4 GiB.
        return data


def rebuilt(source: bytes, samples: NDArray[np.uint8] | NDArray[np.uint16], alpha: bool, change: Change, notes: Notes) -> bytes:
    """``source`` with ``samples`` (H,W,C), the last of which is transparency with ``alpha``, in place of its own.

    Raises :class:`MalformedError` when the source's directory lies outside of it, or the result has no room in TIFF.
    """
    data = bytearray(source)
    layout, first = _first(data)
    exif.patch_directories(data, layout, first, change)
    free, used, following = _pages(data, layout, first, change, notes)
    kept: dict[int, bytes] = {}
    blobs: dict[int, tuple[int, bytes]] = {}
    for entry in first.entries:
        if entry.tag in _CODING or entry.tag in kept:
            free.append(entry.value)
        elif entry.tag in _EXTREMES or entry.tag == _C2PA or _is_subpicture(data, layout, first, entry):
            free += [entry.value, *_subpictures(data, layout, first, entry)]
            notes.add(_word(entry.tag))
        elif entry.tag in (_XMP, _PHOTOSHOP) and (new := _patched(data, entry, change, notes)) is not None:
            free.append(entry.value)
            blobs[entry.tag] = entry.kind, new
        else:
            kept[entry.tag] = bytes(data[entry.at : entry.at + 4 + 2 * layout.offset_size])
            if entry.size > layout.offset_size:
                used.append(entry.value)
    for child in children(data, layout, first, (EXIF, GPS, INTEROPERABILITY)):
        used += exif.used_by(data, layout, child) if child.at != first.at else []
    # What writers align is followed by a byte of nothing: without it the room would be in pieces.
    free = [(start, min(end + end % 2, len(data))) for start, end in free]
    room = _Room(data, layout, subtract(free, [(0, 16 if layout.big else 8), *used]))
    compressed = integers(source, layout, first.get(_COMPRESSION)) != (1,)
    extra = integers(source, layout, first.get(338))
    blobs |= _picture(room, samples, compressed, (extra[0] if extra and extra[0] != 1 else 2) if alpha else None)
    return room.finished(kept, blobs, following)


def extended(block: bytes, carried: Carried) -> bytes:
    """An EXIF block, or :data:`EMPTY`, with the rest of what another format carried as tags of its first directory."""
    data = bytearray(block)
    layout, first = _first(data)
    kept = {entry.tag: block[entry.at : entry.at + 12] for entry in first.entries}
    room = _Room(data, layout, [(first.at, first.end)])
    blobs: dict[int, tuple[int, bytes]] = {}
    for tag, kind, value in ((_XMP, 1, carried.xmp), (_ICC, _BYTES, carried.icc), (_PHOTOSHOP, _BYTES, carried.photoshop)):
        if value:
            blobs[tag] = kind, value
    if carried.photoshop and (record := photoshop.iptc_of(carried.photoshop)):
        blobs[_IPTC] = _BYTES, record
    if carried.resolution is not None and X_RESOLUTION not in kept:
        for tag, metres in zip((X_RESOLUTION, Y_RESOLUTION), carried.resolution, strict=True):
            blobs[tag] = _RATIONAL, struct.pack(layout.order + "II", round(metres * 254), 10000)
        blobs[_UNIT] = _SHORT, struct.pack(layout.order + "H", 2)
    return room.finished(kept, blobs, 0)


def extracted(source: bytes) -> Carried:
    """What ``source`` carries that other containers have a place for; its tags become an EXIF block, without maker note."""
    layout, first = _first(source)
    carried = Carried()
    values = {entry.tag: source[slice(*entry.value)] for entry in first.entries}
    carried.xmp, carried.icc = values.get(_XMP), values.get(_ICC)
    carried.photoshop = values.get(_PHOTOSHOP)
    if carried.photoshop is None and (record := values.get(_IPTC)):
        carried.photoshop = photoshop.from_iptc(record)
    unit = integers(source, layout, first.get(_UNIT)) or (2,)
    numbers = [
        struct.unpack(layout.order + "II", values.get(tag, b"")[:8].ljust(8, b"\0")) for tag in (X_RESOLUTION, Y_RESOLUTION)
    ]
    if unit[0] in (2, 3) and all(a and b for a, b in numbers):
        across, down = (a / b / {2: 0.0254, 3: 0.01}[unit[0]] for a, b in numbers)
        carried.resolution = across, down
    below = list(children(source, layout, first, (EXIF, GPS)))
    telling = _DESCRIBING - {ORIENTATION, X_RESOLUTION, Y_RESOLUTION, _UNIT}
    if below or telling & values.keys():
        carried.exif = _as_exif(source, layout, first)
        if any(child.get(_MAKER_NOTE) for child in below):
            carried.others.append("the maker note, which is only true at its place in the TIFF file")
    known = _CODING | _EXTREMES | _DESCRIBING | {EXIF, GPS, _XMP, _ICC, _PHOTOSHOP, _IPTC, _SUBFILE, _OLD_SUBFILE, 297}
    if private := sorted(values.keys() - known):
        carried.others.append(f"TIFF tags {', '.join(map(str, private))}")
    if first.next:
        carried.others.append("the further pages")
    return carried


def _first(data: bytes | bytearray) -> tuple[Layout, Directory]:
    layout, at = layout_of(data)
    return layout, read_directory(data, layout, at)


def _chain(data: bytes | bytearray, layout: Layout, first: Directory) -> Iterator[Directory]:
    seen, at = {first.at}, first.next
    while at and at not in seen:
        seen.add(at)
        try:
            page = read_directory(data, layout, at)
        except MalformedError:
            return
        yield page
        at = page.next


def _subfile(data: bytes | bytearray, layout: Layout, page: Directory) -> int:
    """NewSubfileType; SubfileType 2, which came before it, is a reduced picture too."""
    values = integers(data, layout, page.get(_SUBFILE))
    if not values and integers(data, layout, page.get(_OLD_SUBFILE)) == (2,):
        return 1
    return values[0] if values else 0


def _picture_ranges(data: bytearray, layout: Layout, page: Directory) -> list[Range]:
    ranges = exif.picture_of(data, layout, page)
    places = integers(data, layout, page.get(324)), integers(data, layout, page.get(325))
    return ranges + [(start, min(start + size, len(data))) for start, size in zip(*places, strict=False)]


def _pages(
    data: bytearray, layout: Layout, first: Directory, change: Change, notes: Notes
) -> tuple[list[Range], list[Range], int]:
    """What becomes free, what stays in use, and the offset of the page that follows the first."""
    free = [(first.at, first.end)]
    for offsets, sizes in ((273, 279), (324, 325), (513, 514)):
        places = integers(data, layout, first.get(offsets)), integers(data, layout, first.get(sizes))
        free += [(start, min(start + size, len(data))) for start, size in zip(*places, strict=False)]
    used: list[Range] = []
    staying: list[Directory] = []
    for page in _chain(data, layout, first):
        mask = _subfile(data, layout, page) & 4
        if mask and not change.turned:
            staying.append(page)
            used += [*_picture_ranges(data, layout, page), *exif.used_by(data, layout, page)]
        else:
            notes.add("the mask, which lies as the picture did before it was turned" if mask else "the thumbnail page")
            free += _picture_ranges(data, layout, page)
    ends = [*(page.at for page in staying[1:]), 0]
    for page, after in zip(staying, ends, strict=False):
        data[page.next_at : page.next_at + layout.offset_size] = layout.pack(after)
    return free, used, staying[0].at if staying else 0


def _is_subpicture(data: bytearray, layout: Layout, first: Directory, entry: Entry) -> bool:
    """Whether ``entry`` points at smaller versions of the picture and at nothing else."""
    if entry.tag != _SUB_DIRECTORIES:
        return False
    below = list(children(data, layout, first, (entry.tag,)))
    return bool(below) and all(_subfile(data, layout, page) & 1 for page in below)


def _subpictures(data: bytearray, layout: Layout, first: Directory, entry: Entry) -> list[Range]:
    if entry.tag != _SUB_DIRECTORIES:
        return []
    return [span for page in children(data, layout, first, (entry.tag,)) for span in _picture_ranges(data, layout, page)]


def _patched(data: bytearray, entry: Entry, change: Change, notes: Notes) -> bytes | None:
    """The new value of XMP or of Photoshop's resources; None where it stays as it is."""
    old = bytes(data[slice(*entry.value)])
    patched = xmp.patched(old, change, xmp.Dropped(), notes) if entry.tag == _XMP else None
    new = photoshop.without_thumbnails(old, notes) if patched is None else patched
    return None if new == old else new


def _word(tag: int) -> str:
    if tag in _EXTREMES:
        return "the smallest and the largest sample (TIFF)"
    if tag == _C2PA:
        return "content credentials (C2PA), whose signature new pixels break"
    return "the smaller versions of the picture (SubIFDs)"


class _Room:
    """A file under construction: holes to fill, then its end."""

    def __init__(self, data: bytearray, layout: Layout, holes: list[Range]) -> None:
        self.data, self.layout, self.holes = data, layout, holes
        for start, end in holes:
            data[start:end] = bytes(end - start)

    def place(self, blob: bytes) -> int:
        """Write ``blob`` into the first hole that is large enough, or at the end; its offset, which is even."""
        for number, (start, end) in enumerate(self.holes):
            at = start + start % 2
            if at + len(blob) <= end:
                self.data[at : at + len(blob)] = blob
                self.holes[number] = (at + len(blob), end)
                return at
        self._cut()
        at = len(self.data) + len(self.data) % 2
        self.data += bytes(at - len(self.data)) + blob
        if not self.layout.big and len(self.data) >= 2**32:
            raise MalformedError("more than the 4 GiB that TIFF has room for")
        return at

    def _cut(self) -> None:
        """Take a hole at the end of the file away."""
        if self.holes and self.holes[-1][1] == len(self.data):
            del self.data[self.holes.pop()[0] :]

    def finished(self, kept: dict[int, bytes], blobs: dict[int, tuple[int, bytes]], following: int) -> bytes:
        """The file with a first directory of the entries ``kept`` and of ``blobs``: type and value by tag."""
        layout, size = self.layout, self.layout.offset_size
        entries = dict(kept)
        for tag, (kind, value) in blobs.items():
            inside = value.ljust(size, b"\0") if len(value) <= size else layout.pack(self.place(value))
            head = struct.pack(layout.order + "HH", tag, kind) + layout.pack(len(value) // TYPE_SIZES[kind])
            entries[tag] = head + inside
        count = struct.pack(layout.order + ("Q" if layout.big else "H"), len(entries))
        at = self.place(count + b"".join(entries[tag] for tag in sorted(entries)) + layout.pack(following))
        self.data[size if layout.big else 4 : 2 * size if layout.big else 8] = layout.pack(at)
        self._cut()
        return bytes(self.data)


def _picture(
    room: _Room, samples: NDArray[np.uint8] | NDArray[np.uint16], compressed: bool, extra: int | None
) -> dict[int, tuple[int, bytes]]:
    """The strips, placed, and the tags that describe them."""
    order = room.layout.order
    height, width, bands = samples.shape
    rows = max(1, min(height, _STRIP // (width * bands * samples.itemsize)))
    offsets, sizes = [], []
    for top in range(0, height, rows):
        strip = samples[top : top + rows]
        if compressed:
            # Predictor 2: each sample less the one before it in its row.
            strip = np.concatenate([strip[:, :1], strip[:, 1:] - strip[:, :-1]], axis=1)
        coded = strip.astype(strip.dtype.newbyteorder(order)).tobytes()
        coded = zlib.compress(coded) if compressed else coded
        offsets.append(room.place(coded))
        sizes.append(len(coded))

    def short(*values: int) -> tuple[int, bytes]:
        return _SHORT, struct.pack(f"{order}{len(values)}H", *values)

    def long(*values: int) -> tuple[int, bytes]:
        return _LONG, struct.pack(f"{order}{len(values)}I", *values)

    places = (_LONG8, struct.pack(f"{order}{len(offsets)}Q", *offsets)) if room.layout.big else long(*offsets)
    tags = {
        256: long(width),
        257: long(height),
        258: short(*[8 * samples.itemsize] * bands),
        259: short(8 if compressed else 1),
        262: short(1 if bands < 3 else 2),
        273: places,
        277: short(bands),
        278: long(rows),
        279: long(*sizes),
        284: short(1),
    }
    if compressed:
        tags[317] = short(2)
    if extra is not None:
        tags[338] = short(extra)
    return tags


def _as_exif(data: bytes, layout: Layout, first: Directory) -> bytes:
    """The describing tags of a TIFF file and its EXIF and GPS directories, moved together."""
    out = bytearray((b"II*\0" if layout.order == "<" else b"MM\0*") + bytes(4))
    plain = Layout(layout.order, False)

    def write(directory: Directory, tags: set[int] | None, below: tuple[int, ...]) -> int:
        entries = []
        for entry in sorted(directory.entries, key=lambda entry: entry.tag):
            if entry.tag in below:
                for child in children(data, layout, directory, (entry.tag,)):
                    nested = write(child, None, (INTEROPERABILITY,) if entry.tag == EXIF else ())
                    entries.append(struct.pack(plain.order + "HHII", entry.tag, _LONG, 1, nested))
                    break
            elif entry.tag != _MAKER_NOTE and (tags is None or entry.tag in tags) and entry.kind < _LONG8:
                value = data[slice(*entry.value)]
                at = len(out)
                if len(value) > 4:
                    out.extend(value + b"\0" * (len(value) % 2))
                inside = value.ljust(4, b"\0") if len(value) <= 4 else plain.pack(at)
                entries.append(struct.pack(plain.order + "HHI", entry.tag, entry.kind, entry.count) + inside)
        at = len(out)
        out.extend(struct.pack(plain.order + "H", len(entries)) + b"".join(entries) + bytes(4))
        return at

    out[4:8] = plain.pack(write(first, _DESCRIBING, (EXIF, GPS)))
    return bytes(out)
