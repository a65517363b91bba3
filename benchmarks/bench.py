"""``mimo bench``: every artifact on every runtime, one row each, saved as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, assert_never

from benchmarks.cold_cache import cold_cache
from benchmarks.compare import RoundsRule, compare
from benchmarks.cost import Work, work_of_graph, work_of_module
from benchmarks.machine import describe_machine
from benchmarks.measurement import (
    EndToEnd,
    InFlight,
    Latency,
    Measurement,
    Mode,
    StoppingRule,
    Subject,
    measure,
)
from benchmarks.memory import Memory, PeakMemory, free_caches
from benchmarks.recorded import checked_as
from benchmarks.reports import BenchReport, CompareReport, Machine, Psnr, Row, Samples, Side, State, Verified
from benchmarks.roofline import Ceiling, better, limits_of, measure_ceiling
from benchmarks.served import machine_states, server_times
from benchmarks.telemetry import Gauges
from engines.runtimes.base import Device, Engine, Images, Runtime, runtime_errors
from engines.runtimes.opening import artifact_at, kind_at, open_engine
from engines.runtimes.table import Precision, choose, places
from engines.sample_images import photograph_batch
from mimo.artifact import open_artifact
from mimo.errors import ArtifactError, MimoError
from mimo.files import write_json
from mimo.formats import hash_of
from mimo.kinds import kind_of
from mimo.served import ServedModel
from mimo.spec import Shape

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Job:
    """One row to measure: a checkpoint or an artifact on one runtime and device, and what a sample is."""

    path: Path
    runtime: Runtime
    device: Device
    mode: Mode = "sync"
    in_flight: int = 1
    """How many restorations at once, for ``throughput``."""
    precision: Precision | Literal["auto"] = "auto"
    threads: int | None = None
    """On the CPU; None for :func:`~engines.runtimes.threads.threads_for`'s answer."""

    def __str__(self) -> str:
        return f"{self.path.name} on {self.runtime} {self.device}" + ("" if self.mode == "sync" else f", {self.mode}")


DEFAULT: tuple[Literal["auto"]] = ("auto",)
FP32_AND_DEFAULT: tuple[Literal["fp32"], Literal["auto"]] = ("fp32", "auto")


class Ceilings:
    """What each device can do at best in each precision, measured when a row first asks for it."""

    def __init__(self, progress: Callable[[str], None] = lambda _: None) -> None:
        self._progress = progress
        self._known: dict[tuple[Device, str], Ceiling] = {}

    def limited(self, row: R, work: Work | None) -> R:
        """``row`` with its limits; as it is when it was not measured or its ``work`` is not known."""
        elsewhere = row.runtime == "triton"  # what this machine could do is no measure for another
        if row.summary is None or row.compute is None or row.device not in ("cpu", "cuda") or elsewhere:
            return row
        device: Device = "cpu" if row.device == "cpu" else "cuda"
        kind = (device, row.compute)
        if kind not in self._known:
            self._progress(f"what this {device} can do in {row.compute} at best")
            self._known[kind] = measure_ceiling(*kind)
        if work is None:
            return row
        return row.model_copy(update={"limits": limits_of(work, self._known[kind], row.summary.median)})

    def settle(self, rows: Sequence[R], works: Sequence[Work | None]) -> tuple[R, ...]:
        """Measure every ceiling once more, after the rows, and give the rows the better of the two.

        A machine that was busy at the beginning would set the ceilings too low, and every fraction of them too high.
        """
        for device, compute in self._known:
            self._progress(f"what this {device} can do in {compute} at best, once more")
            self._known[device, compute] = better(self._known[device, compute], measure_ceiling(device, compute))
        return tuple(self.limited(row, work) for row, work in zip(rows, works, strict=True))

    @property
    def known(self) -> tuple[Ceiling, ...]:
        """Those measured so far, for the report."""
        return tuple(self._known.values())


def jobs_for(path: Path) -> list[Job]:
    """All runtimes that take the file, on the CPU and, where one can use it now, on the GPU; an engine always asks for one.

    A checkpoint has two rows on a GPU: in fp32, which the others are set against, and as it runs there by default.

    Raises :class:`ArtifactError` for a file that is none of ours.
    """
    if isinstance(path, ServedModel):
        return [job_on(path, None)]
    kind, _ = kind_at(path)
    return [
        Job(path, row.name, device, precision=precision)
        for row, device in places(kind)
        for precision in (FP32_AND_DEFAULT if (kind, device) == ("checkpoint", "cuda") else DEFAULT)
    ]


def job_on(path: Path, runtime: Runtime | None) -> Job:
    """The file on ``runtime``, or on the one that ``auto`` means here; on the GPU where it can. Raises as :func:`jobs_for`."""
    if isinstance(path, ServedModel) and runtime in (None, "triton"):
        from engines.runtimes.triton import describe

        return Job(path, "triton", describe(path).device)
    kind, _ = kind_at(path)
    row, device = choose(kind, runtime or "auto")
    return Job(path, row.name, device)


def bench(
    jobs: Sequence[Job],
    shape: Shape,
    photographs: Sequence[Path],
    rule: StoppingRule,
    *,
    limits: bool = True,
    json_out: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
    finished: Callable[[Row], None] = lambda _: None,
) -> BenchReport:
    """Measure ``jobs`` one after the other at ``shape`` on real photographs; returns the report.

    ``limits`` also measures what the device could do at best. With ``json_out`` the report is rewritten, atomically, after
    each row, before ``finished`` is told of it: a crash loses at most the row under way. What cannot run is a row with its
    reason.
    """
    images = photograph_batch(photographs, shape)
    report = BenchReport(**head(shape), rule=rule)
    ceilings = Ceilings(progress)
    works: list[Work | None] = []
    for job in jobs:
        progress(str(job))
        row = measure_row(job, images, rule)
        if limits:
            works.append(work_of(job, shape) if row.summary else None)
            row = ceilings.limited(row, works[-1])
        report = report.model_copy(update={"ceilings": ceilings.known, "rows": (*report.rows, row)})
        if json_out is not None:
            write_json(json_out, report.to_json())
        finished(row)
    if limits:
        report = report.model_copy(update={"rows": ceilings.settle(report.rows, works), "ceilings": ceilings.known})
        if json_out is not None:
            write_json(json_out, report.to_json())
    return report


def head(shape: Shape) -> dict[str, Any]:
    """What every report begins with: its shape, when it was made, and where."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"shape": str(shape), "made": made, "context": Machine(**describe_machine())}


def compare_jobs(
    job_a: Job,
    job_b: Job,
    shape: Shape,
    photographs: Sequence[Path],
    rule: RoundsRule,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> CompareReport:
    """The report of A against B, both open at once and called in turn on the same photographs.

    Raises :class:`MimoError` when one of the two cannot run: then there is nothing to compare.
    """
    images = photograph_batch(photographs, shape)
    with ExitStack() as stack:
        subjects: list[Subject] = []
        sides: list[Side] = []
        for job in (job_a, job_b):
            progress(f"opening {job}")
            sha256 = hash_at(job.path)
            checkpoint_sha256 = _checkpoint_behind(job.path, sha256)
            engine = stack.enter_context(_open(job))
            subjects.append(_subject(job, [engine], images, stack))
            verified, psnr = standing(job, sha256, engine)
            what = side_of(job, shape, engine, verified) | {"sha256": sha256, "checkpoint_sha256": checkpoint_sha256}
            sides.append(Side(**what, psnr=psnr))
        progress("warming up")
        calls = [measure(subject, StoppingRule(max_seconds=0)).median for subject in subjects]
        sample_a, sample_b = (partial(_latency, subject) for subject in subjects)
        found = compare(sample_a, sample_b, rule.for_calls(max(calls)), progress=progress)
    a, b = sides
    return CompareReport(**head(shape), rule=rule, a=a, b=b, comparison=found)


def _latency(subject: Subject) -> float:
    return subject.sample().latency


def measure_row(job: Job, images: Images, rule: StoppingRule) -> Row:
    """Open what ``job`` names, measure it on ``images`` and close it; what cannot run becomes the row's reason."""
    sha256: str | None = None
    try:
        sha256 = hash_at(job.path)
        checkpoint_sha256 = _checkpoint_behind(job.path, sha256)
    except MimoError as error:
        return not_run(job, shape_of(images), str(error), sha256)

    row = measure_engine(lambda: _open(job), partial(standing, job, sha256), job, images, rule)
    return row.model_copy(update={"sha256": sha256, "checkpoint_sha256": checkpoint_sha256})


def measure_engine(
    opening: Callable[[], Engine],
    judge: Callable[[Engine], tuple[Verified, Psnr | None]],
    job: Job,
    images: Images,
    rule: StoppingRule,
) -> Row:
    """Measure what ``opening`` opens, under the name of ``job``; ``judge`` says afterwards how it is verified."""
    shape = shape_of(images)
    elsewhere = job.runtime == "triton"
    try:
        free_caches(job.device)
        with PeakMemory("cpu" if elsewhere else job.device) as peak, Gauges() as gauges, ExitStack() as stack:
            waits = job.device == "cpu" or elsewhere  # there a launch is the work
            with runtime_errors(f"{job} does not start"):
                engines = [stack.enter_context(opening()) for _ in range(job.in_flight if waits else 1)]
            engine = engines[0]

            def read() -> Mapping[str, Any]:
                peak.sample()
                return {**gauges.read(), **engine.counters()}

            measured = measure(_subject(job, engines, images, stack), rule.on(job.device), gauges=read)
            memory = None if elsewhere else peak.result(engine.memory_bytes)
            verified, psnr = judge(engine)
            return measured_row(side_of(job, shape, engine, verified), measured, psnr, memory)
    except MimoError as error:
        reason = str(error)
    free_caches(job.device)  # only now, when the error is gone with all that its frames held
    return not_run(job, shape, reason)


def not_run(job: Job, shape: Shape, reason: str, sha256: str | None = None) -> Row:
    """The row of what could not be measured."""
    nothing: dict[str, Any] = dict.fromkeys(Row.model_fields)
    return Row(**nothing | side_of(job, shape, None, "-") | {"sha256": sha256, "reason": reason})


def side_of(job: Job, shape: Shape, engine: Engine | None, verified: Verified) -> dict[str, Any]:
    """The fields that say what ran; the hashes are the caller's."""
    return {
        "file": job.path.name,
        "sha256": None,
        "checkpoint_sha256": None,
        "engine": engine.name if engine else f"{job.runtime} {job.device}",
        "runtime": job.runtime,
        "device": job.device,
        "compute": engine.compute if engine else None,
        "threads": engine.threads if engine else None,
        "mode": job.mode,
        "in_flight": job.in_flight,
        "shape": str(shape),
        "verified": verified,
    }


def measured_row(side: Mapping[str, Any], measured: Measurement, psnr: Psnr | None = None, memory: Memory | None = None) -> Row:
    """The row of a measurement, its limits not yet known."""
    return Row(
        **side,
        reason=None,
        psnr=psnr,
        memory=memory,
        limits=None,
        converged=measured.converged,
        settled=measured.settled,
        drift=measured.drift,
        first_call_seconds=measured.first,
        first_after_shape_change_seconds=measured.first_after_change,
        summary=measured.summary,
        enqueued_not_latency=measured.summary_enqueued,
        events=measured.summary_events,
        samples_seconds=Samples(
            warm_up=measured.warm_up,
            synchronised=measured.synchronised,
            enqueued_not_latency=measured.enqueued,
            events=measured.events,
        ),
        states=tuple(State(**state) for state in machine_states(measured.states)),
        server=server_times(measured.states),
    )


def shape_of(images: Images) -> Shape:
    """The shape of a batch (N,3,H,W)."""
    return Shape(images.shape[0], images.shape[2], images.shape[3])


def work_of(job: Job, shape: Shape) -> Work | None:
    """The least that ``job`` has to do; None for what was made from an ONNX file that is not beside it."""
    if isinstance(job.path, ServedModel):
        return None
    if kind_of(job.path) == "checkpoint":
        from mimo.networks.checkpoint import load_checkpoint

        return work_of_module(load_checkpoint(job.path).build(), shape)
    artifact = open_artifact(job.path)
    if artifact.format == "onnx":
        return work_of_graph(job.path, shape)
    if artifact.parent is None:
        return None
    parent = job.path.with_name(artifact.parent)
    return work_of_graph(parent, shape) if parent.is_file() else None


def baseline_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """The PyTorch row that ``row`` is set against: FP32, of the same checkpoint, device, mode and shape; None without one."""

    def like(one: Row) -> tuple[Any, ...]:
        return one.checkpoint_sha256, one.device, one.mode, one.in_flight, one.shape

    if row.summary is None or row.checkpoint_sha256 is None:
        return None
    return next((one for one in rows if one.verified == "reference" and one.summary and like(one) == like(row)), None)


def speedup(row: Row, rows: Sequence[Row]) -> float | None:
    """How many times faster ``row`` is than PyTorch with the same weights (:func:`baseline_of`), by their medians."""
    baseline = baseline_of(row, rows)
    if row.summary is None or baseline is None or baseline.summary is None or row.summary.median == 0:
        return None
    return baseline.summary.median / row.summary.median


def standing(job: Job, sha256: str | None, engine: Engine) -> tuple[Verified, Psnr | None]:
    """How the row of ``engine`` is verified, and its PSNR: FP32 in PyTorch is what the others are verified against."""
    artifact = None if kind_of(job.path) == "checkpoint" else artifact_at(job.path)
    verified, quality = checked_as(job.path, sha256 or "", engine.name, artifact)
    return ("reference" if job.runtime == "pytorch" and engine.compute == "fp32" else verified), quality


def _checkpoint_behind(path: Path, sha256: str | None) -> str | None:
    if kind_of(path) == "checkpoint":
        if sha256 is None:
            raise ArtifactError(f"{path} does not exist: check the name.")
        return sha256
    return artifact_at(path).checkpoint_sha256


def hash_at(path: Path) -> str | None:
    """The SHA-256 of what ``path`` names: of a served model that of the file the server runs; None where nothing is."""
    if isinstance(path, ServedModel):
        return artifact_at(path).sha256
    return hash_of(path) if path.is_file() else None


def _open(job: Job) -> Engine:
    return open_engine(
        job.path,
        job.runtime,
        job.device,
        precision=job.precision,
        threads=job.threads,
        eager=True,
        cuda_graph=job.mode == "cuda-graph",
    )


def _subject(job: Job, engines: Sequence[Engine], images: Images, stack: ExitStack) -> Subject:
    match job.mode:
        case "sync" | "cuda-graph":
            return Latency(engines[0], images)
        case "cold-cache":
            return Latency(engines[0], images, before=stack.enter_context(cold_cache(job.device)))
        case "e2e":
            return EndToEnd(engines[0], images)
        case "throughput":
            return InFlight(engines, images, job.in_flight)
        case _:
            assert_never(job.mode)
