"""From an ONNX artifact, or a checkpoint, to an OpenVINO IR: two files, one artifact. No torch but for a checkpoint."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from export.onnx_file import FP16_TOLERANCE, FP32_TOLERANCE, Images, check_numerics
from mimo.artifact import INPUT, OUTPUT, Artifact, load_onnx, tool_versions
from mimo.errors import ExportError, MimoError
from mimo.files import atomic
from mimo.formats import files_of, format_info, hash_of
from mimo.installing import install
from mimo.telemetry import import_openvino

if TYPE_CHECKING:
    from mimo.networks.checkpoint import Checkpoint


def export_openvino(
    checkpoint: Checkpoint, out: Path, *, precision: Literal["fp32", "fp16"] = "fp32", io_fp16: bool = False
) -> Artifact:
    """Write ``checkpoint`` as an OpenVINO IR to ``out``, which ends in ``.xml``, by way of a temporary ONNX file.

    Checks and errors are those of :func:`~export.to_onnx.export_onnx` and of :func:`convert_to_openvino`.
    """
    from export.to_onnx import export_onnx

    _check_name(out)
    with TemporaryDirectory() as folder:
        graph = export_onnx(checkpoint, Path(folder) / f"{checkpoint.spec.name}.onnx", precision=precision, io_fp16=io_fp16)
        return _converted(graph, out, replace(graph, parent=None, parent_sha256=None))


def convert_to_openvino(source: Artifact, out: Path) -> Artifact:
    """Convert the ONNX artifact ``source``, its types kept, to ``out``, which ends in ``.xml``, with its weights in ``.bin``.

    Before anything is written, the converted network in OpenVINO in float32 is compared with ``source`` in ONNX Runtime at two
    shapes. Raises :class:`ExportError` when they differ, when OpenVINO cannot read the graph, is not installed, or ``source``
    has other inputs and outputs than ``blur`` and ``sharp``; :class:`~mimo.errors.OutputError` when a file cannot be written.
    Then no file is left half-written, and a sidecar never belongs to other files.
    """
    _check_name(out)
    if source.format != "onnx":
        raise ExportError(f"{source.path.name} is {format_info(source.format).title}: convert the ONNX file it came from.")
    return _converted(source, out, replace(source, parent=source.path.name, parent_sha256=source.sha256))


def _check_name(out: Path) -> None:
    suffix = format_info("openvino").suffix
    if out.suffix != suffix:
        raise ExportError(f"{out.name}: the name of an OpenVINO IR must end in {suffix}; its weights go to .bin beside it.")


def _converted(source: Artifact, out: Path, described: Artifact) -> Artifact:
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise ExportError(f"OpenVINO is not installed: {install('cpu')}.") from error
    try:
        model = openvino.convert_model(str(source.path))
        run = _in_openvino(openvino, model)
    except MimoError:
        raise
    except Exception as error:  # its exceptions share no base
        said = str(error).strip().rsplit("\n", 1)[-1][:300]
        raise ExportError(f"OpenVINO cannot read {source.path.name}: {said}.") from error
    tolerance = FP32_TOLERANCE if source.precision == "fp32" else FP16_TOLERANCE
    check_numerics(load_onnx(source.path), run, tolerance, source.spec.size_multiple)
    model_files = files_named(out)
    with TemporaryDirectory() as folder:
        written = Path(folder) / out.name
        # Not compressed: the types of the graph are those that were asked for.
        openvino.save_model(model, str(written), compress_to_fp16=False)
        with atomic(model_files[1]) as weights, atomic(model_files[0]) as graph:
            shutil.copyfile(written.with_suffix(".bin"), weights)
            shutil.copyfile(written, graph)
    artifact = replace(
        described,
        path=out,
        sha256=hash_of(out),
        format="openvino",
        tools={**source.tools, **tool_versions("openvino")},
    )
    assert files_of(out) == model_files
    artifact.write_sidecar()
    return artifact


def files_named(out: Path) -> tuple[Path, Path]:
    """The two files of an IR at ``out``: the graph and its weights."""
    return out, out.with_suffix(format_info("openvino").companions[0])


def _in_openvino(openvino: Any, model: Any) -> Any:
    """A function that runs ``model`` in OpenVINO on the CPU in float32, float32 in and out whatever the graph's own types."""
    names = [{name for port in ports for name in port.get_names()} for ports in (model.inputs, model.outputs)]
    if names != [{INPUT}, {OUTPUT}]:
        raise ExportError(f"only a graph with the input {INPUT} and the output {OUTPUT} becomes an OpenVINO IR: export one.")
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    dtype = np.float16 if "float16" in str(model.inputs[0].get_element_type()) else np.float32

    def run(images: Images) -> list[Images]:
        return [np.asarray(compiled([images.astype(dtype)])[0], np.float32)]

    return run
