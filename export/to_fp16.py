"""A typed FP16 graph from the FP32 one.

TensorRT 11 has strongly typed networks only: precision is a property of the graph, not a flag of the builder. The graph
of MIMO-UNet has seven operators, with those of the networks it is compared with some twenty, all of which compute in
float16 as they stand. So the conversion is one short pass: weights to float16, one Cast at each end, and the scales of
Resize left in float32 as ONNX demands.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from export.onnx_file import FP16_TOLERANCE, check_numerics, check_structure, in_onnxruntime, with_lineage, write_onnx
from mimo.artifact import Artifact, load_onnx, tool_versions
from mimo.errors import ExportError
from mimo.onnx_stats import summarise

OPERATORS = frozenset({
    # Of MIMO-UNet.
    "Add", "Concat", "Conv", "ConvTranspose", "Mul", "Relu", "Resize",
    # Of the others: arithmetic, moving values about, and sizes, which are integers and stay so.
    "Div", "LeakyRelu", "PRelu", "ReduceMean", "Sigmoid", "Sqrt", "Sub",
    "DepthToSpace", "Slice", "Split", "Transpose",
    "Reshape", "Shape", "Squeeze", "Unsqueeze",
    # Of other people's: what they are in float16 is what they are in float32, rounded; the result is compared in any case.
    "Abs", "BatchNormalization", "Clip", "Elu", "Erf", "Exp", "Gelu", "Gemm", "GlobalAveragePool", "AveragePool", "HardSigmoid",
    "HardSwish", "InstanceNormalization", "LayerNormalization", "MatMul", "Max", "MaxPool", "Min", "Neg", "Pow", "Reciprocal",
    "ReduceMax", "ReduceSum", "Softmax", "Softplus", "Tanh", "Expand", "Flatten", "Gather", "Identity", "Pad", "Tile",
})  # fmt: skip

LARGEST = float(np.finfo(np.float16).max)


def to_fp16(model: ir.Model, *, io_fp16: bool = False) -> ir.Model:
    """Return a copy of ``model`` (FP32) that computes in float16 throughout.

    Input and output stay float32, behind one Cast each, unless ``io_fp16``. Raises :class:`ExportError` for an operator
    whose behaviour in float16 is not known here, and for a weight that float16 cannot hold; ``model`` is left as it was.
    """
    graph = (model := model.clone()).graph
    for node in graph:
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            raise ExportError(
                f"the graph has the operator {node.op_type}, which mimo cannot turn to FP16: "
                "convert only graphs that mimo export made."
            )
    for value in list(graph.initializers.values()):
        if value.dtype == ir.DataType.FLOAT:
            _halve(graph, value)
    for output in [output for node in graph for output in node.outputs]:
        if output.dtype in (None, ir.DataType.FLOAT):
            output.type = ir.TensorType(ir.DataType.FLOAT16)  # a new one: the copy shares the old one with its source
    for value in graph.inputs:
        if io_fp16:
            value.type = ir.TensorType(ir.DataType.FLOAT16)
        else:
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT16.value}, name=f"{value.name}_to_fp16")
            inner = cast.outputs[0]
            inner.name, inner.dtype, inner.shape = f"{value.name}_fp16", ir.DataType.FLOAT16, value.shape
            for user, index in list(value.uses()):
                user.replace_input_with(index, inner)
            cast.replace_input_with(0, value)
            graph.insert_before(graph[0], cast)
    if not io_fp16:
        for position, value in enumerate(list(graph.outputs)):
            name = value.name
            value.name = f"{name}_fp16"
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value}, name=f"{name}_to_fp32")
            outer = cast.outputs[0]
            outer.name, outer.dtype, outer.shape = name, ir.DataType.FLOAT, value.shape
            graph.append(cast)
            graph.outputs[position] = outer
    return model


def convert_to_fp16(source: Artifact, out: Path, *, io_fp16: bool = False) -> Artifact:
    """Write the FP16 graph of the FP32 ONNX artifact ``source`` to ``out`` with its sidecar; needs no torch.

    Checked like an export, against ``source`` in ONNX Runtime. Raises :class:`ExportError` and leaves nothing behind when
    ``source`` is not FP32 ONNX or a check fails.
    """
    if (source.format, source.precision) != ("onnx", "fp32"):
        raise ExportError(f"{source.path} is {source.format} in {source.precision}: FP16 is made from an FP32 ONNX file.")
    proto = load_onnx(source.path)
    artifact = replace(
        source,
        path=out,
        precision="fp16",
        io="float16" if io_fp16 else "float32",
        parent=source.path.name,
        parent_sha256=source.sha256,
        tools={**source.tools, **tool_versions("onnx", "onnx-ir")},
    )
    converted = with_lineage(to_fp16(ir.from_proto(proto), io_fp16=io_fp16), artifact)
    check_structure(converted, tuple(summarise(proto).outputs), source.spec.size_multiple)
    check_numerics(converted, in_onnxruntime(proto), FP16_TOLERANCE, source.spec.size_multiple)
    return write_onnx(converted, artifact)


def _halve(graph: ir.Graph, value: ir.Value) -> None:
    """Turn one float32 initialiser to float16, except where Resize reads it as its scales (or its region)."""
    uses = list(value.uses())
    resize_uses = [(user, index) for user, index in uses if user.op_type == "Resize" and index > 0]
    if len(resize_uses) == len(uses):
        return
    if value.const_value is None:
        raise ExportError(f"the weight {value.name} has no value in this file: export it again with mimo export.")
    weights = value.const_value.numpy()
    if not np.abs(weights).max(initial=0.0) <= LARGEST:
        raise ExportError(
            f"the weight {value.name} exceeds what float16 can hold ({LARGEST:g}): deploy this checkpoint in FP32."
        )
    half = ir.Value(
        name=f"{value.name}_fp16",
        shape=value.shape,
        type=ir.TensorType(ir.DataType.FLOAT16),
        const_value=ir.tensor(weights.astype(np.float16)),
    )
    half.const_value.name = half.name  # type: ignore[union-attr]
    graph.initializers.add(half)
    for user, index in uses:
        if (user, index) not in resize_uses:
            user.replace_input_with(index, half)
    if not resize_uses:
        del graph.initializers[value.name or ""]
