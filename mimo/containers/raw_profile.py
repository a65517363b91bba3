"""Metadata that ImageMagick and its kin keep in PNG text chunks, as hexadecimal: ``Raw profile type exif`` and others.

Source: ExifTool's documentation of PNG tags, "TextualData", and libpng's registered keywords, which these are not.
"""

from __future__ import annotations

import re
import zlib

from mimo.containers import exif, photoshop, xmp
from mimo.containers.change import Change, Notes

_KEYWORD = b"Raw profile type "
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_LINE = 36
"""Bytes a line."""
_MOST = 64_000_000


def patched(name: bytes, data: bytes, change: Change, notes: Notes) -> bytes:
    """The data of a ``tEXt`` or ``zTXt`` chunk, with the profile it holds as the result has it; any other as it is."""
    keyword, _, rest = data.partition(b"\0")
    if not keyword.startswith(_KEYWORD):
        return data
    text = rest if name == b"tEXt" else _inflated(rest[1:])
    match = re.fullmatch(rb"\n([^\n]*)\n\s*(\d{1,9})\n([0-9a-fA-F\s]*)", text or b"")
    if match is None:
        return data
    digits = re.sub(rb"\s", b"", match[3])
    old = bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
    new = _profile(keyword.removeprefix(_KEYWORD).lower(), old, change, notes)
    if new == old:
        return data
    lines = b"\n".join(new[at : at + _LINE].hex().encode() for at in range(0, len(new), _LINE))
    coded = b"\n" + match[1] + b"\n" + f"{len(new):8d}".encode() + b"\n" + lines + b"\n"
    return keyword + b"\0" + (coded if name == b"tEXt" else b"\0" + zlib.compress(coded))


def _profile(kind: bytes, block: bytes, change: Change, notes: Notes) -> bytes:
    if kind in (b"exif", b"app1") and block.startswith(b"Exif\0\0"):
        return block[:6] + exif.patched(block[6:], change, notes)
    if kind in (b"xmp", b"app1"):
        head = len(_XMP_HEAD) if block.startswith(_XMP_HEAD) else 0
        return block[:head] + xmp.patched(block[head:], change, xmp.Dropped(), notes)
    if kind in (b"8bim", b"iptc"):
        return photoshop.without_thumbnails(block, notes)
    return block


def _inflated(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(data, _MOST)
    except zlib.error:
        return None
