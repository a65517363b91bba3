"""How good a restored picture is, by protocols that have a name.

A PSNR or an SSIM says nothing without the protocol behind it: on one pair near 31 dB the two SSIMs below differ by 0.02.
Every function takes float32 RGB in [0,1] with a data range of 1, never guessed from the data; the prediction is
clamped to [0,1] first. A picture that holds a value that is not finite scores NaN, whatever the rest of it looks like.
Another dtype raises ``TypeError`` and a truth outside [0,1] ``ValueError``: those are a caller's mistakes.

NumPy alone is needed for :func:`psnr` and :func:`psnr_uint8`; the rest calls scikit-image, SciPy and OpenCV.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimo.errors import MimoError, ShapeError

Protocol = Literal["mimo", "uint8", "realblur"]

Pixels = NDArray[np.float32]

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


def psnr(prediction: Pixels, truth: Pixels) -> float:
    """Peak signal-to-noise ratio in dB of (3,H,W), or the mean of the images' own values of (N,3,H,W).

    Not rounded to 8 bits, no border cut. Infinite for equal pictures, NaN when anything is not finite. Raises
    :class:`ShapeError` for other or unequal shapes.
    """
    prediction, truth = _pair(prediction, truth, ranks=(3, 4))
    error = np.mean(np.square(prediction - truth, dtype=np.float64), axis=(-3, -2, -1))
    with np.errstate(divide="ignore"):
        return float(np.mean(-10 * np.log10(error)))


def psnr_uint8(prediction: Pixels, truth: Pixels) -> float:
    """:func:`psnr` after both were saved as 8-bit pictures: about 0.005 to 0.01 dB lower near 31 dB."""
    prediction, truth = _pair(prediction, truth, ranks=(3, 4))
    return psnr(_rounded(prediction), _rounded(truth))


def ssim_rgb(prediction: Pixels, truth: Pixels) -> float:
    """Structural similarity per channel, then their mean, of (3,H,W) with sides of at least 11 px.

    Gaussian window of sigma 1.5 and 11 taps, population covariance, 5 px of border off, K1 0.01, K2 0.03.
    NaN when anything is not finite. Raises :class:`ShapeError`.
    """
    prediction, truth = _pair(prediction, truth)
    if np.isnan(prediction).any():
        return float("nan")
    border = slice(_RADIUS, -_RADIUS)
    return float(_ssim_map(prediction, truth)[:, border, border].mean(dtype=np.float64))


def ssim_matlab3d(prediction: Pixels, truth: Pixels) -> float:
    """Structural similarity as MATLAB's ``ssim`` gives it for an HxWx3 array: a volume, not three planes. (3,H,W).

    One 3-D Gaussian of 11x11x11 taps, sigma 1.5, edges replicated, no border cut. The published GoPro figures are of
    this kind. NaN when anything is not finite. Raises :class:`ShapeError`.
    """
    gaussian_filter = _need("scipy.ndimage").gaussian_filter
    prediction, truth = _pair(prediction, truth)
    if np.isnan(prediction).any():
        return float("nan")

    def mean(volume: Pixels) -> Pixels:
        smooth: Pixels = gaussian_filter(volume, _SIGMA, truncate=_TRUNCATE, mode="nearest")
        return smooth

    mean_x, mean_y = mean(prediction), mean(truth)
    variance_x = mean(prediction * prediction) - mean_x * mean_x
    variance_y = mean(truth * truth) - mean_y * mean_y
    covariance = mean(prediction * truth) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)) / (
        (mean_x * mean_x + mean_y * mean_y + _C1) * (variance_x + variance_y + _C2)
    )
    return float(similarity.mean(dtype=np.float64))


def realblur(prediction: Pixels, truth: Pixels) -> tuple[float, float]:
    """PSNR in dB and SSIM (per channel) by the protocol of the RealBlur dataset, of (3,H,W).

    Its pairs come from two exposures, so brightness and position are matched first: one factor for the whole picture,
    then a homography found by OpenCV's ECC. What the homography moves in from outside does not count. Both are NaN when
    anything is not finite or the pictures have so little in common that no homography is found. Raises
    :class:`ShapeError`.

    Source: Rim et al., "Real-World Blur Dataset for Learning and Benchmarking Deblurring Algorithms", ECCV 2020.
    """
    cv2 = _need("cv2")
    prediction, truth = _pair(prediction, truth)
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


def score(prediction: Pixels, truth: Pixels, protocol: Protocol) -> dict[str, float]:
    """All numbers of one protocol by the names of :data:`METRICS`, of (3,H,W).

    Raises :class:`ShapeError`, and :class:`MimoError` when scikit-image, SciPy or OpenCV is not installed.
    """
    if protocol == "realblur":
        return dict(zip(METRICS[protocol], realblur(prediction, truth), strict=True))
    if protocol == "uint8":
        prediction, truth = (_rounded(picture) for picture in _pair(prediction, truth))
    # Rounding twice changes nothing, so one PSNR serves both.
    values = (psnr(prediction, truth), ssim_rgb(prediction, truth), ssim_matlab3d(prediction, truth))
    return dict(zip(METRICS[protocol], values, strict=True))


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


def _pair(prediction: Pixels, truth: Pixels, ranks: tuple[int, ...] = (3,)) -> tuple[Pixels, Pixels]:
    """Both, checked, the prediction clamped; where either holds a value that is not finite, all of it is NaN."""
    for name, picture in (("prediction", prediction), ("truth", truth)):
        if picture.dtype != np.float32:
            raise TypeError(f"the {name} must be float32 in [0,1], got {picture.dtype}")
    if prediction.shape != truth.shape or truth.ndim not in ranks or truth.shape[-3] != 3 or 0 in truth.shape:
        wanted = " or ".join("(3,H,W)" if rank == 3 else "(N,3,H,W)" for rank in ranks)
        raise ShapeError(f"cannot compare {prediction.shape} with {truth.shape}: both must be {wanted}, of equal size.")
    if ranks == (3,) and min(truth.shape[1:]) < 2 * _RADIUS + 1:
        raise ShapeError(f"{truth.shape[1]}x{truth.shape[2]} is too small: SSIM needs sides of at least 11 pixels.")
    if truth.min() < 0 or truth.max() > 1:
        raise ValueError(f"the truth must lie in [0,1], got [{truth.min()}, {truth.max()}]")
    finite = np.isfinite(prediction).all(axis=(-3, -2, -1)) & np.isfinite(truth).all(axis=(-3, -2, -1))
    prediction = np.clip(prediction, 0, 1)
    prediction[~finite] = np.nan
    return prediction, truth


def _rounded(picture: Pixels) -> Pixels:
    """``picture``, of :func:`_pair`, as an 8-bit file gives it back."""
    steps: Pixels = np.rint(picture * np.float32(255))
    return steps / np.float32(255)


def _need(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MimoError(
            f"this measure needs {module.partition('.')[0]}, which is not installed: pip install 'mimo-deblur[eval]'."
        ) from error
