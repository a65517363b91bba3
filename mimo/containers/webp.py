"""WebP files: the source's chunks around the picture of the result.

Source: RFC 9649 (WebP Image Format, 2024), section 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mimo.containers import exif, xmp
from mimo.containers.change import Carried, Change, Notes

_PICTURE = {b"VP8 ", b"VP8L", b"ALPH"}
_ICC_FLAG, _ALPHA_FLAG, _EXIF_FLAG, _XMP_FLAG = 0x20, 0x10, 0x08, 0x04

Chunk = tuple[bytes, bytes]
"""Its four letters and its data."""


def parse(data: bytes) -> Iterator[Chunk]:
    """The chunks of the RIFF file, up to its end or to the first that is cut off."""
    end = min(8 + struct.unpack_from("<I", data, 4)[0], len(data)) if len(data) >= 12 else 0
    at = 12
    while at + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > len(data):
            return
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def is_lossless(data: bytes) -> bool:
    """Whether the pixels are coded without loss."""
    return any(name == b"VP8L" or (name == b"ANMF" and b"VP8L" in body[16:28]) for name, body in parse(data))


def rebuilt(source: bytes, picture: bytes, change: Change, notes: Notes) -> bytes:
    """``picture``, a WebP of the result, with everything that ``source`` carries besides its own picture."""
    chunks: list[Chunk] = []
    extended = False
    pixels = [chunk for chunk in parse(picture) if chunk[0] in _PICTURE]
    for name, data in parse(source):
        if name in _PICTURE or name == b"ANMF":  # the only frame of what could have been an animation
            chunks, pixels = chunks + pixels, []
        elif name == b"ANIM":
            continue
        elif name == b"VP8X":
            extended = True
        elif name == b"EXIF":
            head = 6 if data.startswith(b"Exif\0\0") else 0
            block = exif.patched(data[head:], change, notes)
            chunks += [(name, data[:head] + block)] if block else []
        elif name == b"XMP ":
            chunks.append((name, xmp.patched(data, change, xmp.Dropped(), notes)))
        elif name == b"C2PA":
            notes.add("content credentials (C2PA), whose signature new pixels break")
        else:
            chunks.append((name, data))
    trailer = source[8 + (size := struct.unpack_from("<I", source, 4)[0]) + size % 2 :]
    return _file(chunks, change, _has_alpha(picture), extended) + trailer


def extracted(source: bytes) -> Carried:
    """What ``source`` carries that other containers have a place for."""
    carried = Carried()
    for name, data in parse(source):
        if name == b"EXIF":
            carried.exif = data[6:] if data.startswith(b"Exif\0\0") else data
        elif name == b"XMP ":
            carried.xmp = data
        elif name == b"ICCP":
            carried.icc = data
        elif name not in _PICTURE and name not in (b"VP8X", b"ANIM", b"ANMF"):
            carried.others.append(name.decode("ascii", "replace").strip())
    return carried


def embedded(picture: bytes, carried: Carried, change: Change, notes: Notes) -> bytes:
    """``picture``, a WebP with nothing besides its pixels, with what comes from another format."""
    chunks: list[Chunk] = [(b"ICCP", carried.icc)] if carried.icc else []
    chunks += [chunk for chunk in parse(picture) if chunk[0] in _PICTURE]
    chunks += [(b"EXIF", carried.exif)] if carried.exif else []
    chunks += [(b"XMP ", carried.xmp)] if carried.xmp else []
    if carried.photoshop:
        notes.add("IPTC and Photoshop's resources, for which WebP has no place")
    if carried.resolution is not None and not carried.exif:
        notes.add("the resolution, for which WebP has no place")
    return _file(chunks, change, _has_alpha(picture), False)


def _has_alpha(picture: bytes) -> bool:
    for name, data in parse(picture):
        if name == b"ALPH" or (name == b"VP8X" and data[0] & _ALPHA_FLAG):
            return True
        if name == b"VP8L" and len(data) >= 5:
            return bool(struct.unpack_from("<I", data, 1)[0] >> 28 & 1)
    return False


def _file(chunks: list[Chunk], change: Change, alpha: bool, extended: bool) -> bytes:
    """The RIFF file; extended where a chunk or the source asks for it."""
    names = {name for name, _ in chunks}
    if extended or names - {b"VP8 ", b"VP8L"}:
        flags = (_ICC_FLAG if b"ICCP" in names else 0) | (_ALPHA_FLAG if alpha else 0)
        flags |= (_EXIF_FLAG if b"EXIF" in names else 0) | (_XMP_FLAG if b"XMP " in names else 0)
        size = struct.pack("<I", change.width - 1)[:3] + struct.pack("<I", change.height - 1)[:3]
        chunks = [(b"VP8X", bytes((flags, 0, 0, 0)) + size), *chunks]
    body = b"".join(struct.pack("<4sI", name, len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
