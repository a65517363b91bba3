"""What a graph says of itself: operators, types, parameters and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export.to_fp16 import convert_to_fp16
from export.to_onnx import export_onnx
from mimo.artifact import load_onnx
from mimo.bundled import WEIGHTS
from mimo.errors import ArtifactError
from mimo.networks.checkpoint import load_checkpoint
from mimo.onnx_stats import least_bytes, macs, node_costs, summarise
from mimo.spec import Shape
from tests.tiny import Tiny

FLOAT = onnx.TensorProto.FLOAT


def model_of(nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], half: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Weights of ones; of float16 for those in ``half``."""
    dynamic: list[str | int] = ["batch", 3, "4*h", "4*w"]
    ends = [helper.make_tensor_value_info("blur", FLOAT, dynamic), helper.make_tensor_value_info("sharp", FLOAT, dynamic)]
    tensors = [
        numpy_helper.from_array(np.ones(shape, np.float16 if name in half else np.float32), name)
        for name, shape in weights.items()
    ]
    graph = helper.make_graph(nodes, "by hand", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def conv(weight: str, source: str = "blur", target: str = "sharp", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weight], [target], **attributes)


def up(weight: str, source: str, target: str = "sharp", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("ConvTranspose", [source, weight], [target], **attributes)


# Every expected cost is written as: output channels, input channels of a group, kernel, positions.
@pytest.mark.parametrize(
    ("nodes", "weights", "expected"),
    [
        ([conv("w", pads=[1, 1, 1, 1])], {"w": (5, 3, 3, 3)}, 5 * 3 * 9 * (32 * 48)),
        ([conv("w")], {"w": (5, 3, 1, 1)}, 5 * 3 * 1 * (32 * 48)),
        ([conv("w")], {"w": (5, 3, 3, 3)}, 5 * 3 * 9 * (30 * 46)),
        ([conv("w", pads=[1, 1, 1, 1], strides=[2, 2])], {"w": (5, 3, 3, 3)}, 5 * 3 * 9 * (16 * 24)),
        ([conv("w", pads=[1, 1, 1, 1], group=3)], {"w": (6, 1, 3, 3)}, 6 * 1 * 9 * (32 * 48)),
        ([up("w", "blur", pads=[1, 1, 1, 1], strides=[2, 2])], {"w": (3, 5, 4, 4)}, 3 * 5 * 16 * (32 * 48)),
        (
            [conv("a", target="x", pads=[1, 1, 1, 1], strides=[2, 2]), up("b", "x", pads=[1, 1, 1, 1], strides=[2, 2])],
            {"a": (8, 3, 3, 3), "b": (8, 3, 4, 4)},
            8 * 3 * 9 * (16 * 24) + 8 * 3 * 16 * (16 * 24),
        ),
        (
            [conv("w", target="x", pads=[1, 1, 1, 1]), conv("w", source="x", pads=[1, 1, 1, 1])],
            {"w": (3, 3, 3, 3)},
            2 * 3 * 3 * 9 * (32 * 48),
        ),
        ([helper.make_node("Relu", ["blur"], ["sharp"])], {}, 0),
        ([helper.make_node("MatMul", ["blur", "w"], ["sharp"])], {"w": (48, 7)}, (3 * 32 * 7) * 48),
        (
            [
                helper.make_node("Transpose", ["blur"], ["x"], perm=[0, 1, 3, 2]),
                helper.make_node("MatMul", ["blur", "x"], ["sharp"]),
            ],
            {},
            (3 * 32 * 32) * 48,
        ),
    ],
    ids=[
        "3x3",
        "1x1",
        "no padding",
        "stride",
        "groups",
        "transposed",
        "down and up",
        "shared weight",
        "no convolution",
        "matrix product",
        "product of two activations",
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_cost_of_convolutions(
    nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], expected: int, batch: int
) -> None:
    assert macs(model_of(nodes, weights), Shape(batch, 32, 48)) == batch * expected


def test_cost_grows_with_the_pixels_and_is_the_same_in_half(tiny: Tiny) -> None:
    fp32, fp16 = onnx.load(tiny.onnx), onnx.load(tiny.fp16)
    before = fp32.SerializeToString()
    one = macs(fp32, Shape(1, 64, 64))
    assert one > 0
    assert macs(fp32, Shape(2, 128, 192)) == 2 * 2 * 3 * one
    assert macs(fp16, Shape(1, 64, 64)) == one
    assert fp32.SerializeToString() == before


@pytest.mark.parametrize("transposed", [0, 1])
def test_cost_of_gemm(transposed: int) -> None:
    weights: dict[str, tuple[int, ...]] = {"a": (5, 11) if transposed else (11, 5), "b": (5, 7)}
    nodes = [
        helper.make_node("Gemm", ["a", "b"], ["x"], transA=transposed),
        helper.make_node("ReduceSum", ["x"], ["y"]),
        helper.make_node("Add", ["blur", "y"], ["sharp"]),
    ]
    assert macs(model_of(nodes, weights), Shape(2, 32, 48)) == 11 * 7 * 5


def test_bytes_honour_the_element_types() -> None:
    image = 3 * 32 * 48
    nodes = [
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones(2, np.int64))),
        helper.make_node("Constant", [], ["two"], value_float=1.0),
        helper.make_node("Cast", ["blur"], ["half"], to=onnx.TensorProto.FLOAT16),
        conv("w", source="half", target="x", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Cast", ["x"], ["sharp"], to=onnx.TensorProto.FLOAT),
    ]
    model = model_of(nodes, {"w": (5, 3, 3, 3), "c": (7,)}, half=("w",))
    weights = 5 * 3 * 9 * 2 + 7 * 4 + 2 * 8
    # Older files list their weights among the inputs too.
    model.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT16, (5, 3, 3, 3)))
    assert least_bytes(model, Shape(2, 32, 48)) == weights + 4 * 2 * (image + 5 * 16 * 24)


def test_a_cost_that_cannot_be_told() -> None:
    unknown = [helper.make_node("Mystery", ["blur"], ["x"], domain="elsewhere"), conv("w", source="x")]
    model = model_of(unknown, {"w": (5, 3, 3, 3)})
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    # Its second dimension is how many pixels are not black.
    counted = [
        helper.make_node("NonZero", ["blur"], ["places"]),
        helper.make_node("Cast", ["places"], ["x"], to=FLOAT),
        helper.make_node("MatMul", ["w", "x"], ["sharp"]),
    ]
    with pytest.raises(ArtifactError, match="size of 'x' in this graph"):
        macs(model_of(counted, {"w": (7, 4)}), Shape(1, 32, 48))
    for cost in (macs, least_bytes):
        with pytest.raises(ArtifactError, match=r"size of '(x|sharp)' in this graph"):
            cost(model, Shape(1, 32, 48))
    with pytest.raises(ArtifactError, match="does not take an input of 1x32x48"):
        macs(model_of([helper.make_node("MatMul", ["blur", "w"], ["sharp"])], {"w": (47, 7)}), Shape(1, 32, 48))


def test_a_summary() -> None:
    nodes = [
        conv("a", target="x", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x"], ["y"]),
        conv("a", source="y", target="z", pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["z", "b", "c"], ["sharp"]),
    ]
    summary = summarise(model_of(nodes, {"a": (3, 3, 3, 3), "b": (3, 3, 1, 1), "c": (3,)}, half=("b",)))
    assert summary.operators == {"Conv": 2, "Relu": 1, "ConvTranspose": 1}
    assert summary.opset == 18
    assert summary.inputs == {"blur": "float32 batch x 3 x 4*h x 4*w"}
    assert summary.outputs == {"sharp": "float32 batch x 3 x 4*h x 4*w"}
    assert summary.parameters == 81 + 9 + 3  # a weight that two share is one
    assert summary.weight_types == {"float32": 2, "float16": 1}


@pytest.mark.slow
def test_the_real_network(tmp_path: Path) -> None:
    """The numbers in the paper and in the README come from this graph."""
    artifact = export_onnx(load_checkpoint(WEIGHTS), tmp_path / "mimo-unet.onnx")
    model = onnx.load(artifact.path)
    summary = summarise(model)
    heads = 3 * 128 * 9 + 3 + 3 * 64 * 9 + 3
    assert summary.parameters == 6_807_171 - heads
    assert (summary.operators["Conv"], summary.operators["ConvTranspose"]) == (118 + 4, 2)
    assert summary.weight_types == {"float32": 120 + 4}
    saved = 27 * 32**2 // 4  # a pixel, by reducing the fused maps before they are doubled
    assert macs(model, Shape(1, 256, 256)) == pytest.approx(63.7e9 - saved * 256 * 256, rel=1e-3)
    assert macs(model, Shape(1, 720, 1280)) == pytest.approx(896e9 - saved * 720 * 1280, rel=1e-3)
    half = summarise(onnx.load(convert_to_fp16(artifact, tmp_path / "mimo-unet.fp16.onnx").path))
    assert half.weight_types == {"float16": 120 + 4}
    assert (half.operators["Resize"], half.operators["Cast"]) == (6, 2)


def test_each_node_has_its_own_arithmetic_and_traffic(tiny: Tiny) -> None:
    model, shape = load_onnx(tiny.onnx), Shape(1, 64, 96)
    costs = node_costs(model, shape)
    assert sum(count for count, _ in costs) == macs(model, shape)
    assert sum(moved for _, moved in costs) > least_bytes(model, shape), "what lies between nodes is written and read again"
    assert all(moved > 0 for _, moved in costs)
    first = next(index for index, (count, _) in enumerate(costs) if count)
    twice = node_costs(model, Shape(2, 64, 96))
    assert twice[first][0] == 2 * costs[first][0]
    assert costs[first][1] < twice[first][1] < 2 * costs[first][1], "its weights are read once all the same"
