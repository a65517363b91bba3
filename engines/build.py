"""From a typed ONNX graph to a TensorRT plan, with a receipt of the precision it computes in."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from engines.runtimes.table import TensorRT
from engines.runtimes.tensorrt_api import Messages, load_tensorrt
from mimo.artifact import INPUT, Artifact, Precision, Receipt, tool_versions
from mimo.errors import BuildError
from mimo.files import sha256_of, write_bytes
from mimo.formats import format_info
from mimo.spec import Shape, ShapeRange

DEFAULT_SHAPES = ShapeRange(Shape(1, 64, 64), Shape(1, 720, 1280), Shape(4, 2160, 3840))

_PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}


def build_engine(
    source: Artifact,
    out: Path,
    *,
    runtime: TensorRT = "tensorrt-rtx",
    shapes: ShapeRange = DEFAULT_SHAPES,
    compute_capabilities: tuple[str, ...] = (),
    allow_mixed: bool = False,
    trt: ModuleType | None = None,
) -> Artifact:
    """Compile the ONNX artifact ``source`` into a plan at ``out`` with its sidecar, in the precision of its graph.

    Networks are strongly typed: an FP16 engine comes from an FP16 graph (:func:`export.to_fp16.convert_to_fp16`).
    ``compute_capabilities``, TensorRT-RTX only, are the GPUs to build for, such as ``("8.6", "8.9")``, or ``("current",)``
    for the one of this machine. ``trt`` is the module to use, by default the one of ``runtime``. TensorRT-RTX builds without
    a GPU; TensorRT needs one.

    Raises :class:`BuildError` when TensorRT fails, or when the built network computes a convolution in another precision
    than the graph's (unless ``allow_mixed``); :class:`~mimo.errors.EngineUnavailable` when the runtime is not
    installed; :class:`~mimo.errors.ShapeError` for a profile that the network cannot take. Then nothing is left behind.
    """
    if source.format != "onnx":
        raise BuildError(f"{source.path} is {format_info(source.format).title}: build from the ONNX file it came from.")
    shapes = replace(shapes, multiple=source.spec.size_multiple)
    trt = trt or load_tensorrt(runtime)
    messages = Messages(trt)
    builder = _start_builder(trt, messages)
    network, _parser = _parse(trt, builder, messages, source)  # the parser owns the weights: keep it until the end
    receipt = count_precisions(trt, network)
    precision = precision_of(receipt)
    if precision != source.precision and not allow_mixed:
        raise BuildError(
            f"the network of {source.path.name} is not all in {source.precision} ({receipt}): "
            "export and convert it again, or accept it with --allow-mixed."
        )
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and no float32: it keeps 10 bits of the mantissa
    _add_profile(builder, config, shapes, messages)
    _set_targets(trt, config, runtime, compute_capabilities)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(messages.explain(f"{out.name} could not be built"))
    write_bytes(out, bytes(plan))
    artifact = replace(
        source,
        path=out,
        sha256=sha256_of(out),
        format=runtime,
        precision=precision,
        parent=source.path.name,
        parent_sha256=source.sha256,
        shapes=shapes,
        receipt=receipt,
        compute_capabilities=compute_capabilities,
        tools={**source.tools, **tool_versions(), runtime: str(trt.__version__)},
    )
    artifact.write_sidecar()
    return artifact


def read_network(source: Artifact, runtime: TensorRT, trt: ModuleType | None = None) -> Receipt:
    """Parse the ONNX artifact ``source`` again, without building, and count its precisions. Raises :class:`BuildError`."""
    trt = trt or load_tensorrt(runtime)
    messages = Messages(trt)
    builder = _start_builder(trt, messages)
    network, _parser = _parse(trt, builder, messages, source)
    return count_precisions(trt, network)


def count_precisions(trt: ModuleType, network: Any) -> Receipt:
    """Count layers by the type of the tensor they read: in a strongly typed network, the type they compute in.

    What reads a dequantised tensor computes in INT8: TensorRT moves the dequantisation behind it.
    """
    ends = {network.get_input(index).name for index in range(network.num_inputs)}
    ends |= {network.get_output(index).name for index in range(network.num_outputs)}
    convolutions: Counter[str] = Counter()
    resizes: Counter[str] = Counter()
    inner_casts = 0
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantised = {layer.get_output(0).name for layer in layers if layer.type == trt.LayerType.DEQUANTIZE}
    for layer in layers:
        dtype = layer.get_input(0).dtype.name if layer.num_inputs else ""
        precision = _PRECISIONS.get(dtype, dtype.lower())
        if layer.num_inputs and layer.get_input(0).name in dequantised:
            precision = "int8"
        if layer.type in (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION):
            convolutions[precision] += 1
        elif layer.type == trt.LayerType.RESIZE:
            resizes[precision] += 1
        elif layer.type == trt.LayerType.CAST:
            inner_casts += not {layer.get_input(0).name, layer.get_output(0).name} & ends
    return Receipt(dict(convolutions), dict(resizes), inner_casts)


def precision_of(receipt: Receipt) -> Precision:
    """``fp16`` or ``fp32`` when every convolution computes in it, ``int8`` when any does, otherwise ``mixed``."""
    if "int8" in receipt.convolutions:
        return "int8"
    match tuple(receipt.convolutions):
        case ("fp16",):
            return "fp16"
        case ("fp32",):
            return "fp32"
        case _:
            return "mixed"


def _start_builder(trt: ModuleType, messages: Messages) -> Any:
    # No pybind object is returned for a builder that could not start: without a GPU, TensorRT raises here.
    try:
        return trt.Builder(messages.logger)
    except (TypeError, RuntimeError) as error:
        raise BuildError(messages.explain("the builder could not start")) from error


def _parse(trt: ModuleType, builder: Any, messages: Messages, source: Artifact) -> tuple[Any, Any]:
    # TensorRT 11 knows no other kind of network; where the flag is gone, it is the default.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse_from_file(str(source.path)):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise BuildError(
            f"TensorRT cannot read {source.path.name} ({'; '.join(errors)[:300]}): export it again with mimo export."
        )
    return network, parser


def _add_profile(builder: Any, config: Any, shapes: ShapeRange, messages: Messages) -> None:
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, shapes.min.nchw, shapes.opt.nchw, shapes.max.nchw)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(messages.explain(f"the profile {shapes} was refused"))


def _set_targets(trt: ModuleType, config: Any, runtime: TensorRT, compute_capabilities: tuple[str, ...]) -> None:
    if not compute_capabilities:
        return
    if runtime == "tensorrt":
        raise BuildError("--compute-capability is for tensorrt-rtx: a TensorRT engine runs on the kind of GPU it was built on.")
    known = {
        f"{name[2:-1]}.{name[-1]}": member
        for name, member in trt.ComputeCapability.__members__.items()
        if re.match(r"SM\d", name)
    }
    if "CURRENT" in trt.ComputeCapability.__members__:
        known["current"] = trt.ComputeCapability.CURRENT  # the GPU of this machine
    if unknown := [capability for capability in compute_capabilities if capability not in known]:
        raise BuildError(
            f"{runtime} {trt.__version__} does not build for compute capability {', '.join(unknown)}: "
            f"choose from {', '.join(known)}."
        )
    config.num_compute_capabilities = len(compute_capabilities)
    for index, capability in enumerate(compute_capabilities):
        config.set_compute_capability(known[capability], index)
