"""Rounding every value to float16 on the way: who survives it, and who does not."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.fp16_range import psnr_in_fp16
from engines.runtimes.base import Images


@pytest.fixture
def images() -> Images:
    return np.random.default_rng(0).random((1, 3, 16, 24), dtype=np.float32)


class Function(nn.Module):
    """Any function of a batch as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, blur: Tensor) -> Tensor:
        return self.function(blur)


def convolutions() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3, padding=1)).eval()


def test_a_small_network_survives_and_is_left_as_it_was(images: Images) -> None:
    network = convolutions()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shown = images.copy()
    found = psnr_in_fp16(network, images)
    assert found is not None
    assert 60 < found < 110, "with more than float16's 11 bits nothing was rounded"
    after = network.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    np.testing.assert_array_equal(images, shown)


def test_one_rounding_of_the_input_is_the_psnr_of_that(images: Images) -> None:
    """The identity: nothing else is rounded, so the error can be told beforehand."""
    error = float(np.mean((images.astype(np.float16).astype(np.float64) - images) ** 2))
    found = psnr_in_fp16(Function(lambda x: x.view(x.shape)), images)
    assert found == pytest.approx(-10 * math.log10(error), abs=1e-3)


def test_what_float16_holds_exactly_has_no_error() -> None:
    exact = np.full((1, 3, 16, 16), 0.5, np.float32)
    assert psnr_in_fp16(Function(lambda x: x * 2), exact) == math.inf


def test_weights_are_rounded_too() -> None:
    exact = np.full((1, 3, 16, 16), 0.5, np.float32)
    network = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        # Sums of three products; each map is exact in float16, the weights are not.
        network.weight.copy_((torch.eye(3) * (1 + 2**-12)).reshape(3, 3, 1, 1))
    found = psnr_in_fp16(network, exact)
    assert found == pytest.approx(-20 * math.log10(0.5 * 2**-12), abs=1e-3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 1e6) * 1e-6,
        lambda x: (x - 7e4) + 7e4,
        lambda x: torch.cat([part * 1e6 for part in x.split(1, dim=1)], dim=1) / 1e6,
        # Written into in place: what is returned by the call is not what goes on.
        lambda x: (x + 0).mul_(1e6) * 1e-6,
        lambda x: nn.functional.relu(x * 1e6, inplace=True) * 1e-6,
        lambda x: _accumulated(x) * 1e-6,
    ],
    ids=["product", "difference", "parts", "mul_", "relu_", "sum"],
)
def test_only_a_map_on_the_way_leaves_the_range(images: Images, function: Callable[[Tensor], Tensor]) -> None:
    """Input, weights and result are small."""
    exact = function(torch.from_numpy(images))
    assert float(exact.abs().max()) < 2
    assert psnr_in_fp16(Function(function), images) is None


def _accumulated(x: Tensor) -> Tensor:
    total = x * 4e4
    for _ in range(24):
        total += x * 4e4
    return total


def test_a_map_just_inside_the_range_survives(images: Images) -> None:
    found = psnr_in_fp16(Function(lambda x: (x * 65504) / 65504), images)
    assert found is not None
    assert found > 60


def test_a_map_that_is_not_a_number_is_found(images: Images) -> None:
    """1e-9 is nothing in float16, and nothing divided by itself is no number."""
    tiny = Function(lambda x: (x * 1e-9) / (x * 1e-9))
    assert bool(torch.isfinite(tiny(torch.from_numpy(images))).all())
    assert psnr_in_fp16(tiny, images) is None


def test_what_is_written_through_a_view_is_kept(images: Images) -> None:
    """The first channel alone is doubled, through a view of the batch."""

    def doubled(x: Tensor) -> Tensor:
        whole = x + 0
        whole[:, :1] *= 2
        return whole

    found = psnr_in_fp16(Function(doubled), images)
    assert found is not None
    assert found > 60


def test_an_accumulated_error_shows(images: Images) -> None:
    """Added to 1000 and taken away again, a picture keeps steps of half a unit: a result, but not one to show."""
    found = psnr_in_fp16(Function(lambda x: (x + 1000) - 1000), images)
    assert found is not None
    assert 10 < found < 25
