"""A graph from elsewhere, without its checkpoint, as an artifact: what it takes is found out by running it.

Nothing here knows PyTorch. What is made from such a graph is compared with the graph itself, in ONNX Runtime in FP32.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir

from export.onnx_file import FP32_TOLERANCE, Images, check_numerics, check_structure, in_onnxruntime, with_lineage, write_onnx
from mimo.artifact import INPUT, OUTPUT, Artifact, load_onnx, tool_versions
from mimo.errors import ArtifactError
from mimo.files import sha256_of
from mimo.networks.registry import ADOPTED
from mimo.spec import SMALLEST_SIDE, ModelSpec

MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Size multiples that are tried, from the smallest."""
OLDEST_OPSET = 13


@dataclass(frozen=True)
class Adopted:
    """The artifact, and what was found out about the graph."""

    artifact: Artifact
    findings: tuple[str, ...]
    """Sentences."""


def adopt(path: Path, out: Path) -> Adopted:
    """Write the graph at ``path`` to ``out`` with the names, sizes and values of ours, and its sidecar.

    It must take one RGB image (N,3,H,W) and give back one of the same size, in float32, with sides that are dynamic, or
    declared as numbers while its nodes take others too, as an export without dynamic sizes leaves many a graph. Its
    size multiple is found by trial, and whether its values are 0..1 or 0..255 by what it makes of a picture; a graph of
    0..255 is scaled inside. Raises :class:`ArtifactError` for another graph, and
    :class:`~mimo.errors.ExportError` when what would be written does not give the pictures of ``path``; then nothing is.
    """
    source = load_onnx(path)
    try:
        onnx.checker.check_model(source, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not valid ONNX ({str(error).strip().splitlines()[0][:200]}): export it again."
        ) from error
    findings = list(_look(source, path))
    fixed = _fixed(source)
    if fixed:
        source = _relaxed(source)
    run = _running(source, path)
    try:
        multiple = _multiple(run, path)
    except ArtifactError as error:
        if not fixed:
            raise
        sides = " and ".join(fixed)
        raise ArtifactError(
            f"{path} has a fixed {sides}, and takes no other by trial: export it with dynamic batch, height and width."
        ) from error
    scale, told = _value_range(run, multiple)
    findings += [f"height and width: multiples of {multiple}, by trial", told]
    spec = ModelSpec(path.name.removesuffix(".onnx")[:100] or "adopted", ADOPTED, {"values": f"0..{scale}"}, multiple)
    artifact = Artifact(
        path=out,
        sha256="",
        format="onnx",
        precision="fp32",
        io="float32",
        spec=spec,
        checkpoint_sha256=sha256_of(path),
        tools=tool_versions("onnx", "onnx-ir"),
    )
    proto = with_lineage(_ours(ir.from_proto(source), multiple, scale), artifact)
    check_structure(proto, (OUTPUT,), multiple)
    check_numerics(proto, lambda images: [run(images * scale) / np.float32(scale)], FP32_TOLERANCE, multiple)
    return Adopted(write_onnx(proto, artifact), tuple(findings))


def _look(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """What the graph says of itself; raises :class:`ArtifactError` where that is not one image to another."""
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    outputs = list(model.graph.output)
    if len(inputs) != 1 or len(outputs) != 1:
        raise ArtifactError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs: one image in and one out is taken.")
    for value in (*inputs, *outputs):
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
            raise ArtifactError(f"{path}: {value.name[:60]} is {kind}, not FLOAT: export the graph in float32.")
    dimensions = list(inputs[0].type.tensor_type.shape.dim)
    if len(dimensions) != 4 or (dimensions[1].dim_value or 3) != 3:
        shape = " x ".join(one.dim_param or str(one.dim_value) for one in dimensions)
        raise ArtifactError(f"{path} takes {shape[:100]}: batch x 3 x height x width is taken; transpose it inside the graph.")
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise ArtifactError(f"{path} is written in opset {opset}: convert it to {OLDEST_OPSET} or later.")
    return (
        f"input {inputs[0].name}, output {outputs[0].name}, opset {opset}",
        "batch, height and width: dynamic"
        + ("".join(f"; declared {name} {size}, but others work, by trial" for name, size in _fixed(model).items())),
    )


def _fixed(model: onnx.ModelProto) -> dict[str, int]:
    """Batch, height and width that the graph's input declares as numbers."""
    (image,) = (one for one in model.graph.input if one.name not in _weights(model))
    named = zip(("batch", "", "height", "width"), image.type.tensor_type.shape.dim, strict=True)
    return {name: one.dim_value for name, one in named if name and one.dim_value}


def _relaxed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that declares no sizes, neither at its ends nor between: what the nodes themselves hold stays."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in (*(one for one in copy.graph.input if one.name not in _weights(copy)), *copy.graph.output):
        for name, one in zip(("batch", "", "height", "width"), value.type.tensor_type.shape.dim, strict=True):
            if name:
                one.dim_param = name
    return copy


def _running(model: onnx.ModelProto, path: Path) -> Callable[[Images], Images]:
    run = in_onnxruntime(model, next(one.name for one in model.graph.input if one.name not in _weights(model)))

    def checked(images: Images) -> Images:
        (result,) = run(images)
        return result

    return checked


def _weights(model: onnx.ModelProto) -> set[str]:
    return {one.name for one in model.graph.initializer}


def _multiple(run: Callable[[Images], Images], path: Path) -> int:
    """The smallest of :data:`MULTIPLES` with which sides that are multiples of nothing more give back an image."""
    for multiple in MULTIPLES:
        least = -(-SMALLEST_SIDE // multiple)
        odd = [number for number in (least, least + 1, least + 2, least + 3) if number % 2 or multiple == MULTIPLES[-1]]
        sides = [number * multiple for number in odd[:2]]
        shapes = [(1, 3, a, b) for a, b in itertools.product(sides, sides)] + [(2, 3, sides[0], sides[-1])]
        if all(_fits(run, shape) for shape in shapes):
            return multiple
    raise ArtifactError(
        f"{path} gave back no image of the size it was given, at any multiple of {MULTIPLES[-1]} or less: only networks from "
        "an RGB image to one of the same size are taken."
    )


def _fits(run: Callable[[Images], Images], shape: tuple[int, ...]) -> bool:
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    try:
        result = run(images)
    except Exception:  # whatever ONNX Runtime says of a size it cannot take
        return False
    return result.shape == shape and bool(np.isfinite(result).all())


def _value_range(run: Callable[[Images], Images], multiple: int) -> tuple[Literal[1, 255], str]:
    """Whether the network's values are 0..1 or 0..255: it changes a picture of its own range less."""
    side = -(-64 // multiple) * multiple
    ramp = np.linspace(0.1, 0.9, side, dtype=np.float32)
    across, down = np.tile(ramp, (side, 1)), np.tile(ramp[:, None], (1, side))
    picture = np.stack([across, down, np.full((side, side), 0.5, np.float32)])[None]
    changes = {}
    for scale in (1, 255):
        result = run(picture * np.float32(scale)) / np.float32(scale)
        changes[scale] = float(np.abs(result - picture).mean())
    small, large = changes[1], changes[255]
    measured = f"a picture changes by {small:.2g} of its range at 0..1, by {large:.2g} at 0..255"
    if large < 0.5 * small:
        return 255, f"values: 0..255 ({measured}); it is scaled inside the graph"
    if small < 0.5 * large:
        return 1, f"values: 0..1 ({measured})"
    return 1, f"values: 0..1 is assumed, for nothing tells ({measured})"


def _ours(model: ir.Model, multiple: int, scale: int) -> ir.Model:
    """The graph with the names, symbolic sizes and values of those that mimo export writes."""
    graph = model.graph
    weights = set(graph.initializers)
    for given in [one for one in graph.inputs if one.name in weights]:
        graph.inputs.remove(given)
    source, result = graph.inputs[0], graph.outputs[0]
    for value in [one for node in graph for one in (*node.inputs, *node.outputs) if one is not None]:
        # A value of the graph's own that has the name which an end gets.
        if value.name in (INPUT, OUTPUT) and value is not source and value is not result:
            value.name = f"{value.name}_inside"
    times = f"{multiple}*" if multiple > 1 else ""
    shape = ir.Shape(["batch", 3, f"{times}h", f"{times}w"])
    source.name, result.name = INPUT, OUTPUT
    source.shape = result.shape = shape
    if scale != 1:
        larger = ir.node("Mul", [source, _constant(graph, "values_in", float(scale))], name="values_to_0_255")
        inner = larger.outputs[0]
        inner.name, inner.dtype, inner.shape = "blur_0_255", ir.DataType.FLOAT, shape
        for user, index in list(source.uses()):
            if user is not larger:
                user.replace_input_with(index, inner)
        graph.insert_before(graph[0], larger)
        result.name = "sharp_0_255"
        smaller = ir.node("Mul", [result, _constant(graph, "values_out", 1 / scale)], name="values_to_0_1")
        outer = smaller.outputs[0]
        outer.name, outer.dtype, outer.shape = OUTPUT, ir.DataType.FLOAT, shape
        graph.append(smaller)
        graph.outputs[0] = outer
    model.doc_string = None
    return model


def _constant(graph: ir.Graph, name: str, number: float) -> ir.Value:
    value = ir.Value(
        name=name,
        shape=ir.Shape([]),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(np.float32(number), name=name),
    )
    graph.initializers.add(value)
    return value
