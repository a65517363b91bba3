"""JPEG files: the segments of the source around the picture of the result.

Sources: ITU-T T.81 (markers), T.871 (JFIF), T.872 (Adobe's marker); Exif 2.32; XMP Part 3 (APP1, extended XMP); ICC.1:2022
annex B.4 (APP2); CIPA DC-007 (multi-picture format); ISO/IEC 19566-5 (JUMBF in APP11); ISO 21496-1 (gain maps).
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mimo.containers import exif, photoshop, xmp
from mimo.containers.change import Carried, Change, Notes

_EXIF, _XMP, _EXTENDED = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _MPF, _PHOTOSHOP, _ADOBE = b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\0", b"Adobe"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_MOST = 65533
"""Bytes that a segment holds."""
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
_SOS, _EOI, _COM, _APP0 = 0xDA, 0xD9, 0xFE, 0xE0


@dataclass(frozen=True)
class Segment:
    """A marker and what stands behind its length."""

    marker: int
    data: bytes

    @property
    def carries(self) -> bool:
        """Whether it is one of APP0 to APP15 or a comment, and so no part of the coded picture."""
        return _APP0 <= self.marker <= 0xEF or self.marker == _COM

    def encoded(self) -> bytes:
        """As it stands in the file."""
        return bytes((0xFF, self.marker)) + struct.pack(">H", len(self.data) + 2) + self.data


def parse(data: bytes, start: int = 0) -> tuple[list[Segment], int, int]:
    """All segments of the picture at ``start``, those between scans too; where the first scan begins; where it ends.

    The end is that of the EOI marker, or of the data where there is none.
    """
    found: list[Segment] = []
    first_scan, at = len(data), start + 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            # Bytes between segments, or the coded picture with its restart markers.
            following = _MARKER.search(data, at)
            if following is None:
                return found, first_scan, len(data)
            at = following.start()
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in (0, 1) or 0xD0 <= marker <= 0xD8:
            at += 2
        elif marker == _EOI:
            return found, first_scan, at + 2
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            if marker == _SOS:
                first_scan = min(first_scan, at)
            found.append(Segment(marker, data[at + 4 : at + 2 + length]))
            at += 2 + max(length, 2)
    return found, first_scan, at + 2 if data[at : at + 2] == b"\xff\xd9" else len(data)


def rebuilt(source: bytes, picture: bytes, change: Change, notes: Notes) -> bytes:
    """``picture``, a JPEG of the result, with everything that ``source`` carries besides its own picture."""
    segments, _, end = parse(source)
    trailer, pictures = _without_pictures(source[end:])
    carried = [segment for segment in segments if segment.carries]
    packets = b"".join(segment.data for segment in carried if segment.data.startswith((_XMP, _EXTENDED)))
    gain_map = any(segment.data.startswith(_GAIN_MAP) for segment in carried) or xmp.announces_gain_map(packets)
    if gain_map:
        notes.add("the gain map (HDR)")
    elif pictures:
        notes.add("the further pictures behind the first one")
    elif any(segment.data.startswith(_MPF) for segment in carried):
        notes.add("the index of further pictures (MPF), which are not there")
    video = bool(trailer.strip(b"\0")) or not xmp.announces_video(packets)
    dropped = xmp.Dropped(pictures=bool(pictures) or gain_map, video=not video)
    if dropped.video:
        notes.add("the mention of a motion photo's video, which is not there")
    kept = list(_kept(_patched(carried, change, dropped, notes), notes))
    return b"\xff\xd8" + b"".join(segment.encoded() for segment in kept) + _picture_alone(picture) + trailer


def extracted(source: bytes) -> Carried:
    """What ``source`` carries that other containers have a place for."""
    segments, _, end = parse(source)
    carried = Carried()
    profile: dict[int, bytes] = {}
    extended: dict[tuple[bytes, int], bytes] = {}
    resources = []
    for segment in segments:
        data = segment.data
        if not segment.carries:
            continue
        if segment.marker == 0xE1 and data.startswith(_EXIF):
            carried.exif = carried.exif or data[6:]
        elif segment.marker == 0xE1 and data.startswith(_XMP):
            carried.xmp = carried.xmp or data[len(_XMP) :]
        elif segment.marker == 0xE1 and data.startswith(_EXTENDED) and len(data) > len(_EXTENDED) + 40:
            head = len(_EXTENDED)
            extended[data[head : head + 32], struct.unpack_from(">I", data, head + 36)[0]] = data[head + 40 :]
        elif segment.marker == 0xE2 and data.startswith(_ICC) and len(data) > 14:
            profile[data[12]] = data[14:]
        elif segment.marker == 0xED and data.startswith(_PHOTOSHOP):
            resources.append(data[len(_PHOTOSHOP) :])
        elif segment.marker == _APP0 and data.startswith(b"JFIF\0"):
            unit, across, down = struct.unpack_from(">BHH", data.ljust(12, b"\0"), 7)
            if unit in (1, 2) and across and down:
                metres = {1: 0.0254, 2: 0.01}[unit]
                carried.resolution = across / metres, down / metres
        elif not (segment.marker == 0xEE and data.startswith(_ADOBE)):
            carried.others.append(_word(segment))
    if extended:
        carried.others.append("extended XMP")
    if source[end:].strip(b"\0"):
        carried.others.append("what stands behind the picture (a video, or further pictures)")
    carried.icc = b"".join(profile[number] for number in sorted(profile)) or None
    carried.photoshop = b"".join(resources) or None
    return carried


def embedded(picture: bytes, carried: Carried, notes: Notes) -> bytes:
    """``picture``, a JPEG with nothing besides its pixels, with what comes from another format."""
    segments = []
    if carried.resolution is not None:
        across, down = (min(max(round(value * 0.0254), 1), 65535) for value in carried.resolution)
        segments.append(Segment(_APP0, b"JFIF\0\x01\x01\x01" + struct.pack(">HHBB", across, down, 0, 0)))
    for name, signature, block in (("EXIF", b"Exif\0\0", carried.exif), ("XMP", _XMP, carried.xmp)):
        if block is not None and len(block) > _MOST - len(signature):
            notes.add(f"{name} of {len(block):,} bytes, for which JPEG has no room")
        elif block:
            segments.append(Segment(0xE1, signature + block))
    if carried.icc:
        parts = [carried.icc[at : at + _MOST - 14] for at in range(0, len(carried.icc), _MOST - 14)]
        if len(parts) > 255:
            notes.add("an ICC profile for which JPEG has no room")
        else:
            segments += [Segment(0xE2, _ICC + bytes((i, len(parts))) + part) for i, part in enumerate(parts, 1)]
    segments += [Segment(0xED, _PHOTOSHOP + part) for part in _chunks(carried.photoshop or b"", _MOST - len(_PHOTOSHOP))]
    return b"\xff\xd8" + b"".join(segment.encoded() for segment in segments) + _picture_alone(picture)


def _picture_alone(picture: bytes) -> bytes:
    """Tables, frame and scans of the libvips file, from behind SOI to EOI."""
    segments, first_scan, end = parse(picture)
    tables = []
    for segment in segments:
        if segment.marker == _SOS:
            break
        if not segment.carries:
            tables.append(segment.encoded())
    return b"".join(tables) + picture[first_scan:end]


def _without_pictures(trailer: bytes) -> tuple[bytes, int]:
    """What stands behind the first picture, without further pictures, and how many those were."""
    at = count = 0
    while True:
        start = at + len(trailer[at:]) - len(trailer[at:].lstrip(b"\0"))
        if trailer[start : start + 3] != b"\xff\xd8\xff":
            break
        _, _, at = parse(trailer, start)
        count += 1
    rest = trailer[at:]
    return (b"" if count and not rest.strip(b"\0") else rest), count


def _patched(segments: Iterable[Segment], change: Change, dropped: xmp.Dropped, notes: Notes) -> Iterator[Segment]:
    segments = _with_patched_extension(list(segments), change, dropped, notes)
    whole = b"".join(segment.data[len(_PHOTOSHOP) :] for segment in segments if _is_photoshop(segment))
    resources = photoshop.without_thumbnails(whole, notes)
    for segment in segments:
        data = segment.data
        if segment.marker == _APP0 and data.startswith(b"JFIF\0") and len(data) >= 14:
            if change.sideways:
                data = data[:8] + data[10:12] + data[8:10] + data[12:]
            if data[12] * data[13]:
                notes.add("the thumbnail in JFIF")
                data = data[:12] + b"\0\0"
        elif segment.marker == 0xE1 and data.startswith(_EXIF):
            block = exif.patched(data[6:], change, notes)
            if not block:
                continue
            data = data[:6] + block
        elif segment.marker == 0xE1 and data.startswith(_XMP):
            packet = xmp.patched(data[len(_XMP) :], change, dropped, notes)
            if not packet and len(data) > len(_XMP):
                continue
            data = _XMP + packet
        elif _is_photoshop(segment) and resources != whole:
            # A resource may reach over several segments: all of them go where the first one stood.
            yield from (Segment(0xED, _PHOTOSHOP + part) for part in _chunks(resources, _MOST - len(_PHOTOSHOP)))
            resources = b""
            continue
        elif segment.marker == 0xEE and data.startswith(_ADOBE) and len(data) >= 12:
            # YCbCr, or one grey channel: that is how the result is coded, whatever the source was.
            data = data[:11] + (b"\x01" if change.colour else b"\0") + data[12:]
        yield replace(segment, data=data)


def _kept(segments: Iterable[Segment], notes: Notes) -> Iterator[Segment]:
    segments = list(segments)
    signed = {s.data[2:4] for s in segments if s.marker == 0xEB and s.data[:2] == b"JP" and b"c2pa" in s.data}
    for segment in segments:
        data = segment.data
        if segment.marker == _APP0 and data.startswith(b"JFXX\0"):
            notes.add("the thumbnail in JFIF")
        elif segment.marker == 0xE2 and data.startswith((_MPF, _GAIN_MAP)):
            continue  # said already
        elif segment.marker == 0xEB and data[:2] == b"JP" and data[2:4] in signed:
            notes.add("content credentials (C2PA), whose signature new pixels break")
        elif segment.marker == 0xEB and data[:2] == b"JP" and data[12:16] != b"jumb":
            notes.add("what JPEG XT adds to the picture")
        else:
            yield segment


def _with_patched_extension(segments: list[Segment], change: Change, dropped: xmp.Dropped, notes: Notes) -> list[Segment]:
    """Extended XMP, put together and patched; it is cut anew under a new digest only when something of it changed."""
    head = len(_EXTENDED)
    parts: dict[bytes, dict[int, bytes]] = {}
    for segment in segments:
        if segment.marker == 0xE1 and segment.data.startswith(_EXTENDED) and len(segment.data) >= head + 40:
            (offset,) = struct.unpack_from(">I", segment.data, head + 36)
            parts.setdefault(segment.data[head : head + 32], {})[offset] = segment.data[head + 40 :]
    for digest, pieces in parts.items():
        whole = b"".join(pieces[offset] for offset in sorted(pieces))
        packet = xmp.patched(whole, change, dropped, notes)
        if packet == whole:
            continue
        new = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
        cut = [
            Segment(0xE1, _EXTENDED + new + struct.pack(">II", len(packet), at) + packet[at : at + 65400])
            for at in range(0, len(packet), 65400)
        ]
        result: list[Segment] = []
        for segment in segments:
            if segment.marker == 0xE1 and segment.data.startswith(_EXTENDED + digest):
                result, cut = result + cut, []
            elif segment.marker == 0xE1 and segment.data.startswith(_XMP):
                result.append(replace(segment, data=segment.data.replace(digest, new)))
            else:
                result.append(segment)
        segments = result
    return segments


def _is_photoshop(segment: Segment) -> bool:
    return segment.marker == 0xED and segment.data.startswith(_PHOTOSHOP)


def _chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _word(segment: Segment) -> str:
    if segment.marker == _COM:
        return "a comment"
    if segment.data.startswith((_MPF, _GAIN_MAP)):
        return "the further pictures behind the first one"
    name = segment.data.partition(b"\0")[0][:24].decode("ascii", "replace")
    return f"APP{segment.marker - _APP0}" + (f" ({name})" if name.isprintable() and name else "")
