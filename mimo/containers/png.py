"""PNG files: the source's chunks around the picture of the result.

Source: Portable Network Graphics (PNG) Specification, Third Edition (W3C, 2025), and its registered extensions.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mimo.containers import exif, raw_profile, xmp
from mimo.containers.change import Carried, Change, Notes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp\0"
_CODING = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iDOT"}
"""Of the picture itself: the result has its own, transparency as a channel. iDOT is where Apple's decoder may start."""
_KNOWN = {
    b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi", b"bKGD", b"hIST", b"pHYs",
    b"sPLT", b"tIME", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"oFFs", b"pCAL", b"sCAL", b"sTER", b"gIFg", b"gIFx",
}  # fmt: skip
_ONCE_TRUE = {b"caBX": "content credentials (C2PA), whose signature new pixels break", b"dSIG": "a digital signature"}
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


@dataclass(frozen=True)
class Chunk:
    """A type of four letters and its data."""

    name: bytes
    data: bytes
    whole: bool = True
    """Whether its checksum is right."""

    def encoded(self) -> bytes:
        """As it stands in the file."""
        return struct.pack(">I", len(self.data)) + self.name + self.data + struct.pack(">I", zlib.crc32(self.name + self.data))


def parse(data: bytes) -> Iterator[Chunk]:
    """The chunks, up to IEND or to the first that is cut off."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            return
        body = data[at + 8 : at + 8 + length]
        # The picture's own checksums are the decoder's business.
        whole = name == b"IDAT" or data[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(name + body))
        yield Chunk(name, body, whole)
        if name == b"IEND":
            return
        at += 12 + length


def rebuilt(source: bytes, picture: bytes, change: Change, notes: Notes) -> bytes:
    """``picture``, a PNG of the result, with everything that ``source`` carries besides its own picture."""
    mine, theirs = list(parse(picture)), list(parse(source))
    before: list[Chunk] = []
    after: list[Chunk] = []
    behind = False
    convert = _Conversion(theirs, mine[0].data)
    for chunk in theirs:
        behind |= chunk.name == b"IDAT"
        patched = _patched(chunk, change, notes)
        if patched is None:
            continue
        kept = convert.palette(chunk) if chunk.name in _CODING else convert(patched, notes)
        if kept is not None:
            (after if behind else before).append(kept)
    body = [chunk for chunk in mine if chunk.name == b"IDAT"]
    return SIGNATURE + b"".join(chunk.encoded() for chunk in (mine[0], *before, *body, *after, Chunk(b"IEND", b"")))


def extracted(source: bytes) -> Carried:
    """What ``source`` carries that other containers have a place for."""
    carried = Carried()
    for chunk in parse(source):
        if chunk.name in _CODING or not chunk.whole:
            continue
        packet = _packet(chunk)
        if chunk.name == b"eXIf":
            carried.exif = chunk.data
        elif packet is not None:
            carried.xmp = packet
        elif chunk.name == b"iCCP" and (profile := _inflated(chunk.data.partition(b"\0")[2][1:])):
            carried.icc = profile
        elif chunk.name == b"pHYs" and len(chunk.data) == 9 and chunk.data[8] == 1:
            across, down = struct.unpack(">II", chunk.data[:8])
            carried.resolution = (across, down) if across and down else None
        elif chunk.name not in (b"sRGB", b"tIME"):
            carried.others.append(chunk.name.decode("ascii", "replace"))
    return carried


def embedded(picture: bytes, carried: Carried, notes: Notes) -> bytes:
    """``picture``, a PNG with nothing besides its pixels, with what comes from another format."""
    mine = list(parse(picture))
    chunks = []
    if carried.icc:
        chunks.append(Chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(carried.icc)))
    if carried.resolution is not None:
        across, down = (min(max(round(value), 1), 2**31 - 1) for value in carried.resolution)
        chunks.append(Chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    if carried.exif:
        chunks.append(Chunk(b"eXIf", carried.exif))
    if carried.xmp:
        chunks.append(Chunk(b"iTXt", _XMP + b"\0\0\0\0" + carried.xmp))
    if carried.photoshop:
        notes.add("IPTC and Photoshop's resources, for which PNG has no place")
    body = [chunk for chunk in mine if chunk.name == b"IDAT"]
    return SIGNATURE + b"".join(chunk.encoded() for chunk in (mine[0], *chunks, *body, Chunk(b"IEND", b"")))


def _patched(chunk: Chunk, change: Change, notes: Notes) -> Chunk | None:
    if not chunk.whole:
        return chunk
    if chunk.name == b"eXIf":
        # Some programs put JPEG's signature before the block.
        head = 6 if chunk.data.startswith(b"Exif\0\0") else 0
        block = exif.patched(chunk.data[head:], change, notes)
        return Chunk(b"eXIf", chunk.data[:head] + block) if block else None
    if chunk.name in (b"tEXt", b"zTXt"):
        return Chunk(chunk.name, raw_profile.patched(chunk.name, chunk.data, change, notes))
    if change.sideways and chunk.name == b"pHYs" and len(chunk.data) == 9:
        return Chunk(b"pHYs", chunk.data[4:8] + chunk.data[:4] + chunk.data[8:])
    packet = _packet(chunk)
    if packet is not None:
        new = xmp.patched(packet, change, xmp.Dropped(), notes)
        if new != packet:
            rest = chunk.data[len(_XMP) :]
            language, _, behind = rest[2:].partition(b"\0")
            keyword = behind.partition(b"\0")[0]
            coded = zlib.compress(new) if rest[0] else new
            return Chunk(b"iTXt", _XMP + rest[:2] + language + b"\0" + keyword + b"\0" + coded)
    return chunk


def _packet(chunk: Chunk) -> bytes | None:
    """The XMP of a text chunk that holds one."""
    if chunk.name != b"iTXt" or not chunk.data.startswith(_XMP) or len(chunk.data) < len(_XMP) + 4:
        return None
    compressed, rest = chunk.data[len(_XMP)], chunk.data[len(_XMP) + 2 :]
    text = rest.partition(b"\0")[2].partition(b"\0")[2]
    return _inflated(text) if compressed else text


def _inflated(data: bytes, most: int = 64_000_000) -> bytes | None:
    """What zlib packed, unless it is damaged or unreasonably large."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, most)
    except zlib.error:
        return None
    return None if inflater.unconsumed_tail else text


class _Conversion:
    """Which chunks stay true when a palette becomes RGB, colour-key transparency a channel, and 1 to 7 bits become 8."""

    def __init__(self, chunks: list[Chunk], header: bytes) -> None:
        old = next((chunk.data for chunk in chunks if chunk.name == b"IHDR"), header)
        self.old_bits, self.old = old[8], old[9]
        self.bits, self.new = header[8], header[9]
        self.colours = next((chunk.data for chunk in chunks if chunk.name == b"PLTE"), b"")

    def palette(self, chunk: Chunk) -> Chunk | None:
        """A suggested palette of an RGB picture; one that the pixels were made of is gone."""
        return chunk if chunk.name == b"PLTE" and self.old in (2, 6) and self.new in (2, 6) else None

    def __call__(self, chunk: Chunk, notes: Notes) -> Chunk | None:
        """The chunk as the result may carry it."""
        word = chunk.name.decode("ascii", "replace")
        if not chunk.whole:
            notes.add(f"a damaged {word} chunk")
            return None
        if chunk.name == b"bKGD":
            return self._background(chunk)
        if chunk.name == b"sBIT":
            return self._significant(chunk)
        if chunk.name == b"hIST" and (self.old == 3 or not self.colours):
            notes.add("the histogram of the palette (hIST)")
            return None
        safe = len(chunk.name) == 4 and chunk.name[0] & 0x20 and chunk.name[3] & 0x20
        if chunk.name not in _KNOWN and not safe:
            # Its maker says that it does not survive a change of the picture.
            notes.add(_ONCE_TRUE.get(chunk.name, f"a {word} chunk, which is made for the pixels it came with"))
            return None
        return chunk

    def _background(self, chunk: Chunk) -> Chunk | None:
        if self.old == 3:
            index = chunk.data[0] if chunk.data else 0
            colour = self.colours[3 * index : 3 * index + 3]
            if len(colour) < 3 or self.new not in (2, 6):
                return None
            return Chunk(b"bKGD", struct.pack(">3H", *colour))
        if len(chunk.data) != (2 if self.old in (0, 4) else 6) or (self.old in (0, 4)) != (self.new in (0, 4)):
            return None
        if self.old_bits < self.bits:
            most = 2**self.old_bits - 1
            values = struct.unpack(f">{len(chunk.data) // 2}H", chunk.data)
            return Chunk(b"bKGD", struct.pack(f">{len(values)}H", *(value % (most + 1) * 255 // most for value in values)))
        return chunk

    def _significant(self, chunk: Chunk) -> Chunk | None:
        """With the transparency's own bits added where the result has a channel that the source had none for."""
        if len(chunk.data) != _CHANNELS[self.old] or not all(chunk.data):
            return None
        missing = _CHANNELS[self.new] - len(chunk.data)
        return Chunk(b"sBIT", chunk.data + bytes([self.bits]) * missing) if missing in (0, 1) else None
