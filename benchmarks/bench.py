"""``mimo bench``: every artifact on every runtime, one row each, saved as soon as it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.context import describe_machine
from benchmarks.measurement import Measurement, Plan, measure
from engines.inputs import photograph_batch
from engines.opening import CHECKPOINT_SUFFIXES, open_engine
from engines.protocol import Device, Runtime
from mimo.artifact import open_artifact, verification_of
from mimo.errors import MimoError
from mimo.files import sha256_of, write_json
from mimo.spec import Shape

SCHEMA = 1


@dataclass(frozen=True)
class Job:
    """One row to measure: a checkpoint or an artifact on one runtime and device."""

    path: Path
    runtime: Runtime
    device: Device


@dataclass(frozen=True)
class Row:
    """One measured row, or why it could not be measured. ``compute`` is the precision the arithmetic ran in."""

    file: str
    sha256: str | None
    engine: str
    compute: str | None
    verified: str
    measurement: Measurement | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        measured = self.measurement
        return {
            "file": self.file,
            "sha256": self.sha256,
            "engine": self.engine,
            "compute": self.compute,
            "verified": self.verified,
            "reason": self.reason,
            "summary_seconds": {
                "median": measured.median,
                "p95": measured.p95,
                "min": measured.minimum,
                "max": measured.maximum,
                "n": measured.n,
                "first_call": measured.first,
                "async_not_latency": measured.median_enqueued,
                "events": measured.median_events,
            }
            if measured
            else None,
            "samples_seconds": {
                "synchronised": measured.synchronised,
                "enqueued_not_latency": measured.enqueued,
                "events": measured.events,
                "warm_up": measured.warm_up,
            }
            if measured
            else None,
        }


def jobs_for(path: Path, *, cuda: bool) -> list[Job]:
    """All runtimes that take the file, on the CPU and, if ``cuda``, on the GPU; a TensorRT engine always asks for one."""
    if path.suffix in CHECKPOINT_SUFFIXES:
        return [Job(path, "pytorch", "cpu"), *([Job(path, "pytorch", "cuda")] if cuda else [])]
    artifact = open_artifact(path)
    if artifact.format != "onnx":
        return [Job(path, artifact.format, "cuda")]
    rows = [Job(path, "onnxruntime", "cpu"), Job(path, "openvino", "cpu")]
    return [*rows, *([Job(path, "onnxruntime", "cuda")] if cuda else [])]


def bench(
    jobs: Sequence[Job],
    shape: Shape,
    photographs: Sequence[Path],
    plan: Plan,
    *,
    json_out: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterable[Row]:
    """Measure ``jobs`` one after the other at ``shape`` on real photographs, yielding each row when it is done.

    With ``json_out`` the report is rewritten, atomically, after each row: a crash loses at most the row under way. What
    cannot run is a row with its reason.
    """
    images = photograph_batch(photographs, shape)
    context = describe_machine()
    rows: list[Row] = []
    for job in jobs:
        progress(f"{job.path.name} on {job.runtime} {job.device}")
        row = _row(job, images, plan)
        rows.append(row)
        if json_out is not None:
            content = {"schema": SCHEMA, "shape": str(shape), "context": context, "rows": [one.to_json() for one in rows]}
            write_json(json_out, content)
        yield row


def speedup(row: Row, baseline: Row | None) -> float | None:
    """How many times faster ``row`` is than ``baseline``, by their medians."""
    if row.measurement is None or baseline is None or baseline.measurement is None:
        return None
    return baseline.measurement.median / row.measurement.median


def verified_as(path: Path, sha256: str, engine: str) -> str:
    """``verified``, ``FAILED`` or ``UNVERIFIED``, from the report that mimo verify left beside the file."""
    try:
        entries = json.loads(verification_of(path).read_text(encoding="utf-8"))
        statuses = [entry["status"] for entry in entries if entry["sha256"] == sha256 and entry["engine"] == engine]
    except (OSError, ValueError, KeyError, TypeError):
        statuses = []
    return {"passed": "verified", "failed": "FAILED"}.get(statuses[0] if statuses else "", "UNVERIFIED")


def _row(job: Job, images: Any, plan: Plan) -> Row:
    sha256 = sha256_of(job.path) if job.path.is_file() else None
    asked = f"{job.runtime} {job.device}"
    try:
        with open_engine(job.path, job.runtime, job.device, eager=True) as engine:
            measured = measure(engine, images, plan)
            is_reference = job.runtime == "pytorch" and engine.compute == "fp32"
            verified = "reference" if is_reference else verified_as(job.path, sha256 or "", engine.name)
            return Row(job.path.name, sha256, engine.name, engine.compute, verified, measured)
    except MimoError as error:
        return Row(job.path.name, sha256, asked, None, "-", reason=str(error))
