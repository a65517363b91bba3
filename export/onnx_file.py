"""An ONNX file of ours: its lineage, its checks before it is written, and writing it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from mimo.artifact import INPUT, METADATA_PREFIX, OUTPUT, Artifact
from mimo.errors import ExportError
from mimo.files import atomic, sha256_of
from mimo.installing import install
from mimo.onnx_stats import summarise
from mimo.spec import SMALLEST_SIDE
from mimo.telemetry import import_onnxruntime

Images = NDArray[np.float32]

FP32_TOLERANCE = 1e-4
"""Largest absolute difference accepted right after the export: both sides sum float32, in another order."""

FP16_TOLERANCE = 2e-2
"""The same for a graph whose weights and maps are float16: 11 bits of mantissa through a hundred layers."""


def with_lineage(model: ir.Model, artifact: Artifact) -> onnx.ModelProto:
    """``model`` as a protocol buffer with the lineage of ``artifact`` as its only metadata."""
    model.metadata_props.clear()
    model.metadata_props[METADATA_PREFIX + "lineage"] = json.dumps(artifact.lineage(), sort_keys=True)
    model.producer_name, model.producer_version = "mimo", artifact.tools.get("mimo-deblur", "")
    proto = ir.to_proto(model)
    # Older runtimes refuse a file by this number alone, whatever stands in it.
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
    return proto


def write_onnx(proto: onnx.ModelProto, artifact: Artifact) -> Artifact:
    """Write the file, then its sidecar, each atomically; return ``artifact`` with the hash of the bytes."""
    with atomic(artifact.path) as temporary:
        onnx.save(proto, str(temporary), format="protobuf")  # whatever the name ends in
        artifact = replace(artifact, sha256=sha256_of(temporary))
    artifact.write_sidecar()
    return artifact


def check_structure(proto: onnx.ModelProto, outputs: tuple[str, ...], multiple: int) -> None:
    """Raise :class:`ExportError` unless ``proto`` is valid ONNX with our names and dynamic dimensions, sides in multiples."""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the exported graph is not valid ONNX ({error}): report it with your versions (mimo doctor)."
        ) from error
    summary = summarise(proto)
    names = (*summary.inputs, *summary.outputs)
    if names != (INPUT, *outputs):
        raise ExportError(
            f"the exported graph has inputs and outputs {', '.join(names)} instead of {INPUT}, {', '.join(outputs)}."
        )
    for name, described in {INPUT: summary.inputs[INPUT], OUTPUT: summary.outputs[OUTPUT]}.items():
        times = f"{multiple}*" if multiple > 1 else ""
        expected = f"batch x 3 x {times}h x {times}w"
        if not described.endswith(f" {expected}"):
            raise ExportError(
                f"the exported graph's {name} is {described}, not {expected}: "
                "this version of torch exports it otherwise; use one that mimo is tested with."
            )


def check_numerics(
    proto: onnx.ModelProto, reference: Callable[[Images], Sequence[Images]], tolerance: float, multiple: int
) -> None:
    """Compare ``proto`` in ONNX Runtime on the CPU with ``reference`` at two small shapes, batch 1 and 2.

    ``reference`` returns at least the outputs of ``proto``, as its last ones. Raises :class:`ExportError` when an output
    differs by more than ``tolerance`` or is not finite, and when ONNX Runtime is not installed.
    """
    run = in_onnxruntime(proto)
    least = -(-SMALLEST_SIDE // multiple) * multiple
    larger = tuple(max(1, side // multiple) * multiple for side in (60, 44))
    for shape in ((1, 3, least, least + multiple), (2, 3, *larger)):
        images = np.random.default_rng(shape[2]).random(shape, dtype=np.float32)
        results = run(images)
        for result, expected in zip(results, reference(images)[-len(results) :], strict=True):
            difference = float(np.abs(result - expected).max())
            if not difference <= tolerance:  # NaN is not less than anything
                raise ExportError(
                    f"the exported graph differs from its source by {difference:.2g} at {shape} (at most {tolerance:g}): "
                    "report it with your versions (mimo doctor)."
                )


def in_onnxruntime(proto: onnx.ModelProto, name: str = INPUT) -> Callable[[Images], list[Images]]:
    """A function that runs ``proto``, whose input is ``name``, in ONNX Runtime on the CPU: float32 in and out in any case."""
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise ExportError(
            f"ONNX Runtime is not installed, so the export cannot be checked: {install('cpu')} (or gpu in place of cpu)."
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is an error of ours, not a line on the terminal
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    dtype = np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32

    def run(images: Images) -> list[Images]:
        return [output.astype(np.float32) for output in session.run(None, {name: images.astype(dtype)})]

    return run
