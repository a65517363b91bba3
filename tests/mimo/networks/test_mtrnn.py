"""How far MT-RNN looks, measured on the network itself."""

from __future__ import annotations

import pytest
import torch

from mimo.networks.mtrnn import MTRNN
from mimo.networks.registry import MT_RNN, named


def radius(iterations: int, side: int) -> int:
    """Of a strip of ``side`` columns: how far from a pixel of the result the columns are that change it, at every phase."""
    network = MTRNN(iterations, width=1).double().eval()
    for name, parameter in network.named_parameters():
        if parameter.dim() == 4 and "mean" not in name:
            parameter.data.fill_(0.3)  # nothing cancels, and what is far away does not underflow
    strip = torch.full((1, 3, 16, side), 0.5, dtype=torch.float64, requires_grad=True)
    restored = network(strip)
    found = 0
    for phase in range(4):
        centre = side // 2 + phase
        (gradient,) = torch.autograd.grad(restored[0, :, 8, centre].sum(), strip, retain_graph=True)
        seen = gradient[0].abs().sum(dim=(0, 1)).nonzero()
        found = max(found, centre - int(seen.min()), int(seen.max()) - centre)
    return found


@pytest.mark.parametrize("iterations", [1, 2, 6])
def test_mtrnn_looks_as_far_as_its_context_says(iterations: int) -> None:
    assert radius(iterations, 1280) == 95 + 92 * (iterations - 1)


def test_the_context_is_that_of_the_published_number_of_iterations() -> None:
    spec = named("mt-rnn")
    assert MTRNN().iterations == 6
    assert spec.context == MT_RNN.spec({"width": 4}).context == 556
    assert 0 <= spec.context - radius(6, 1280) < spec.size_multiple
