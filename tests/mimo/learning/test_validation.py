from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mimo.learning.crops import Pictures
from mimo.learning.datasets import open_pairs, read_pair
from mimo.learning.distributed import World
from mimo.learning.validation import validate
from mimo.metrics import psnr, ssim_rgb
from tests.mimo.learning.training_data import write_pairs

ALONE = World(torch.device("cpu"))


class Same(nn.Module):
    """Gives the picture back, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> list[Tensor]:
        assert not self.training and x.dtype == torch.float32
        self.sizes.append(tuple(x.shape))
        return [x, x, x]


def test_the_means_are_those_of_the_metrics(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, 3, height=50, width=62))
    network = Same()
    result = validate(network, Pictures(pairs, 0), range(3), crop=0, world=ALONE)
    assert result is not None
    truths = [
        [picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255) for picture in read_pair(pair)] for pair in pairs
    ]
    assert result.psnr == pytest.approx(np.mean([psnr(blur, sharp) for blur, sharp in truths]), abs=1e-4)
    assert result.ssim == pytest.approx(np.mean([ssim_rgb(blur, sharp) for blur, sharp in truths]), abs=1e-5)
    # The network saw sides that are multiples of 4; what was added does not count.
    assert network.sizes == [(1, 3, 52, 64)] * 6
    assert network.training


def test_the_strip_shows_blurry_restored_and_sharp(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, 4))
    result = validate(Same(), Pictures(pairs, 0), range(1, 4), crop=0, world=ALONE)
    assert result is not None and result.strip is not None
    blur, sharp = read_pair(pairs[1])
    assert np.array_equal(result.strip[:48], np.concatenate([blur, blur, sharp], axis=1))
    assert result.strip.shape == (3 * 48, 3 * 64, 3)


def test_a_crop_is_the_middle_and_bounded(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, 1))
    network = Same()
    result = validate(network, Pictures(pairs, 0), range(1), crop=56, world=ALONE)
    assert result is not None and result.strip is not None
    assert network.sizes == [(1, 3, 48, 56)] * 2
    assert np.array_equal(result.strip[:, :56], read_pair(pairs[0])[0][:, 4:60])


def test_an_interruption_gives_nothing_and_the_mode_back(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, 2))
    network = Same()
    asked = iter([False, True])
    assert validate(network, Pictures(pairs, 0), range(2), crop=0, world=ALONE, interrupted=lambda: next(asked)) is None
    assert network.training and len(network.sizes) == 2
