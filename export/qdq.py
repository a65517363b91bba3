"""Explicit Q/DQ: INT8 convolutions written into the graph, where every runtime finds them.

Symmetric throughout, zero point 0: the form that TensorRT's strongly typed networks take, and that ONNX Runtime and OpenVINO
take too. What a convolution reads has one scale, its weights one per output channel. Everything else keeps its type.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mimo.onnx_stats import CONVOLUTIONS

LEVELS = 127
"""Steps on each side of zero; -128 is left out, so that the two sides are alike."""

SWITCH = "int8."
"""Before a convolution's name: the input of :func:`switchable` that says whether it computes in INT8."""


def quantisable(model: ir.Model) -> dict[str, ir.Node]:
    """The convolutions of ``model`` that can compute in INT8, by name: those whose weights are constants of the file."""
    found: dict[str, ir.Node] = {}
    for node in model.graph:
        if node.op_type in CONVOLUTIONS:
            weight = node.inputs[1]
            if weight is not None and weight.const_value is not None and node.name:
                found[node.name] = node
    return found


def with_qdq(model: ir.Model, ranges: Mapping[str, float], chosen: Collection[str]) -> ir.Model:
    """A copy of ``model``, FP32 or FP16, whose convolutions named in ``chosen`` read INT8 through Q/DQ.

    ``ranges``: by convolution, the largest magnitude of its input that is told apart. Scales have the type of the graph.
    """
    model = model.clone()
    graph = model.graph
    scaled: dict[tuple[str, float], ir.Value] = {}
    for name, node in quantisable(model).items():
        if name not in chosen:
            continue
        source, weight = node.inputs[0], node.inputs[1]
        assert source is not None and weight is not None and weight.const_value is not None
        key = source.name or "", ranges[name]
        if key not in scaled:
            scaled[key] = _activation(graph, node, source, ranges[name])
        node.replace_input_with(0, scaled[key])
        node.replace_input_with(1, _weight(graph, node, weight))
        if not weight.uses():
            del graph.initializers[weight.name or ""]
    if any(value.dtype == ir.DataType.FLOAT16 for value in graph.initializers.values()):
        model.graph.opset_imports[""] = max(19, model.graph.opset_imports[""])  # the first whose Q/DQ take float16
    return model


def switchable(model: ir.Model, ranges: Mapping[str, float]) -> ir.Model:
    """A copy of the FP32 ``model`` that takes, for each convolution in ``ranges``, a bool ``int8.<name>`` beside the picture.

    True: it computes on values rounded as in :func:`with_qdq`. One session so measures every choice of convolutions.
    """
    model = model.clone()
    graph = model.graph
    for name, node in quantisable(model).items():
        if name not in ranges:
            continue
        switch = ir.Value(name=SWITCH + name, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
        graph.inputs.append(switch)
        source, weight = node.inputs[0], node.inputs[1]
        assert source is not None and weight is not None
        for index, (plain, rounded) in enumerate(
            ((source, _activation(graph, node, source, ranges[name])), (weight, _weight(graph, node, weight)))
        ):
            where = ir.node("Where", [switch, rounded, plain], name=f"{name}.where{index}")
            where.outputs[0].name = f"{name}.where{index}"
            graph.insert_before(node, where)
            node.replace_input_with(index, where.outputs[0])
    return model


def weight_scales(weights: NDArray[np.float32], axis: int, dtype: type[np.float16 | np.float32]) -> NDArray[np.float32]:
    """The step of each output channel, in the precision of ``dtype``: its largest magnitude over :data:`LEVELS`."""
    others = tuple(index for index in range(weights.ndim) if index != axis)
    largest = np.abs(weights).max(axis=others, initial=0.0)
    tiny = 16 * float(np.finfo(np.float16).smallest_subnormal)  # steps of small weights are subnormal in float16
    scales: NDArray[np.float32] = np.maximum(largest / LEVELS, tiny).astype(dtype).astype(np.float32)
    return scales


def _activation(graph: ir.Graph, before: ir.Node, source: ir.Value, largest: float) -> ir.Value:
    half = _is_half(before)
    name = f"{before.name}.input"
    scale = _constant(graph, f"{name}.scale", np.array(max(largest / LEVELS, 1e-6), np.float16 if half else np.float32))
    zero = _constant(graph, f"{name}.zero", np.array(0, np.int8))
    quantise = ir.node("QuantizeLinear", [source, scale, zero], name=f"{name}.quantise")
    quantise.outputs[0].name, quantise.outputs[0].dtype = f"{name}.int8", ir.DataType.INT8
    return _dequantised(graph, before, quantise.outputs[0], scale, zero=zero, name=name, first=quantise)


def _weight(graph: ir.Graph, before: ir.Node, weight: ir.Value) -> ir.Value:
    assert weight.const_value is not None
    values = weight.const_value.numpy()
    axis = 0 if before.op_type == "Conv" else 1
    dtype = np.float16 if _is_half(before) else np.float32
    scales = weight_scales(values.astype(np.float32), axis, dtype)
    spread = scales.reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    name = f"{before.name}.weight"
    rounded = _constant(graph, f"{name}.int8", np.clip(np.rint(values / spread), -LEVELS, LEVELS).astype(np.int8))
    scale = _constant(graph, f"{name}.scale", scales.astype(dtype))
    zero = _constant(graph, f"{name}.zero", np.zeros(len(scales), np.int8))
    return _dequantised(graph, before, rounded, scale, zero=zero, name=name, axis=axis)


def _dequantised(
    graph: ir.Graph,
    before: ir.Node,
    value: ir.Value,
    scale: ir.Value,
    *,
    zero: ir.Value,
    name: str,
    axis: int | None = None,
    first: ir.Node | None = None,
) -> ir.Value:
    attributes = {} if axis is None else {"axis": axis}
    node = ir.node("DequantizeLinear", [value, scale, zero], attributes, name=f"{name}.dequantise")
    node.outputs[0].name, node.outputs[0].type = f"{name}.dequantised", scale.type
    graph.insert_before(before, [node] if first is None else [first, node])
    return node.outputs[0]


def _constant(graph: ir.Graph, name: str, content: NDArray[np.generic]) -> ir.Value:
    tensor = ir.tensor(content, name=name)
    value = ir.Value(name=name, shape=ir.Shape(content.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.initializers.add(value)
    return value


def _is_half(node: ir.Node) -> bool:
    weight = node.inputs[1]
    return weight is not None and weight.dtype == ir.DataType.FLOAT16


def unfolded(model: ir.Model) -> ir.Model:
    """A copy of ``model`` whose weights have the type they are used in, without a Cast (:mod:`export.compact`), nodes named."""
    model = model.clone()
    graph = model.graph
    for index, node in enumerate(list(graph)):
        node.name = node.name or f"{node.op_type}_{index}"
        stored = node.inputs[0] if node.inputs else None
        if node.op_type != "Cast" or stored is None or stored.const_value is None:
            continue
        kind = ir.DataType(node.attributes["to"].as_int())
        plain = _constant(graph, f"{stored.name}.unfolded", stored.const_value.numpy().astype(kind.numpy()))
        for user, place in list(node.outputs[0].uses()):
            user.replace_input_with(place, plain)
        graph.remove(node, safe=True)
        if not stored.uses():
            del graph.initializers[stored.name or ""]
    return model
