"""An ONNX file, checked once when it is opened, before any runtime sees it.

Runtimes take a graph at its word: a convolution without weights ends the process in some, and nested branches keep others
busy for ever. What is refused here is refused with a sentence.
"""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import defs

from mimo.errors import ArtifactError

LARGEST_FILE = 1 << 30
"""Bytes; the largest network here has a quarter of it."""
MOST_NODES = 50_000
LARGEST_VALUE = 1 << 24
"""Elements of one value in a picture of :data:`PROBE` pixels a side: 4096 channels at full size."""
PROBE = 64
TYPES = frozenset({
    onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.BOOL,
    onnx.TensorProto.DOUBLE,
})  # fmt: skip
"""Of values and weights. Text, complex numbers and what this version of ONNX does not know are refused."""

_AT_LEAST_1 = frozenset({"strides", "dilations", "group", "kernel_shape", "blocksize"})
_AT_LEAST_0 = frozenset({"pads", "output_padding"})
_LARGEST_SETTING = 1 << 20


def read_graph(path: Path) -> onnx.ModelProto:
    """The graph in ``path``, checked.

    Raises :class:`ArtifactError` for what is too large or no ONNX, keeps its weights in another file, has branches, loops or
    functions of its own, operators that this version of ONNX does not know or that lack an input, cycles, values of types or
    sizes that no network of pictures has, or weights whose bytes do not fill their dimensions.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise ArtifactError(f"{path} has {size / 2**30:.1f} GiB: an ONNX file of at most 1 GiB is read.")
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not a readable ONNX file: export it again with mimo export.") from error
    check_graph(model, str(path))
    return model


def check_graph(model: onnx.ModelProto, name: str) -> None:
    """Raise :class:`ArtifactError` for what :func:`read_graph` refuses; ``name`` is what the message calls the graph."""
    # What is refused here could end ONNX's own checks in a crash or without end, so it comes first.
    if trouble := _form(model) or _weights(model) or next(filter(None, map(_settings, model.graph.node)), None):
        raise ArtifactError(f"{name} is not taken: {trouble}.")
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if trouble := next(filter(None, (_inputs(node, opset) for node in model.graph.node)), None):
        raise ArtifactError(f"{name} is not taken: {trouble}.")
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(at_probe(model), check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{name} is not valid ONNX ({cause}): export it again.") from error
    if trouble := _values(inferred):
        raise ArtifactError(f"{name} is not taken: {trouble}.")


def at_probe(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` whose first input has one picture of :data:`PROBE` pixels a side where its sizes are dynamic.

    Without what the exporter noted of the values in between, which the fixed sizes would contradict.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    weights = {tensor.name for tensor in fixed.graph.initializer}
    for value in fixed.graph.input:
        if value.name in weights:
            continue
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if not dimension.HasField("dim_value"):
                size = 1 if axis == 0 else 3 if axis == 1 else PROBE
                dimension.ClearField("dim_param")
                dimension.dim_value = size
    del fixed.graph.value_info[:]
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    return fixed


def _form(model: onnx.ModelProto) -> str | None:
    graph = model.graph
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    tensors = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    nested = [
        node.op_type
        for node in graph.node
        for attribute in node.attribute
        if attribute.HasField("g") or attribute.graphs or attribute.HasField("tp") or attribute.type_protos
    ]
    domains = [node.domain for node in graph.node if node.domain not in ("", "ai.onnx")]
    made = {name for node in graph.node for name in node.output}
    ends = [value.name for value in graph.output]
    external = [one for one in (*graph.initializer, *tensors) if one.data_location == onnx.TensorProto.EXTERNAL]
    inputs = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    checks = (
        (not graph.node, "it has no operators"),
        (len(graph.node) > MOST_NODES, f"it has {len(graph.node)} operators, at most {MOST_NODES} are"),
        (len(opsets) != 1, "it does not say which operators it is written in (one opset)"),
        (bool(opsets) and not 7 <= opsets[0] <= defs.onnx_opset_version(), f"its opset is {opsets[:1]}: convert it to 18"),
        (not 3 <= model.ir_version <= onnx.IR_VERSION, f"its IR version is {model.ir_version}, at most {onnx.IR_VERSION} is"),
        (
            bool(external),
            "its weights lie in another file, whose bytes its hash would not cover: save it as one file, "
            "with onnx.save(onnx.load(path), other)",
        ),
        (bool(nested), f"{_quoted(nested)} holds a graph of its own, and no branches or loops are taken"),
        (bool(domains), f"it has operators of {_quoted(domains)}, which are not ONNX's own"),
        (bool(model.functions) or bool(graph.sparse_initializer), "it has functions or sparse weights of its own"),
        (not inputs, "it has no input"),
        (
            len(ends) != len(set(ends)) or not ends or not set(ends) <= made,
            "an output is missing, twice there or made by nothing",
        ),
    )
    return next((text for is_so, text in checks if is_so), None)


def _weights(model: onnx.ModelProto) -> str | None:
    tensors = [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in (*model.graph.initializer, *tensors):
        if tensor.data_type not in TYPES:
            return f"the weight {tensor.name[:60]!r} has a type that no supported network has"
        try:
            if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > LARGEST_FILE:
                raise ValueError("dimensions")
            onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, OverflowError, MemoryError):
            return f"the bytes of the weight {tensor.name[:60]!r} do not fill its dimensions"
    return None


def _settings(node: onnx.NodeProto) -> str | None:
    for attribute in node.attribute:
        if attribute.name not in _AT_LEAST_1 | _AT_LEAST_0:
            continue
        least = 1 if attribute.name in _AT_LEAST_1 else 0
        values = list(attribute.ints) if attribute.type == onnx.AttributeProto.INTS else [attribute.i]
        if not all(least <= value <= _LARGEST_SETTING for value in values):
            return f"{_quoted([node.op_type])} has {attribute.name} {values[:4]}, each must be {least} to {_LARGEST_SETTING}"
    return None


def _inputs(node: onnx.NodeProto, opset: int) -> str | None:
    kind = _quoted([node.op_type])
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return f"{kind} is no operator of opset {opset}"
    if schema.deprecated:
        return f"{kind} is gone from opset {opset}"
    required = [one for one in schema.inputs if one.option == defs.OpSchema.FormalParameterOption.Single]
    if len(node.input) < max(len(required), schema.min_input) or not all(node.input[: len(required)]):
        return f"{kind} has {sum(map(bool, node.input))} inputs, and needs {max(len(required), schema.min_input)}"
    return None


def _values(model: onnx.ModelProto) -> str | None:
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or tensor.elem_type not in TYPES:
            return f"the value {value.name[:60]!r} has a type that no supported network has"
        dimensions = [one.dim_value for one in tensor.shape.dim]
        if any(size < 0 for size in dimensions) or math.prod(size or 1 for size in dimensions) > LARGEST_VALUE:
            return f"the value {value.name[:60]!r} is larger than that of any supported network"
    return None


def _quoted(names: list[str]) -> str:
    return repr(names[0][:60]) if names else ""
