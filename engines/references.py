"""What mimo verify compares an artifact with, found by the hash of the checkpoint that it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from engines.runtimes.base import Engine
from engines.runtimes.table import runtime_info
from engines.verification import Reference
from mimo.artifact import Artifact, open_artifact
from mimo.bundled import checkpoint_of, given_checkpoint, given_file
from mimo.errors import ArtifactError
from mimo.networks.registry import ADOPTED
from mimo.terminal import need_torch


class References:
    """What each artifact is compared with: its checkpoint in PyTorch, or for an adopted graph that graph itself in FP32."""

    def __init__(self, against: Path | None, threads: int) -> None:
        self._against = given_file(against) if against else None
        self._threads = threads
        self._files: dict[str, Path] = {}
        self._running: dict[str, Reference] = {}

    def check(self, artifact: Artifact) -> None:
        """Find the file behind ``artifact``, before anything is computed. Raises :class:`ArtifactError` without one."""
        sha256 = artifact.checkpoint_sha256
        if sha256 in self._files:
            return
        adopted = artifact.spec.network == ADOPTED
        if self._against is None:
            folder = artifact.path.parent
            found = _adopted_graph(artifact) if adopted else checkpoint_of(sha256, folder)
            if found is None:
                raise ArtifactError(
                    f"{artifact.path.name} was made from a checkpoint (sha256 {sha256[:12]}) that is neither in {folder} nor "
                    "in the current directory: name it with --against."
                )
        elif adopted:
            found = self._against
        else:
            need_torch("a checkpoint", "torch", ", or use an ONNX file made elsewhere")
            given = given_checkpoint(self._against)
            if given.sha256 != sha256:
                raise ArtifactError(
                    f"{artifact.path.name} was made from another checkpoint (sha256 {sha256[:12]}) than "
                    f"{given.path.name} ({given.sha256[:12]}): name its own with --against."
                )
            found = self._against
        self._files[sha256] = found

    def of(self, artifact: Artifact) -> Reference:
        """The reference for ``artifact``, opened once for each checkpoint."""
        sha256 = artifact.checkpoint_sha256
        if sha256 in self._running:
            return self._running[sha256]
        if artifact.spec.network == ADOPTED:
            from engines.runtimes.onnxruntime import OnnxRuntimeEngine

            graph = open_artifact(self._files[sha256])
            engine: Engine = OnnxRuntimeEngine(graph, "cpu", threads=self._threads)
            self._running[sha256] = Reference(engine, f"{graph.path.name} itself in ONNX Runtime FP32")
        else:
            need_torch("a checkpoint", "torch", ", or use an ONNX file made elsewhere")
            from engines.runtimes.pytorch import PyTorchEngine

            device: Literal["cpu", "cuda"] = "cuda" if runtime_info("pytorch").has_cuda() else "cpu"
            engine = PyTorchEngine(given_checkpoint(self._files[sha256]), device, threads=self._threads)
            self._running[sha256] = Reference(engine)
        return self._running[sha256]


def _adopted_graph(artifact: Artifact) -> Path:
    """The FP32 graph that mimo adopt wrote, from which ``artifact`` was made; it is the reference itself."""
    passed: set[str] = set()
    while artifact.parent is not None:
        passed.add(artifact.path.name)
        if artifact.parent in passed:
            raise ArtifactError(f"{artifact.path.name} is said to be made of a file that was made of it: make it again.")
        artifact = open_artifact(artifact.path.with_name(artifact.parent))
    return artifact.path
