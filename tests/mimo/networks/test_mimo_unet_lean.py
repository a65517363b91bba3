"""The deployed form of MIMO-UNet: the authors' pixels, without the wide map in which memory peaks."""

from __future__ import annotations

import onnx
import pytest
import torch

from mimo.networks.mimo_unet import MIMOUNet
from mimo.networks.mimo_unet_lean import LeanMIMOUNet
from tests.tiny import WIDTH, Tiny, tiny_state


@pytest.mark.parametrize(("width", "blocks"), [(WIDTH, 1), (16, 2)])
def test_all_three_outputs_are_the_authors(width: int, blocks: int) -> None:
    torch.manual_seed(0)
    network = MIMOUNet(width, blocks).eval()
    if width == WIDTH:
        network.load_state_dict(tiny_state())
    lean, images = LeanMIMOUNet(network), torch.rand(2, 3, 36, 52)
    with torch.inference_mode():
        for found, expected in zip(lean(images), network(images), strict=True):
            assert found.shape == expected.shape
            assert float((found - expected).abs().max()) < 1e-5


def test_every_part_of_the_fusion_matters() -> None:
    """What the comparison above would not see if the weights were next to nothing."""
    lean = LeanMIMOUNet(MIMOUNet(WIDTH, 1).eval())
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        whole = lean(images)[-1]
        for fusion in lean.fusions:
            for part in fusion.parts:  # type: ignore[union-attr]
                weight = part.weight.data.clone()
                part.weight.data.zero_()
                assert float((lean(images)[-1] - whole).abs().max()) > 1e-5
                part.weight.data.copy_(weight)


def test_the_network_it_is_made_from_stays_as_it_was() -> None:
    network = MIMOUNet(WIDTH, 1).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    LeanMIMOUNet(network).fusions[0].parts[0].weight.data.zero_()  # type: ignore[union-attr, index]
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_no_exported_map_is_wider_than_those_of_the_network_itself(tiny: Tiny) -> None:
    """Seven times the width at full size was the widest; the widest now is the doubled width before the last stage."""
    inferred = onnx.shape_inference.infer_shapes(onnx.load(tiny.onnx))
    widest = max(
        value.type.tensor_type.shape.dim[1].dim_value
        for value in inferred.graph.value_info
        if len(value.type.tensor_type.shape.dim) == 4 and value.type.tensor_type.shape.dim[2].dim_param == "4*h"
    )
    assert widest == 2 * WIDTH
