"""Looking at an ONNX graph: what it computes in, what it takes, what it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

import onnx

from mimo.errors import ArtifactError
from mimo.spec import Shape

CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = (*CONVOLUTIONS, "MatMul", "Gemm")
"""What :func:`macs` counts."""
UNCOUNTED_PRODUCTS = (
    "Attention", "ConvInteger", "DeformConv", "Einsum", "FusedConv", "FusedMatMul", "GRU", "LSTM", "MatMulInteger",
    "MultiHeadAttention", "QLinearConv", "QLinearMatMul", "RNN",
)  # fmt: skip
"""What also multiplies and accumulates, and is in no graph of ours: with one of these, :func:`macs` is too few."""


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
    """Convolutions by the type of their weights, after a Cast where there is one; ``int8`` before a DequantizeLinear."""


def summarise(model: onnx.ModelProto) -> GraphSummary:
    """Count and name what is in ``model``; nothing is run."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    types = {name: tensor.data_type for name, tensor in weights.items()}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in weights:  # stored in another type than it computes in
            weights[node.output[0]] = weights[node.input[0]]
            types[node.output[0]] = next(attribute.i for attribute in node.attribute if attribute.name == "to")
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights[node.output[0]], types[node.output[0]] = weights[node.input[0]], types[node.input[0]]
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
        weight_types=dict(Counter(_type_name(types[node.input[1]]) for node in convolutions if node.input[1] in types)),
    )


def precision_of_graph(model: onnx.ModelProto) -> Literal["fp32", "fp16", "int8", "mixed"]:
    """What the graph computes in, by the types of what its convolutions and products read and of all that the picture becomes.

    ``mixed`` when there are several, or where a value on the way from the picture is coarser than float32 between float32
    convolutions. ``int8`` when a convolution reads what was dequantised from it.
    Weights that are kept in float16 and cast to float32 before they are used are float32.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    pictures = {value.name for value in model.graph.input} - {tensor.name for tensor in model.graph.initializer}
    found = set()
    dequantised = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    if any(node.input[0] in dequantised for node in model.graph.node if node.op_type in CONVOLUTIONS):
        return "int8"
    for node in model.graph.node:  # in the order in which they are computed
        if pictures.isdisjoint(node.input):
            continue
        pictures |= set(node.output)
        if node.op_type in PRODUCTS:
            found.add(kinds.get(next(name for name in node.input if name in pictures)))
    half = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    coarse = {kinds.get(name) for name in pictures} & half
    if (found or coarse) == {onnx.TensorProto.FLOAT16}:
        return "fp16"
    return "fp32" if found <= {onnx.TensorProto.FLOAT} and not coarse else "mixed"


def ends_of(model: onnx.ModelProto, blur: str, sharp: str) -> Literal["float32", "float16"]:
    """The element type of the graph's only input ``blur`` and its output ``sharp``, both (N,3,H,W).

    Raises :class:`ArtifactError` for another input, another output (but for the smaller scales beside it) or another type.
    """
    inputs, outputs = list(model.graph.input), {value.name: value for value in model.graph.output}
    kinds = set()
    for value in (*inputs, *outputs.values()):
        tensor = value.type.tensor_type
        sizes = list(tensor.shape.dim)
        if len(sizes) != 4 or sizes[1].dim_value not in (0, 3):
            raise ArtifactError(f"the graph's {value.name[:60]!r} is not batch x 3 x height x width: export it again.")
        kinds.add(tensor.elem_type)
    if [value.name for value in inputs] != [blur] or sharp not in outputs or not outputs.keys() <= {"quarter", "half", sharp}:
        raise ArtifactError(f"the graph does not take one {blur!r} and give {sharp!r}: export it again with mimo export.")
    if kinds == {onnx.TensorProto.FLOAT}:
        return "float32"
    if kinds == {onnx.TensorProto.FLOAT16}:
        return "float16"
    raise ArtifactError("the graph's input and output are not both float32 or both float16: export it again with mimo export.")


def macs(model: onnx.ModelProto, shape: Shape) -> int:
    """Multiply-accumulates of all convolutions and matrix products for an input of ``shape``.

    Biases and everything else are not counted. Raises :class:`ArtifactError` when the graph does not take ``shape``, or
    does not tell the size of what it multiplies.
    """
    values = _values_at(model, shape)
    return sum(_macs_of(node, values) for node in model.graph.node)


def _macs_of(node: onnx.NodeProto, values: _Values) -> int:
    if node.op_type not in PRODUCTS:
        return 0
    (first, _), (second, _), (out, _) = (values[name] for name in (*node.input[:2], node.output[0]))
    match node.op_type:
        # Each weight meets every output position of a convolution, every input position of a transposed one.
        case "Conv":
            return math.prod(second) * out[0] * math.prod(out[2:])
        case "ConvTranspose":
            return math.prod(second) * first[0] * math.prod(first[2:])
        # Each output is a sum over the dimension that the two have in common.
        case "MatMul":
            return math.prod(out) * first[-1]
        case _:
            transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
            return math.prod(out) * first[0 if transposed else 1]


def node_costs(model: onnx.ModelProto, shape: Shape) -> tuple[tuple[int, int], ...]:
    """Multiply-accumulates and bytes of each node that computes, for an input of ``shape``.

    Bytes: what the node reads and writes when nothing is kept from one node to the next, in the element types of the file.
    Nodes that only say or change shapes are left out. Raises :class:`ArtifactError` as :func:`macs` does.
    """
    values = _values_at(model, shape)
    constants = {
        node.output[0]: (tuple(attribute.t.dims), attribute.t.data_type)
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    values |= constants
    return tuple(
        (_macs_of(node, values), sum(_bytes_of(*values[name]) for name in dict.fromkeys((*node.input, *node.output)) if name))
        for node in model.graph.node
        if node.op_type not in _NO_TRAFFIC
    )


_NO_TRAFFIC = ("Constant", "Shape", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "ConstantOfShape")
"""Operators that compute no picture: they name a value or give it another shape."""


def _bytes_of(dimensions: tuple[int, ...], element: int) -> int:
    return math.prod(dimensions) * onnx.helper.tensor_dtype_to_np_dtype(element).itemsize


def least_bytes(model: onnx.ModelProto, shape: Shape) -> int:
    """Bytes that must be read or written for an input of ``shape``: each weight once, inputs and outputs once.

    In the element types of the file. What is written in between could stay in a cache large enough, and is not counted.
    Raises :class:`ArtifactError` as :func:`macs` does.
    """
    values = _values_at(model, shape)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    constants = [
        attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    ends = {value.name for value in (*model.graph.input, *model.graph.output)} - weights.keys()
    sizes = [(tuple(tensor.dims), tensor.data_type) for tensor in (*weights.values(), *constants)]
    return sum(_bytes_of(*size) for size in (*sizes, *(values[name] for name in ends)))


class _Values(dict[str, tuple[tuple[int, ...], int]]):
    """Dimensions and element type of every value whose size is known."""

    def __missing__(self, name: str) -> NoReturn:
        raise ArtifactError(f"the size of {name!r} in this graph cannot be told, so neither can its cost: export it again.")


def _values_at(model: onnx.ModelProto, shape: Shape) -> _Values:
    """What is known of the graph's values, weights included, when its input has ``shape``."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    try:
        for dimension, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape.nchw, strict=True):
            dimension.ClearField("dim_param")
            dimension.dim_value = size
        # The dynamic shapes that the exporter noted would contradict the fixed input.
        del fixed.graph.value_info[:]
        for output in fixed.graph.output:
            output.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise ArtifactError(f"the graph does not take an input of {shape}: give another size, or export it again.") from error
    values = _Values()
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dimension.HasField("dim_value") for dimension in tensor.shape.dim):
            values[value.name] = tuple(dimension.dim_value for dimension in tensor.shape.dim), tensor.elem_type
    values |= {tensor.name: (tuple(tensor.dims), tensor.data_type) for tensor in inferred.graph.initializer}
    return values


def _type_of(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dimensions = [dimension.dim_param or str(dimension.dim_value) for dimension in tensor.shape.dim]
    return f"{_type_name(tensor.elem_type)} {' x '.join(dimensions)}"


def _type_name(element: int) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(element))
