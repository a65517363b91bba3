"""Photographs in and out, made and inspected without libvips wherever another tool can."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mimo.errors import ImageError, OutputError
from mimo.images import MOST_PIXELS, PHOTO_SUFFIXES, check_format, photo_size, read_photo, read_rgb, write_photo

SIZE = (24, 40)
MAKE, ORIENTATION, X_RESOLUTION = 0x010F, 0x0112, 0x011A
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(bands: int = 3, dtype: type = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(bands).integers(0, np.iinfo(dtype).max, (*SIZE, bands), dtype=dtype, endpoint=True)


def smooth() -> NDArray[np.uint8]:
    """Survives lossy coding; no two corners are alike."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return np.stack([y * 9, x * 6, (x + y) * 3], axis=2).astype(np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(samples: NDArray[Any], width: int | None = None, height: int | None = None) -> bytes:
    """A PNG by hand; Pillow has no 16-bit RGB. The header may lie about the size."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[samples.shape[2]]
    header = struct.pack(
        ">IIBBBBB", width or samples.shape[1], height or samples.shape[0], 8 * samples.itemsize, colour, 0, 0, 0
    )
    rows = b"".join(b"\0" + row.astype(samples.dtype.newbyteorder(">")).tobytes() for row in samples)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def unpng(data: bytes) -> NDArray[Any]:
    """The samples of a PNG of unfiltered rows, which is how libvips writes them."""
    idat, position = b"", 8
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        body = data[position + 8 : position + 8 + length]
        if name == b"IHDR":
            width, height, bits, colour = struct.unpack_from(">IIBB", body)
        if name == b"IDAT":
            idat += body
        position += 12 + length
    stored, native = {8: ("u1", "u1"), 16: (">u2", "=u2")}[bits]
    bands = {0: 1, 4: 2, 2: 3, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(idat), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].copy().view(stored).astype(native).reshape(height, width, bands)


def exif(orientation: int | None = None) -> Image.Exif:
    tags = Image.Exif()
    tags[MAKE] = "Camera"
    if orientation is not None:
        tags[ORIENTATION] = orientation
    return tags


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_png_comes_back_sample_for_sample(tmp_path: Path, bands: int, dtype: type) -> None:
    samples = noise(bands, dtype)
    (tmp_path / "in.png").write_bytes(png(samples))
    photo = read_photo(tmp_path / "in.png")
    write_photo(tmp_path / "out.png", photo, photo.pixels)
    written = unpng((tmp_path / "out.png").read_bytes())
    assert written.dtype == samples.dtype
    np.testing.assert_array_equal(written, samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_contiguous_rgb_from_0_to_1(tmp_path: Path, dtype: type) -> None:
    samples = noise(4, dtype)
    (tmp_path / "in.png").write_bytes(png(samples))
    photo = read_photo(tmp_path / "in.png")
    assert (photo.height, photo.width, photo.bits, photo.grey) == (*SIZE, 8 * samples.itemsize, False)
    for pixels in (photo.pixels, read_rgb(tmp_path / "in.png")):
        assert pixels.dtype == np.float32 and pixels.shape == (3, *SIZE) and pixels.flags["C_CONTIGUOUS"]
        expected = samples[:, :, :3].transpose(2, 0, 1) / np.float64(np.iinfo(dtype).max)
        np.testing.assert_allclose(pixels, expected, rtol=1e-6)
    np.testing.assert_array_equal(photo.crop(slice(3, 9), slice(5, 30)), photo.pixels[:, 3:9, 5:30])


def test_a_grey_photograph_has_three_equal_channels_and_comes_back_grey(tmp_path: Path) -> None:
    grey = noise(1)[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "in.png")
    photo = read_photo(tmp_path / "in.png")
    assert photo.grey and (photo.pixels == photo.pixels[0]).all()
    shifted = photo.pixels + np.array([-0.1, 0, 0.1], np.float32)[:, None, None]  # the mean is unchanged
    for suffix in PHOTO_SUFFIXES - {".webp"}:  # WebP knows no grey
        write_photo(tmp_path / f"out{suffix}", photo, shifted)
        with Image.open(tmp_path / f"out{suffix}") as written:
            assert written.mode == "L"
            if suffix in (".png", ".tif"):
                np.testing.assert_array_equal(np.asarray(written), grey)


def test_values_are_clamped_and_rounded_to_the_nearest(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "in.png")
    photo = read_photo(tmp_path / "in.png")
    values = np.array([-3, -0.001, 0.49 / 255, 0.51 / 255, 99.4 / 255, 99.6 / 255, 1.001, 7], np.float32)
    pixels = np.zeros((3, *SIZE), np.float32)
    pixels[:, 0, : len(values)] = values
    np.testing.assert_array_equal(photo.quantised(pixels)[0, : len(values), 1], [0, 0, 0, 1, 99, 100, 255, 255])


def test_alpha_is_untouched_when_the_pixels_change(tmp_path: Path) -> None:
    samples = noise(4)
    Image.fromarray(samples).save(tmp_path / "in.png")
    photo = read_photo(tmp_path / "in.png")
    for suffix in (".png", ".tif", ".webp"):
        write_photo(tmp_path / f"out{suffix}", photo, 1 - photo.pixels)
        with Image.open(tmp_path / f"out{suffix}") as written:
            assert written.mode == "RGBA"
            np.testing.assert_array_equal(np.asarray(written)[:, :, 3], samples[:, :, 3])


def test_a_palette_becomes_rgb(tmp_path: Path) -> None:
    picture = Image.fromarray(smooth()).quantize(16)
    picture.save(tmp_path / "in.png")
    write_photo(tmp_path / "out.png", read_photo(tmp_path / "in.png"))
    with Image.open(tmp_path / "out.png") as written:
        assert written.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(written), np.asarray(picture.convert("RGB")))


def test_one_bit_becomes_eight(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(1)[:, :, 0]).convert("1")
    picture.save(tmp_path / "in.png")
    write_photo(tmp_path / "out.png", read_photo(tmp_path / "in.png"))
    with Image.open(tmp_path / "out.png") as written:
        assert written.mode == "L"
        np.testing.assert_array_equal(np.asarray(written), np.asarray(picture.convert("L")))


def test_a_16_bit_tiff_keeps_its_depth(tmp_path: Path) -> None:
    import pyvips

    samples = noise(3, np.uint16)
    pyvips.Image.new_from_array(samples, interpretation="rgb16").write_to_file(str(tmp_path / "in.tif"))
    photo = read_photo(tmp_path / "in.tif")
    write_photo(tmp_path / "out.tif", photo, photo.pixels)
    np.testing.assert_array_equal(pyvips.Image.new_from_file(str(tmp_path / "out.tif")).numpy(), samples)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_network_sees_it_upright_and_it_is_turned_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = Image.fromarray(smooth())
    stored.save(tmp_path / f"in{suffix}", exif=exif(orientation), quality=100)
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # of Image.Transpose
    upright = np.asarray(stored.transpose(Image.Transpose(turn[orientation])) if orientation in turn else stored)

    photo = read_photo(tmp_path / f"in{suffix}")
    assert photo_size(tmp_path / f"in{suffix}") == (photo.height, photo.width) == upright.shape[:2]
    np.testing.assert_allclose(photo.samples, upright, atol=16)
    write_photo(tmp_path / f"out{suffix}", photo)
    with Image.open(tmp_path / f"out{suffix}") as written:
        assert written.getexif()[ORIENTATION] == 1
        np.testing.assert_allclose(np.asarray(written), upright, atol=20)
    np.testing.assert_allclose(read_photo(tmp_path / f"out{suffix}").samples, upright, atol=20)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_icc_profile_and_resolution_are_kept(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    Image.fromarray(smooth()).save(source, exif=exif(6), icc_profile=ICC, dpi=(300, 300))
    write_photo(target, read_photo(source))
    with Image.open(target) as written:
        assert written.info["icc_profile"] == ICC
        assert written.getexif()[MAKE] == "Camera"
        if suffix != ".webp":
            assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_resolution_turns_with_the_picture(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "in.jpg", exif=exif(6), dpi=(300, 150))
    write_photo(tmp_path / "out.jpg", read_photo(tmp_path / "in.jpg"))
    with Image.open(tmp_path / "out.jpg") as written:
        assert written.info["dpi"] == (150, 300)
        assert X_RESOLUTION not in written.getexif()  # nor was it before


def test_the_orientation_in_xmp_is_turned_too(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="kept"/></x:xmpmeta>'
    Image.fromarray(smooth()).save(tmp_path / "in.jpg", exif=exif(6), xmp=xmp)
    write_photo(tmp_path / "out.jpg", read_photo(tmp_path / "in.jpg"))
    with Image.open(tmp_path / "out.jpg") as written:
        assert written.info["xmp"] == xmp.replace(b'"6"', b'"1"')


def test_the_blurred_thumbnail_is_dropped(tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    Image.fromarray(smooth()).save(thumbnail, "jpeg")
    # By hand, Pillow writes no thumbnails: the IFD of the camera, then one whose JPEG stands at the end.
    base = 8 + 2 + 12 + 4
    after = base + 2 + 3 * 12 + 4
    first = struct.pack("<H", 1) + struct.pack("<HHII", MAKE, 2, 7, after) + struct.pack("<I", base)
    second = struct.pack("<H", 3) + b"".join(
        struct.pack("<HHII", tag, kind, 1, value)
        for tag, kind, value in ((0x0103, 3, 6), (0x0201, 4, after + 8), (0x0202, 4, len(thumbnail.getvalue())))
    )
    block = (
        b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + struct.pack("<I", 0) + b"Camera\0\0" + thumbnail.getvalue()
    )
    Image.fromarray(smooth()).save(tmp_path / "in.jpg", exif=block)
    assert (tmp_path / "in.jpg").read_bytes().count(b"\xff\xd8\xff") == 2
    write_photo(tmp_path / "out.jpg", read_photo(tmp_path / "in.jpg"))
    assert (tmp_path / "out.jpg").read_bytes().count(b"\xff\xd8\xff") == 1
    with Image.open(tmp_path / "out.jpg") as written:
        assert written.getexif()[MAKE] == "Camera"


def test_jpeg_is_written_at_quality_95_without_chroma_subsampling(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "in.jpg", quality=50)
    write_photo(tmp_path / "out.jpg", read_photo(tmp_path / "in.jpg"))
    Image.fromarray(smooth()).save(tmp_path / "reference.jpg", quality=95, subsampling=0)
    with Image.open(tmp_path / "out.jpg") as written, Image.open(tmp_path / "reference.jpg") as reference:
        assert written.quantization == reference.quantization  # type: ignore[attr-defined]
        assert [layer[1:3] for layer in written.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


def _damaged() -> dict[str, tuple[bytes, str]]:
    def saved(form: str, picture: Image.Image, **options: object) -> bytes:
        file = io.BytesIO()
        picture.save(file, form, **options)
        return file.getvalue()

    rgb = Image.fromarray(noise())
    whole = {form: saved(form, rgb) for form in ("jpeg", "png", "tiff", "webp")}
    several = {"save_all": True, "append_images": [rgb.transpose(Image.Transpose.ROTATE_180)]}
    flipped = bytearray(whole["png"])
    flipped[len(flipped) // 2] ^= 255
    return {
        **{f"cut.{form}": (data[: len(data) // 2], "damaged or cut off") for form, data in whole.items()},
        "no_end.jpg": (whole["jpeg"][:-2], "damaged or cut off"),
        "flipped.png": (bytes(flipped), "damaged or cut off"),
        "head.png": (whole["png"][:20], "damaged or cut off"),
        "empty.jpg": (b"", "no PNG, JPEG, TIFF or WebP"),
        "text.png": (b"this is a letter", "no PNG, JPEG, TIFF or WebP"),
        "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg' width='99' height='99'/>", "no PNG, JPEG, TIFF or WebP"),
        "cmyk.jpg": (saved("jpeg", rgb.convert("CMYK")), "neither RGB nor grey"),
        "float.tif": (saved("tiff", Image.fromarray(noise(1)[:, :, 0].astype(np.float32))), "type float"),
        "pages.tif": (saved("tiff", rgb, **several), "2 pages"),
        "moving.webp": (saved("webp", rgb, **several), "2 pages or frames"),
        "moving.png": (saved("png", rgb, **several), "animated"),
        "bomb.png": (png(noise(), 30_000, 30_000), "200 megapixels"),
        "bomb_of_zeros.png": (png(np.zeros((1, 30_000, 3), np.uint8), height=10_000), "200 megapixels"),
    }


DAMAGED = _damaged()


@pytest.mark.parametrize("name", DAMAGED)
def test_bad_files_are_refused_in_one_sentence_and_in_silence(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data, reason = DAMAGED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=reason) as refused:
        read_photo(tmp_path / name)
    message = str(refused.value)
    assert message.startswith(str(tmp_path / name)) and message.endswith(".") and "\n" not in message and ": " in message
    assert capfd.readouterr() == ("", "")


def test_the_limit_is_judged_by_the_header_alone(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5)
    (tmp_path / "big.png").write_bytes(png(noise(), side, side))
    assert photo_size(tmp_path / "big.png") == (side, side)
    (tmp_path / "bigger.png").write_bytes(png(noise(), side + 1, side + 1))
    with pytest.raises(ImageError, match="limit of 200 megapixels"):
        photo_size(tmp_path / "bigger.png")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist: check the name"):
        read_photo(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_photo(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_photo(tmp_path / ("x" * 300 + ".png"))


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.png").touch(mode=0o000)
    with pytest.raises(ImageError, match="permission"):
        read_photo(tmp_path / "in.png")


@pytest.mark.parametrize("name", ["a[Q=1].png", "a b%d.png", "größe.png", os.fsdecode(b"\xff\xfe.png")])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    (tmp_path / "source.png").write_bytes(png(noise()))
    photo = read_photo((tmp_path / "source.png").rename(tmp_path / name))
    write_photo(tmp_path / "out" / name, photo)
    np.testing.assert_array_equal(unpng((tmp_path / "out" / name).read_bytes()), noise())


def test_the_content_says_the_format_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "in.jpg").write_bytes(png(noise()))
    np.testing.assert_array_equal(read_photo(tmp_path / "in.jpg").samples, noise())


def test_a_format_that_cannot_hold_the_photograph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(png(noise(3, np.uint16)))
    (tmp_path / "clear.png").write_bytes(png(noise(4)))
    deep, clear = read_photo(tmp_path / "deep.png"), read_photo(tmp_path / "clear.png")
    for path, photo, reason in (
        (tmp_path / "out.jpg", deep, "16; name it .png"),
        (tmp_path / "out.webp", deep, "16; name it .png"),
        (tmp_path / "out.jpg", clear, "no transparency"),
        (tmp_path / "out.heic", clear, "use .jfif"),
        (tmp_path / "out", clear, "use .jfif"),
    ):
        with pytest.raises(ImageError, match=reason):
            check_format(path, photo)
        with pytest.raises(ImageError, match=reason):
            write_photo(path, photo)
        assert not path.exists()


def test_what_stood_there_survives_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.png").write_bytes(png(noise()))
    photo = read_photo(tmp_path / "in.png")
    (tmp_path / "out.png").write_bytes(b"before")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_photo(tmp_path / "out.png", photo)
    assert (tmp_path / "out.png").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]


def test_pixels_of_another_size_are_a_defect_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(png(noise()))
    with pytest.raises(ValueError, match="do not belong"):
        write_photo(tmp_path / "out.png", read_photo(tmp_path / "in.png"), np.zeros((3, 16, 16), np.float32))


def test_importing_it_imports_no_libvips() -> None:
    subprocess.run([sys.executable, "-c", "import mimo.images, sys; sys.exit('pyvips' in sys.modules)"], check=True)
