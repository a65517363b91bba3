"""What is not read is called by its name; "damaged" is said of damaged files alone."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile

from mimo.errors import ImageError
from mimo.images import decode_photo
from tests.mimo.containers.blocks import pixels, saved


def box(brand: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", len(body) + 4) + body + bytes(99)


def as_tiff(samples: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def with_tag(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with another number for a tag of one SHORT."""
    out = bytearray(data)
    at = struct.unpack_from("<I", out, 4)[0]
    for number in range(struct.unpack_from("<H", out, at)[0]):
        if struct.unpack_from("<H", out, at + 2 + 12 * number)[0] == tag:
            struct.pack_into("<H", out, at + 10 + 12 * number, value)
    return bytes(out)


def frame(marker: int, bits: int = 8) -> bytes:
    data = bytearray(saved("jpeg"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    return bytes(data)


PLAIN = as_tiff(pixels(), photometric="rgb")
NAMED = {
    "HEIC": (box(b"heic"), "a HEIC picture"),
    "HEIF by a compatible brand": (box(b"abcd", b"mif1", b"heic"), "a HEIC picture"),
    "HEIC that AVIF readers may try": (box(b"heic", b"mif1", b"avif"), "a HEIC picture"),
    "AVIF": (box(b"avif"), "an AVIF picture"),
    "AVIF by a compatible brand": (box(b"mif1", b"mif1", b"miaf", b"avif"), "an AVIF picture"),
    "HEIF of a coding that is not told": (box(b"mif1", b"miaf"), "a HEIF picture"),
    "CR3": (box(b"crx "), "a camera's raw file"),
    "GIF": (saved("gif"), "a GIF picture"),
    "BMP": (saved("bmp"), "a BMP picture"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "a JPEG 2000 picture"),
    "JPEG XL": (b"\xff\x0a" + bytes(50), "a JPEG XL picture"),
    "PSD": (b"8BPS" + bytes(50), "a Photoshop document"),
    "12-bit JPEG": (frame(0xC1, 12), "a JPEG of 12 bits per sample"),
    "lossless JPEG": (frame(0xC3), "a lossless JPEG"),
    "JPEG-LS": (frame(0xF7), "a JPEG-LS JPEG"),
    "Zstandard in TIFF": (with_tag(PLAIN, 259, 50000), "a TIFF compressed with Zstandard"),
    "JPEG 2000 in TIFF": (with_tag(PLAIN, 259, 34712), "a TIFF compressed with JPEG 2000"),
    "LERC in TIFF": (with_tag(PLAIN, 259, 34887), "a TIFF compressed with LERC"),
    "a scheme without a name": (with_tag(PLAIN, 259, 40000), "a TIFF compressed with scheme 40000"),
    "raw sensor data": (with_tag(as_tiff(pixels()[:, :, 0]), 262, 32803), "raw sensor data"),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_read_is_called_by_its_name(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, said = NAMED[name]
    with pytest.raises(ImageError) as refused:
        decode_photo(data, "IMG")
    message = str(refused.value)
    assert message.startswith("IMG is ") and said in message and "damaged" not in message and message.endswith("first.")
    assert capfd.readouterr() == ("", "")


def test_a_thumbnail_in_front_is_not_taken_for_the_picture() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(pixels()[::2, ::2].copy(), photometric="rgb", subfiletype=1, metadata=None)
        writer.write(pixels(), photometric="rgb", metadata=None)
    with pytest.raises(ImageError, match="first page is a thumbnail"):
        decode_photo(file.getvalue(), "IMG")


def test_two_pictures_are_no_picture_and_thumbnail() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for _ in range(2):
            writer.write(pixels(), photometric="rgb", metadata=None)
    with pytest.raises(ImageError, match="2 pages"):
        decode_photo(file.getvalue(), "IMG")


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
def test_a_file_that_is_cut_off_is_called_damaged(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(kind, noise)
    with pytest.raises(ImageError, match="damaged or cut off"):
        decode_photo(data[: len(data) // 2], "IMG")
