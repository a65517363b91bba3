"""How good a restored picture is, by protocols that have a name.

A PSNR or an SSIM says nothing without the protocol behind it: on one pair near 31 dB the two SSIMs below differ by 0.02.
Every function takes float32 RGB in [0,1] with a data range of 1, never guessed from the data; the prediction is
clamped to [0,1] first. A picture that holds a value that is not finite scores NaN, whatever the rest of it looks like.
Another dtype raises ``TypeError`` and a truth outside [0,1] ``ValueError``: those are a caller's mistakes.

Everything but RealBlur's protocol is computed in strips of rows, each with the rows around it that a window reaches, so that
memory does not grow with the picture: the numbers are those of the whole picture to the rounding of float64 sums. A picture
is an array or anything that gives its pixels a rectangle at a time, such as a :class:`~mimo.images.Photo`.

NumPy alone is needed for :func:`psnr` and :func:`psnr_uint8`; the rest calls scikit-image, SciPy and OpenCV.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimo.errors import MimoError, ShapeError
from mimo.installing import install

Protocol = Literal["mimo", "uint8", "realblur"]

Pixels = NDArray[np.float32]


class Rectangles(typing.Protocol):
    """A picture of which only a rectangle at a time need be in memory."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    def crop(self, rows: slice, columns: slice) -> Pixels:
        """(3,h,w) float32 in [0,1]."""


@dataclass(frozen=True, eq=False)
class Whole:
    """An array (3,H,W) as :class:`Rectangles`."""

    pixels: Pixels

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[2])

    def crop(self, rows: slice, columns: slice) -> Pixels:
        """A view."""
        return self.pixels[:, rows, columns]


Picture = Pixels | Rectangles
"""(3,H,W)."""

DESCRIPTIONS: dict[Protocol, str] = {
    "mimo": "not rounded to 8 bits, as MIMO-UNet's authors measure",
    "uint8": "rounded to 8 bits first, as most papers measure",
    "realblur": "brightness and position aligned first, as RealBlur's authors measure",
}
"""Each protocol in words."""

METRICS: dict[Protocol, tuple[str, ...]] = {
    "mimo": ("psnr", "ssim_rgb", "ssim_matlab3d"),
    "uint8": ("psnr_uint8", "ssim_rgb", "ssim_matlab3d"),
    "realblur": ("realblur_psnr", "realblur_ssim"),
}
"""The names that :func:`score` gives for each protocol, the PSNR first."""

LABELS = {
    "psnr": "PSNR",
    "psnr_uint8": "PSNR, 8 bits",
    "ssim_rgb": "SSIM, per channel",
    "ssim_matlab3d": "SSIM, 3-D (MATLAB)",
    "realblur_psnr": "PSNR, aligned (RealBlur)",
    "realblur_ssim": "SSIM, aligned (RealBlur)",
}
"""What people read for each name of :data:`METRICS`."""

# scikit-image's Gaussian window: cut at 3.5 sigma, which is 5 px to each side, 11 taps.
_SIGMA, _TRUNCATE, _RADIUS = 1.5, 3.5, 5
_C1, _C2 = 0.01**2, 0.03**2


MOST_ALIGNED = 25_000_000
"""Pixels of the largest picture that RealBlur's protocol takes: it holds some eight float32 copies of three channels."""
_STRIP_PIXELS = 1 << 20
"""Of a strip; SSIM holds a dozen float32 maps of three channels of it."""


def psnr(prediction: Picture, truth: Picture) -> float:
    """Peak signal-to-noise ratio in dB of (3,H,W), or the mean of the images' own values of (N,3,H,W).

    Not rounded to 8 bits, no border cut. Infinite for equal pictures, NaN when anything is not finite. Raises
    :class:`ShapeError` for other or unequal shapes.
    """
    return _each(_psnr, prediction, truth, rounded=False)


def psnr_uint8(prediction: Picture, truth: Picture) -> float:
    """:func:`psnr` after both were saved as 8-bit pictures: about 0.005 to 0.01 dB lower near 31 dB."""
    return _each(_psnr, prediction, truth, rounded=True)


def ssim_rgb(prediction: Picture, truth: Picture) -> float:
    """Structural similarity per channel, then their mean, of (3,H,W) with sides of at least 11 px.

    Gaussian window of sigma 1.5 and 11 taps, population covariance, 5 px of border off, K1 0.01, K2 0.03.
    NaN when anything is not finite. Raises :class:`ShapeError`.
    """
    return _ssim_rgb(_pair(prediction, truth, smallest=2 * _RADIUS + 1))


def ssim_matlab3d(prediction: Picture, truth: Picture) -> float:
    """Structural similarity as MATLAB's ``ssim`` gives it for an HxWx3 array: a volume, not three planes. (3,H,W).

    One 3-D Gaussian of 11x11x11 taps, sigma 1.5, edges replicated, no border cut. The published GoPro figures are of
    this kind. NaN when anything is not finite. Raises :class:`ShapeError`.
    """
    return _ssim_matlab3d(_pair(prediction, truth, smallest=2 * _RADIUS + 1))


def _psnr(pair: _Pair) -> float:
    total = 0.0
    for prediction, truth in pair.strips(context=0):
        total += float(np.sum(np.square(prediction - truth, dtype=np.float64)))
    return math.inf if total == 0 else float(-10 * np.log10(total / (3 * pair.height * pair.width)))


def _ssim_rgb(pair: _Pair) -> float:
    total = 0.0
    for prediction, truth in pair.strips(context=_RADIUS, border=_RADIUS):
        if np.isnan(prediction).any():
            return math.nan
        inner = slice(_RADIUS, -_RADIUS)
        total += float(_ssim_map(prediction, truth)[:, inner, inner].sum(dtype=np.float64))
    return total / (3 * (pair.height - 2 * _RADIUS) * (pair.width - 2 * _RADIUS))


def _ssim_matlab3d(pair: _Pair) -> float:
    gaussian_filter = _need("scipy.ndimage").gaussian_filter
    total = 0.0

    def mean(volume: Pixels) -> Pixels:
        smooth: Pixels = gaussian_filter(volume, _SIGMA, truncate=_TRUNCATE, mode="nearest")
        return smooth

    for (first, last), (prediction, truth) in zip(pair.spans(), pair.strips(context=_RADIUS), strict=True):
        if np.isnan(prediction).any():
            return math.nan
        mean_x, mean_y = mean(prediction), mean(truth)
        variance_x = mean(prediction * prediction) - mean_x * mean_x
        variance_y = mean(truth * truth) - mean_y * mean_y
        covariance = mean(prediction * truth) - mean_x * mean_y
        similarity = ((2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)) / (
            (mean_x * mean_x + mean_y * mean_y + _C1) * (variance_x + variance_y + _C2)
        )
        above = min(first, _RADIUS)
        total += float(similarity[:, above : above + last - first].sum(dtype=np.float64))
    return total / (3 * pair.height * pair.width)


def realblur(prediction: Picture, truth: Picture) -> tuple[float, float]:
    """PSNR in dB and SSIM (per channel) by the protocol of the RealBlur dataset, of (3,H,W).

    Its pairs come from two exposures, so brightness and position are matched first: one factor for the whole picture,
    then a homography found by OpenCV's ECC. What the homography moves in from outside does not count. Both are NaN when
    anything is not finite or the pictures have so little in common that no homography is found. The alignment needs both
    pictures whole. Raises :class:`ShapeError`, for more than :data:`MOST_ALIGNED` pixels too.

    Source: Rim et al., "Real-World Blur Dataset for Learning and Benchmarking Deblurring Algorithms", ECCV 2020.
    """
    cv2 = _need("cv2")
    pair = _pair(prediction, truth, smallest=2 * _RADIUS + 1)
    if pair.height * pair.width > MOST_ALIGNED:
        raise ShapeError(
            f"{pair.height}x{pair.width} is too large: RealBlur's protocol aligns whole pictures, of at most "
            f"{MOST_ALIGNED // 10**6} megapixels; use the protocol mimo or uint8."
        )
    prediction, truth = pair.whole()
    energy = float(np.sum(np.square(prediction, dtype=np.float64)))
    if not energy > 0:
        return float("nan"), float("nan")
    gain = float(np.sum(np.multiply(truth, prediction, dtype=np.float64))) / energy
    x = np.ascontiguousarray(truth.transpose(1, 2, 0))
    z = np.ascontiguousarray((np.float32(gain) * prediction).transpose(1, 2, 0))

    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0.0)
    grey_x, grey_z = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (x, z))
    start = np.eye(3, dtype=np.float32)
    try:
        _, warp = cv2.findTransformECC(grey_x, grey_z, start, cv2.MOTION_HOMOGRAPHY, criteria, None, 5)
    except cv2.error:
        return float("nan"), float("nan")
    size = (x.shape[1], x.shape[0])
    cubic, nearest = (kind | cv2.WARP_INVERSE_MAP for kind in (cv2.INTER_CUBIC, cv2.INTER_NEAREST))
    z = cv2.warpPerspective(z, warp, size, flags=cubic, borderMode=cv2.BORDER_REFLECT)
    mask = cv2.warpPerspective(np.ones_like(z), warp, size, flags=nearest, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    x, z = x * mask, z * mask

    border = slice(_RADIUS, -_RADIUS)
    inner = mask[border, border].sum(axis=(0, 1), dtype=np.float64)
    if not inner.all():
        return float("nan"), float("nan")
    error = float(np.sum(np.square(x - z, dtype=np.float64)))
    decibels = 10 * np.log10(float(mask.sum(dtype=np.float64)) / error) if error > 0 else float("inf")
    similarity = _ssim_map(x.transpose(2, 0, 1), z.transpose(2, 0, 1)).transpose(1, 2, 0) * mask
    return float(decibels), float(np.mean(similarity[border, border].sum(axis=(0, 1), dtype=np.float64) / inner))


def score(prediction: Picture, truth: Picture, protocol: Protocol) -> dict[str, float]:
    """All numbers of one protocol by the names of :data:`METRICS`, of (3,H,W).

    Raises :class:`ShapeError`, and :class:`MimoError` when scikit-image, SciPy or OpenCV is not installed.
    """
    if protocol == "realblur":
        return dict(zip(METRICS[protocol], realblur(prediction, truth), strict=True))
    # Rounding twice changes nothing, so one PSNR serves both.
    pair = _pair(prediction, truth, smallest=2 * _RADIUS + 1, rounded=protocol == "uint8")
    return dict(zip(METRICS[protocol], (_psnr(pair), _ssim_rgb(pair), _ssim_matlab3d(pair)), strict=True))


def text(metric: str, value: float) -> str:
    """``value`` as people read it: PSNR in dB with two decimals, SSIM with four, ``no number`` for NaN."""
    if math.isnan(value):
        return "no number"
    return f"{value:.2f} dB" if "psnr" in metric else f"{value:.4f}"


def _ssim_map(prediction: Pixels, truth: Pixels) -> Pixels:
    """The per-channel similarity of every pixel, (3,H,W)."""
    structural_similarity = _need("skimage.metrics").structural_similarity
    similarity: Pixels = structural_similarity(
        truth,
        prediction,
        data_range=1.0,
        gaussian_weights=True,
        sigma=_SIGMA,
        use_sample_covariance=False,
        channel_axis=0,
        full=True,
    )[1]
    return similarity


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two pictures of one size."""

    prediction: Rectangles
    truth: Rectangles
    rounded: bool

    @property
    def height(self) -> int:
        return self.truth.height

    @property
    def width(self) -> int:
        return self.truth.width

    def spans(self, border: int = 0) -> Iterator[tuple[int, int]]:
        """First and end of the rows of each strip, without ``border`` rows above and below."""
        step = max(1, _STRIP_PIXELS // self.width)
        for first in range(border, self.height - border, step):
            yield first, min(first + step, self.height - border)

    def strips(self, context: int, border: int = 0) -> Iterator[tuple[Pixels, Pixels]]:
        """Each strip of both with ``context`` rows around it, where there are any; see :func:`_checked`."""
        for first, last in self.spans(border):
            yield self._rows(max(first - context, 0), min(last + context, self.height))

    def whole(self) -> tuple[Pixels, Pixels]:
        """Both at once."""
        return self._rows(0, self.height)

    def _rows(self, first: int, last: int) -> tuple[Pixels, Pixels]:
        rows, columns = slice(first, last), slice(None)
        prediction, truth = _checked(self.prediction.crop(rows, columns), self.truth.crop(rows, columns))
        return (_rounded(prediction), _rounded(truth)) if self.rounded else (prediction, truth)


def _pair(prediction: Picture, truth: Picture, smallest: int = 1, rounded: bool = False) -> _Pair:
    """Both as rectangles, their shapes checked. Raises :class:`ShapeError` and ``TypeError``."""
    shapes = [
        picture.shape if isinstance(picture, np.ndarray) else (3, picture.height, picture.width)
        for picture in (prediction, truth)
    ]
    for name, picture in (("prediction", prediction), ("truth", truth)):
        if isinstance(picture, np.ndarray) and picture.dtype != np.float32:
            raise TypeError(f"the {name} must be float32 in [0,1], got {picture.dtype}")
    if shapes[0] != shapes[1] or len(shapes[1]) != 3 or shapes[1][0] != 3 or 0 in shapes[1]:
        raise ShapeError(f"cannot compare {shapes[0]} with {shapes[1]}: both must be (3,H,W), of equal size.")
    if min(shapes[1][1:]) < smallest:
        raise ShapeError(f"{shapes[1][1]}x{shapes[1][2]} is too small: SSIM needs sides of at least {smallest} pixels.")
    one, other = (Whole(picture) if isinstance(picture, np.ndarray) else picture for picture in (prediction, truth))
    return _Pair(one, other, rounded)


def _each(measure: Callable[[_Pair], float], prediction: Picture, truth: Picture, rounded: bool) -> float:
    """``measure`` of (3,H,W), or its mean over the pictures of (N,3,H,W)."""
    if isinstance(prediction, np.ndarray) and isinstance(truth, np.ndarray) and prediction.ndim == truth.ndim == 4:
        if prediction.shape != truth.shape or 0 in truth.shape:
            raise ShapeError(f"cannot compare {prediction.shape} with {truth.shape}: both must be (N,3,H,W), of equal size.")
        pairs = zip(prediction, truth, strict=True)
        return float(np.mean([measure(_pair(one, other, rounded=rounded)) for one, other in pairs]))
    return measure(_pair(prediction, truth, rounded=rounded))


def _checked(prediction: Pixels, truth: Pixels) -> tuple[Pixels, Pixels]:
    """Both, the prediction clamped; where either holds a value that is not finite, the prediction is NaN all over."""
    if truth.min() < 0 or truth.max() > 1:
        raise ValueError(f"the truth must lie in [0,1], got [{truth.min()}, {truth.max()}]")
    finite = np.isfinite(prediction).all() and np.isfinite(truth).all()
    prediction = np.clip(prediction, 0, 1) if finite else np.full_like(prediction, np.nan)
    return prediction, truth


def _rounded(picture: Pixels) -> Pixels:
    """``picture``, of :func:`_pair`, as an 8-bit file gives it back."""
    steps: Pixels = np.rint(picture * np.float32(255))
    return steps / np.float32(255)


def _need(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MimoError(f"this measure needs {module.partition('.')[0]}, which is not installed: {install('eval')}.") from error
