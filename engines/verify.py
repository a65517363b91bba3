"""Artifacts verified one after the other, each on every runtime that takes it, against what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from engines.references import References
from engines.runtimes.opening import artifact_at, open_engine
from engines.runtimes.table import Device, Precision, Runtime, RuntimeInfo, places
from engines.runtimes.threads import threads_for
from engines.sample_images import list_pairs, list_photographs
from engines.verification import Reference, Verification, verify_numerics, verify_structure
from mimo.artifact import Artifact
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import ArtifactError, EngineUnavailable
from mimo.formats import format_info
from mimo.served import ServedModel
from mimo.spec import Shape

OPTIMUM = Shape(1, 720, 1280)


def verify(
    paths: Sequence[Path],
    *,
    against: Path | None = None,
    images: Path | None = None,
    optimum: Shape = OPTIMUM,
    runtime: Runtime | Literal["auto"] = "auto",
    precision: Precision | Literal["auto"] = "auto",
    threads: int | None = None,
    seed: int | None = None,
    refused: list[tuple[Path, ArtifactError]] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Verification]:
    """Verify the artifacts at ``paths``: a result for each on every runtime of this machine that takes it, or on ``runtime``.

    ``against``: the checkpoint they were made from, by default found by its hash beside them, in the current directory or among
    the bundled ones. ``images``: a folder of photographs, by default the bundled ones; where it has ``blur/`` and ``sharp/``
    the change of PSNR is measured too. ``optimum``: the size to verify a graph at. ``threads``: of the CPU, by default see
    :func:`~engines.runtimes.threads.threads_for`. ``seed``: draw the shapes of an earlier verification again. A TensorRT engine
    without a GPU is verified in structure alone, and its status is ``not run``. A model on a server is
    verified there. Nothing is written.

    Raises :class:`ArtifactError` for a file that is no artifact or whose checkpoint is not found; with ``refused`` that file
    goes there and the others are verified, unless there is none. Raises :class:`EngineUnavailable` for a runtime that was named
    and cannot be used, and what :func:`~engines.verification.verify_numerics` raises.
    """
    photographs = list_photographs(images or PHOTOGRAPHS)
    pairs = list_pairs(images) if images else []
    references = References(against, threads_for(threads).count)
    artifacts = []
    for path in paths:
        try:
            artifact = artifact_at(path)
            references.check(artifact)
            artifacts.append(artifact)
        except ArtifactError as error:
            if refused is None:
                raise
            refused.append((path, error))
    if not artifacts and refused:
        raise refused[0][1]

    def on(artifact: Artifact, row: RuntimeInfo, device: Device, reference: Reference) -> Verification | None:
        served = isinstance(artifact.path, ServedModel)
        try:
            place: Device | Literal["auto"] = "auto" if served else device  # a server decides it itself
            engine = open_engine(artifact.path, row.name, place, precision=precision, threads=threads)
        except EngineUnavailable as error:
            if served or format_info(artifact.format).is_graph:
                if runtime == "auto" and not row.is_installed:
                    return None  # a runtime that is not installed is none of those that work here
                raise
            progress(f"{artifact.path.name}: structure")
            return verify_structure(artifact, artifact.checkpoint_sha256, str(error) if row.has_cuda() else "no GPU")
        with engine:
            return verify_numerics(
                artifact,
                engine,
                reference,
                artifact.checkpoint_sha256,
                photographs,
                optimum=optimum,
                pairs=pairs,
                seed=seed,
                progress=progress,
            )

    results = []
    for artifact in artifacts:
        reference = references.of(artifact)
        for row, device in places("served" if isinstance(artifact.path, ServedModel) else artifact.format):
            if runtime in ("auto", row.name) and (found := on(artifact, row, device, reference)) is not None:
                results.append(replace(found, reference=reference.name))
    return results
