"""XMP packets: a few values set and a few items taken out, every other byte as it was.

Source: XMP Specification Part 1 (ISO 16684-1:2019) and Part 3 (storage in files, Adobe 2020); for what points at a second
picture or a video: Android's Ultra HDR 1.1 and Motion Photo 1.0 formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from mimo.containers.change import Change, Notes

_TIFF, _EXIF, _XMP = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/", "http://ns.adobe.com/xap/1.0/"
_GAIN_MAP = {
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.google.com/photos/1.0/hdrgm/",
}
_CONTAINER = "http://ns.google.com/photos/1.0/container/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_USUAL = {
    "tiff": _TIFF, "exif": _EXIF, "xmp": _XMP, "rdf": _RDF, "Container": _CONTAINER, "GCamera": _CAMERA,
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
}  # fmt: skip
"""The prefixes that everybody uses, for packets that forget to declare them."""
_VIDEO = re.compile(r"Motion[_-]?Photo|MicroVideo")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=<>/"']+)\s*=\s*("[^"]*"|'[^']*')""")
_DEEPEST = 200

Name = tuple[str, str]
"""Namespace and local name."""
_Edit = tuple[int, int, bytes]


@dataclass
class _Element:
    name: Name
    start: int
    end_of_tag: int
    attributes: list[tuple[Name, int, int, str]]
    children: list[_Element] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    end: int = 0

    def walk(self) -> Iterator[_Element]:
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Dropped:
    """What the file no longer holds, so that nothing may point at it."""

    pictures: bool = False
    """Gain maps and other pictures behind the first."""
    video: bool = False


def patched(packet: bytes, change: Change, dropped: Dropped, notes: Notes) -> bytes:
    """``packet`` with orientation and sizes as the result has them, without thumbnails and without what was ``dropped``.

    A packet that is no XML is returned as it is, unless something was dropped that it speaks of: then nothing is.
    """
    root = _parsed(packet)
    if root is None:
        speaks = (dropped.pictures and re.search(rb"hdrgm|HDRGainMap|GainMap", packet)) or (
            dropped.video and re.search(rb"MotionPhoto|MicroVideo", packet)
        )
        if speaks:
            notes.add("XMP that could not be read")
            return b""
        return packet
    edits = [*_changes(packet, root, change), *_thumbnails(packet, root, notes), *_pointers(packet, root, dropped)]
    return _applied(packet, edits)


def announces_gain_map(packet: bytes) -> bool:
    """Whether any of the gain maps' namespaces is used."""
    return any(uri.encode() in packet for uri in _GAIN_MAP) or b'"GainMap"' in packet


def announces_video(packet: bytes) -> bool:
    """Whether the file is said to hold a motion photo's video."""
    return re.search(rb"MotionPhoto|MicroVideo", packet) is not None


def _parsed(packet: bytes) -> _Element | None:
    """The tree with the places of everything in ``packet``; None for what is no well-formed XML or brings a DTD."""
    # Namespaces are resolved here: expat gives no place of an attribute, and refuses prefixes that were never declared.
    parser = expat.ParserCreate()
    parser.buffer_text = True
    scopes: list[dict[str, str]] = [_USUAL]
    root = _Element(("", ""), 0, 0, [])
    stack = [root]

    def start(name: str, _: dict[str, str]) -> None:
        at = parser.CurrentByteIndex
        found: list[tuple[str, int, int, str]] = []
        position = at + 1 + len(name.encode())
        while match := _ATTRIBUTE.match(packet, position):
            value = match[2][1:-1].decode(errors="replace")
            found.append((match[1].decode(errors="replace"), match.start(), match.end(), value))
            position = match.end()
        declared = {key.partition(":")[2]: value for key, _, _, value in found if key.partition(":")[0] == "xmlns"}
        scopes.append({**scopes[-1], **declared})

        def resolved(key: str, attribute: bool) -> Name:
            prefix, colon, local = key.rpartition(":")
            if attribute and "xmlns" in (prefix, key):
                return "xmlns", local
            # An attribute without a prefix is in no namespace.
            return ("" if attribute and not colon else scopes[-1].get(prefix, "")), local

        attributes = [(resolved(key, True), first, last, value) for key, first, last, value in found]
        element = _Element(resolved(name, False), at, packet.index(b">", position) + 1, attributes)
        if len(stack) > _DEEPEST:
            raise ValueError("nested too deeply")
        stack[-1].children.append(element)
        stack.append(element)

    def end(_: str) -> None:
        element = stack.pop()
        scopes.pop()
        at = parser.CurrentByteIndex
        # An empty element ends where it starts.
        element.end = packet.index(b">", at) + 1 if packet[at : at + 2] == b"</" else element.end_of_tag

    def refuse(*_: object) -> None:
        raise ValueError("a DTD")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: stack[-1].text.append(text)  # noqa: PLW0108 - the stack changes
    parser.StartDoctypeDeclHandler = refuse
    if len(packet) > 64_000_000 or packet[:2] in (b"\xff\xfe", b"\xfe\xff"):  # UTF-16: the places would not be ours
        return None
    try:
        parser.Parse(packet.rstrip(b"\0"), True)
    except (expat.ExpatError, ValueError, RecursionError):
        return None
    return root


def _elements(root: _Element, name: Name) -> Iterator[_Element]:
    return (element for element in root.walk() if element.name == name)


def _set(packet: bytes, root: _Element, name: Name, value: str) -> Iterator[_Edit]:
    """Edits that give the property ``name`` another value, however it is written."""
    for element in root.walk():
        for attribute, start, end, _ in element.attributes:
            if attribute == name:
                quote = packet[start:end].index(b"=") + start
                opening = next(i for i in range(quote, end) if packet[i] in b"\"'")
                yield opening + 1, end - 1, value.encode()
        if element.name == name and not element.children and element.end > element.end_of_tag:
            yield element.end_of_tag, packet.rindex(b"</", 0, element.end), value.encode()


def _value(root: _Element, name: Name) -> str | None:
    for element in root.walk():
        for attribute, _, _, text in element.attributes:
            if attribute == name:
                return text
        if element.name == name:
            return "".join(element.text).strip()
    return None


def _changes(packet: bytes, root: _Element, change: Change) -> Iterator[_Edit]:
    if not change.turned:
        return
    yield from _set(packet, root, (_TIFF, "Orientation"), "1")
    if not change.sideways:
        return
    for name in ((_TIFF, "ImageWidth"), (_EXIF, "PixelXDimension")):
        yield from _set(packet, root, name, str(change.width))
    for name in ((_TIFF, "ImageLength"), (_EXIF, "PixelYDimension")):
        yield from _set(packet, root, name, str(change.height))
    across, down = (_value(root, (_TIFF, name)) for name in ("XResolution", "YResolution"))
    if across is not None and down is not None and across != down and re.fullmatch(r"[\d/]+", across + down):
        yield from _set(packet, root, (_TIFF, "XResolution"), down)
        yield from _set(packet, root, (_TIFF, "YResolution"), across)


def _thumbnails(packet: bytes, root: _Element, notes: Notes) -> Iterator[_Edit]:
    for element in _elements(root, (_XMP, "Thumbnails")):
        notes.add("the thumbnail in XMP")
        yield element.start, element.end, b""


def _pointers(packet: bytes, root: _Element, dropped: Dropped) -> Iterator[_Edit]:
    if dropped.pictures:
        for element in root.walk():
            if element.name[0] in _GAIN_MAP:
                yield element.start, element.end, b""
            for (uri, _), start, end, value in element.attributes:
                if uri in _GAIN_MAP or (uri == "xmlns" and value in _GAIN_MAP):
                    yield start, end, b""
    if dropped.video:
        for element in root.walk():
            if element.name[0] == _CAMERA and _VIDEO.match(element.name[1]):
                yield element.start, element.end, b""
            for (uri, local), start, end, _ in element.attributes:
                if uri == _CAMERA and _VIDEO.match(local):
                    yield start, end, b""
    for directory in _elements(root, (_CONTAINER, "Directory")):
        yield from _items(directory, dropped)


def _items(directory: _Element, dropped: Dropped) -> Iterator[_Edit]:
    """The entries of a container's directory whose pictures or video are gone; all of it when only the first is left."""
    items = list(_elements(directory, (_RDF, "li")))
    gone = []
    for item in items:
        words: dict[str, str] = {}
        for element in item.walk():
            words |= {local: value for (_, local), _, _, value in element.attributes}
            words |= {element.name[1]: "".join(element.text).strip()} if not element.children and element.text else {}
        if words.get("Semantic") == "Primary":
            continue
        video = words.get("Mime", "").startswith("video/") or _VIDEO.match(words.get("Semantic", "")) is not None
        if dropped.video if video else dropped.pictures:
            gone.append(item)
    if gone and len(items) - len(gone) <= 1:
        yield directory.start, directory.end, b""
    else:
        yield from ((item.start, item.end, b"") for item in gone)


def _applied(packet: bytes, edits: list[_Edit]) -> bytes:
    pieces, position = [], 0
    for start, end, value in sorted(edits, key=lambda edit: (edit[0], -edit[1])):
        if start >= position:  # not inside of what is gone already
            pieces += [packet[position:start], value]
            position = end
    return b"".join([*pieces, packet[position:]])
