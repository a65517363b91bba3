"""Photographs: read at their own depth, written back in their own format, with what a camera stored beside the pixels.

libvips does the decoding; it is imported by the first call that needs it. PNG, JPEG, TIFF and WebP are read. HEIC is not:
the libvips that pip installs comes without the patented HEVC decoder.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimo.errors import ImageError
from mimo.files import write_bytes
from mimo.spec import SMALLEST_SIDE

Format = Literal["jpeg", "png", "tiff", "webp"]
Pixels = NDArray[np.float32]
"""(3,H,W) float32 RGB in [0,1], in the colour space of the photograph's ICC profile."""
Samples = NDArray[np.uint8] | NDArray[np.uint16]
"""(H,W,3) or, for a grey photograph, (H,W,1), as the file stores them."""

MOST_PIXELS = 200_000_000
"""A file that claims more is refused before anything of it is decoded."""

_FORMATS: dict[str, Format] = {
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
    "tiff": {"compression": "deflate", "predictor": "horizontal"},
    "webp": {"Q": 95, "smart_subsample": True},
}
_CURE = "convert it to an RGB or grey PNG, JPEG, TIFF or WebP of 8 or 16 bits first."
# Nothing that describes how the old file was coded.
_KEPT = re.compile(
    r"exif-|icc-profile-data$|xmp-data$|iptc-data$|photoshop-data$|resolution-unit$|image-description$|png-comment-"
)


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photograph, upright, and what is needed to write it back as it came."""

    samples: Samples
    alpha: NDArray[np.uint8] | NDArray[np.uint16] | None
    """(H,W), of the samples' type; it never passes through the network."""
    metadata: tuple[tuple[str, int, Any], ...] = ()
    """libvips' name, GType and value of each item kept: EXIF, ICC profile, XMP, IPTC, comments, orientation (always 1)."""
    resolution: tuple[float, float] = (1.0, 1.0)
    """Pixels per millimetre, across and down."""

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
    """Height and width of the upright photograph, read from the header alone. Raises :class:`ImageError`."""
    with _header(path) as image:
        return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def read_photo(path: Path) -> Photo:
    """Read a photograph and turn it upright as its EXIF orientation says. A palette becomes RGB, 1 to 7 bits become 8.

    Raises :class:`ImageError` for a file that is missing, damaged, cut off, in another format, CMYK, floating point,
    animated or of several pages, under 16 pixels on a side or of more than :data:`MOST_PIXELS`.
    """
    with _header(path) as image:
        has_alpha = image.hasalpha()
        names = [name for name in image.get_fields() if _KEPT.match(name) and name != "exif-ifd0-Orientation"]
        metadata = {name: (image.get_typeof(name), image.get(name)) for name in names}
        if image.get_typeof("orientation"):
            metadata["orientation"] = (image.get_typeof("orientation"), 1)
        resolution = (image.xres, image.yres)
        orientation = _orientation(image)
        if orientation > 1:
            if "xmp-data" in metadata:  # which may repeat the orientation
                kind, xmp = metadata["xmp-data"]
                metadata["xmp-data"] = (kind, re.sub(rb"""(tiff:Orientation(?:>|=["']))[2-8]""", rb"\g<1>1", xmp))
            if orientation >= 5:
                resolution = (image.yres, image.xres)
            # Turning takes the pixels in another order than they are stored in, hence the copy.
            image = image.copy_memory().autorot()  # noqa: PLW2901
        buffer = image.write_to_memory()
        flat: Samples = np.frombuffer(buffer, np.uint8) if image.format == "uchar" else np.frombuffer(buffer, np.uint16)
        decoded = flat.reshape(image.height, image.width, image.bands)
    colours = image.bands - has_alpha
    return Photo(
        samples=decoded[:, :, :colours],
        alpha=decoded[:, :, colours] if has_alpha else None,
        metadata=tuple((name, kind, value) for name, (kind, value) in metadata.items()),
        resolution=resolution,
    )


def read_rgb(path: Path) -> Pixels:
    """The pixels of a photograph, C-contiguous (3,H,W). Raises :class:`ImageError` as :func:`read_photo` does."""
    return read_photo(path).pixels


def check_format(path: Path, photo: Photo) -> None:
    """Raise :class:`ImageError` unless the format that ``path``'s suffix names can hold ``photo`` without a loss of kind."""
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{path}: no photograph can be written under this suffix; use {', '.join(sorted(PHOTO_SUFFIXES))}.")
    if kind in ("jpeg", "webp") and photo.bits > 8:
        raise ImageError(f"{path}: {kind.upper()} holds 8 bits per sample and the photograph has 16; name it .png or .tif.")
    if kind == "jpeg" and photo.alpha is not None:
        raise ImageError(f"{path}: JPEG holds no transparency and the photograph has some; name it .png, .tif or .webp.")


def write_photo(path: Path, photo: Photo, pixels: Pixels | None = None) -> None:
    """Write ``photo`` atomically, with ``pixels`` (3,H,W) in place of its own where given; clamped and rounded.

    The suffix says the format. PNG and TIFF are lossless and keep the bit depth; JPEG is written at quality 95 without
    chroma subsampling, WebP at quality 95. Alpha, EXIF, ICC profile and resolution are the photograph's.

    Raises :class:`ImageError` when the format cannot hold the photograph, :class:`~mimo.errors.OutputError` when the
    file cannot be written; either way whatever stood at ``path`` is untouched.
    """
    check_format(path, photo)
    samples = photo.samples if pixels is None else photo.quantised(pixels)
    if samples.shape != photo.samples.shape:
        raise ValueError(f"pixels of {samples.shape[:2]} do not belong to a photograph of {photo.samples.shape[:2]}")
    # Encoded in memory, so that a full disk is an OSError that says so rather than a text of libvips.
    write_bytes(path, _encoded(path, photo, samples))


def _encoded(path: Path, photo: Photo, samples: Samples) -> bytes:
    vips = _vips()
    if photo.alpha is not None:
        samples = np.concatenate([samples, photo.alpha[:, :, None]], axis=2)
    height, width, bands = samples.shape
    colours = {8: ("b-w", "srgb"), 16: ("grey16", "rgb16")}[photo.bits]
    try:
        image = vips.Image.new_from_memory(
            np.ascontiguousarray(samples), width, height, bands, "uchar" if photo.bits == 8 else "ushort"
        ).copy(interpretation=colours[not photo.grey], xres=photo.resolution[0], yres=photo.resolution[1])
        for name, kind, value in photo.metadata:
            image.set_type(kind, name, value)
        # Setting the EXIF block brought it back; it shows the blurred picture.
        image.remove("jpeg-thumbnail-data")
        chosen = _FORMATS[path.suffix.lower()]
        encoded: bytes = getattr(image, f"{chosen}save_buffer")(**_SAVE_OPTIONS[chosen])
    except vips.Error as error:
        raise ImageError(f"{path} could not be encoded ({_reason(error)}): choose another format by its suffix.") from error
    return encoded


@contextmanager
def _header(path: Path) -> Iterator[Any]:
    """The libvips image of a file that passed every check a header allows; its pixels can be read within the block."""
    vips = _vips()
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} is a folder or a device: give a file.")
        with path.open("rb", buffering=0) as file:
            head = file.read(65536)
            kind = _format_of(head)
            if kind is None:
                raise ImageError(f"{path} is no PNG, JPEG, TIFF or WebP picture, whatever its name says: {_CURE}")
            file.seek(0)
            # A source, not a name: libvips would take brackets in a name for options and refuses names that are not UTF-8.
            source = vips.Source.new_from_descriptor(file.fileno())
            # The loader by its name: libvips would open gain-map JPEGs as something else.
            image = getattr(vips.Image, f"{kind}load_source")(source, access="sequential", fail_on="error")
            _check_header(path, image)
            if kind == "png" and b"acTL" in head.partition(b"IDAT")[0]:
                raise ImageError(f"{path} is animated: extract the frame you want into a file of its own.")
            yield image
    except FileNotFoundError as error:
        raise ImageError(f"{path} is not there: check the name.") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk.") from error
    except vips.Error as error:
        raise ImageError(f"{path} is damaged or cut off ({_reason(error)}): copy it again from where it came.") from error


def _check_header(path: Path, image: Any) -> None:
    height, width = image.height, image.width
    if height * width > MOST_PIXELS:
        raise ImageError(
            f"{path} claims {width} x {height} pixels, over the limit of {MOST_PIXELS // 10**6} megapixels: cut it into parts."
        )
    if min(height, width) < SMALLEST_SIDE:
        raise ImageError(
            f"{path} has {width} x {height} pixels: each side must have at least {SMALLEST_SIDE}; use a larger one."
        )
    pages = image.get("n-pages") if image.get_typeof("n-pages") else 1
    if pages > 1:
        raise ImageError(f"{path} holds {pages} pages or frames: extract the one you want into a file of its own.")
    if image.format not in ("uchar", "ushort"):
        raise ImageError(f"{path} has samples of type {image.format}: {_CURE}")
    if image.interpretation not in ("srgb", "rgb", "rgb16", "b-w", "grey16") or image.bands - image.hasalpha() not in (1, 3):
        raise ImageError(f"{path} is neither RGB nor grey ({image.interpretation}, {image.bands} channels): {_CURE}")


def _orientation(image: Any) -> int:
    """The EXIF orientation, 1 to 8; 5 and above lie on their side. A file without one, or with nonsense, is upright."""
    value = image.get("orientation") if image.get_typeof("orientation") else 1
    return int(value) if 1 <= value <= 8 else 1


def _format_of(head: bytes) -> Format | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return None


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
