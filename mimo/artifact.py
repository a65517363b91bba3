"""An artifact: a file made from a checkpoint, and the sidecar that says from which, how and with what.

The sidecar is ``<file>.json`` beside the file. ONNX files carry the same lineage in their metadata too. A TensorRT
engine stays a plain plan file, which trtexec and Triton load (Triton those of TensorRT, not of TensorRT-RTX).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mimo.errors import ArtifactError, MimoError, OutputError
from mimo.files import write_json
from mimo.formats import Format, hash_of
from mimo.networks.registry import spec_from_json
from mimo.spec import ModelSpec, Shape, ShapeRange

if TYPE_CHECKING:
    from onnx import ModelProto

    from mimo.sidecar import LineageRecord

Precision = Literal["fp32", "fp16", "int8", "mixed"]

SCHEMA = 1
METADATA_PREFIX = "mimo."
INPUT, OUTPUT = "blur", "sharp"


@dataclass(frozen=True)
class Receipt:
    """What precision a built TensorRT network, or an INT8 graph, computes in, counted layer by layer."""

    convolutions: Mapping[str, int]
    """Convolutions and deconvolutions by the type they compute in, such as ``{"fp16": 120}``; ``int8`` where a
    DequantizeLinear feeds them."""
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
    kept_float: Mapping[str, str] = field(default_factory=dict)
    """Of an INT8 file: the convolutions that are not, and why."""
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
            **({"kept_float": dict(self.kept_float)} if self.kept_float else {}),
        }

    @property
    def lineage_sha256(self) -> str:
        """Of :meth:`lineage`: what a verification remembers of everything that the sidecar says."""
        return hashlib.sha256(json.dumps(self.lineage(), sort_keys=True).encode()).hexdigest()

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


def artifact_from(path: Path, sha256: str, text: str | bytes, source: str) -> Artifact:
    """Read :meth:`Artifact.lineage` back from JSON. ``source`` names where it stood, for :class:`ArtifactError`."""
    from mimo.sidecar import read_lineage

    return _artifact(path, sha256, read_lineage(text, source), source)


def _artifact(path: Path, sha256: str, record: LineageRecord, source: str) -> Artifact:
    shapes, receipt = record.shapes, record.receipt
    try:
        spec = spec_from_json(record.model)
        return Artifact(
            path=path,
            sha256=sha256,
            format=record.format,
            precision=record.precision,
            io=record.io,
            spec=spec,
            checkpoint_sha256=record.checkpoint_sha256,
            parent=record.parent,
            parent_sha256=record.parent_sha256,
            shapes=ShapeRange(Shape.parse(shapes.min), Shape.parse(shapes.opt), Shape.parse(shapes.max), spec.size_multiple)
            if shapes
            else None,
            receipt=Receipt(receipt.convolutions, receipt.resizes, receipt.inner_casts) if receipt else None,
            compute_capabilities=record.compute_capabilities,
            kept_float=record.kept_float,
            tools=record.tools,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, MimoError) as error:
        raise ArtifactError(f"{source} is damaged ({repr(error)[:200]}): make the file again with mimo.") from error


def open_artifact(path: Path) -> Artifact:
    """The artifact at ``path``, its bytes checked against its sidecar (or, for ONNX alone, its own metadata).

    An ONNX file is checked as :func:`mimo.onnx_check.read_graph` does, and its element type and precision against what the
    graph itself computes in; a plan by its header. Raises :class:`ArtifactError` when the file is missing, when its bytes
    changed since the sidecar was written, when the two contradict each other, or when nothing says what it is.
    """
    if not _is_there(path):
        raise ArtifactError(f"{path} does not exist: make it with mimo export or mimo build-engine, or check the name.")
    sha256 = hash_of(path)
    sidecar = sidecar_of(path)
    if _is_there(sidecar):
        from mimo.sidecar import read_sidecar

        record = read_sidecar(sidecar, path.name)
        if record.sha256 != sha256:
            raise ArtifactError(
                f"{path} has changed since {sidecar.name} was written (sha256 {sha256[:12]} instead of {record.sha256[:12]}): "
                "make it again, or restore the file that belongs to the sidecar."
            )
        artifact = _artifact(path, sha256, record, sidecar.name)
    elif path.suffix == ".onnx":
        artifact = artifact_from(path, sha256, onnx_lineage(path), f"{path.name}'s metadata")
    else:
        raise ArtifactError(
            f"{path} has no sidecar {sidecar.name}, and an engine cannot say itself what it is: keep the two together, "
            "or build it again with mimo build-engine."
        )
    match artifact.format:
        case "onnx":
            _check_types(artifact)
            _check_lineage(artifact)
        case "tensorrt" | "tensorrt-rtx":
            from mimo.plan_header import check_plan

            check_plan(path, artifact.format, artifact.tools.get(artifact.format))
        case "openvino":
            pass  # OpenVINO reads it, and raises for what it does not know
    return artifact


def _check_lineage(artifact: Artifact) -> None:
    """Raises :class:`ArtifactError` when the graph's sidecar says something else than the graph itself.

    The two are written as one; a shape, a model or a parent that stands only in the sidecar was put there later.
    """
    text = _lineage_of(artifact.path, artifact.sha256)
    own = artifact_from(artifact.path, artifact.sha256, text, f"{artifact.path.name}'s metadata").lineage()
    said = artifact.lineage()
    if other := sorted(key for key in said if said[key] != own[key]):
        raise ArtifactError(
            f"{sidecar_of(artifact.path).name} says something else of {', '.join(other)} than {artifact.path.name} itself: "
            "take the sidecar away, or make the file again with mimo."
        )
    if artifact.shapes is not None:
        raise ArtifactError(f"{artifact.path} is a graph with a profile, which only engines have: export it again.")


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system has, a link to itself
        return False


def _check_types(artifact: Artifact) -> None:
    """Raises :class:`ArtifactError` when the graph takes or computes in other types than its lineage says."""
    precision, io = _types_of(artifact.path, artifact.sha256)
    if (precision, io) != (artifact.precision, artifact.io):
        raise ArtifactError(
            f"{artifact.path} computes in {precision} with {io} input and output, and is said to in {artifact.precision} with "
            f"{artifact.io}: make the file again with mimo."
        )


@lru_cache(maxsize=32)
def _types_of(path: Path, sha256: str) -> tuple[str, str]:
    """Precision and element type of the graph with this hash, which is looked at once."""
    from mimo.onnx_stats import ends_of, precision_of_graph

    model = load_onnx(path)
    return precision_of_graph(model), ends_of(model, INPUT, OUTPUT)


@lru_cache(maxsize=32)
def _lineage_of(path: Path, sha256: str) -> str:
    """What the graph with this hash says of itself, which is read once."""
    return onnx_lineage(path)


def load_onnx(path: Path) -> ModelProto:
    """Read an ONNX file and check it. Raises :class:`ArtifactError` as :func:`mimo.onnx_check.read_graph` does."""
    from mimo.onnx_check import read_graph

    return read_graph(path)


def onnx_lineage(path: Path) -> str:
    """The lineage in an ONNX file's metadata, as JSON. Raises :class:`ArtifactError` for a file without or that is no ONNX."""
    for entry in load_onnx(path).metadata_props:
        if entry.key == METADATA_PREFIX + "lineage":
            return str(entry.value)
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
