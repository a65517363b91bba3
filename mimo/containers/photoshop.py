"""Photoshop's image resources, IPTC among them: all kept but thumbnails.

Source: Adobe Photoshop File Formats Specification (November 2019), "Image Resources Section".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mimo.containers.change import Notes

THUMBNAILS = (1033, 1036)
IPTC = 0x0404
_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")


def resources(block: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Number, start, end and data of each resource, up to the first that is no whole one."""
    at = 0
    while block[at : at + 4] in _SIGNATURES and at + 12 <= len(block):
        (number,) = struct.unpack_from(">H", block, at + 4)
        name = at + 6
        size_at = name + 1 + block[name] + (1 + block[name]) % 2
        if size_at + 4 > len(block):
            return
        (size,) = struct.unpack_from(">I", block, size_at)
        first = size_at + 4
        if first + size > len(block):
            return
        end = min(first + size + size % 2, len(block))
        yield number, at, end, block[first : first + size]
        at = end


def without_thumbnails(block: bytes, notes: Notes) -> bytes:
    """``block`` without the resources that show the picture as it was."""
    pieces, position = [], 0
    for number, start, end, _ in resources(block):
        if number in THUMBNAILS:
            notes.add("the thumbnail in Photoshop's resources")
            pieces.append(block[position:start])
            position = end
    return b"".join([*pieces, block[position:]])


def iptc_of(block: bytes) -> bytes | None:
    """The IPTC record among the resources."""
    return next((data for number, _, _, data in resources(block) if number == IPTC), None)


def from_iptc(record: bytes) -> bytes:
    """An IPTC record as the only resource."""
    return b"8BIM" + struct.pack(">HHI", IPTC, 0, len(record)) + record + b"\0" * (len(record) % 2)
