"""What the commands of this room measure: files, each with the runtimes that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from benchmarks.bench import Job, job_on, jobs_for
from engines.options import EngineChoice, PrecisionChoice
from engines.runtimes.table import Runtime, runtime_info
from mimo.artifact import Artifact, open_artifact
from mimo.bundled import WEIGHTS, checkpoint_of, given_file, given_model
from mimo.errors import ArtifactError, MimoError
from mimo.served import ServedModel, model_path
from mimo.spec import Shape
from mimo.terminal import artifacts_here


def bench_jobs(
    targets: list[str] | None,
    against: Path | None,
    engine: EngineChoice,
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
    *,
    refused: list[tuple[Path, ArtifactError]] | None = None,
) -> list[Job]:
    """What ``mimo bench`` measures: the named files, or eager PyTorch and every artifact in this folder.

    A file that is none of ours goes to ``refused`` where that is given and others are left; otherwise that is raised.
    """
    if targets:
        chosen = [_target(target, engine) for target in targets]
    else:
        chosen = [(path, engine) for path in (*_checkpoints(against), *artifacts_here())]
    jobs = []
    for path, runtime in chosen:
        try:
            possible = jobs_for(path)
        except ArtifactError as error:
            if refused is None or len(chosen) == 1:
                raise
            refused.append((path, error))
            continue
        if runtime != "auto":
            device = runtime_info(runtime).devices[0]
            possible = [job for job in possible if job.runtime == runtime] or ([Job(path, runtime, device)] if targets else [])
        if not targets and not find_spec("torch"):
            possible = [job for job in possible if job.runtime != "pytorch"]
        jobs += possible
    if not jobs and refused:
        raise refused[0][1]
    if not jobs:
        raise MimoError(f"nothing here runs on {engine}: name a file that does, or leave --engine out.")
    return list(
        dict.fromkeys(
            replace(job, precision=job.precision if precision == "auto" else precision, threads=threads) for job in jobs
        )
    )


def _checkpoints(against: Path | None) -> list[Path]:
    """What the artifacts in this folder are compared with: the checkpoints they were made from, where these can be found."""
    if against is not None:
        return [given_file(against)]
    behind: dict[str, Artifact] = {}
    for path in artifacts_here():
        with suppress(ArtifactError):  # told when it is its turn
            artifact = open_artifact(path)
            behind[artifact.checkpoint_sha256] = artifact
    found = [checkpoint_of(sha256, artifact.path.parent) for sha256, artifact in behind.items()]
    return [path for path in found if path] or ([] if behind else [WEIGHTS])


def one_job(target: str, precision: PrecisionChoice = "auto", threads: int | None = None) -> Job:
    """``FILE`` or ``FILE@RUNTIME`` on the runtime named, or on the one that ``auto`` means here.

    Raises :class:`MimoError` for an unknown runtime and :class:`~mimo.errors.ArtifactError` for a file that is none of ours.
    """
    path, runtime = _target(target, "auto")
    return replace(job_on(path, None if runtime == "auto" else runtime), precision=precision, threads=threads)


def models_of(targets: Sequence[str]) -> list[Path]:
    """What ``targets`` name, without looking for it. Raises :class:`MimoError` as :func:`one_job` does."""
    return [_target(target, "auto")[0] for target in targets]


def variants(jobs: Sequence[Job], *, e2e: bool, throughput: int, cuda_graph: bool, cold_cache: bool) -> list[Job]:
    """Each job and the further modes that were asked for, right after it.

    Raises :class:`MimoError` when CUDA graphs are asked for and none of ``jobs`` runs on a GPU, or cold caches on a server.
    """
    if cuda_graph and not any(job.device == "cuda" for job in jobs):
        raise MimoError("--cuda-graph needs a row on a GPU, and there is none: leave it out.")
    if cold_cache and any(isinstance(job.path, ServedModel) for job in jobs):
        raise MimoError("--cold-l2 empties the caches of this machine, not those of a server: leave it out.")
    return [variant for job in jobs for variant in _variants(job, e2e, throughput, cuda_graph, cold_cache)]


def _variants(job: Job, e2e: bool, throughput: int, cuda_graph: bool, cold_cache: bool) -> Iterator[Job]:
    yield job
    if e2e:
        yield replace(job, mode="e2e")
    if throughput:
        yield replace(job, mode="throughput", in_flight=throughput)
    if cuda_graph and job.device == "cuda":
        yield replace(job, mode="cuda-graph")
    if cold_cache:
        yield replace(job, mode="cold-cache")


def _target(target: str, engine: EngineChoice) -> tuple[Path, EngineChoice]:
    """``FILE`` or ``FILE@RUNTIME``; a file whose own name ends so is taken as it is."""
    name, at, runtime = target.rpartition("@")
    if not at or Path(target).exists():
        return given_model(model_path(target), engine), engine
    for choice in get_args(EngineChoice):
        if choice == runtime and name:
            return given_model(model_path(name), choice), choice
    raise MimoError(f"{target}: there is no runtime {runtime}: use one of {', '.join(get_args(Runtime))}.")


def shape_from(size: str, batch: int) -> Shape:
    """The shape of ``--size`` and ``--batch``. Raises :class:`~mimo.errors.ShapeError` for a size that is a lone number."""
    shape = Shape.parse(size)
    if batch != 1 and shape.batch not in (1, batch):
        raise MimoError(f"--size {size} says a batch of {shape.batch} and --batch {batch}: leave one out.")
    return Shape(max(shape.batch, batch), shape.height, shape.width)


def batch_from(text: str | int) -> int:
    """The number in a part of ``--batch``. Raises :class:`~mimo.errors.MimoError` for what is no whole number of at least 1."""
    text = str(text)
    if not text.strip().isdecimal() or int(text) < 1:
        raise MimoError(f"--batch must be whole numbers of at least 1 with commas between, got {text!r:.40}.")
    return int(text)
