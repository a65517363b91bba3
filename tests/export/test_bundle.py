"""The ONNX files that come with the project are the weights that come with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.compact import LEAST_ELEMENTS, compact
from export.onnx_file import in_onnxruntime
from mimo.artifact import load_onnx, open_artifact
from mimo.bundled import GRAPHS, SHIPPED
from mimo.files import sha256_of
from mimo.networks.checkpoint import load_checkpoint
from mimo.onnx_stats import summarise


@pytest.mark.parametrize("name", GRAPHS)
def test_a_bundled_graph_is_made_from_the_bundled_weights(name: str) -> None:
    artifact = open_artifact(GRAPHS[name])
    assert artifact.checkpoint_sha256 == sha256_of(SHIPPED[name]), "the weights have changed: python -m export.bundle"
    assert (artifact.format, artifact.precision, artifact.io) == ("onnx", "fp32", "float32")
    assert GRAPHS[name].stat().st_size < 1.1 * SHIPPED[name].stat().st_size


@pytest.mark.parametrize("name", GRAPHS)
def test_a_bundled_graph_computes_in_float32_what_pytorch_does(name: str) -> None:
    assert summarise(load_onnx(GRAPHS[name])).weight_types == {"float32": 124}
    images = np.random.default_rng(3).random((1, 3, 48, 64), dtype=np.float32)
    with torch.inference_mode():
        expected = load_checkpoint(SHIPPED[name]).build()(torch.from_numpy(images))[-1].numpy()
    np.testing.assert_allclose(in_onnxruntime(load_onnx(GRAPHS[name]))(images)[0], expected, atol=1e-5)


def test_only_what_float16_holds_exactly_is_stored_so() -> None:
    values = np.random.default_rng(0).random((2, LEAST_ELEMENTS // 2), dtype=np.float32)
    halves = values.astype(np.float16).astype(np.float32)
    large = np.full((2, LEAST_ELEMENTS // 2), 1e6, np.float32)
    tensors = {"exact": halves, "inexact": values, "large": large, "short": halves[:1, :4]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    nodes = [helper.make_node("Shape", ["x"], ["s"])]
    nodes += [helper.make_node("ReduceSum", [name], [f"{name}_sum"], keepdims=0) for name in tensors]
    nodes += [
        helper.make_node("Sum", [f"{name}_sum" for name in tensors], ["total"]),
        helper.make_node("Add", ["x", "total"], ["y"]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "sums", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    before = model.SerializeToString()
    smaller = ir.to_proto(compact(ir.from_proto(model)))
    onnx.checker.check_model(smaller, full_check=True)
    stored = {tensor.name: tensor.data_type for tensor in smaller.graph.initializer}
    assert {name for name, kind in stored.items() if kind == TensorProto.FLOAT16} == {"exact_stored"}
    assert model.SerializeToString() == before, "the source is left as it was"
    assert Path("y").name == smaller.graph.output[0].name
