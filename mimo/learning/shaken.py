"""Crops shaken while a run learns, so that none is seen twice: what is drawn for each, and two ways to make it.

Sample ``n`` depends on the seed and ``n`` alone, whoever makes it. Only the crop and the margin that its trajectory needs
are worked on, never the whole photograph. :func:`render` computes with OpenCV, three times as fast on a CPU;
:func:`render_on` with torch, on any device, the same pixels (to rounding) from the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from mimo.learning.crops import Pictures, Source, Turn
from mimo.learning.datasets import Samples
from mimo.learning.recipe import Augmentation
from mimo.learning.shake import Track, decoded, in_step, opencv, random_region, to_linear, to_samples, trajectory
from mimo.learning.styles import Shake

# The two things that are drawn; the tags keep their random numbers apart from each other's and from those of real pairs.
_ORDER, _SHAKE = 3, 4


@dataclass(frozen=True)
class Exposure:
    """What is drawn for one crop. Lengths are in pixels of the photograph."""

    top: int
    left: int
    side: int
    """The square in the photograph that becomes the crop."""
    margin: int
    """What the trajectory needs around it."""
    tracks: tuple[Track, ...]
    """About the middle of the square, as many poses in each; none: this one is sharp already."""
    region_seed: int | None
    """Of what moves along the second track."""
    gain: float
    """How much brighter than white the highlights are."""
    deviation: float
    """Standard deviation of the noise at mid grey, in linear light."""
    noise_seed: int
    encoded: bool

    def region(self) -> NDArray[np.float32] | None:
        """(side + 2 margin, the same) in [0,1]: how much of each pixel moves along the second track."""
        if self.region_seed is None:
            return None
        whole = self.side + 2 * self.margin
        return random_region(np.random.default_rng(self.region_seed), whole, whole)


class ShakenCrops(Source):
    """Samples shaken from photographs; each photograph comes once an epoch, each time cut and shaken in another way."""

    def __init__(
        self,
        pictures: Pictures,
        places: range,
        *,
        patch: int,
        shake: Shake,
        sharp: float = 0.0,
        augment: Sequence[Augmentation] = (),
        seed: int = 0,
    ) -> None:
        """``places``: the photographs among ``pictures``; no side of theirs may be under ``patch``.

        ``sharp``: the part of the samples that is not shaken.
        """
        self.patch = patch
        self.pairs = len(places)
        self._pictures, self._places = pictures, places
        self._shake, self._sharp = shake, sharp
        self._augment = frozenset(augment)
        self._seed = seed
        self._order = lru_cache(maxsize=4)(self._draw_order)

    def __getitem__(self, number: int) -> tuple[Samples, Samples]:
        """Blurry and sharp crop (P,P,3), made and turned alike."""
        photograph, exposure, turn = self.draw(number)
        blur, sharp = render(cut(photograph, exposure), exposure, self.patch)
        return turn(blur), turn(sharp)

    def draw(self, number: int) -> tuple[Samples, Exposure, Turn]:
        """The photograph of sample ``number`` and all that is drawn for it."""
        epoch, within = divmod(number, self.pairs)
        (photograph,) = self._pictures[self._places[int(self._order(epoch)[within])]]
        draw = np.random.default_rng((_SHAKE, self._seed, number))
        height, width = photograph.shape[:2]
        exposure = draw_exposure(draw, height, width, patch=self.patch, shake=self._shake, sharp=self._sharp)
        return photograph, exposure, Turn.drawn(draw, self._augment)

    def _draw_order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((_ORDER, self._seed, epoch)).permutation(self.pairs)


def draw_exposure(
    draw: np.random.Generator, height: int, width: int, *, patch: int, shake: Shake, sharp: float = 0.0
) -> Exposure:
    """What is drawn for a crop of ``patch`` pixels from a photograph of ``height`` x ``width``, neither under ``patch``."""
    # A small photograph is made less small, so that the crop fits.
    lowest = max(shake.scales[0], patch / min(height, width))
    side = min(height, width, round(patch / float(draw.uniform(lowest, max(lowest, shake.scales[1])))))
    scale = patch / side
    corner = 0.5 * float(np.hypot(height, width))

    def drawn_track() -> Track:
        extent = float(np.exp(draw.uniform(np.log(shake.shortest), np.log(shake.longest)))) / scale
        return trajectory(draw, extent, float(draw.choice(shake.jitters)), shake.turn * extent / corner, shake.wander)

    # Everything is drawn whether it is used or not, so that one setting more or less leaves the others as they were.
    blurred, moves = draw.random() >= sharp, draw.random() < shake.moving
    bright, gain = draw.random() < 0.5, float(draw.uniform(1, 4))
    deviation, noise_seed, region_seed = (
        float(draw.uniform(0, shake.noise)),
        int(draw.integers(2**62)),
        int(draw.integers(2**62)),
    )
    place = draw.random(2)
    tracks = [drawn_track() for _ in range(1 + moves)] if blurred else []
    if len(tracks) > 1:
        tracks = in_step(tracks)
    reach = max((float(np.abs(track[:, :2]).max() + corner * np.abs(track[:, 2]).max()) for track in tracks), default=0.0)
    # Where there is room the whole margin comes from the photograph; elsewhere it is mirrored.
    top, left = (
        _spot(length, side, int(np.ceil(reach)), float(part)) for length, part in zip((height, width), place, strict=True)
    )
    offset = np.array([left + side / 2 - width / 2, top + side / 2 - height / 2])
    about = tuple(_about(track, offset) for track in tracks)
    margin = max((_margin(track, side) for track in about), default=0)
    return Exposure(
        top,
        left,
        side,
        margin,
        about,
        region_seed if len(tracks) > 1 else None,
        gain if bright and not shake.encoded else 1.0,
        deviation,
        noise_seed,
        shake.encoded,
    )


def _spot(length: int, side: int, reach: int, part: float) -> int:
    lowest = reach if length - side >= 2 * reach else 0
    return lowest + int(part * (length - side - 2 * lowest + 1))


def _about(track: Track, offset: NDArray[np.float64]) -> Track:
    """The same movement, told about a point that lies ``offset`` (right, down) from the one it turns about."""
    cosine, sine = np.cos(track[:, 2]), np.sin(track[:, 2])
    right = track[:, 0] + cosine * offset[0] - sine * offset[1] - offset[0]
    down = track[:, 1] + sine * offset[0] + cosine * offset[1] - offset[1]
    told = np.stack([right, down, track[:, 2]], axis=1)
    # The truth is where the mean of the poses is.
    told[:, :2] -= told[:, :2].mean(axis=0)
    return told


def _margin(track: Track, side: int) -> int:
    """Pixels around the square that some pose looks at, one more for the interpolation."""
    angle = float(np.abs(track[:, 2]).max())
    return int(np.ceil(float(np.abs(track[:, :2]).max()) + side / 2 * angle * (1 + angle))) + 2


def cut(photograph: Samples, exposure: Exposure) -> Samples:
    """The square with its margin, (side + 2 margin, the same, 3); what is outside of the photograph is mirrored."""
    height, width = photograph.shape[:2]
    rows, columns = (
        (start - exposure.margin, start + exposure.side + exposure.margin) for start in (exposure.top, exposure.left)
    )
    inside = photograph[max(0, rows[0]) : min(height, rows[1]), max(0, columns[0]) : min(width, columns[1])]
    before_and_after = (
        (max(0, -rows[0]), max(0, rows[1] - height)),
        (max(0, -columns[0]), max(0, columns[1] - width)),
        (0, 0),
    )
    if any(map(any, before_and_after)):
        inside = np.pad(inside, before_and_after, mode="symmetric")
    return inside


def render(window: Samples, exposure: Exposure, patch: int) -> tuple[Samples, Samples]:
    """Blurry crop and its sharp truth, (patch, patch, 3) each, from what :func:`cut` returns."""
    cv2 = opencv()
    light: NDArray[np.float32]
    light = window.astype(np.float32) / np.float32(255) if exposure.encoded else to_linear(window)
    if exposure.gain > 1:
        light += np.float32(exposure.gain - 1) * np.clip((light - np.float32(0.9)) / np.float32(0.1), 0, 1)
    side, margin = exposure.side, exposure.margin
    truth = light[margin : margin + side, margin : margin + side]
    region = exposure.region()

    def posed(picture: NDArray[np.float32], pose: NDArray[np.float64]) -> NDArray[np.float32]:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved: NDArray[np.float32] = cv2.warpAffine(
            picture, _seen(pose, side, margin), (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return moved

    blurred = truth
    if exposure.tracks:
        blurred = np.zeros_like(truth)
        for poses in zip(*exposure.tracks, strict=True):
            frame = posed(light, poses[0])
            if region is not None:
                frame += posed(region, poses[1])[..., None] * (posed(light, poses[1]) - frame)
            blurred += frame
        blurred /= np.float32(len(exposure.tracks[0]))
    blurred, truth = (cv2.resize(picture, (patch, patch), interpolation=cv2.INTER_AREA) for picture in (blurred, truth))
    if exposure.encoded:
        blurred, truth = decoded(blurred.clip(0, 1)), decoded(truth.clip(0, 1))
    if exposure.deviation:
        normal = np.random.default_rng(exposure.noise_seed).standard_normal(blurred.shape, dtype=np.float32)
        blurred = blurred + np.sqrt(np.float32(exposure.deviation**2) * _photons(blurred.clip(0, 1))) * normal
    return to_samples(blurred), to_samples(truth)


def render_on(window: Tensor, exposure: Exposure, patch: int) -> tuple[Tensor, Tensor]:
    """What :func:`render` does, with torch, where ``window`` (uint8, (H,W,3)) lies.

    The noise comes from torch's generator of that device: the same in distribution as on a CPU, not in its pixels.
    """
    device = window.device
    table = torch.arange(256, device=device) / 255 if exposure.encoded else _linear(device)
    light = table[window.long()].permute(2, 0, 1)
    if exposure.gain > 1:
        light = light + (exposure.gain - 1) * ((light - 0.9) / 0.1).clamp(0, 1)
    side, margin = exposure.side, exposure.margin
    truth = light[:, margin : margin + side, margin : margin + side]
    blurred = truth
    if exposure.tracks:
        frames = _posed(light, exposure.tracks[0], side, margin)
        if (region := exposure.region()) is not None:
            mask = torch.from_numpy(region).to(device)[None]
            inside = _posed(mask, exposure.tracks[1], side, margin)
            frames = torch.lerp(frames, _posed(light, exposure.tracks[1], side, margin), inside)
        blurred = frames.mean(dim=0)
    weights = _area(side, patch, device)
    blurred, truth = (weights @ picture @ weights.T for picture in (blurred, truth))
    if exposure.encoded:
        blurred, truth = (_decoded(picture.clamp(0, 1)) for picture in (blurred, truth))
    if exposure.deviation:
        generator = torch.Generator(device).manual_seed(exposure.noise_seed)
        normal = torch.randn(blurred.shape, generator=generator, device=device)
        blurred = blurred + (exposure.deviation**2 * (0.02 + 0.98 * blurred.clamp(0, 1) / 0.18)).sqrt() * normal
    blurred, truth = (_encoded(picture).permute(1, 2, 0) for picture in (blurred, truth))
    return blurred, truth


def _seen(pose: NDArray[np.float64], side: int, margin: int) -> NDArray[np.float64]:
    """(2,3): where in the window a pixel of the square looks, when the picture was moved by ``pose``."""
    right, down, angle = pose
    cosine, sine, middle = np.cos(angle), np.sin(angle), (side - 1) / 2
    # The inverse of a turn about the middle and a shift.
    turn = np.array([[cosine, sine], [-sine, cosine]])
    shift = np.array([middle + margin, middle + margin]) - turn @ np.array([middle + right, middle + down])
    return np.concatenate([turn, shift[:, None]], axis=1)


def _posed(picture: Tensor, track: Track, side: int, margin: int) -> Tensor:
    """(C,H,W) in every pose, (poses,C,side,side)."""
    looks = torch.from_numpy(np.stack([_seen(pose, side, margin) for pose in track])).to(picture.device, torch.float32)
    place = torch.arange(side, device=picture.device, dtype=torch.float32)
    down, right = torch.meshgrid(place, place, indexing="ij")
    points = torch.stack([right, down, torch.ones_like(right)], dim=-1) @ looks[:, None].transpose(-1, -2)
    grid = (2 * points + 1) / picture.shape[-1] - 1
    many = picture[None].expand(len(track), -1, -1, -1)
    return grid_sample(many, grid, mode="bilinear", padding_mode="border", align_corners=False)


@lru_cache(maxsize=64)
def _area(length: int, wanted: int, device: torch.device) -> Tensor:
    """(wanted, length): how much of each of ``length`` pixels lies in each of ``wanted``, as means."""
    edges = np.linspace(0, length, wanted + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return torch.from_numpy(overlap.clip(0) * (wanted / length)).to(device, torch.float32)


def _photons(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """The noise's variance, as a part of that at mid grey: a fiftieth is the readout's, the rest the photons'."""
    variance: NDArray[np.float32] = np.float32(0.02) + np.float32(0.98 / 0.18) * light
    return variance


@lru_cache(maxsize=8)
def _linear(device: torch.device) -> Tensor:
    return torch.from_numpy(to_linear(np.arange(256, dtype=np.uint8))).to(device)


def _decoded(values: Tensor) -> Tensor:
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _encoded(light: Tensor) -> Tensor:
    clipped = light.clamp(0, 1)
    encoded = torch.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().to(torch.uint8)
