"""The network against the authors': keys, outputs, cost, and how far it sees."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mimo.networks.mimo_unet import MIMOUNet, double, half
from mimo.networks.registry import build, mimo_unet, named
from mimo.spec import ModelSpec
from tests.parity_weights import GAIN, PARITY, image, keys, weights

VARIANTS = {"MIMO-UNet": named("mimo-unet"), "MIMO-UNetPlus": named("mimo-unet-plus")}


def on_meta(spec: ModelSpec) -> MIMOUNet:
    """Shapes without numbers."""
    with torch.device("meta"):
        network = build(spec).eval()
    assert isinstance(network, MIMOUNet)
    return network


def filled(variant: str) -> MIMOUNet:
    network = on_meta(VARIANTS[variant])
    tensors = {key: torch.from_numpy(value) for key, value in weights(keys(variant), GAIN[variant]).items()}
    network.load_state_dict(tensors, assign=True)
    return network.requires_grad_(False)


@pytest.mark.parametrize("variant", VARIANTS)
def test_keys_and_shapes_are_the_authors(variant: str) -> None:
    state = on_meta(VARIANTS[variant]).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == keys(variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_the_authors_at_all_three_scales(variant: str) -> None:
    with np.load(PARITY / f"{variant}.npz") as expected:
        np.testing.assert_array_equal(image(), expected["x"])
        outputs = filled(variant)(torch.from_numpy(expected["x"]))
        assert len(outputs) == 3
        for name, output in zip(("quarter", "half", "full"), outputs, strict=True):
            assert output.shape == expected[name].shape
            np.testing.assert_allclose(output.numpy(), expected[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("variant", "parameters", "small", "large"),
    [("MIMO-UNet", 6_807_171, 63.7e9, 896e9), ("MIMO-UNetPlus", 16_107_651, 150.7e9, 2119e9)],
)
def test_parameters_and_cost_are_the_published_ones(variant: str, parameters: int, small: float, large: float) -> None:
    network = on_meta(VARIANTS[variant])
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    # The published costs are of the deployed network, or with the two small heads: less than their last digit apart.
    assert multiply_accumulates(network, 256, 256) == pytest.approx(small, rel=2e-3)
    assert multiply_accumulates(network, 720, 1280) == pytest.approx(large, rel=2e-3)


def multiply_accumulates(network: MIMOUNet, height: int, width: int) -> int:
    """Of all convolutions, counted while a batch without numbers runs through."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        positions = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        total += module.weight.numel() * math.prod(positions.shape[2:])

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    network(torch.empty(1, 3, height, width, device="meta"))
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_network_sees_as_far_as_its_context_says(blocks: int) -> None:
    spec = mimo_unet(4, blocks)
    network = build(spec).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.abs() + 1e-3)  # nothing cancels and no ReLU closes: every path is seen
    side = 2 * (spec.context + 20)
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    full = network(x)[-1]
    radius = 0
    for phase in range(spec.size_multiple):
        centre = side // 2 + phase
        (gradient,) = torch.autograd.grad(full[0, :, centre, centre].sum(), x, retain_graph=True)
        for axis in (2, 3):
            seen = gradient[0].abs().sum(dim=(0, 4 - axis)).nonzero()
            radius = max(radius, centre - int(seen.min()), int(seen.max()) - centre)
    assert radius == 17 + 28 * blocks
    assert 0 <= spec.context - radius < 4


@pytest.mark.parametrize("size", [(16, 16), (20, 44), (64, 36)])
def test_outputs_have_the_sizes_of_the_three_scales(size: tuple[int, int]) -> None:
    height, width = size
    outputs = on_meta(mimo_unet(8, 1))(torch.empty(2, 3, height, width, device="meta"))
    assert [tuple(output.shape) for output in outputs] == [(2, 3, height // n, width // n) for n in (4, 2, 1)]


def test_halving_takes_every_second_sample_and_doubling_repeats() -> None:
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert torch.equal(half(x), x[:, :, ::2, ::2])
    assert torch.equal(double(x), x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


@pytest.mark.parametrize(("variant", "rate"), [("MIMO-UNet", 0.0), ("MIMO-UNetPlus", 0.1)])
def test_only_the_deep_variant_drops_maps_and_only_while_training(variant: str, rate: float) -> None:
    network = on_meta(VARIANTS[variant])
    dropped = [module.p for module in network.modules() if isinstance(module, nn.Dropout2d)]
    assert dropped == [rate]
    assert not network.drop.training
