"""Looking at an ONNX graph: what it computes in, what it takes, what it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from mimo.spec import Shape

CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class GraphSummary:
    """What ``mimo inspect`` says of an ONNX file."""

    operators: Mapping[str, int]
    opset: int
    inputs: Mapping[str, str]
    """Name to type and shape, such as ``{"blur": "float32 batch x 3 x 4*h x 4*w"}``."""
    outputs: Mapping[str, str]
    parameters: int
    weight_types: Mapping[str, int]
    """Convolutions by the type of their weights."""


def summarise(model: onnx.ModelProto) -> GraphSummary:
    """Count and name what is in ``model``; nothing is run."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type in CONVOLUTIONS]
    return GraphSummary(
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        opset=next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        inputs={value.name: _type_of(value) for value in model.graph.input},
        outputs={value.name: _type_of(value) for value in model.graph.output},
        parameters=sum(
            math.prod(weights[name].dims)
            for name in {name for node in convolutions for name in node.input[1:] if name in weights}
        ),
        weight_types=dict(
            Counter(_type_name(weights[node.input[1]].data_type) for node in convolutions if node.input[1] in weights)
        ),
    )


def macs(model: onnx.ModelProto, shape: Shape) -> int:
    """Multiply-accumulates of all convolutions for an input of ``shape``; biases and everything else are not counted."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dimension, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape.nchw, strict=True):
        dimension.ClearField("dim_param")
        dimension.dim_value = size
    # The dynamic shapes that the exporter noted would contradict the fixed input.
    del fixed.graph.value_info[:]
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer}
    total = 0
    for node in inferred.graph.node:
        if node.op_type in CONVOLUTIONS:
            # Each weight meets every output position of a convolution, every input position of a transposed one.
            positions = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]]
            total += math.prod(weights[node.input[1]]) * positions[0] * positions[2] * positions[3]
    return total


def _type_of(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dimensions = [dimension.dim_param or str(dimension.dim_value) for dimension in tensor.shape.dim]
    return f"{_type_name(tensor.elem_type)} {' x '.join(dimensions)}"


def _type_name(element: int) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(element))
