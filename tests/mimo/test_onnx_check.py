"""Graphs that end a runtime, or our own commands, in a crash or a traceback are refused before any of them is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mimo.artifact import load_onnx, open_artifact
from mimo.errors import ArtifactError
from mimo.onnx_stats import ends_of, precision_of_graph
from tests.tiny import Tiny

Node = onnx.NodeProto
WEIGHT = numpy_helper.from_array(np.zeros((3, 3, 3, 3), np.float32), "w")


def graph(*nodes: Node, kind: int = TensorProto.FLOAT, weights: tuple[onnx.TensorProto, ...] = (WEIGHT,)) -> onnx.ModelProto:
    blur, sharp = (helper.make_tensor_value_info(name, kind, ["batch", 3, "4*h", "4*w"]) for name in ("blur", "sharp"))
    made = helper.make_graph(list(nodes), "g", [blur], [sharp], list(weights))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def conv(inputs: tuple[str, ...] = ("blur", "w"), **settings: Any) -> Node:
    return helper.make_node("Conv", list(inputs), ["sharp"], **({"pads": [1, 1, 1, 1]} | settings))


def nested(depth: int) -> onnx.ModelProto:
    true = numpy_helper.from_array(np.array(True), "c")
    inner = [helper.make_node("Identity", ["blur"], ["y"])]
    for _ in range(depth):
        branch = helper.make_graph(inner, "b", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
        inner = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    inner[0].output[0] = "sharp"
    return graph(*inner, weights=(true,))


def changed(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = graph(conv())
    change(model)
    return model


def short_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"\0" * 8


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


HOSTILE: dict[str, onnx.ModelProto] = {
    "a convolution with one input": graph(conv(("blur",))),
    "a convolution whose second input is left out": graph(conv(("blur", ""))),
    "one branch": nested(1),
    "24 nested branches": nested(8),
    "a cycle": graph(helper.make_node("Add", ["sharp", "blur"], ["sharp"])),
    "an unknown value": graph(helper.make_node("Add", ["nowhere", "blur"], ["sharp"])),
    "an unknown operator": graph(helper.make_node("Nonsense", ["blur"], ["sharp"])),
    "another domain's operator": graph(helper.make_node("FusedConv", ["blur", "w"], ["sharp"], domain="com.microsoft")),
    "strings": graph(helper.make_node("Identity", ["blur"], ["sharp"]), kind=TensorProto.STRING),
    "an unknown type": graph(helper.make_node("Identity", ["blur"], ["sharp"]), kind=999),
    "a stride of 0": graph(conv(strides=[0, 0])),
    "no groups": graph(conv(group=0)),
    "a huge padding": graph(conv(pads=[2**40] * 4)),
    "blocks of 0": graph(helper.make_node("SpaceToDepth", ["blur"], ["sharp"], blocksize=0)),
    "an output nothing makes": graph(helper.make_node("Relu", ["blur"], ["other"])),
    "a huge value": graph(
        helper.make_node("ConstantOfShape", ["n"], ["sharp"]),
        weights=(numpy_helper.from_array(np.array([1, 3, 2**20, 2**20]), "n"),),
    ),
    "no opset": changed(lambda model: model.ClearField("opset_import")),
    "an opset from the future": changed(lambda model: setattr(model.opset_import[0], "version", 99)),
    "no IR version": changed(lambda model: model.ClearField("ir_version")),
    "no operators": changed(lambda model: model.graph.ClearField("node")),
    "no input": changed(lambda model: model.graph.ClearField("input")),
    "a weight without its bytes": changed(short_weight),
    "a weight of negative size": changed(lambda model: model.graph.initializer[0].dims.__setitem__(0, -3)),
    "a weight in another file": changed(outside),
    "a function of its own": changed(lambda model: model.functions.add()),
    "nothing": onnx.ModelProto(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused_when_it_is_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / "g.onnx"
    path.write_bytes(HOSTILE[name].SerializeToString())
    with pytest.raises(ArtifactError, match=r"is not taken|is not valid ONNX|is not a readable") as caught:
        load_onnx(path)
    assert len(str(caught.value)) < 1000


def test_what_we_write_is_taken(tiny: Tiny) -> None:
    for path in (tiny.onnx, tiny.fp16):
        open_artifact(path)
    assert [precision_of_graph(load_onnx(path)) for path in (tiny.onnx, tiny.fp16)] == ["fp32", "fp16"]


def test_a_half_way_cast_makes_a_graph_mixed() -> None:
    half = helper.make_node("Cast", ["blur"], ["a"], to=TensorProto.FLOAT16)
    back = helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT)
    assert precision_of_graph(graph(half, back, conv(("b", "w")))) == "mixed"


def test_weights_kept_in_half_compute_in_float32() -> None:
    weight = numpy_helper.from_array(np.zeros((3, 3, 3, 3), np.float16), "h")
    model = graph(helper.make_node("Cast", ["h"], ["w"], to=TensorProto.FLOAT), conv(), weights=(weight,))
    assert precision_of_graph(model) == "fp32"


def test_other_ends_are_refused() -> None:
    model = graph(conv())
    assert ends_of(model, "blur", "sharp") == "float32"
    for name in ("input", "output"):
        other = graph(conv())
        del getattr(other.graph, name)[0].type.tensor_type.shape.dim[3]
        with pytest.raises(ArtifactError, match="is not batch x 3 x height x width"):
            ends_of(other, "blur", "sharp")
    with pytest.raises(ArtifactError, match="does not take one 'x'"):
        ends_of(model, "x", "sharp")
