"""FP16: everything computes in half, Resize keeps its scales, and what cannot be converted is refused by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

from export import to_fp16 as module
from export.onnx_file import in_onnxruntime
from export.to_fp16 import convert_to_fp16, to_fp16
from mimo.artifact import Artifact, open_artifact, sidecar_of
from mimo.errors import ArtifactError, ExportError
from tests.tiny import Tiny

FLOAT, HALF, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64
Weights = dict[str, ArrayLike]

CONVOLUTION: Weights = {"weight": np.full((3, 3, 3, 3), 0.1, np.float32), "bias": np.array([0.1, 0.2, 0.3], np.float32)}
DOUBLE: Weights = {"scales": np.array([1, 1, 2, 2], np.float32)}


def model_of(
    nodes: Sequence[onnx.NodeProto],
    weights: Weights,
    *,
    outputs: Sequence[str] = ("sharp",),
    sides: Sequence[str | int] = ("4*h", "4*w"),
) -> onnx.ModelProto:
    dynamic = ("4*h", "4*w")
    shapes = {"blur": sides, **{name: dynamic if tuple(sides) == dynamic else ("oh", "ow") for name in outputs}}
    ends = [helper.make_tensor_value_info(name, FLOAT, ["batch", 3, *shape]) for name, shape in shapes.items()]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "by hand", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def conv(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, "weight", "bias"], [target], pads=[1, 1, 1, 1])


def resize(source: str, target: str, scales: str = "scales") -> onnx.NodeProto:
    return helper.make_node(
        "Resize", [source, "", scales], [target], mode="nearest", coordinate_transformation_mode="asymmetric"
    )


def node(operator: str, sources: Sequence[str], target: str) -> onnx.NodeProto:
    return helper.make_node(operator, list(sources), [target])


def halved(model: onnx.ModelProto, *, io_fp16: bool = False) -> onnx.ModelProto:
    converted = ir.to_proto(to_fp16(ir.from_proto(model), io_fp16=io_fp16))
    onnx.checker.check_model(converted, full_check=True)
    return converted


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value, as ONNX infers it from inputs and weights alone."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True).graph
    found = {
        value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(one.op_type for one in model.graph.node)


# The tiny network.


@pytest.fixture(scope="module")
def fp32(tiny: Tiny) -> onnx.ModelProto:
    """To be read only."""
    return onnx.load(tiny.onnx)


@pytest.mark.parametrize(("io_fp16", "casts"), [(False, 2), (True, 0)])
def test_everything_computes_in_half(fp32: onnx.ModelProto, io_fp16: bool, casts: int) -> None:
    model = halved(fp32, io_fp16=io_fp16)
    assert operators(model) == operators(fp32) + Counter({"Cast": casts})
    kinds = types(model)
    scales = 0
    for one in model.graph.node:
        read = {name: kinds[name] for name in one.input if name}
        if one.op_type == "Resize":
            assert kinds[one.input[2]] == FLOAT
            del read[one.input[2]]
            scales += 1
        if one.op_type != "Cast":
            assert {*read.values(), kinds[one.output[0]]} == {HALF}, one.name
    assert scales == 6
    assert kinds["blur"] == kinds["sharp"] == (HALF if io_fp16 else FLOAT)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["blur", "sharp"]


def test_the_casts_stand_at_the_ends(fp32: onnx.ModelProto) -> None:
    nodes = halved(fp32).graph.node
    assert (nodes[0].op_type, list(nodes[0].input)) == ("Cast", ["blur"])
    assert (nodes[-1].op_type, list(nodes[-1].output)) == ("Cast", ["sharp"])
    assert not any("blur" in one.input for one in nodes[1:])


def test_scales_that_resizes_share_stay_shared(fp32: onnx.ModelProto) -> None:
    def scales(model: onnx.ModelProto) -> list[str]:
        return [one.input[2] for one in model.graph.node if one.op_type == "Resize"]

    assert len(set(scales(fp32))) < 6, "the exporter shares scales; this test is about that"
    assert scales(halved(fp32)) == scales(fp32)
    assert len(halved(fp32).graph.initializer) == len(fp32.graph.initializer)


def test_half_the_size_and_nearly_the_same_picture(tiny: Tiny, fp32: onnx.ModelProto) -> None:
    assert tiny.fp16.stat().st_size < 0.65 * tiny.onnx.stat().st_size
    images = np.random.default_rng(3).random((1, 3, 48, 64), dtype=np.float32)
    (exact,), (close,) = in_onnxruntime(fp32)(images), in_onnxruntime(onnx.load(tiny.fp16))(images)
    assert 0 < float(np.abs(exact - close).max()) < 5e-3


@pytest.mark.parametrize("io_fp16", [False, True])
def test_the_source_stays_as_it_was(fp32: onnx.ModelProto, io_fp16: bool) -> None:
    model = ir.from_proto(fp32)
    before = ir.to_proto(model).SerializeToString()
    to_fp16(model, io_fp16=io_fp16)
    assert ir.to_proto(model).SerializeToString() == before


# Graphs by hand.


def run(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    return in_onnxruntime(model)(images)[0]


def test_one_scale_for_several_resizes() -> None:
    model = halved(model_of([conv("blur", "a"), resize("a", "b"), resize("b", "sharp")], CONVOLUTION | DOUBLE, sides=(4, 4)))
    kept = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kept == {"scales": FLOAT, "weight_fp16": HALF, "bias_fp16": HALF}
    assert [one.input[2] for one in model.graph.node if one.op_type == "Resize"] == ["scales", "scales"]


def test_scales_that_something_else_reads_too() -> None:
    """They stay for Resize, and the other one reads a half copy of them."""
    source = model_of([node("Add", ["blur", "scales"], "a"), resize("a", "sharp")], DOUBLE, sides=(4, 4))
    model = halved(source)
    assert {tensor.name: tensor.data_type for tensor in model.graph.initializer} == {"scales": FLOAT, "scales_fp16": HALF}
    reads = {one.op_type: list(one.input) for one in model.graph.node}
    assert reads["Add"][1] == "scales_fp16"
    assert reads["Resize"][2] == "scales"
    images = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4) / np.float32(64)  # exact in half
    np.testing.assert_array_equal(run(model, images), run(source, images))


def test_sizes_of_a_resize_stay_integers() -> None:
    enlarge = helper.make_node("Resize", ["a", "", "", "sizes"], ["sharp"], mode="nearest")
    sizes: Weights = {"sizes": np.array([1, 3, 8, 8], np.int64)}
    model = halved(model_of([conv("blur", "a"), enlarge], CONVOLUTION | sizes, sides=(4, 4)))
    assert types(model)["sizes"] == INT64


def test_a_weight_that_two_convolutions_share_stays_one() -> None:
    model = halved(model_of([conv("blur", "a"), conv("a", "sharp")], CONVOLUTION))
    assert [tensor.name for tensor in model.graph.initializer] == ["weight_fp16", "bias_fp16"]


def test_every_output_gets_its_cast_and_the_input_one() -> None:
    nodes = [conv("blur", "half"), node("Relu", ["half"], "a"), node("Add", ["a", "blur"], "sharp")]
    model = halved(model_of(nodes, CONVOLUTION, outputs=("half", "sharp")))
    casts = [(list(one.input), list(one.output)) for one in model.graph.node if one.op_type == "Cast"]
    assert casts == [(["blur"], ["blur_fp16"]), (["half_fp16"], ["half"]), (["sharp_fp16"], ["sharp"])]
    assert [value.name for value in model.graph.output] == ["half", "sharp"]
    assert types(model)["half"] == types(model)["sharp"] == FLOAT


@pytest.mark.parametrize("operator", ["Sin", "Selu", "IsNaN", "Cast"])
def test_an_unknown_operator_is_refused_by_name(operator: str) -> None:
    model = model_of([conv("blur", "a"), node(operator, ["a"], "sharp")], CONVOLUTION)
    with pytest.raises(ExportError, match=f"the operator {operator}, which mimo cannot turn to FP16"):
        to_fp16(ir.from_proto(model))


def test_a_known_name_in_another_domain_is_unknown() -> None:
    custom = helper.make_node("Relu", ["blur"], ["sharp"], domain="com.example")
    model = model_of([custom], {})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(ExportError, match="the operator Relu"):
        to_fp16(ir.from_proto(model))


@pytest.mark.parametrize("value", [65505.0, -7e4, np.inf, np.nan])
@pytest.mark.parametrize("weight", ["weight", "bias"])
def test_a_weight_that_half_cannot_hold_is_refused_by_name(weight: str, value: float) -> None:
    spoiled = {name: np.array(numbers, np.float32) for name, numbers in CONVOLUTION.items()}
    spoiled[weight].flat[1] = value
    model = model_of([conv("blur", "sharp")], dict(spoiled))
    with pytest.raises(ExportError, match=rf"the weight {weight} exceeds what float16 can hold .*deploy .* in FP32"):
        to_fp16(ir.from_proto(model))


def test_the_largest_weight_that_half_holds() -> None:
    largest: Weights = {**CONVOLUTION, "bias": np.array([65504, -65504, 0], np.float32)}
    model = halved(model_of([conv("blur", "sharp")], largest))
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "bias_fp16")
    np.testing.assert_array_equal(numpy_helper.to_array(bias), np.array([65504, -65504, 0], np.float16))


# Files.


@pytest.fixture
def source(tiny: Tiny) -> Artifact:
    return open_artifact(tiny.onnx)


@pytest.mark.parametrize(("io_fp16", "io"), [(False, "float32"), (True, "float16")])
def test_a_conversion_returns_what_it_wrote(source: Artifact, tmp_path: Path, io_fp16: bool, io: str) -> None:
    out = tmp_path / "half.onnx"
    artifact = convert_to_fp16(source, out, io_fp16=io_fp16)
    assert artifact == open_artifact(out)
    assert (artifact.precision, artifact.io) == ("fp16", io)
    assert (artifact.parent, artifact.parent_sha256) == (source.path.name, source.sha256)
    assert sorted(tmp_path.iterdir()) == [out, sidecar_of(out)]


def test_the_same_graph_gives_the_same_bytes(source: Artifact, tiny: Tiny, tmp_path: Path) -> None:
    assert convert_to_fp16(source, tmp_path / "x.onnx").path.read_bytes() == tiny.fp16.read_bytes()


def test_only_fp32_onnx_is_converted(source: Artifact, tiny: Tiny, tmp_path: Path) -> None:
    for wrong in (open_artifact(tiny.fp16), replace(source, format="tensorrt")):
        with pytest.raises(ExportError, match="FP16 is made from an FP32 ONNX file"):
            convert_to_fp16(wrong, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_gone(source: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a readable ONNX file"):
        convert_to_fp16(replace(source, path=tmp_path / "gone.onnx"), tmp_path / "x.onnx")


def test_a_conversion_that_computes_something_else_is_not_written(
    source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: ir.Model, *, io_fp16: bool) -> ir.Model:
        converted = to_fp16(model, io_fp16=io_fp16)
        for name, value in converted.graph.initializers.items():
            if "feat_extract.5.main.0.bias" in name:
                value.const_value = ir.tensor(np.full(3, 0.5, np.float16), name=name)
        return converted

    monkeypatch.setattr(module, "to_fp16", wrong)
    with pytest.raises(ExportError, match=r"differs from its source by .* \(at most 0\.02\)"):
        convert_to_fp16(source, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
