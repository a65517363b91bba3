"""Rows, their report on disk, and what a reader sees of them."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.bench import Job, Row, bench, jobs_for, speedup, verified_as
from benchmarks.measurement import Measurement, Plan
from benchmarks.report import bench_table
from engines.inputs import list_photographs
from mimo.files import sha256_of
from mimo.shipped import PHOTOGRAPHS
from mimo.spec import Shape
from tests.tiny import Tiny

SHAPE = Shape(1, 64, 96)
QUICK = Plan(warm_up_seconds=0, min_samples=2, max_seconds=0)


def row(median: float, *, events: tuple[float, ...] = (), verified: str = "verified", file: str = "a.onnx") -> Row:
    return Row(
        file, "0" * 64, "x cpu fp32", "fp32", verified, Measurement(1.0, (1.0,), (median,) * 3, (median / 100,) * 3, events)
    )


def test_every_row_is_on_disk_before_the_next_starts(tiny: Tiny, tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    jobs = [Job(tiny.checkpoint, "pytorch", "cpu"), Job(tiny.onnx, "onnxruntime", "cpu"), Job(tiny.onnx, "openvino", "cpu")]
    seen = []
    for finished in bench(jobs, SHAPE, list_photographs(PHOTOGRAPHS), QUICK, json_out=report):
        seen.append(finished.engine)
        content = json.loads(report.read_text())
        assert [one["engine"] for one in content["rows"]] == seen
    assert len(seen) == 3
    assert content["schema"] == 1
    assert content["shape"] == "1x64x96"
    assert content["context"]["cores"] >= 1
    first = content["rows"][0]
    assert first["verified"] == "reference"
    assert len(first["samples_seconds"]["synchronised"]) == first["summary_seconds"]["n"] == 2
    assert min(first["samples_seconds"]["synchronised"]) == first["summary_seconds"]["min"] > 0
    assert "latency" in "".join(first["summary_seconds"])


def test_what_cannot_run_is_a_row_with_its_reason(tiny: Tiny, tmp_path: Path) -> None:
    jobs = [
        Job(tiny.onnx, "pytorch", "cpu"),
        Job(tmp_path / "missing.onnx", "openvino", "cpu"),
        Job(tiny.onnx, "openvino", "cpu"),
    ]
    rows = list(bench(jobs, SHAPE, list_photographs(PHOTOGRAPHS), QUICK))
    assert [one.measurement is None for one in rows] == [True, True, False]
    assert "checkpoints only" in str(rows[0].reason)
    assert "is not there" in str(rows[1].reason)
    assert rows[0].to_json()["summary_seconds"] is None


def test_an_artifact_is_unverified_until_its_own_report_says_otherwise(tiny: Tiny, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(tiny.onnx.read_bytes())
    sha256, report = sha256_of(file), tmp_path / "a.onnx.verification.json"
    assert verified_as(file, sha256, "openvino cpu fp32") == "UNVERIFIED"

    def say(**changes: str) -> None:
        report.write_text(json.dumps([{"sha256": sha256, "engine": "openvino cpu fp32", "status": "passed", **changes}]))

    say()
    assert verified_as(file, sha256, "openvino cpu fp32") == "verified"
    assert verified_as(file, sha256, "openvino cpu bf16") == "UNVERIFIED"
    say(sha256="0" * 64)
    assert verified_as(file, sha256, "openvino cpu fp32") == "UNVERIFIED"
    say(status="failed")
    assert verified_as(file, sha256, "openvino cpu fp32") == "FAILED"
    say(status="not run")
    assert verified_as(file, sha256, "openvino cpu fp32") == "UNVERIFIED"
    report.write_text("{")
    assert verified_as(file, sha256, "openvino cpu fp32") == "UNVERIFIED"


def test_jobs(tiny: Tiny) -> None:
    assert [job.runtime for job in jobs_for(tiny.onnx, cuda=False)] == ["onnxruntime", "openvino"]
    assert [(job.runtime, job.device) for job in jobs_for(tiny.checkpoint, cuda=True)] == [
        ("pytorch", "cpu"),
        ("pytorch", "cuda"),
    ]
    assert [(job.runtime, job.device) for job in jobs_for(tiny.engine, cuda=False)] == [("tensorrt-rtx", "cuda")]


def test_speedup() -> None:
    assert speedup(row(0.5), row(2.0)) == pytest.approx(4.0)
    assert speedup(row(0.5), None) is None


def shown(rows: list[Row], *, sync: bool = True) -> str:
    console = Console(width=140, file=StringIO())
    with console.capture() as capture:
        console.print(bench_table(rows, SHAPE, sync=sync))
    return capture.get()


def test_the_async_time_stands_beside_the_latency_and_is_called_what_it_is() -> None:
    text = shown([row(2.0, verified="reference", file="c.pkl"), row(0.5, events=(0.4,) * 3)])
    assert "async (not latency)" in text
    line = next(line for line in text.splitlines() if "4.00x" in line)
    assert line.split()[3:] == ["500.0", "n<72", "500.0", "500.0", "3", "400.0", "5.000", "4.00x", "verified"]


def test_without_sync_no_number_is_called_latency() -> None:
    text = shown([row(0.5)], sync=False)
    assert "async (not latency)" in text
    assert "500.0" not in text
    assert "median" not in text
