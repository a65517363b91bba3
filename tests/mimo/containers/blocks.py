"""Metadata by hand: what no library writes, at the offsets that the tests ask for."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

HEIGHT, WIDTH = 24, 40
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP_HEAD, EXTENDED_HEAD = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
Tag = tuple[int, int, int, bytes]
"""Tag, type, count, value."""


def pixels() -> NDArray[np.uint8]:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([y * 9, x * 6, (x + y) * 3], axis=2).astype(np.uint8)


def saved(form: str, samples: NDArray[np.uint8] | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels() if samples is None else samples).save(file, form, **options)
    return file.getvalue()


def xmp(attributes: str = "", body: str = "") -> bytes:
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        b' xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="\xc3\xa4 &amp; b" '
        + attributes.encode()
        + b">"
        + body.encode()
        + b"</rdf:Description></rdf:RDF></x:xmpmeta>   \n<?xpacket end='w'?>"
    )


def tiff(*directories: Sequence[Tag], order: str = "<", pointers: dict[int, int] | None = None, chain: bool = False) -> bytes:
    """A TIFF structure: the first directory, then those that ``pointers`` (tag -> number) of the first point at.

    With ``chain`` the last directory follows the first, as that of a thumbnail does.
    """
    pointers = pointers or {}
    sizes = [2 + 12 * (len(tags) + (len(pointers) if number == 0 else 0)) + 4 for number, tags in enumerate(directories)]
    starts = [8 + sum(sizes[:number]) for number in range(len(directories))]
    values, heap = b"", 8 + sum(sizes)
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    for number, tags in enumerate(directories):
        rows = [*tags] + [(tag, 4, 1, struct.pack(order + "I", starts[to])) for tag, to in pointers.items() if number == 0]
        out += struct.pack(order + "H", len(rows))
        for tag, kind, count, value in sorted(rows):
            out += struct.pack(order + "HHI", tag, kind, count)
            out += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", heap + len(values))
            values += b"" if len(value) <= 4 else value + b"\0" * (len(value) % 2)
        out += struct.pack(order + "I", starts[-1] if chain and number == 0 else 0)
    return out + values


def maker_note(at: int) -> bytes:
    """A directory as Canon writes it: its offset counts from the TIFF header, which is ``at`` before it."""
    return struct.pack("<HHHII", 1, 7, 2, 16, at + 18) + b"\0\0\0\0" + b"Firmware 1.2.3\0\0"


def exif(orientation: int = 1, thumbnail: bytes = b"") -> bytes:
    """A camera's block: private tags, EXIF and GPS directories, a maker note with offsets, perhaps a thumbnail."""
    number = struct.pack("<H", orientation)
    first: list[Tag] = [
        (0x010F, 2, 6, b"Canon\0"), (0x0112, 3, 1, number), (0x4746, 3, 1, b"\5\0"), (0xC4A5, 7, 12, b"PrintIM\0" + b"0300"),
        (0x011A, 5, 1, struct.pack("<II", 300, 1)), (0x011B, 5, 1, struct.pack("<II", 150, 1)),
    ]  # fmt: skip

    def block(note: bytes, start: int) -> bytes:
        camera: list[Tag] = [
            (0x829A, 5, 1, struct.pack("<II", 1, 125)), (0x927C, 7, len(note), note), (0xA002, 4, 1, struct.pack("<I", WIDTH)),
            (0xA003, 4, 1, struct.pack("<I", HEIGHT)), (0x9286, 7, 10, b"ASCII\0\0\0hi"),
        ]  # fmt: skip
        gps: list[Tag] = [(1, 2, 2, b"N\0"), (2, 5, 3, struct.pack("<6I", 47, 1, 22, 1, 0, 1))]
        small: list[Tag] = [(0x0103, 3, 1, b"\6\0"), (0x0112, 3, 1, number), (0x0201, 4, 1, struct.pack("<I", start))]
        small.append((0x0202, 4, 1, struct.pack("<I", len(thumbnail))))
        pages = [first, camera, gps, *([small] if thumbnail else [])]
        return tiff(*pages, pointers={0x8769: 1, 0x8825: 2}, chain=bool(thumbnail))

    at = block(maker_note(0), 0).index(maker_note(0))
    return block(maker_note(at), len(block(maker_note(at), 0))) + thumbnail


def resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + b"\0" * (len(data) % 2)


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(*segments: bytes, trailer: bytes = b"", jfif: bool = False) -> bytes:
    """The pixels as a JPEG whose only APPn segments and comments are these."""
    plain = saved("jpeg", quality=95)
    return plain[:2] + (plain[2:20] if jfif else b"") + b"".join(segments) + plain[20:] + trailer


def jpeg_segments(data: bytes) -> list[bytes]:
    """The APPn segments and comments before the first scan, whole."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if 0xE0 <= data[at + 1] <= 0xEF or data[at + 1] == 0xFE:
            found.append(data[at:end])
        at = end
    return found


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(*chunks: bytes, after: bytes = b"", samples: NDArray[np.uint8] | None = None) -> bytes:
    plain = saved("png", samples)
    return plain[:33] + b"".join(chunks) + plain[33:-12] + after + plain[-12:]


def png_chunks(data: bytes) -> Iterator[bytes]:
    at = 8
    while at < len(data):
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        yield data[at:end]
        at = end


def riff(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data + b"\0" * (len(data) % 2)


def webp_with(before: bytes = b"", after: bytes = b"", flags: int = 0, lossless: bool = True) -> bytes:
    body = before + saved("webp", lossless=lossless)[12:] + after
    size = struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3]
    body = b"WEBP" + riff(b"VP8X", bytes((flags, 0, 0, 0)) + size) + body
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunks(data: bytes) -> dict[bytes, bytes]:
    found, at = {}, 12
    while at < len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        found[name] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return found


def tiff_with(tags: Sequence[Tag] = (), base: bytes = b"", pointers: dict[int, int] | None = None) -> bytes:
    """The pixels as an uncompressed TIFF with ``tags``, behind ``base``, whose own directory's entries it takes over."""
    raw = pixels().tobytes()
    own: list[Tag] = [
        (256, 4, 1, struct.pack("<I", WIDTH)), (257, 4, 1, struct.pack("<I", HEIGHT)), (258, 3, 3, struct.pack("<3H", 8, 8, 8)),
        (259, 3, 1, b"\1\0"), (262, 3, 1, b"\2\0"), (277, 3, 1, b"\3\0"), (278, 4, 1, struct.pack("<I", HEIGHT)),
        (279, 4, 1, struct.pack("<I", len(raw))),
    ]  # fmt: skip
    rows = []
    if base:
        count = struct.unpack_from("<H", base, 8)[0]
        rows = [base[10 + 12 * number : 22 + 12 * number] for number in range(count)]
    out = bytearray(base or b"II*\0\0\0\0\0")
    out += b"\0" * (len(out) % 2) + raw
    for tag, kind, count, value in [*own, *tags, (273, 4, 1, struct.pack("<I", len(out) - len(raw)))]:
        inside = value.ljust(4, b"\0")
        if len(value) > 4:
            inside = struct.pack("<I", len(out))
            out += value + b"\0" * (len(value) % 2)
        rows.append(struct.pack("<HHI", tag, kind, count) + inside)
    out[4:8] = struct.pack("<I", len(out))
    rows.sort(key=lambda row: struct.unpack_from("<H", row)[0])
    return bytes(out + struct.pack("<H", len(rows)) + b"".join(rows) + b"\0\0\0\0")


def tiff_tags(data: bytes, at: int | None = None) -> dict[int, bytes]:
    """Tag -> value of the first directory, or of that at ``at``."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
    at = struct.unpack_from("<I", data, 4)[0] if at is None else at
    found = {}
    for number in range(struct.unpack_from("<H", data, at)[0]):
        tag, kind, count, value = struct.unpack_from("<HHII", data, at + 2 + 12 * number)
        size = sizes[kind] * count
        start = value if size > 4 else at + 10 + 12 * number
        found[tag] = data[start : start + size]
    return found
