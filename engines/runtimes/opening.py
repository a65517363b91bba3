"""From a file to a running engine, by the table of runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from engines.runtimes.base import Engine, runtime_errors
from engines.runtimes.table import Device, FileKind, Opening, Precision, Runtime, choose, refusal
from mimo.artifact import Artifact, open_artifact
from mimo.errors import EngineUnavailable
from mimo.kinds import kind_of
from mimo.served import ServedModel


def open_engine(
    path: Path,
    runtime: Runtime | Literal["auto"] = "auto",
    device: Device | Literal["auto"] = "auto",
    *,
    precision: Precision | Literal["auto"] = "auto",
    threads: int | None = None,
    eager: bool = False,
    cuda_graph: bool = False,
) -> Engine:
    """Load a checkpoint or an artifact on a runtime that takes it, or connect to a model on a server.

    ``runtime="auto"`` and ``device="auto"``: see :func:`~engines.runtimes.table.choose`. What was named is what is used: if
    it is not here, :class:`EngineUnavailable` is raised and nothing else is tried. ``precision="auto"``: float32 in PyTorch
    and in ONNX Runtime on the CPU; in PyTorch on CUDA float16, of the network as it is exported, channels last, with a CUDA
    graph for the shape at hand; bfloat16 in OpenVINO where the processor has it, elsewhere the graph's. ``threads``: on
    the CPU, by default see :func:`~engines.runtimes.threads.threads_for`. ``eager`` and ``cuda_graph``: see
    :class:`~engines.runtimes.table.Opening`, :class:`~engines.runtimes.tensorrt.TensorRTEngine` and
    :class:`~engines.runtimes.pytorch.PyTorchEngine`.

    Raises also :class:`~mimo.errors.ArtifactError` and :class:`~mimo.errors.CheckpointError` for a file that cannot be
    read, and :class:`~mimo.errors.EngineError` when the runtime fails to load it.
    """
    kind, artifact = kind_at(path)
    row, chosen = choose(kind, runtime, device)
    if reason := refusal(kind, path.name, row, chosen, cuda_graph=cuda_graph):
        raise EngineUnavailable(reason)
    opening = Opening(path, artifact, chosen, precision, threads, eager, cuda_graph)
    with runtime_errors(f"{row.name} cannot load {path.name}"):
        engine = row.open(opening)
    if device not in ("auto", engine.device):
        engine.close()
        raise EngineUnavailable(f"{path} computes on {engine.device}, as its server was told to: leave the device out.")
    return engine


def kind_at(path: Path) -> tuple[FileKind, Artifact | None]:
    """What the file is, and the artifact when it is one. Raises :class:`~mimo.errors.ArtifactError`."""
    if isinstance(path, ServedModel):
        return "served", artifact_at(path)
    if kind_of(path) == "checkpoint":
        return "checkpoint", None
    artifact = open_artifact(path)
    return artifact.format, artifact


def artifact_at(path: Path) -> Artifact:
    """The artifact at ``path``, or the one that a server runs under that URL, as its configuration says.

    Raises as :func:`~mimo.artifact.open_artifact` and :func:`engines.runtimes.triton.describe` do.
    """
    if isinstance(path, ServedModel):
        from engines.runtimes.triton import describe

        return describe(path).artifact
    return open_artifact(path)
