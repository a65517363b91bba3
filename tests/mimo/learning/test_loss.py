"""The loss against the numbers of the authors' code."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.functional import interpolate

from mimo.learning.loss import deblur_loss
from mimo.networks.registry import build, named
from tests.parity_weights import GAIN, PARITY, image, keys, weights

REFERENCE = json.loads((PARITY / "loss.json").read_text())


@pytest.fixture(scope="module")
def outputs() -> list[torch.Tensor]:
    network = build(named("mimo-unet")).eval()
    filled = weights(keys("MIMO-UNet"), GAIN["MIMO-UNet"])
    network.load_state_dict({key: torch.from_numpy(value) for key, value in filled.items()})
    with torch.inference_mode():
        restored: list[torch.Tensor] = network(torch.from_numpy(image(999)))
    return restored


def test_equals_the_authors_numbers(outputs: list[torch.Tensor]) -> None:
    loss = deblur_loss(outputs, torch.from_numpy(image(REFERENCE["label_seed"])))
    assert float(loss.content) == pytest.approx(sum(REFERENCE["content"]), rel=1e-4)
    assert float(loss.frequency) == pytest.approx(sum(REFERENCE["frequency"]), rel=1e-4)
    assert float(loss.total) == pytest.approx(REFERENCE["total"], rel=1e-4)


def test_memory_format_changes_nothing(outputs: list[torch.Tensor]) -> None:
    label = torch.from_numpy(image(998))
    planes = deblur_loss(outputs, label)
    last = torch.channels_last
    shuffled = deblur_loss([output.to(memory_format=last) for output in outputs], label.to(memory_format=last))
    assert float(shuffled.total) == pytest.approx(float(planes.total), rel=1e-6)


def test_is_zero_for_the_truth_and_float32_for_half_precision() -> None:
    label = torch.from_numpy(image(998))
    truths = [interpolate(label, scale_factor=scale, mode="bilinear", align_corners=False) for scale in (0.25, 0.5)]
    assert float(deblur_loss([*truths, label], label).total) == 0
    assert deblur_loss([t.bfloat16() for t in (*truths, label)], label).total.dtype == torch.float32


def test_a_network_of_one_output_has_one_scale() -> None:
    """NAFNet's, say: the full size's share of the loss, and no other."""
    torch.manual_seed(0)
    output, sharp = torch.rand(2, 3, 32, 48), torch.rand(2, 3, 32, 48)
    loss = deblur_loss(output, sharp)
    assert loss.content.item() == pytest.approx((output - sharp).abs().mean().item())
    quarter, half = (torch.nn.functional.interpolate(sharp, scale_factor=s, mode="bilinear") for s in (0.25, 0.5))
    assert loss.total.item() == pytest.approx(deblur_loss([quarter, half, output], sharp).total.item())
