"""The table: every container times every carrier of metadata that its specification names.

Each is kept byte for byte, patched, or removed and said.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
import zlib
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from mimo.containers.identify import Format
from mimo.images import Encoded, decode_photo, encode_photo
from tests.mimo.containers.blocks import (
    EXTENDED_HEAD,
    HEIGHT,
    ICC,
    WIDTH,
    XMP_HEAD,
    chunk,
    exif,
    jpeg_segments,
    jpeg_with,
    maker_note,
    pixels,
    png_chunks,
    png_with,
    resource,
    riff,
    saved,
    segment,
    tiff,
    tiff_tags,
    tiff_with,
    webp_chunks,
    webp_with,
    xmp,
)

THUMBNAIL = saved("jpeg", pixels()[::3, ::3].copy())
SIZES = f'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="1" tiff:ImageWidth="{WIDTH}"'
IRB = b"Photoshop 3.0\0" + resource(0x0404, b"\x1c\x02\x05\0\5Title") + resource(1005, b"\0\x48\0\0\0\1\0\1" * 2)
ADOBE = segment(0xEE, b"Adobe\0\x64\0\0\0\0\1")


def through(data: bytes, kind: Format | None = None) -> Encoded:
    photo = decode_photo(data, "it")
    assert photo.format is not None
    return encode_photo(photo, kind or photo.format, "it")


def extended_xmp(packet: bytes) -> tuple[bytes, list[bytes]]:
    digest = hashlib.md5(packet, usedforsecurity=False).hexdigest().upper().encode()
    half = len(packet) // 2
    parts = [(0, packet[:half]), (half, packet[half:])]
    main = xmp(f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{digest.decode()}"')
    return main, [segment(0xE1, EXTENDED_HEAD + digest + struct.pack(">II", len(packet), at) + part) for at, part in parts]


MAIN, EXTENSION = extended_xmp(xmp(body="long " * 50))

JPEG_KEPT: dict[str, list[bytes]] = {
    "JFIF": [segment(0xE0, b"JFIF\0\1\2\1\1\x2c\0\x96\0\0")],
    "EXIF with maker note, GPS and private tags": [segment(0xE1, b"Exif\0\0" + exif())],
    "big-endian EXIF": [segment(0xE1, b"Exif\0\0" + tiff([(0x010F, 2, 6, b"Nikon\0")], order=">"))],
    "XMP": [segment(0xE1, XMP_HEAD + xmp(SIZES))],
    "XMP that is no XML": [segment(0xE1, XMP_HEAD + b"\xff<x:\0")],
    "extended XMP": [segment(0xE1, XMP_HEAD + MAIN), *EXTENSION],
    "another APP1": [segment(0xE1, b"QVCI\0camera")],
    "ICC profile in two segments": [
        segment(0xE2, b"ICC_PROFILE\0\1\2" + ICC[:200]),
        segment(0xE2, b"ICC_PROFILE\0\2\2" + ICC[200:]),
    ],
    "half an ICC profile": [segment(0xE2, b"ICC_PROFILE\0\2\3" + ICC[:50])],
    "FlashPix": [segment(0xE2, b"FPXR\0\0\1")],
    "Photoshop's resources, IPTC": [segment(0xED, IRB)],
    "Adobe": [ADOBE],
    "Ducky": [segment(0xEC, b"Ducky\0\1\0\4\0\0\0\x50\0\0")],
    "unknown APPn": [segment(marker, b"private\0" + bytes([marker])) for marker in range(0xE3, 0xEF)],
    "JUMBF that is not signed": [segment(0xEB, b"JP\0\1\0\0\0\1\0\0\0\x20jumb" + bytes(24))],
    "comments": [segment(0xFE, "Grüße".encode("latin1")), segment(0xFE, b"")],
    "all in an odd order": [
        segment(0xFE, b"first"),
        ADOBE,
        segment(0xED, IRB),
        segment(0xE2, b"ICC_PROFILE\0\1\1" + ICC),
        segment(0xE1, XMP_HEAD + xmp()),
        segment(0xE1, b"Exif\0\0" + exif()),
        segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
    ],
    "nothing": [],
}


@pytest.mark.parametrize("name", JPEG_KEPT)
def test_jpeg_keeps(name: str) -> None:
    result = through(jpeg_with(*JPEG_KEPT[name]))
    assert jpeg_segments(result.data) == JPEG_KEPT[name]
    assert result.notes == ()
    with Image.open(io.BytesIO(result.data)) as image:
        np.testing.assert_allclose(np.asarray(image), pixels(), atol=12)


@pytest.mark.parametrize("trailer", [b"\0" * 500, b"\0\0\0\x18ftypisom" + b"video" * 99, b"CANON OPTIONAL DATA\0" + b"x" * 40])
def test_jpeg_keeps_what_stands_behind_it(trailer: bytes) -> None:
    packet = xmp('xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="9"')
    source = [segment(0xE1, XMP_HEAD + packet)] if b"ftyp" in trailer else []
    result = through(jpeg_with(*source, trailer=trailer))
    assert result.data.endswith(b"\xff\xd9" + trailer) and jpeg_segments(result.data) == source and result.notes == ()


HDR = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
CONTAINER = (
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
)


def directory(*items: tuple[str, str]) -> str:
    rows = "".join(
        f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="{semantic}" Item:Mime="{mime}"/></rdf:li>'
        for semantic, mime in items
    )
    return f"<Container:Directory><rdf:Seq>{rows}</rdf:Seq></Container:Directory>"


PRIMARY, GAIN_MAP, VIDEO = ("Primary", "image/jpeg"), ("GainMap", "image/jpeg"), ("MotionPhoto", "video/mp4")
MPF = segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0")
ISO_GAIN_MAP = segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")
SIGNED = [segment(0xEB, b"JP\0\1" + struct.pack(">I", number) + b"\0\0\0\x20jumb" + b"c2pa" * 5) for number in (1, 2)]
MP4 = b"\0\0\0\x18ftypisom" + b"video" * 99

JPEG_REMOVED: dict[str, tuple[bytes, list[bytes], bytes, str]] = {
    # source, segments of the result, what stands behind it, what is said
    "gain map": (
        jpeg_with(
            segment(0xE1, XMP_HEAD + xmp(f"{CONTAINER} {HDR}", directory(PRIMARY, GAIN_MAP))),
            MPF,
            ISO_GAIN_MAP,
            trailer=THUMBNAIL,
        ),
        [segment(0xE1, XMP_HEAD + xmp(CONTAINER))],
        b"",
        "the gain map (HDR)",
    ),
    "gain map, not the video behind it": (
        jpeg_with(
            segment(0xE1, XMP_HEAD + xmp(f"{CONTAINER} {HDR}", directory(PRIMARY, GAIN_MAP, VIDEO))), trailer=THUMBNAIL + MP4
        ),
        [segment(0xE1, XMP_HEAD + xmp(CONTAINER, directory(PRIMARY, VIDEO)))],
        MP4,
        "the gain map (HDR)",
    ),
    "further pictures": (jpeg_with(MPF, trailer=b"\0\0" + THUMBNAIL + THUMBNAIL + b"\0"), [], b"", "the further pictures"),
    "the mention of a video that is not there": (
        jpeg_with(
            segment(0xE1, XMP_HEAD + xmp('xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"'))
        ),
        [segment(0xE1, XMP_HEAD + xmp('xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'))],
        b"",
        "the mention of a motion photo's video",
    ),
    "thumbnail in EXIF": (
        jpeg_with(segment(0xE1, b"Exif\0\0" + exif(thumbnail=THUMBNAIL))),
        [],
        b"",
        "the thumbnail in EXIF",
    ),
    "thumbnail in JFIF": (
        jpeg_with(segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\2\1" + b"rgbrgb")),
        [segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\0\0")],
        b"",
        "the thumbnail in JFIF",
    ),
    "thumbnail in JFXX": (jpeg_with(segment(0xE0, b"JFXX\0\x10" + THUMBNAIL)), [], b"", "the thumbnail in JFIF"),
    "thumbnail in Photoshop's resources": (
        jpeg_with(segment(0xED, IRB + resource(1036, b"x" * 28 + THUMBNAIL) + resource(1033, b"old") + resource(4000, b"p"))),
        [segment(0xED, IRB + resource(4000, b"p"))],
        b"",
        "the thumbnail in Photoshop's resources",
    ),
    "thumbnail in XMP": (
        jpeg_with(
            segment(0xE1, XMP_HEAD + xmp('xmlns:xmp="http://ns.adobe.com/xap/1.0/"', "<xmp:Thumbnails>x</xmp:Thumbnails>"))
        ),
        [segment(0xE1, XMP_HEAD + xmp('xmlns:xmp="http://ns.adobe.com/xap/1.0/"'))],
        b"",
        "the thumbnail in XMP",
    ),
    "content credentials": (jpeg_with(*SIGNED), [], b"", "content credentials"),
    "damaged EXIF": (jpeg_with(segment(0xE1, b"Exif\0\0no block")), [], b"", "EXIF that is damaged"),
}


@pytest.mark.parametrize("name", JPEG_REMOVED)
def test_jpeg_removes_whole_and_says(name: str) -> None:
    source, segments, trailer, said = JPEG_REMOVED[name]
    result = through(source)
    assert len(result.notes) == 1 and result.notes[0].startswith(said)
    assert THUMBNAIL[100:] not in result.data
    assert result.data.endswith(b"\xff\xd9" + trailer)
    if name != "thumbnail in EXIF":
        assert jpeg_segments(result.data) == segments


def test_without_its_thumbnail_an_exif_block_has_nothing_moved() -> None:
    before = exif(thumbnail=THUMBNAIL)
    (kept,) = jpeg_segments(through(jpeg_with(segment(0xE1, b"Exif\0\0" + before))).data)
    block = kept[10:]
    assert len(block) <= len(before) - len(THUMBNAIL)
    assert tiff_tags(block) == tiff_tags(before)
    for tag in (0x8769, 0x8825):
        assert tiff_tags(block, struct.unpack("<I", tiff_tags(block)[tag])[0]) == tiff_tags(
            before, struct.unpack("<I", tiff_tags(before)[tag])[0]
        )
    count = struct.unpack_from("<H", block, 8)[0]
    assert block[10 + 12 * count :][:4] == bytes(4)
    at = block.index(maker_note(before.index(b"\1\0\7\0\2\0\x10")))
    assert block[at + 18 : at + 34] == b"Firmware 1.2.3\0\0"


def test_extended_xmp_that_changes_gets_a_new_digest() -> None:
    body = "<xmp:Thumbnails>" + "x" * 70000 + "</xmp:Thumbnails>"
    before, after = (xmp('xmlns:xmp="http://ns.adobe.com/xap/1.0/"', text) for text in (body, ""))
    (main, parts), (new, _) = extended_xmp(before), extended_xmp(after)
    result = through(jpeg_with(segment(0xE1, XMP_HEAD + main), *[p for p in parts if len(p) < 65535]))
    digest = hashlib.md5(after, usedforsecurity=False).hexdigest().upper().encode()
    whole = segment(0xE1, EXTENDED_HEAD + digest + struct.pack(">II", len(after), 0) + after)
    assert jpeg_segments(result.data) == [segment(0xE1, XMP_HEAD + new), whole]


PNG_KEPT = {
    "gAMA": struct.pack(">I", 100000), "cHRM": struct.pack(">8I", *range(30000, 38000, 1000)), "sRGB": b"\0",
    "iCCP": b"name\0\0" + zlib.compress(ICC), "sBIT": b"\5\6\5", "cICP": b"\x09\x10\0\1", "mDCV": bytes(24), "cLLI": bytes(8),
    "pHYs": struct.pack(">IIB", 3000, 5000, 1), "tEXt": "Résumé".encode("latin1") + b"\0hello", "bKGD": bytes(6),
    "zTXt": b"Comment\0\0" + zlib.compress(b"packed"), "iTXt": b"Title\0\0\0de\0Titel\0" + "Größe".encode(),
    "eXIf": exif(), "tIME": struct.pack(">HBBBBB", 2024, 2, 29, 1, 2, 3), "sPLT": b"name\0\x08\1\2\3\4\0\5", "oFFs": bytes(9),
    "sCAL": b"\x011.5\x002.5", "pCAL": b"x\0" + bytes(10), "sTER": b"\0", "prVt": b"safe to copy", "vpAg": bytes(9),
}  # fmt: skip


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("name", [*PNG_KEPT, "XMP"])
def test_png_keeps(name: str, where: str) -> None:
    packet = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(SIZES)
    carried = chunk(b"iTXt", packet) if name == "XMP" else chunk(name.encode(), PNG_KEPT[name])
    # These must stand before the pixels, says the specification.
    if where == "after" and name not in ("tEXt", "zTXt", "iTXt", "eXIf", "tIME", "prVt", "XMP"):
        where = "before"
    result = through(png_with(carried) if where == "before" else png_with(after=carried))
    chunks = list(png_chunks(result.data))
    place = chunks.index(carried)
    pixels_at = [number for number, part in enumerate(chunks) if part[4:8] == b"IDAT"]
    assert place < pixels_at[0] if where == "before" else place > pixels_at[-1]
    assert [part[4:8] for part in chunks if part[4:8] != b"IDAT"] == [b"IHDR", carried[4:8], b"IEND"]
    assert result.notes == ()


@pytest.mark.parametrize(
    ("carried", "said"),
    [
        (chunk(b"prVT", b"not safe to copy"), "a prVT chunk"),
        (chunk(b"caBX", b"signed"), "content credentials"),
        (chunk(b"tEXt", b"a\0b")[:-4] + b"\0\0\0\0", "a damaged tEXt chunk"),
        (chunk(b"eXIf", b"no block"), "EXIF that is damaged"),
        (chunk(b"dSIG", b"signed"), "a digital signature"),
    ],
    ids=lambda value: value[4:8].decode() if isinstance(value, bytes) else "",
)
def test_png_removes_whole_and_says(carried: bytes, said: str) -> None:
    result = through(png_with(carried))
    assert [part[4:8] for part in png_chunks(result.data) if part[4:8] != b"IDAT"] == [b"IHDR", b"IEND"]
    assert len(result.notes) == 1 and result.notes[0].startswith(said)


def test_what_belongs_to_a_palette_goes_with_it() -> None:
    source = saved("png", None)
    file = io.BytesIO()
    Image.open(io.BytesIO(source)).quantize(8).save(file, "png", transparency=bytes([0, 99]))
    parts = list(png_chunks(file.getvalue()))
    at = next(number for number, part in enumerate(parts) if part[4:8] == b"PLTE")
    colours = parts[at][8:-4]
    parts[at : at + 1] = [
        chunk(b"sBIT", b"\5\6\5"),
        parts[at],
        chunk(b"bKGD", b"\2"),
        chunk(b"hIST", bytes(len(colours) // 3 * 2)),
    ]
    result = through(source[:8] + b"".join(parts))
    found = {part[4:8]: part[8:-4] for part in png_chunks(result.data)}
    assert not {b"PLTE", b"tRNS", b"hIST"} & found.keys()
    assert found[b"bKGD"] == struct.pack(">3H", *colours[6:9]) and found[b"sBIT"] == b"\5\6\5\x08"
    assert result.notes == ("the histogram of the palette (hIST)",)


WEBP_KEPT = {
    "ICC profile": (riff(b"ICCP", ICC), b"", 0x20), "EXIF": (b"", riff(b"EXIF", exif()), 0x08),
    "EXIF with JPEG's signature": (b"", riff(b"EXIF", b"Exif\0\0" + exif()), 0x08),
    "XMP": (b"", riff(b"XMP ", xmp(SIZES)), 0x04), "unknown": (b"", riff(b"prvt", b"odd"), 0),
    "all": (riff(b"ICCP", ICC), riff(b"EXIF", exif()) + riff(b"XMP ", xmp()) + riff(b"prvt", b"odd"), 0x2C),
}  # fmt: skip


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("name", WEBP_KEPT)
def test_webp_keeps(name: str, lossless: bool) -> None:
    before, after, flags = WEBP_KEPT[name]
    source = webp_with(before, after, flags, lossless)
    result = through(source)
    old, new = webp_chunks(source), webp_chunks(result.data)
    assert list(new) == list(old) and new[b"VP8X"] == old[b"VP8X"]
    assert all(new[chunk_name] == old[chunk_name] for chunk_name in new if not chunk_name.startswith(b"VP8"))
    assert struct.unpack_from("<I", result.data, 4)[0] == len(result.data) - 8
    assert (b"VP8L" in new) == lossless and result.notes == ()


def test_a_simple_webp_stays_simple() -> None:
    assert list(webp_chunks(through(saved("webp", lossless=True)).data)) == [b"VP8L"]


TIFF_KEPT: dict[str, tuple[int, int, int, bytes]] = {
    "ImageDescription": (270, 2, 10, b"a caption\0"), "Make": (271, 2, 6, b"Canon\0"), "Software": (305, 2, 10, b"Scanner 1\0"),
    "DateTime": (306, 2, 20, b"2021:05:06 07:08:09\0"), "Artist": (315, 2, 8, "Jürgen\0".encode()),
    "Copyright": (33432, 2, 9, b"(c) x\0ed\0"), "XMP": (700, 1, len(xmp(SIZES)), xmp(SIZES)), "ICC": (34675, 7, len(ICC), ICC),
    "IPTC": (33723, 7, 10, b"\x1c\x02\x05\0\5Title"), "Photoshop": (34377, 7, len(IRB) - 14, IRB[14:]),
    "rating": (0x4746, 3, 1, b"\5\0"), "XPTitle": (0x9C9B, 1, 6, "Tï✓".encode("utf-16le")),
    "private, short": (50000, 3, 1, b"\7\0"), "private, long": (65000, 7, 30, bytes(range(30))),
    "GeoTIFF": (33550, 12, 1, struct.pack("<d", 0.5)), "XResolution": (282, 5, 1, struct.pack("<II", 300, 1)),
    "WhitePoint": (318, 5, 2, struct.pack("<4I", 31270, 100000, 32900, 100000)), "PageNumber": (297, 3, 2, b"\0\0\1\0"),
}  # fmt: skip


@pytest.mark.parametrize("name", TIFF_KEPT)
def test_tiff_keeps(name: str) -> None:
    tag, kind, count, value = TIFF_KEPT[name]
    source = tiff_with([(tag, kind, count, value)])
    result = through(source)
    with Image.open(io.BytesIO(result.data)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels())
        known = set(image.tag_v2)  # type: ignore[attr-defined]
    assert known - {tag} <= {256, 257, 258, 259, 262, 273, 277, 278, 279, 284}
    if kind != 12:
        assert tiff_tags(result.data)[tag] == value
    assert value in result.data and result.notes == ()
    assert len(result.data) <= len(source) + 200


def test_tiff_keeps_camera_directories_where_they_are() -> None:
    block = exif()
    source = tiff_with([(305, 2, 10, b"Scanner 1\0")], base=block)
    result = through(source)
    old, new = tiff_tags(source), tiff_tags(result.data)
    for tag in (0x8769, 0x8825):
        assert new[tag] == old[tag]
        at = struct.unpack("<I", new[tag])[0]
        assert tiff_tags(result.data, at) == tiff_tags(source, at)
    at = block.index(b"Firmware")
    assert result.data[at : at + 16] == b"Firmware 1.2.3\0\0"
    with Image.open(io.BytesIO(result.data)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels())
        assert image.getexif()[0x4746] == 5
    assert result.notes == ()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_any_layout_comes_back_sample_for_sample(
    order: Literal["<", ">"], big: bool, dtype: type, compression: str | None
) -> None:
    samples = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (70, 50, 3), dtype=dtype)
    file = io.BytesIO()
    extra = [(65000, 2, 5, "kept", True)]
    tifffile.imwrite(
        file, samples, photometric="rgb", byteorder=order, bigtiff=big, compression=compression, extratags=extra, metadata=None
    )
    result = through(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(result.data)) as written:
        np.testing.assert_array_equal(written.asarray(), samples)
        assert (written.byteorder, written.is_bigtiff) == (order, big)
        assert written.pages.first.tags[65000].value == "kept"
        assert written.pages.first.compression == (1 if compression is None else 8)


@pytest.mark.parametrize(("subfile", "said"), [(1, "the thumbnail page"), (4, None), (5, None)])
def test_a_thumbnail_page_goes_and_a_mask_stays(subfile: int, said: str | None) -> None:
    file = io.BytesIO()
    small: NDArray[Any] = np.full((8, 10), 255, np.uint8)
    with tifffile.TiffWriter(file) as writer:
        writer.write(pixels(), photometric="rgb", metadata=None)
        photometric, small = ("mask", small > 0) if subfile & 4 else ("minisblack", small)
        writer.write(small, photometric=photometric, subfiletype=subfile, metadata=None)
    result = through(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(result.data)) as written:
        np.testing.assert_array_equal(written.pages[0].asarray(), pixels())
        assert len(written.pages) == (1 if said else 2)
        if not said:
            np.testing.assert_array_equal(written.pages[1].asarray(), small)
    assert result.notes == ((said,) if said else ())


@pytest.mark.parametrize("rows", [1, 3])
def test_the_room_of_small_strips_is_used_again(rows: int) -> None:
    samples = np.random.default_rng(3).integers(0, 256, (200, 301, 3), np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(
        file, samples, photometric="rgb", rowsperstrip=rows, metadata=None, extratags=[(65000, 2, 5, "kept", True)]
    )
    result = through(file.getvalue())
    assert len(result.data) <= len(file.getvalue()) + 200
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(result.data)), samples)


def test_an_index_of_pictures_that_are_not_there_goes_too() -> None:
    result = through(jpeg_with(MPF))
    assert jpeg_segments(result.data) == [] and result.notes == ("the index of further pictures (MPF), which are not there",)


def test_tiff_removes_photoshops_thumbnail() -> None:
    block = IRB[14:] + resource(1036, b"x" * 28 + THUMBNAIL)
    result = through(tiff_with([(34377, 7, len(block), block)]))
    assert tiff_tags(result.data)[34377] == IRB[14:] and THUMBNAIL[50:] not in result.data
    assert result.notes == ("the thumbnail in Photoshop's resources",)


def turned(kind: str, orientation: int) -> bytes:
    packet = xmp(SIZES.replace('"1"', f'"{orientation}"') + f' tiff:ImageLength="{HEIGHT}"')
    block = exif(orientation)
    if kind == "jpeg":
        jfif = segment(0xE0, b"JFIF\0\1\2\1\1\x2c\0\x96\0\0")
        return jpeg_with(jfif, segment(0xE1, b"Exif\0\0" + block), segment(0xE1, XMP_HEAD + packet))
    if kind == "png":
        physical = chunk(b"pHYs", struct.pack(">IIB", 3000, 5000, 1))
        return png_with(physical, chunk(b"eXIf", block), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    if kind == "webp":
        return webp_with(b"", riff(b"EXIF", block) + riff(b"XMP ", packet), 0x0C)
    return tiff_with([(700, 1, len(packet), packet)], base=block)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_of_what_is_kept_only_what_turning_changes_is_patched(kind: str, orientation: int) -> None:
    source = turned(kind, orientation)
    result = through(source)
    sideways = orientation >= 5
    width, height = (HEIGHT, WIDTH) if sideways else (WIDTH, HEIGHT)
    with Image.open(io.BytesIO(result.data)) as image:
        assert image.size == (width, height)
        tags = image.getexif()
    assert tags[0x0112] == 1
    assert (tags[0x011A], tags[0x011B]) == ((150, 300) if sideways else (300, 150))
    camera = tags.get_ifd(0x8769)
    assert (camera[0xA002], camera[0xA003]) == (width, height)
    attributes = SIZES.replace(f'"{WIDTH}"', f'"{width}"') + f' tiff:ImageLength="{height}"'
    assert xmp(attributes) in result.data
    assert b"Firmware 1.2.3\0\0" in result.data and result.notes == ()
    if kind == "jpeg":
        density = b"\0\x96\1\x2c" if sideways else b"\1\x2c\0\x96"
        assert jpeg_segments(result.data)[0][12:16] == density or jpeg_segments(result.data)[0][11:13] in density
    if kind == "png":
        assert struct.pack(">IIB", *((5000, 3000) if sideways else (3000, 5000)), 1) in result.data


FORMATS: tuple[Format, ...] = ("jpeg", "png", "webp", "tiff")


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(FORMATS, 2)))
def test_between_formats_exif_xmp_profile_and_resolution_are_mapped(source: str, target: Format) -> None:
    packet, block = xmp(SIZES), exif()
    data = {
        "jpeg": jpeg_with(
            segment(0xE1, b"Exif\0\0" + block), segment(0xE1, XMP_HEAD + packet), segment(0xE2, b"ICC_PROFILE\0\1\1" + ICC)
        ),
        "png": png_with(
            chunk(b"iCCP", b"x\0\0" + zlib.compress(ICC)),
            chunk(b"eXIf", block),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet),
        ),
        "webp": webp_with(riff(b"ICCP", ICC), riff(b"EXIF", block) + riff(b"XMP ", packet), 0x2C),
        "tiff": tiff_with([(700, 1, len(packet), packet), (34675, 7, len(ICC), ICC)], base=block),
    }[source]
    result = through(data, target)
    with Image.open(io.BytesIO(result.data)) as image:
        assert image.format == {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "tiff": "TIFF"}[target]
        assert image.info["icc_profile"] == ICC
        tags = image.getexif()
        assert (tags[0x010F], tags[0x011A], tags[0x4746]) == ("Canon", 300, 5)
        assert tags.get_ifd(0x8769)[0x829A] == pytest.approx(1 / 125)
        assert tags.get_ifd(0x8825)[1] == "N"
    assert packet in result.data
    if source == "tiff":
        assert result.notes == ("the maker note, which is only true at its place in the TIFF file",)
    else:
        assert result.notes == () and block[block.index(b"Firmware") :][:16] in result.data


def test_between_formats_what_has_no_place_is_said() -> None:
    result = through(png_with(chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"tEXt", b"a\0b")), "jpeg")
    assert result.notes == ("gAMA, for which JPEG has no place", "tEXt, for which JPEG has no place")
    assert jpeg_segments(result.data) == []


def test_an_animation_of_one_frame_becomes_a_still() -> None:
    frame = webp_chunks(saved("webp", lossless=True))[b"VP8L"]
    size = struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3]
    moving = riff(b"ANIM", bytes(6)) + riff(b"ANMF", bytes(6) + size + bytes(4) + riff(b"VP8L", frame))
    body = b"WEBP" + riff(b"VP8X", b"\x0a\0\0\0" + size) + moving + riff(b"EXIF", exif())
    result = through(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert list(webp_chunks(result.data)) == [b"VP8X", b"VP8L", b"EXIF"]
    assert webp_chunks(result.data)[b"VP8X"][0] & 0x0A == 0x08
    with Image.open(io.BytesIO(result.data)) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels())


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt"])
@pytest.mark.parametrize("keyword", [b"exif", b"APP1"])
def test_a_raw_profile_is_turned_with_the_picture_and_else_kept(name: bytes, keyword: bytes) -> None:
    def raw(orientation: int, width: int, height: int) -> bytes:
        block = bytearray(b"Exif\0\0" + exif(orientation))
        if (width, height) != (WIDTH, HEIGHT):
            block = bytearray(b"Exif\0\0" + TURNED)
        text = b"\nexif\n" + f"{len(block):8d}\n".encode()
        text += b"\n".join(bytes(block[at : at + 36]).hex().encode() for at in range(0, len(block), 36)) + b"\n"
        body = b"Raw profile type " + keyword + b"\0"
        return chunk(name, body + (text if name == b"tEXt" else b"\0" + zlib.compress(text)))

    (turned_segment,) = jpeg_segments(through(jpeg_with(segment(0xE1, b"Exif\0\0" + exif(6)))).data)
    TURNED = turned_segment[10:]  # noqa: N806
    upright = raw(1, WIDTH, HEIGHT)
    assert upright in through(png_with(upright)).data
    result = through(png_with(chunk(b"eXIf", exif(6)), raw(6, WIDTH, HEIGHT)))
    assert raw(1, HEIGHT, WIDTH) in result.data and result.notes == ()
