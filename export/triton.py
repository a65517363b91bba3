"""From an artifact to a model in a Triton model repository, its lineage with it. No torch and no Triton are needed.

DIR/<name>/config.pbtxt      what Triton reads; the lineage stands in its parameters, from where a client reads it
DIR/<name>/1/model.onnx      or model.plan: the artifact, its sidecar beside it
DIR/<name>/1/model.py        for the Python backend alone, with site-packages.txt where one was named
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

from mimo.artifact import INPUT, OUTPUT, Artifact
from mimo.errors import ExportError, OutputError, ShapeError
from mimo.files import cause_of, write_text
from mimo.formats import format_info
from mimo.spec import Shape

Backend = Literal["tensorrt", "onnxruntime", "python-onnxruntime", "python-openvino"]
Device = Literal["cpu", "cuda"]

WARM_UP = Shape(1, 720, 1280)
PARAMETER = "mimo."
"""What the names of our parameters in a model's configuration begin with."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16"}


@dataclass(frozen=True)
class _Form:
    """How Triton names a backend, and what its file is called."""

    key: Literal["platform", "backend"]
    value: str
    file: str


_FORMS: Mapping[Backend, _Form] = {
    "tensorrt": _Form("platform", "tensorrt_plan", "model.plan"),
    "onnxruntime": _Form("platform", "onnxruntime_onnx", "model.onnx"),
    "python-onnxruntime": _Form("backend", "python", "model.onnx"),
    "python-openvino": _Form("backend", "python", "model.onnx"),
}


def export_triton(
    source: Artifact,
    repository: Path,
    *,
    name: str | None = None,
    backend: Backend | None = None,
    device: Device | None = None,
    warm_up: Shape | None = None,
    site_packages: Path | None = None,
) -> Artifact:
    """Add ``source``, a TensorRT plan or an ONNX file, to the model repository; return the copy that Triton loads.

    ``name``: the model's, by default the file's without its suffix. ``backend``: by default ``tensorrt`` for a plan and
    ``onnxruntime`` for ONNX. ``device``: by default ``cuda`` for a plan, ``cpu`` otherwise. ``warm_up``: the shape of the
    request that Triton runs before it calls the model ready, by default the optimum of a plan's profile, 1x720x1280 for ONNX.
    ``site_packages``: for the Python backend, the folder on the server that holds NumPy and the runtime.

    Raises :class:`ExportError` for what Triton has no backend for and for a combination that cannot be, :class:`ShapeError`
    for a ``warm_up`` that the network or the profile does not take, :class:`OutputError` when the model is there already or
    cannot be written. Then nothing of it is left in the repository.
    """
    chosen = _backend(source, backend)
    where = _device(source, chosen, device)
    called = name or re.sub(r"[^A-Za-z0-9_-]+", "-", source.path.name.removesuffix(format_info(source.format).suffix)).strip(
        "-"
    )
    if not _NAME.fullmatch(called):
        raise ExportError(
            f"{called[:80]!r} cannot be a model's name: use letters, digits, '_', '.' and '-', such as mimo-unet."
        )
    if site_packages is not None and not chosen.startswith("python-"):
        raise ExportError(f"a folder of packages is for the Python backend, not for {chosen}: leave it out.")
    target = repository / called
    copied = replace(source, path=target / "1" / _FORMS[chosen].file)
    text = config_of(source, called, chosen, where, _warm_up(source, warm_up))
    with _placed(target) as folder:
        version = folder / "1"
        version.mkdir()
        shutil.copyfile(source.path, version / copied.path.name)
        replace(copied, path=version / copied.path.name).write_sidecar()
        if chosen.startswith("python-"):
            shutil.copyfile(Path(__file__).with_name("triton_model.py"), version / "model.py")
            if site_packages is not None:
                write_text(version / "site-packages.txt", f"{site_packages.absolute()}\n")
        write_text(folder / "config.pbtxt", text)
    return copied


def config_of(source: Artifact, name: str, backend: Backend, device: Device, warm_up: Shape) -> str:
    """The configuration as Triton reads it: a ``ModelConfig`` in the text form of protocol buffers."""
    shapes, form = source.shapes, _FORMS[backend]
    # Triton puts single images together only where the first dimension is its own; a plan tells how far it may go. A graph
    # takes any batch as it comes.
    batches = shapes is not None and shapes.min.batch == 1 and shapes.max.batch > 1
    most = shapes.max.batch if shapes is not None and batches else 0
    sides = [_dimension(getattr(shapes.min, side), getattr(shapes.max, side)) if shapes else -1 for side in ("height", "width")]
    batch = [] if batches else [_dimension(shapes.min.batch, shapes.max.batch) if shapes else -1]
    dims = [*batch, 3, *sides]
    warm = [*([] if batches else [warm_up.batch]), 3, warm_up.height, warm_up.width]
    kind = _TYPES[source.io]
    parameters = {
        "file": source.path.name,
        "sha256": source.sha256,
        "precision": source.precision,
        "checkpoint_sha256": source.checkpoint_sha256,
        "compute": source.precision if device == "cuda" else "fp32",
        "lineage": json.dumps(source.lineage(), sort_keys=True),
        **({"runtime": backend.removeprefix("python-")} if backend.startswith("python-") else {}),
    }
    lines = [
        f"name: {_quoted(name)}",
        f"{form.key}: {_quoted(form.value)}",
        f"max_batch_size: {most}",
        f"input [ {{ name: {_quoted(INPUT)} data_type: {kind} dims: {dims} }} ]",
        f"output [ {{ name: {_quoted(OUTPUT)} data_type: {kind} dims: {dims} }} ]",
        f"instance_group [ {{ count: 1 kind: {'KIND_GPU' if device == 'cuda' else 'KIND_CPU'} }} ]",
        *(["dynamic_batching { }"] if batches else []),
        "model_warmup [ {",
        f"  name: {_quoted(str(warm_up))}",
        f"  batch_size: {warm_up.batch if batches else 1}",
        f"  inputs {{ key: {_quoted(INPUT)} value {{ data_type: {kind} dims: {warm} zero_data: true }} }}",
        "} ]",
        *(
            f"parameters {{ key: {_quoted(PARAMETER + key)} value {{ string_value: {_quoted(value)} }} }}"
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _backend(source: Artifact, wanted: Backend | None) -> Backend:
    match source.format:
        case "tensorrt-rtx":
            raise ExportError(
                f"{source.path.name} is a TensorRT-RTX engine, and Triton has no backend that loads those: build one with "
                "mimo build-engine --runtime tensorrt, or export its ONNX file."
            )
        case "openvino":
            raise ExportError(f"{source.path.name} is an OpenVINO IR: export the ONNX file it came from.")
        case "tensorrt":
            if wanted not in (None, "tensorrt"):
                raise ExportError(
                    f"{source.path.name} is a TensorRT engine, which {wanted} does not run: leave the backend out."
                )
            return "tensorrt"
        case "onnx":
            if wanted == "tensorrt":
                raise ExportError(
                    f"{source.path.name} is an ONNX file: build an engine first with mimo build-engine --runtime tensorrt."
                )
            return wanted or "onnxruntime"


def _device(source: Artifact, backend: Backend, wanted: Device | None) -> Device:
    if backend == "tensorrt" and wanted == "cpu":
        raise ExportError(f"{source.path.name} is a TensorRT engine, which runs on a GPU only: leave the device out.")
    if backend.startswith("python-") and wanted == "cuda":
        raise ExportError(f"{backend} runs on the CPU only: leave the device out, or use the backend onnxruntime.")
    return wanted or ("cuda" if backend == "tensorrt" else "cpu")


def _warm_up(source: Artifact, wanted: Shape | None) -> Shape:
    shapes, multiple = source.shapes, source.spec.size_multiple
    shape = wanted or (shapes.opt if shapes else WARM_UP.padded(multiple))
    if shape != shape.padded(multiple):
        raise ShapeError(f"{shape}: {source.spec.name} is warmed up at multiples of {multiple}: use {shape.padded(multiple)}.")
    if shapes is not None and shape not in shapes:
        raise ShapeError(f"{shape} is outside the profile {shapes} of {source.path.name}: warm it up inside, or leave it out.")
    return shape


def _dimension(least: int, most: int) -> int:
    return least if least == most else -1


def _quoted(text: str) -> str:
    """As a string of protocol buffers' text form, where every byte may be written in octal."""
    plain = {ord("\\"): "\\\\", ord('"'): '\\"'}
    return (
        '"'
        + "".join(plain.get(b, chr(b) if 0x20 <= b < 0x7F else f"\\{b:03o}") for b in text.encode(errors="backslashreplace"))
        + '"'
    )


@contextmanager
def _placed(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``target`` at the end of the block, whole: Triton may be watching the repository."""
    if target.exists() or target.is_symlink():
        raise OutputError(f"{target} is there already: remove it, or choose another name or repository.")
    folder: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        folder.chmod(0o755)  # the server is often another user
        yield folder
        folder.rename(target)
        folder = None
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {cause_of(error)}") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
