"""Damaged metadata never costs more than itself: whatever decodes is written, and nothing but ImageError is raised."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mimo.containers import exif, photoshop, xmp
from mimo.containers.change import Change, Notes
from mimo.errors import ImageError
from mimo.images import decode_photo, encode_photo
from tests.mimo.containers.blocks import chunk, jpeg_with, pixels, png_with, resource, riff, segment, tiff_with, webp_with
from tests.mimo.containers.blocks import exif as exif_block
from tests.mimo.containers.blocks import xmp as xmp_packet
from tests.mimo.containers.test_carriers import HDR, IRB, THUMBNAIL, turned

WHOLE = {
    **{kind: turned(kind, 6) for kind in ("jpeg", "png", "webp", "tiff")},
    "all.jpg": jpeg_with(
        segment(0xE1, b"Exif\0\0" + exif_block(6, THUMBNAIL)),
        segment(0xED, IRB + resource(1036, THUMBNAIL)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp_packet(HDR)),
        trailer=THUMBNAIL,
    ),
}
SPOTS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(spots=SPOTS, cut=st.one_of(st.none(), st.floats(0.1, 1)))
def test_a_damaged_file_is_written_or_refused(name: str, spots: list[tuple[float, int]], cut: float | None) -> None:
    data = bytearray(WHOLE[name])
    for place, value in spots:
        data[int(place * len(data))] = value
    data = data[: int(len(data) * cut)] if cut else data
    for target in ("jpeg", "png", "tiff", "webp"):
        try:
            encoded = encode_photo(decode_photo(bytes(data), "it"), target, "it")
        except ImageError:
            continue
        assert encoded.data


@settings(max_examples=200, deadline=None, derandomize=True)
@given(block=st.binary(max_size=300), order=st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b""]))
def test_blocks_of_noise_are_patched_or_let_go(block: bytes, order: bytes) -> None:
    change, notes = Change(40, 24, orientation=6), Notes()
    exif.patched(order + block, change, notes)
    exif.orientation_of(order + block)
    photoshop.without_thumbnails(b"8BIM" + block, notes)
    xmp.patched(b"<a>" + block, change, xmp.Dropped(True, True), notes)


@pytest.mark.parametrize("keyword", ["Résumé".encode("latin1"), b"\xff" * 79, b"", b"x" * 200])
def test_text_that_is_not_utf_8_is_kept(keyword: bytes) -> None:
    text = chunk(b"tEXt", keyword + b"\0hello")
    encoded = encode_photo(decode_photo(png_with(text), "it"), "png", "it")
    assert text in encoded.data and encoded.notes == ()


@pytest.mark.parametrize("text", [b"Gr\xfc\xdfe\0", b"\xff\xfe\xfd\0"])
def test_tags_that_are_not_utf_8_are_kept(text: bytes) -> None:
    encoded = encode_photo(decode_photo(tiff_with([(270, 2, len(text), text)]), "it"), "tiff", "it")
    assert text in encoded.data
    with Image.open(io.BytesIO(encoded.data)) as image:
        assert np.asarray(image).shape == (24, 40, 3)


def test_a_webp_whose_exif_is_noise_is_written_without_it() -> None:
    encoded = encode_photo(decode_photo(webp_with(b"", riff(b"EXIF", b"noise" * 9), 0x08), "it"), "webp", "it")
    assert b"EXIF" not in encoded.data and encoded.notes == ("EXIF that is damaged",)
    assert Image.open(io.BytesIO(encoded.data)).size == (40, 24)


@pytest.mark.parametrize(
    "tag",
    [
        (274, 3, 1, b"\xc0\0"),
        (50341, 9, 3, bytes(12)),
        (282, 2, 2, b"x\0"),
        (34665, 4, 1, b"\xff\xff\xff\x7f"),
        (270, 3, 1, b"\1\0"),
    ],
    ids=lambda tag: str(tag[0]),
)
def test_a_tag_that_the_decoder_dislikes_costs_no_tiff(tag: tuple[int, int, int, bytes]) -> None:
    encoded = encode_photo(decode_photo(tiff_with([tag]), "it"), "tiff", "it")
    assert (decode_photo(encoded.data, "again").samples == pixels()).all()
    assert tag[3] in encoded.data
