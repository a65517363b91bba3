"""From a checkpoint to an ONNX file with dynamic shapes, checked before it is written."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import onnx_ir as ir
import torch
from torch import Tensor, nn

from export.compact import compact as without_loss
from export.onnx_file import FP16_TOLERANCE, FP32_TOLERANCE, Images, check_numerics, check_structure, with_lineage, write_onnx
from export.to_fp16 import to_fp16
from mimo.artifact import INPUT, OUTPUT, Artifact, tool_versions
from mimo.errors import ExportError
from mimo.networks.registry import ADOPTED, SPANDREL, deployed_form, entry_of
from mimo.spec import ModelSpec

OPSET = 18
"""The oldest in which this graph can be written, for the widest choice of runtimes."""


class _Deployed(nn.Module):
    """The network with the outputs that are deployed: the full size alone, or all scales."""

    def __init__(self, network: nn.Module, all_scales: bool) -> None:
        super().__init__()
        self.network = network
        self.all_scales = all_scales

    def forward(self, blur: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = self.network(blur)
        if isinstance(outputs, Tensor):
            return outputs
        return tuple(outputs) if self.all_scales else outputs[-1]


class Source(Protocol):
    """What can be exported: a :class:`~mimo.networks.checkpoint.Checkpoint`, or whatever else builds a network."""

    @property
    def spec(self) -> ModelSpec:
        """What the network is."""

    @property
    def sha256(self) -> str:
        """Of its weights."""

    def build(self) -> nn.Module:
        """The network in evaluation mode: float32 (N,3,H,W) in, the same shape or several scales out, the full size last."""


def export_onnx(
    checkpoint: Source,
    out: Path,
    *,
    precision: Literal["fp32", "fp16"] = "fp32",
    io_fp16: bool = False,
    all_scales: bool = False,
    compact: bool = False,
) -> Artifact:
    """Write ``checkpoint`` as ONNX to ``out`` with its sidecar, and return the artifact.

    One input ``blur`` (N,3,H,W) in [0,1], float32 unless ``io_fp16``; batch, height and width dynamic, height and width
    multiples of the network's. One output ``sharp`` of the same shape and type, not clamped; with ``all_scales`` also the
    smaller ones of a network that has them. ``compact``: see :mod:`export.compact`. Where the network's entry has a leaner
    form to deploy, that is the graph.

    Before anything is written: ONNX's checker with full checks, names and symbolic dimensions, and a comparison with
    PyTorch in ONNX Runtime at two shapes. Raises :class:`ExportError` when one of them fails; then nothing is left behind.
    """
    network = checkpoint.build()
    artifact = _described(out, checkpoint.spec, checkpoint.sha256, precision, io_fp16=io_fp16)
    entry = None if checkpoint.spec.network in (SPANDREL, ADOPTED) else entry_of(checkpoint.spec)
    if all_scales and (entry is None or len(entry.outputs) == 1):
        raise ExportError(f"{checkpoint.spec.name} has one output, at full size: export it without all scales.")
    names = entry.outputs if entry and all_scales else (OUTPUT,)
    lean = deployed_form(checkpoint.spec)
    deployed = lean(network) if lean else network
    model = _trace(_Deployed(deployed, all_scales), checkpoint.spec.size_multiple, names)
    return _finished(without_loss(model) if compact else model, artifact, names, _reference(network))


def _described(out: Path, spec: ModelSpec, sha256: str, precision: Literal["fp32", "fp16"], *, io_fp16: bool) -> Artifact:
    return Artifact(
        path=out,
        sha256="",
        format="onnx",
        precision=precision,
        io="float16" if io_fp16 and precision == "fp16" else "float32",
        spec=spec,
        checkpoint_sha256=sha256,
        tools=tool_versions("torch", "onnx", "onnx-ir", "onnxscript"),
    )


def _finished(
    model: ir.Model, artifact: Artifact, outputs: tuple[str, ...], reference: Callable[[Images], list[Images]]
) -> Artifact:
    """Turn to the precision of ``artifact``, check and write."""
    if artifact.precision == "fp16":
        model = to_fp16(model, io_fp16=artifact.io == "float16")
    proto = with_lineage(model, artifact)
    check_structure(proto, outputs, artifact.spec.size_multiple)
    tolerance = FP32_TOLERANCE if artifact.precision == "fp32" else FP16_TOLERANCE
    check_numerics(proto, reference, tolerance, artifact.spec.size_multiple)
    return write_onnx(proto, artifact)


def _reference(network: nn.Module) -> Callable[[Images], list[Images]]:
    def run(images: Images) -> list[Images]:
        with torch.inference_mode():
            outputs = network(torch.from_numpy(images))
        return [output.numpy() for output in ([outputs] if isinstance(outputs, Tensor) else outputs)]

    return run


def _trace(network: nn.Module, multiple: int, outputs: tuple[str, ...]) -> ir.Model:
    batch, h, w = torch.export.Dim("batch"), torch.export.Dim("h"), torch.export.Dim("w")
    try:
        with _quiet():
            program = torch.onnx.export(
                network.eval(),
                (torch.zeros(2, 3, *(max(least, -(-side // multiple)) * multiple for side, least in ((64, 2), (96, 3)))),),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=list(outputs),
                opset_version=OPSET,
                dynamic_shapes=({0: batch, 2: multiple * h, 3: multiple * w},),
            )
    except Exception as error:  # a stranger's network fails in whatever way it likes while it is traced
        raise ExportError(_refusal(error)) from error
    if program is None:
        raise ExportError("torch.onnx.export returned nothing: this version of torch is not one that mimo is tested with.")
    model: ir.Model = program.model
    if len(outputs) > 1:
        # The exporter names the sizes of the smaller outputs after its own counters.
        for output, sides in zip(model.graph.outputs, (("h", "w"), ("2*h", "2*w"), ("4*h", "4*w")), strict=True):
            output.shape = ir.Shape(["batch", 3, *sides])
    # The exporter leaves stack traces with the paths of the machine it ran on.
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.doc_string = None
    return model


def _refusal(error: BaseException) -> str:
    """Which operator, or what else, torch could not export; the first cause of ``error`` says it best."""
    causes = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) is not None and inner not in causes:
        causes.append(inner)
    told = "\n".join(str(cause) for cause in reversed(causes))
    for pattern in (r"No ONNX function found for <OpOverload\(op='([^']+)'", r"No decompositions registered for.*?'([^']+)'"):
        if found := re.search(pattern, told):
            return (
                f"torch cannot export this network: its operator {found[1]} has no counterpart in ONNX; deploy the checkpoint "
                "itself, in PyTorch."
            )
    cause = next((line.strip() for line in told.splitlines() if line.strip()), type(error).__name__)[:300]
    return (
        f"torch cannot export this network ({cause}): write it with operators and sizes that it can, or deploy the checkpoint "
        "itself, in PyTorch."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of itself: missing torchvision operators and its own deprecations."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
