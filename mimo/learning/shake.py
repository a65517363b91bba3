"""The shake of a hand-held camera while the shutter is open: what is drawn and how light adds up.

The camera drifts, wobbles and turns a little. A picture is moved along the drawn trajectory and averaged in linear light,
where a sensor adds up what it receives; highlights clip afterwards, as they do in a camera. Then comes the noise of the
photons and of the readout, and 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo.errors import MimoError
from mimo.installing import install
from mimo.learning.datasets import Samples
from mimo.learning.styles import Shake

Track = NDArray[np.float64]
"""(poses, 3): shift right and down in pixels, turn in radians, about a mean of zero."""


def trajectory(draw: np.random.Generator, extent: float, jitter: float, turn: float, wander: float = Shake.wander) -> Track:
    """A random walk of the velocity, pulled back to rest, with pushes now and then: a hand that corrects itself.

    ``extent``: the largest distance between two of its points, in pixels; ``jitter``: of the tremble, as a part of it;
    ``turn``: the largest turn from the mean, in radians; ``wander``: as in :class:`Shake`.
    Poses are evenly spaced in time and at most about a pixel apart.
    """
    gaussian_filter1d = import_module("scipy.ndimage").gaussian_filter1d
    lfilter = import_module("scipy.signal").lfilter
    steps = 512
    pushes = draw.standard_normal((steps, 3)) + 6 * draw.standard_normal((steps, 3)) * (draw.random((steps, 1)) < 0.01)
    drift, stiffness = draw.standard_normal(3), float(draw.uniform(0.02, 0.15))
    # speed = (1 - stiffness) * speed + stiffness * drift + wander * push, from a speed of twice the drift.
    keep = 1 - stiffness
    speed, _ = lfilter([1.0], [1.0, -keep], stiffness * drift + wander * pushes, axis=0, zi=keep * 2 * drift[None])
    path = np.cumsum(speed, axis=0)
    path = gaussian_filter1d(path, 6, axis=0, mode="nearest")
    path -= path.mean(axis=0)
    path[:, :2] /= max(_extent(path[:, :2]), 1e-9)
    tremble = gaussian_filter1d(draw.standard_normal((steps, 2)), 2.5, axis=0, mode="nearest")
    path[:, :2] += jitter * tremble / max(_extent(tremble), 1e-9)
    path[:, :2] *= extent / max(_extent(path[:, :2]), 1e-9)
    path[:, 2] *= float(draw.uniform(0, turn)) / max(float(np.abs(path[:, 2]).max()), 1e-9)

    length = float(np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1).sum())
    poses = int(np.clip(np.ceil(length), 8, 96))
    # The middle of each of equal spans of time, so that no pose weighs more than another.
    moments = (np.arange(poses) + 0.5) / poses * (steps - 1)
    track = np.stack([np.interp(moments, np.arange(steps), axis) for axis in path.T], axis=1)
    centred: Track = track - track.mean(axis=0)
    return centred


def to_linear(samples: Samples) -> NDArray[np.float32]:
    """sRGB samples to linear light in [0,1], by IEC 61966-2-1."""
    linear: NDArray[np.float32] = decoded(np.arange(256) / 255)[samples]
    return linear


def decoded(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """sRGB values in [0,1] to linear light in [0,1], by IEC 61966-2-1."""
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def to_samples(linear: NDArray[np.float32]) -> Samples:
    """The inverse of :func:`to_linear`: clipped to [0,1], rounded to the nearest of 256 steps."""
    clipped = np.clip(linear, 0, 1)
    encoded = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** np.float32(1 / 2.4) - 0.055)
    samples: Samples = np.rint(encoded * 255).astype(np.uint8)
    return samples


def random_region(draw: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A random patch of the picture with a soft edge: 1 inside, 0 outside, (height, width)."""
    cv2 = opencv()
    waves = cv2.resize(draw.standard_normal((5, 7)), (width, height), interpolation=cv2.INTER_CUBIC)
    solid = (waves > np.quantile(waves, draw.uniform(0.5, 0.85))).astype(np.float32)
    region: NDArray[np.float32] = cv2.GaussianBlur(solid, (0, 0), 1.5)
    return region


def _extent(points: NDArray[np.float64]) -> float:
    """The diagonal of the box around them."""
    return float(np.hypot(*np.ptp(points, axis=0)))


def in_step(tracks: Sequence[Track]) -> list[Track]:
    """The same number of poses for all, as many as the longest has; each still centred on 0."""
    most = max(map(len, tracks))
    stepped = []
    for track in tracks:
        moments = np.linspace(0, len(track) - 1, most)
        even = np.stack([np.interp(moments, np.arange(len(track)), axis) for axis in track.T], axis=1)
        stepped.append(even - even.mean(axis=0))
    return stepped


def opencv() -> Any:
    """The module ``cv2``. Raises :class:`MimoError` with the cure when it is not installed."""
    try:
        return import_module("cv2")
    except ImportError as error:
        raise MimoError(f"synthesis needs OpenCV, which is not installed: {install('eval')}.") from error
