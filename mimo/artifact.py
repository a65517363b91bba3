"""An artifact: a file made from a checkpoint, and the sidecar that says from which, how and with what.

The sidecar is ``<file>.json`` beside the file. ONNX files carry the same lineage in their metadata too. A TensorRT
engine stays a plain plan file, which trtexec and Triton load.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mimo.errors import ArtifactError, OutputError, ShapeError
from mimo.files import write_json
from mimo.formats import Format, hash_of
from mimo.networks.registry import spec_from_json
from mimo.spec import ModelSpec, Shape, ShapeRange

if TYPE_CHECKING:
    from onnx import ModelProto

Precision = Literal["fp32", "fp16", "mixed"]

SCHEMA = 1
METADATA_PREFIX = "mimo."
INPUT, OUTPUT = "blur", "sharp"


@dataclass(frozen=True)
class Receipt:
    """What precision a built TensorRT network really computes in, counted layer by layer."""

    convolutions: Mapping[str, int]
    """Convolutions and deconvolutions by the type they compute in, such as ``{"fp16": 120}``."""
    resizes: Mapping[str, int]
    inner_casts: int
    """Casts other than those of the network's input and output."""

    def __str__(self) -> str:
        counts = ", ".join(f"{count} in {precision}" for precision, count in self.convolutions.items())
        return f"convolutions: {counts}; inner casts: {self.inner_casts}"


@dataclass(frozen=True)
class Artifact:
    """A file with its lineage. Made by the functions that make the file, or by :func:`open_artifact`.

    An OpenVINO IR is two files: ``path`` is the first, see :func:`mimo.formats.files_of`.
    """

    path: Path
    sha256: str
    """Of all its files, see :func:`mimo.formats.hash_of`."""
    format: Format
    precision: Precision
    io: Literal["float32", "float16"]
    """Element type of the input ``blur`` and the output ``sharp``."""
    spec: ModelSpec
    checkpoint_sha256: str
    parent: str | None = None
    """Name of the file this one was made from, looked for in the same folder."""
    parent_sha256: str | None = None
    shapes: ShapeRange | None = None
    """The optimisation profile of an engine; a graph has none and takes every multiple of the network's."""
    receipt: Receipt | None = None
    compute_capabilities: tuple[str, ...] = ()
    """The GPU generations an engine was built for, such as ``("8.6", "8.9")``; empty for the builder's own choice."""
    tools: Mapping[str, str] = field(default_factory=dict)

    def lineage(self) -> dict[str, Any]:
        """The sidecar's content without what only the file itself tells (its name and its hash)."""
        shapes, receipt = self.shapes, self.receipt
        return {
            "schema": SCHEMA,
            "format": self.format,
            "precision": self.precision,
            "io": self.io,
            "model": self.spec.to_json(),
            "checkpoint_sha256": self.checkpoint_sha256,
            "parent": self.parent,
            "parent_sha256": self.parent_sha256,
            "shapes": {"min": str(shapes.min), "opt": str(shapes.opt), "max": str(shapes.max)} if shapes else None,
            "receipt": {
                "convolutions": dict(receipt.convolutions),
                "resizes": dict(receipt.resizes),
                "inner_casts": receipt.inner_casts,
            }
            if receipt
            else None,
            "compute_capabilities": list(self.compute_capabilities),
            "tools": dict(self.tools),
        }

    def write_sidecar(self) -> None:
        """Write ``<file>.json`` atomically. Raises :class:`~mimo.errors.OutputError`."""
        write_json(sidecar_of(self.path), {"file": self.path.name, "sha256": self.sha256, **self.lineage()})


def sidecar_of(path: Path) -> Path:
    """``model.onnx`` -> ``model.onnx.json``."""
    return path.with_name(path.name + ".json")


def artifact_files(path: Path | None) -> list[Path]:
    """What writing an artifact to ``path`` writes: the file and its sidecar; nothing for None.

    Raises :class:`~mimo.errors.OutputError` for what is no regular file, beside which no sidecar can lie.
    """
    if path is None:
        return []
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(f"{path} is no regular file, and an artifact is kept with a sidecar beside it: name a file.")
    return [path, sidecar_of(path)]


def verification_of(path: Path) -> Path:
    """Where mimo verify leaves its report: ``model.onnx`` -> ``model.onnx.verification.json``."""
    return path.with_name(path.name + ".verification.json")


def artifact_from(path: Path, sha256: str, lineage: Mapping[str, Any], source: str) -> Artifact:
    """Read :meth:`Artifact.lineage` back. ``source`` names where it stood, for :class:`ArtifactError`."""
    try:
        if lineage["schema"] != SCHEMA:
            raise ArtifactError(
                f"{source} has schema {lineage['schema']}, this version of mimo reads {SCHEMA}: make the file again with it."
            )
        if lineage["format"] not in get_args(Format) or lineage["precision"] not in get_args(Precision):
            raise ValueError("format or precision")
        if lineage["io"] not in ("float32", "float16"):
            raise ValueError("io")
        model, shapes, receipt = lineage["model"], lineage["shapes"], lineage["receipt"]
        return Artifact(
            path=path,
            sha256=sha256,
            format=lineage["format"],
            precision=lineage["precision"],
            io=lineage["io"],
            spec=spec_from_json(model),
            checkpoint_sha256=lineage["checkpoint_sha256"],
            parent=lineage["parent"],
            parent_sha256=lineage["parent_sha256"],
            shapes=ShapeRange(Shape.parse(shapes["min"]), Shape.parse(shapes["opt"]), Shape.parse(shapes["max"]))
            if shapes
            else None,
            receipt=Receipt(receipt["convolutions"], receipt["resizes"], receipt["inner_casts"]) if receipt else None,
            compute_capabilities=tuple(lineage["compute_capabilities"]),
            tools=lineage["tools"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ShapeError) as error:
        raise ArtifactError(f"{source} is damaged ({error!r}): make the file again with mimo.") from error


def open_artifact(path: Path) -> Artifact:
    """The artifact at ``path``, its bytes checked against its sidecar (or, for ONNX alone, its own metadata).

    Raises :class:`ArtifactError` when the file is missing, when its bytes changed since the sidecar was written, or when
    nothing says what it is.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is not there: make it with mimo export or mimo build-engine, or check the name.")
    sha256 = hash_of(path)
    sidecar = sidecar_of(path)
    if sidecar.is_file():
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8"))
            recorded = content["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{sidecar} is damaged ({error!r}): make {path.name} again.") from error
        if recorded != sha256:
            raise ArtifactError(
                f"{path} has changed since {sidecar.name} was written (sha256 {sha256[:12]} instead of {str(recorded)[:12]}): "
                "make it again, or restore the file that belongs to the sidecar."
            )
        return artifact_from(path, sha256, content, sidecar.name)
    if path.suffix == ".onnx":
        return artifact_from(path, sha256, onnx_lineage(path), f"{path.name}'s metadata")
    raise ArtifactError(
        f"{path} has no sidecar {sidecar.name}, and an engine cannot say itself what it is: keep the two together, "
        "or build it again with mimo build-engine."
    )


def load_onnx(path: Path) -> ModelProto:
    """Read an ONNX file. Raises :class:`ArtifactError` when it cannot be read."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path), format="protobuf")
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not a readable ONNX file: export it again with mimo export.") from error


def onnx_lineage(path: Path) -> dict[str, Any]:
    """The lineage in an ONNX file's metadata. Raises :class:`ArtifactError` for a file that has none or cannot be read."""
    for entry in load_onnx(path).metadata_props:
        if entry.key == METADATA_PREFIX + "lineage":
            try:
                lineage = json.loads(entry.value)
            except ValueError as error:
                raise ArtifactError(f"{path}: its lineage is damaged: export it again with mimo export.") from error
            if isinstance(lineage, dict):
                return lineage
    raise ArtifactError(f"{path} is an ONNX file of another model: only files made by mimo export carry MIMO-UNet's lineage.")


def tool_versions(*packages: str) -> dict[str, str]:
    """``{distribution: version}`` of this project and of those of ``packages`` that are installed."""
    versions = {}
    for package in ("mimo-deblur", *packages):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
