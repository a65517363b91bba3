"""How good a network is on pictures that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mimo.learning.crops import Pictures, to_device
from mimo.learning.datasets import Samples
from mimo.learning.distributed import World
from mimo.metrics import psnr, ssim_rgb
from mimo.padding import pad_to

_STRIP_ROWS, _STRIP_SIDE = 3, 256


@dataclass(frozen=True)
class Scores:
    """Means over the pictures, the same in every process."""

    psnr: float
    """In dB, protocol ``mimo``."""
    ssim: float
    """``ssim_rgb``."""
    sharp_psnr: float
    """In dB, of the result to the input for pictures that are sharp already; 100 at most."""
    sharp_lowest: float
    """The lowest of them."""
    strip: NDArray[np.uint8] | None
    """To look at (see :class:`~mimo.learning.log.Validated`): the writer's."""


def check_metrics() -> None:
    """Raises :class:`~mimo.errors.MimoError` now, not after the first hours, when scikit-image is not installed."""
    ssim_rgb(np.zeros((3, 16, 16), np.float32), np.zeros((3, 16, 16), np.float32))


def validate(
    network: nn.Module,
    pictures: Pictures,
    places: Sequence[int],
    *,
    crop: int,
    world: World,
    multiple: int = 4,
    interrupted: Callable[[], bool] = lambda: False,
) -> Scores | None:
    """How near ``network`` brings the pairs at ``places`` to their truths, and how little it does to the truths themselves.

    In float32 whatever the training runs in, for that is what gets exported. ``crop``: the middle of each picture, at
    most so many pixels a side; 0 for all of it.
    ``multiple``: the network's size multiple. The processes of ``world`` share the pictures. None when any
    process was interrupted.

    No random number is drawn and the mode of the network is put back, so that training goes on as if nothing had been.
    """
    was_training = network.training
    network.eval()
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False)
    scores: list[tuple[int, Future[tuple[float, float, float]]]] = []
    rows: list[Samples] = []
    try:
        with exact, ThreadPoolExecutor(2) as pool:
            # As many rounds in every process, so that all of them ask each other equally often.
            for start in range(0, len(places), world.size):
                if world.highest(int(interrupted())):
                    return None
                mine = start + world.rank
                if mine < len(places):
                    blur, sharp = (_middle(picture, crop) for picture in pictures[places[mine]])
                    restored = _restored(network, blur, world.device, multiple)
                    untouched = _restored(network, sharp, world.device, multiple)
                    scores.append((mine, pool.submit(_score, restored, untouched, sharp)))
                    if len(rows) < _STRIP_ROWS:
                        rows.append(_row(blur, restored, sharp))
            results = torch.zeros((3, len(places)), dtype=torch.float64)
            for place, score in scores:
                results[:, place] = torch.tensor(score.result(), dtype=torch.float64)
    finally:
        network.train(was_training)
    results = world.sum(results)
    mean_psnr, mean_ssim, mean_sharp = results.mean(dim=1).tolist()
    return Scores(mean_psnr, mean_ssim, mean_sharp, float(results[2].min()), _stacked(rows) if rows else None)


@torch.inference_mode()
def _restored(network: nn.Module, blur: Samples, device: torch.device, multiple: int) -> NDArray[np.float32]:
    """(H,W,3) samples -> (3,H,W), clamped; sides are mirrored up to multiples of ``multiple`` and cut off again."""
    height, width = blur.shape[:2]
    padded = pad_to(blur.transpose(2, 0, 1), height + -height % multiple, width + -width % multiple).transpose(1, 2, 0)
    x = to_device(torch.from_numpy(padded.copy())[None], device, channels_last=True)
    outputs = network(x)
    image = outputs if isinstance(outputs, torch.Tensor) else outputs[-1]
    y = image[0, :, :height, :width].float().clamp(0, 1)
    restored: NDArray[np.float32] = y.cpu().contiguous().numpy()
    return restored


def _score(restored: NDArray[np.float32], untouched: NDArray[np.float32], sharp: Samples) -> tuple[float, float, float]:
    truth = np.ascontiguousarray(sharp.transpose(2, 0, 1), np.float32) / np.float32(255)
    return psnr(restored, truth), ssim_rgb(restored, truth), min(100.0, psnr(untouched, truth))


def _middle(picture: Samples, side: int) -> Samples:
    if side == 0:
        return picture
    height, width = (min(side, length) for length in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def _row(blur: Samples, restored: NDArray[np.float32], sharp: Samples) -> Samples:
    samples = np.rint(np.nan_to_num(restored).transpose(1, 2, 0) * 255).astype(np.uint8)
    return np.concatenate([_middle(picture, _STRIP_SIDE) for picture in (blur, samples, sharp)], axis=1)


def _stacked(rows: Sequence[Samples]) -> Samples:
    """One below the other, on black where they differ in size."""
    strip = np.zeros((sum(row.shape[0] for row in rows), max(row.shape[1] for row in rows), 3), np.uint8)
    top = 0
    for row in rows:
        strip[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0]
    return strip
