"""Photographs: read at their own depth, written back in their own format, with all that the file carries besides pixels.

libvips does the decoding and the coding of pixels; it is imported by the first call that needs it. What surrounds them is
copied by :mod:`mimo.containers`. PNG, JPEG, TIFF and WebP are read. HEIC is not: the libvips that pip installs comes
without the patented HEVC decoder.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo.containers import webp
from mimo.containers.assemble import Result, orientation_of, other_container, same_container
from mimo.containers.change import Change
from mimo.containers.identify import Format, foreign, format_of, refused_tiff, unread
from mimo.containers.ifd import MalformedError
from mimo.containers.tiff import EMPTY, further_pages, pixels_alone
from mimo.errors import ImageError
from mimo.files import write_bytes
from mimo.transparency import filled

Pixels = NDArray[np.float32]
"""(3,H,W) float32 RGB in [0,1], in the colour space of the photograph's ICC profile."""
Samples = NDArray[np.uint8] | NDArray[np.uint16]
"""(H,W,3) or, for a grey photograph, (H,W,1), as the file stores them."""

MOST_PIXELS = 200_000_000
"""A file that claims more is refused before anything of it is decoded."""

_FORMATS: dict[str, Format] = {
    ".jfif": "jpeg",
    ".jpe": "jpeg",
    ".jpeg": "jpeg",
    ".jpg": "jpeg",
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
}
PHOTO_SUFFIXES = frozenset(_FORMATS)
"""In lower case, with the dot."""

_SAVE_OPTIONS: dict[Format, dict[str, Any]] = {
    # 4:4:4: halving the chroma would blur again what was just deblurred.
    "jpeg": {"Q": 95, "subsample_mode": "off"},
    "png": {},
    "webp": {"Q": 95, "smart_subsample": True},
}
_CURE = "convert it to an RGB or grey PNG, JPEG, TIFF or WebP of 8 or 16 bits first."


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photograph, upright, and what is needed to write it back as it came."""

    samples: Samples
    alpha: NDArray[np.uint8] | NDArray[np.uint16] | None
    """(H,W), of the samples' type; it never passes through the network."""
    source: bytes = b""
    """The file it was read from, whole; empty for a picture that came from none."""
    format: Format | None = None
    """Of ``source``."""
    orientation: int = 1
    """The EXIF orientation that ``source`` has and that was undone, 1 to 8."""

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.samples.shape[0])

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.samples.shape[1])

    @property
    def bits(self) -> int:
        """Per sample: 8 or 16."""
        return 8 * self.samples.dtype.itemsize

    @property
    def grey(self) -> bool:
        """Whether it has one channel."""
        return int(self.samples.shape[2]) == 1

    @property
    def pixels(self) -> Pixels:
        """The whole photograph as the network takes it: C-contiguous (3,H,W), made anew at 12 bytes a pixel."""
        return self.crop(slice(None), slice(None))

    @cached_property
    def opaque(self) -> bool:
        """Whether nothing of it is transparent."""
        return self.alpha is None or bool((self.alpha == self._peak).all())

    @cached_property
    def hidden(self) -> NDArray[np.bool_] | None:
        """(H,W): where it is fully transparent, so that its colour means nothing; None where that is nowhere."""
        if self.alpha is None:
            return None
        hidden: NDArray[np.bool_] = self.alpha == 0
        return hidden if hidden.any() else None

    def visible(self) -> Photo:
        """The same with the colour of fully transparent pixels taken from the visible ones around them.

        What a transparent pixel hides would otherwise leak into the visible rim.
        """
        return self if self.hidden is None else replace(self, samples=filled(self.samples, self.hidden))

    def crop(self, rows: slice, columns: slice) -> Pixels:
        """A rectangle as the network takes it, C-contiguous (3,h,w); a grey photograph gives three equal channels."""
        samples = self.samples[rows, columns]
        pixels = np.empty((3, *samples.shape[:2]), np.float32)
        np.divide(samples.transpose(2, 0, 1), np.float32(self._peak), out=pixels, dtype=np.float32)
        return pixels

    def quantised(self, pixels: Pixels) -> Samples:
        """(3,h,w) -> (h,w,3) or (h,w,1) of this photograph's type: clamped to [0,1] and rounded to the nearest value.

        For a grey photograph the three channels are averaged. The pixels must be finite.
        """
        planes = pixels.mean(axis=0, keepdims=True) if self.grey else pixels
        samples = np.empty((*planes.shape[1:], planes.shape[0]), self.samples.dtype)
        for channel, plane in enumerate(planes):
            scaled = np.clip(plane, 0, 1)
            scaled *= self._peak
            samples[:, :, channel] = np.rint(scaled, out=scaled)
        return samples

    @property
    def _peak(self) -> int:
        return int(np.iinfo(self.samples.dtype).max)


def photo_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright photograph, read without decoding it. Raises :class:`ImageError`."""
    return size_of(_bytes_of(path), str(path))


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """As :func:`photo_size`, of a file's bytes; ``name`` is what messages call it."""
    with _header(data, name) as (image, kind):
        return (image.width, image.height) if orientation_of(kind, data) >= 5 else (image.height, image.width)


def read_photo(path: Path) -> Photo:
    """Read a photograph file, see :func:`decode_photo`. Raises :class:`ImageError`, for a missing file too."""
    return decode_photo(_bytes_of(path), str(path))


def decode_photo(data: bytes, name: str) -> Photo:
    """Decode a photograph, turned upright as its EXIF orientation says. A palette becomes RGB, 1 to 7 bits become 8.

    ``name`` is what messages call it. Raises :class:`ImageError` for data that is damaged, cut off, in another format or
    of a kind that the decoder lacks, CMYK, floating point, animated or of several pictures, or of more than
    :data:`MOST_PIXELS`.
    """
    with _header(data, name) as (image, kind):
        has_alpha = image.hasalpha()
        orientation = orientation_of(kind, data)
        if orientation > 1:
            # Turning takes the pixels in another order than they are stored in, hence the copy.
            image = image.copy_memory()  # noqa: PLW2901
        image = image.copy()  # noqa: PLW2901
        image.set_type(_vips().GValue.gint_type, "orientation", orientation)
        image = image.autorot()  # noqa: PLW2901
        buffer = image.write_to_memory()
        flat: Samples = np.frombuffer(buffer, np.uint8) if image.format == "uchar" else np.frombuffer(buffer, np.uint16)
        decoded = flat.reshape(image.height, image.width, image.bands)
    colours = image.bands - has_alpha
    alpha = decoded[:, :, colours] if has_alpha else None
    return Photo(decoded[:, :, :colours], alpha, data, kind, orientation)


def read_rgb(path: Path) -> Pixels:
    """The pixels of a photograph, C-contiguous (3,H,W). Raises :class:`ImageError` as :func:`read_photo` does."""
    return read_photo(path).pixels


def format_for(path: Path) -> Format:
    """The format that ``path``'s suffix names. Raises :class:`ImageError`."""
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{path}: no photograph can be written under this suffix; use {', '.join(sorted(PHOTO_SUFFIXES))}.")
    return kind


def check_format(path: Path, photo: Photo) -> None:
    """Raise :class:`ImageError` unless the format that ``path``'s suffix names can hold ``photo`` without a loss of kind."""
    check_kind(format_for(path), photo, str(path))


def check_kind(kind: Format, photo: Photo, name: str) -> None:
    """As :func:`check_format`, for a format rather than a suffix."""
    if kind in ("jpeg", "webp") and photo.bits > 8:
        raise ImageError(f"{name}: {kind.upper()} holds 8 bits per sample and the photograph has 16; name it .png or .tif.")
    if kind == "jpeg" and not photo.opaque:
        raise ImageError(f"{name}: JPEG holds no transparency and the photograph has some; name it .png, .tif or .webp.")
    if kind == "webp" and max(photo.height, photo.width) > 16383:
        raise ImageError(f"{name}: WebP holds at most 16383 pixels a side; name it .png or .tif.")
    if kind == "jpeg" and max(photo.height, photo.width) > 65500:
        raise ImageError(f"{name}: JPEG holds at most 65500 pixels a side; name it .png or .tif.")


@dataclass(frozen=True)
class Encoded:
    """A photograph's file, and what of its source could not be kept."""

    data: bytes
    notes: tuple[str, ...] = ()
    """In words, such as ``the thumbnail in EXIF``."""


def write_photo(path: Path, photo: Photo, pixels: Pixels | None = None) -> tuple[str, ...]:
    """Write ``photo`` atomically, with ``pixels`` (3,H,W) in place of its own where given; clamped and rounded.

    The suffix says the format. Returns the notes of :func:`encode_photo`.

    Raises :class:`ImageError` when the format cannot hold the photograph, :class:`~mimo.errors.OutputError` when the
    file cannot be written; either way whatever stood at ``path`` is untouched.
    """
    samples = photo.samples if pixels is None else photo.quantised(pixels)
    if samples.shape != photo.samples.shape:
        raise ValueError(f"pixels of {samples.shape[:2]} do not belong to a photograph of {photo.samples.shape[:2]}")
    encoded = encode_photo(replace(photo, samples=samples), format_for(path), str(path))
    # Encoded in memory, so that a full disk is an OSError that says so rather than a text of libvips.
    write_bytes(path, encoded.data)
    return encoded.notes


def encode_photo(photo: Photo, kind: Format, name: str) -> Encoded:
    """``photo`` as a file of the format ``kind``; ``name`` is what messages call it.

    PNG and TIFF are lossless and keep the bit depth; JPEG is written at quality 95 without chroma subsampling, WebP without
    loss where its source had none, else at quality 95. In its own format everything that the source carries besides pixels
    goes along byte for byte, but for orientation, sizes and thumbnails; in another, what that has a place for.

    Raises :class:`ImageError` when the format cannot hold the photograph.
    """
    check_kind(kind, photo, name)
    alpha = photo.alpha if kind != "jpeg" else None
    samples = photo.samples if alpha is None else np.concatenate([photo.samples, alpha[:, :, None]], axis=2)
    change = Change(photo.width, photo.height, not photo.grey, photo.orientation)
    result = Result(samples, alpha is not None, b"" if kind == "tiff" else _coded(photo, kind, samples, name))
    try:
        if photo.format == kind:
            data, notes = same_container(kind, photo.source, result, change)
        elif photo.format is not None:
            data, notes = other_container(photo.format, kind, photo.source, result, change)
        elif kind == "tiff":
            data, notes = same_container(kind, EMPTY, result, change)
        else:
            return Encoded(result.picture)
    except MalformedError as error:
        raise ImageError(f"{name} could not be encoded ({error}): choose another format by its suffix.") from error
    return Encoded(data, tuple(notes))


def _coded(photo: Photo, kind: Format, samples: Samples, name: str) -> bytes:
    """The pixels as libvips codes them, with nothing besides."""
    height, width, bands = samples.shape
    options = _SAVE_OPTIONS[kind]
    if kind == "webp" and (photo.format in ("png", "tiff") or (photo.format == "webp" and webp.is_lossless(photo.source))):
        options = {"lossless": True, "exact": True}
    colours = {8: ("b-w", "srgb"), 16: ("grey16", "rgb16")}[photo.bits]
    with _vips_errors(f"{name} could not be encoded", "choose another format by its suffix."):
        image = (
            _vips()
            .Image.new_from_memory(
                np.ascontiguousarray(samples), width, height, bands, "uchar" if photo.bits == 8 else "ushort"
            )
            .copy(interpretation=colours[not photo.grey])
        )
        encoded: bytes = getattr(image, f"{kind}save_buffer")(**options, keep="none")
    return encoded


def _bytes_of(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} is a folder or a device: give a file.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist: check the name.") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk.") from error


def preview(samples: NDArray[np.uint8], longest_side: int, quality: int) -> bytes:
    """(H,W,3) as a lossy WebP, shrunk to ``longest_side`` where it is larger. Raises :class:`ImageError`."""
    height, width, bands = samples.shape
    with _vips_errors("a preview could not be encoded", "leave the page (--html) out."):
        image = _vips().Image.new_from_memory(np.ascontiguousarray(samples), width, height, bands, "uchar")
        image = image.copy(interpretation="srgb")
        if max(height, width) > longest_side:
            image = image.resize(longest_side / max(height, width))
        encoded: bytes = image.webpsave_buffer(Q=quality)
    return encoded


# Everything here is read from memory and written to it, and writing there fails for one reason alone.
_NO_MEMORY = re.compile(r"out of memory|unable to write to target|failed to allocate|insufficient memory", re.IGNORECASE)


@contextmanager
def _vips_errors(what: str, cure: str) -> Iterator[None]:
    """Whatever libvips or its binding raises becomes an :class:`ImageError`."""
    vips = _vips()
    try:
        yield
    except vips.Error as error:
        if _NO_MEMORY.search(str(error.detail or error.message)):
            raise MemoryError from error
        raise ImageError(f"{what} ({_reason(error)}): {cure}") from error
    except UnicodeDecodeError as error:
        # The binding takes every text of libvips for UTF-8, that of its messages too.
        raise ImageError(f"{what}: {cure}") from error


@contextmanager
def _header(data: bytes, name: str) -> Iterator[tuple[Any, Format]]:
    """The libvips image of a file that passed every check a header allows; its pixels can be read within the block."""
    kind = format_of(data[:64])
    if kind is None:
        other = foreign(data[:512])
        what = f"is {other}, which is not read" if other else "is no PNG, JPEG, TIFF or WebP picture, whatever its name says"
        raise ImageError(f"{name} {what}: {_CURE}")
    try:
        with _vips_errors(f"{name} is damaged or cut off", "copy it again from where it came."):
            # The loader by its name: libvips would open gain-map JPEGs as something else.
            pixels = pixels_alone(data) if kind == "tiff" else data
            image = getattr(_vips().Image, f"{kind}load_buffer")(pixels, access="sequential", fail_on="error")
            _check_header(name, image, kind, data)
            yield image, kind
    except ImageError as error:
        unknown = unread(kind, data) if error.__cause__ is not None else None
        if unknown is None:
            raise
        raise ImageError(f"{name} is {unknown}, which is not read: {_CURE}") from error.__cause__


def _check_header(name: str, image: Any, kind: Format, data: bytes) -> None:
    height, width = image.height, image.width
    if height * width > MOST_PIXELS:
        raise ImageError(
            f"{name} claims {width} x {height} pixels, over the limit of {MOST_PIXELS // 10**6} megapixels: cut it into parts."
        )
    pages = image.get("n-pages") if image.get_typeof("n-pages") else 1
    if kind == "tiff":
        if refused := refused_tiff(data):
            raise ImageError(f"{name} is {refused}, which is not read: {_CURE}")
        # A thumbnail or a mask beside the picture is no second picture.
        with suppress(MalformedError):
            pages = 1 + sum(not subfile & 5 for subfile in further_pages(data))
    if pages > 1:
        raise ImageError(f"{name} holds {pages} pages or frames: extract the one you want into a file of its own.")
    if kind == "png" and b"acTL" in data[: max(data.find(b"IDAT"), 0)]:
        raise ImageError(f"{name} is animated: extract the frame you want into a file of its own.")
    usual = image.format in ("uchar", "ushort") and image.interpretation in ("srgb", "rgb", "rgb16", "b-w", "grey16")
    if not usual and (unknown := unread(kind, data)):
        raise ImageError(f"{name} is {unknown}, which is not read: {_CURE}")
    if image.format not in ("uchar", "ushort"):
        raise ImageError(f"{name} has samples of type {image.format}: {_CURE}")
    if not usual or image.bands - image.hasalpha() not in (1, 3):
        raise ImageError(f"{name} is neither RGB nor grey ({image.interpretation}, {image.bands} channels): {_CURE}")


def _reason(error: Any) -> str:
    """The last line of libvips' error buffer, which older errors of other threads may precede."""
    lines = [line.strip() for line in str(error.detail or error.message).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no reason given"


@cache
def _vips() -> Any:
    # What libvips warns of while a file is damaged is in the error too, and its threads would each stay listed in Python.
    logging.getLogger("pyvips").disabled = True
    import pyvips

    # Its cache of operations would keep photographs in memory that are long done.
    pyvips.cache_set_max(0)
    return pyvips
