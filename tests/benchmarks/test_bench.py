"""Rows, their report on disk, and what a reader sees of them."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.bench import Job, bench, compare_jobs, head, job_on, jobs_for, measured_row, side_of, speedup
from benchmarks.compare import RoundsRule
from benchmarks.measurement import Measurement, Mode, StoppingRule
from benchmarks.recorded import checked_as
from benchmarks.report import bench_remarks, bench_table, comparison_text
from benchmarks.reports import BenchReport, Psnr, Row, Verified
from benchmarks.roofline import Ceiling
from benchmarks.schema import parse_report
from engines.runtimes import table
from engines.runtimes.base import Device
from engines.sample_images import list_photographs
from mimo.artifact import load_onnx, open_artifact, verification_of
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import EngineUnavailable
from mimo.files import sha256_of
from mimo.onnx_stats import macs
from mimo.spec import Shape
from tests.tiny import WIDTH, Tiny

SHAPE = Shape(1, 64, 96)
QUICK = StoppingRule(warm_up_least=0, warm_up_most=0, min_samples=2, max_seconds=0)


def row(
    median: float,
    *,
    events: tuple[float, ...] = (),
    verified: Verified = "verified",
    file: str = "a.onnx",
    engine: str = "x cpu fp32",
    checkpoint: str = "1",
    mode: Mode = "sync",
    n: int = 3,
    **changes: Any,
) -> Row:
    measured = Measurement(1.0, 2.0, (1.0,), True, (median,) * n, (median / 100,) * n, events, True, ())
    side = side_of(Job(Path(file), "onnxruntime", "cpu", mode), SHAPE, None, verified)
    side |= {"sha256": "0" * 64, "checkpoint_sha256": checkpoint * 64, "engine": engine, "compute": "fp32"}
    return measured_row(side, replace(measured, **changes))


def test_every_row_is_on_disk_before_the_next_starts(tiny: Tiny, tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    jobs = [Job(tiny.checkpoint, "pytorch", "cpu"), Job(tiny.onnx, "onnxruntime", "cpu"), Job(tiny.onnx, "openvino", "cpu")]
    seen = []

    def finished(one: Row) -> None:
        seen.append(one.engine)
        content = json.loads(written.read_text())
        parse_report(content)
        assert [found["engine"] for found in content["rows"]] == seen

    report = bench(
        jobs, SHAPE, list_photographs(PHOTOGRAPHS), QUICK, limits=False, json_out=written, finished=finished
    ).to_json()
    assert len(seen) == 3
    assert json.loads(written.read_text()) == json.loads(json.dumps(report))
    assert report["shape"] == "1x64x96"
    assert report["context"]["cores"] >= 1
    first = report["rows"][0]
    assert first["verified"] == "reference"
    assert first["checkpoint_sha256"] == first["sha256"] == report["rows"][1]["checkpoint_sha256"]
    assert len(first["samples_seconds"]["synchronised"]) == first["summary"]["n"] >= 1
    assert min(first["samples_seconds"]["synchronised"]) == first["summary"]["minimum"] > 0
    assert first["memory"]["peak_bytes"] > first["memory"]["baseline_bytes"] > 0
    assert first["states"][-1]["after_samples"] == first["summary"]["n"]
    assert first["converged"] is False


def test_the_limits_are_measured_once_for_a_precision(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ceiling(device: Device, compute: str) -> Ceiling:
        asked.append((device, compute))
        return Ceiling("a", device, compute, 1e12, 1e10, "made up")

    monkeypatch.setattr("benchmarks.bench.measure_ceiling", ceiling)
    jobs = [Job(tiny.checkpoint, "pytorch", "cpu"), Job(tiny.onnx, "onnxruntime", "cpu")]
    report = bench(jobs, SHAPE, list_photographs(PHOTOGRAPHS), QUICK).to_json()
    assert asked == [("cpu", "fp32")] * 2, "after the first row and after the last"
    parse_report(report)
    eager, exported = (found["limits"] for found in report["rows"])
    # Two ways of counting, over the module and over the graph, of the same network.
    assert exported["macs"] == macs(load_onnx(tiny.onnx), SHAPE)
    # The exported fusion reduces before it doubles: a pixel of full size costs it 27/4 of the squared width less.
    saved = 27 * WIDTH**2 * SHAPE.batch * SHAPE.height * SHAPE.width // 4
    assert 1 < (eager["macs"] - saved) / exported["macs"] < 1.02  # PyTorch also computes the two smaller outputs
    expected = 2 * eager["macs"] / 1e12 / report["rows"][0]["summary"]["median"]
    assert eager["compute_fraction"] == pytest.approx(expected)
    for found in (eager, exported):
        # Every node at its own limit takes at least as long as all of the arithmetic, or all of the least traffic, at theirs.
        assert found["layers_fraction"] > max(found["compute_fraction"], found["copy_fraction"])


@pytest.mark.parametrize("mode", ["e2e", "throughput", "cold-cache"])
def test_the_other_modes_are_rows_of_their_own(tiny: Tiny, mode: Mode) -> None:
    job = Job(tiny.onnx, "openvino", "cpu", mode, in_flight=2 if mode == "throughput" else 1)
    shape = Shape(1, 61, 93) if mode == "e2e" else SHAPE
    report = bench([job], shape, list_photographs(PHOTOGRAPHS), QUICK, limits=False).to_json()
    parse_report(report)
    (found,) = report["rows"]
    assert (found["mode"], found["reason"]) == (mode, None)
    assert (found["enqueued_not_latency"] is None) == (mode != "cold-cache")


def reference(median: float, **changes: Any) -> Row:
    return row(median, verified="reference", file="c.pkl", engine="pytorch cpu fp32", **changes)


def test_rows_are_set_against_pytorch_with_the_same_weights_only() -> None:
    mine = row(0.5)
    assert speedup(mine, [reference(2.0), mine]) == pytest.approx(4.0)
    assert speedup(mine, [mine]) is None
    assert speedup(mine, [reference(2.0, checkpoint="2"), mine]) is None, "another network's time is no baseline"
    assert speedup(mine, [reference(9.0, checkpoint="2"), reference(2.0), mine]) == pytest.approx(4.0)
    unknown = mine.model_copy(update={"checkpoint_sha256": None})
    assert speedup(unknown, [reference(2.0).model_copy(update={"checkpoint_sha256": None}), unknown]) is None
    on_gpu = mine.model_copy(update={"device": "cuda"})
    assert speedup(on_gpu, [reference(2.0), on_gpu]) is None, "nor is another device's"


def test_rows_of_different_modes_are_not_compared() -> None:
    e2e = row(1.0, mode="e2e")
    assert speedup(e2e, [reference(2.0), e2e]) is None
    assert speedup(e2e, [reference(2.0), reference(3.0, mode="e2e"), e2e]) == 3.0


def test_a_and_b_are_compared_and_reported(tiny: Tiny) -> None:
    rule = RoundsRule(rounds_min=6, rounds_max=6, samples_per_block=1, max_seconds=0)
    said: list[str] = []
    jobs = Job(tiny.onnx, "onnxruntime", "cpu"), Job(tiny.onnx, "openvino", "cpu")
    compared = compare_jobs(*jobs, SHAPE, list_photographs(PHOTOGRAPHS), rule, progress=said.append)
    report = compared.to_json()
    parse_report(report)
    assert (report["a"]["runtime"], report["b"]["runtime"]) == ("onnxruntime", "openvino")
    assert len(report["comparison"]["rounds"]) == len(report["comparison"]["floor_rounds"]) == 6
    assert any("against itself" in text for text in said)
    text = " ".join(comparison_text(compared))
    assert "A against itself" in text
    assert report["comparison"]["verdict"] in text


def test_what_cannot_run_cannot_be_compared(tiny: Tiny) -> None:
    jobs = Job(tiny.onnx, "pytorch", "cpu"), Job(tiny.onnx, "openvino", "cpu")
    with pytest.raises(EngineUnavailable, match="takes a checkpoint only"):
        compare_jobs(*jobs, SHAPE, list_photographs(PHOTOGRAPHS), RoundsRule())


def test_what_cannot_run_is_a_row_with_its_reason(tiny: Tiny, tmp_path: Path) -> None:
    jobs = [
        Job(tiny.onnx, "pytorch", "cpu"),
        Job(tmp_path / "missing.onnx", "openvino", "cpu"),
        Job(tiny.onnx, "openvino", "cpu"),
    ]
    report = bench(jobs, SHAPE, list_photographs(PHOTOGRAPHS), QUICK, limits=False).to_json()
    parse_report(report)
    rows = report["rows"]
    assert [one["summary"] is None for one in rows] == [True, True, False]
    assert "takes a checkpoint only" in rows[0]["reason"]
    assert "does not exist" in rows[1]["reason"]


def test_an_artifact_is_unverified_until_its_own_report_says_otherwise(tiny: Tiny, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(tiny.onnx.read_bytes())
    sha256, report = sha256_of(file), tmp_path / "a.onnx.verification.json"
    assert checked_as(file, sha256, "openvino cpu fp32")[0] == "UNVERIFIED"

    def say(**changes: str) -> None:
        report.write_text(json.dumps([{"sha256": sha256, "engine": "openvino cpu fp32", "status": "passed", **changes}]))

    say()
    assert checked_as(file, sha256, "openvino cpu fp32")[0] == "verified"
    assert checked_as(file, sha256, "openvino cpu bf16")[0] == "UNVERIFIED"
    say(sha256="0" * 64)
    assert checked_as(file, sha256, "openvino cpu fp32")[0] == "UNVERIFIED"
    say(status="failed")
    assert checked_as(file, sha256, "openvino cpu fp32")[0] == "FAILED"
    say(status="not run")
    assert checked_as(file, sha256, "openvino cpu fp32")[0] == "UNVERIFIED"
    report.write_text("{")
    assert checked_as(file, sha256, "openvino cpu fp32")[0] == "UNVERIFIED"


@pytest.mark.parametrize("has_cuda", [False, True])
def test_jobs_are_what_the_table_of_runtimes_gives(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, has_cuda: bool) -> None:
    rows = tuple(replace(row, has_cuda=lambda: has_cuda) for row in table.RUNTIMES)
    monkeypatch.setattr(table, "RUNTIMES", rows)

    def found(path: Path) -> list[tuple[str, str]]:
        return [(job.runtime, job.device) for job in jobs_for(path)]

    assert found(tiny.onnx) == [("openvino", "cpu"), ("onnxruntime", "cpu")] + [("onnxruntime", "cuda")] * has_cuda
    assert found(tiny.checkpoint) == [("pytorch", "cpu")] + [("pytorch", "cuda")] * 2 * has_cuda
    if has_cuda:  # what the others are set against, and what runs by default
        assert [job.precision for job in jobs_for(tiny.checkpoint)] == ["auto", "fp32", "auto"]
    assert found(tiny.engine) == [("tensorrt-rtx", "cuda")]
    assert job_on(tiny.onnx, None) == Job(tiny.onnx, "onnxruntime" if has_cuda else "openvino", "cuda" if has_cuda else "cpu")
    assert job_on(tiny.onnx, "openvino") == Job(tiny.onnx, "openvino", "cpu")
    assert job_on(tiny.engine, None) == Job(tiny.engine, "tensorrt-rtx", "cuda")


def shown(rows: list[Row], *, sync: bool = True) -> str:
    console = Console(width=140, file=StringIO())
    with console.capture() as capture:
        console.print(bench_table(BenchReport(**head(SHAPE), rule=QUICK, rows=tuple(rows)), sync=sync))
    return capture.get()


def test_the_async_time_stands_beside_the_latency_and_is_called_what_it_is() -> None:
    text = shown([reference(2.0), row(0.5)])
    assert "async (not latency)" in " ".join(text.split())
    line = next(line for line in text.splitlines() if "4.00x" in line)
    assert line.split()[3:] == ["500.0", "n<6", "n<72", "500.0", "3", "5.000", "100.00x", "4.00x", "-", "-", "verified"]


def test_percentiles_appear_with_the_samples_that_bound_them() -> None:
    line = next(line for line in shown([row(0.5, n=400)]).splitlines() if "400" in line)
    assert line.split()[3:7] == ["500.0", "±0.0%", "500.0", "500.0"]


def test_without_sync_no_number_is_called_latency() -> None:
    text = shown([row(0.5)], sync=False)
    assert "async (not latency)" in " ".join(text.split())
    assert "500.0" not in text
    assert "median" not in text


def remarks(*rows: Row) -> str:
    return "\n".join(bench_remarks(rows))


def test_every_doubt_is_said() -> None:
    assert "first call 1000 ms; after another shape 2000 ms" in remarks(row(0.5))
    assert "converged" not in remarks(row(0.5))
    assert "not converged (n = 3)" in remarks(row(0.5, converged=False))
    assert "later half is +50% off" in remarks(row(0.5, converged=False, synchronised=(1.0, 1.0, 1.5, 1.5)))
    assert "not settled after 1 s" in remarks(row(0.5, settled=False))
    assert "UNVERIFIED" in remarks(row(0.5, verified="UNVERIFIED"))
    assert "FAILED" in remarks(row(0.5, verified="FAILED"))
    assert "1 outliers, none left out" in remarks(row(0.5, synchronised=(*[0.5] * 20, 5.0)))
    crowded = {"after_samples": 0, "load_average": 9.0, "cores": 2}
    assert "load average was 9.0" in remarks(row(0.5, states=(crowded, crowded)))


def test_psnr_comes_from_the_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.onnx"
    quality = {"pictures": 3, "blurry": 24.0, "reference": 25.5, "candidate": 25.25, "passed": True}
    entry = {"sha256": "a", "against_sha256": "c", "engine": "e", "status": "passed", "quality": quality}
    Path("a.onnx.verification.json").write_text(json.dumps([entry]))
    Path("c.pkl").write_bytes(b"\x80\x02")
    assert checked_as(file, "a", "e") == ("verified", Psnr(decibel=25.25, source="3 pairs, mimo verify"))
    assert checked_as(tmp_path / "c.pkl", "c", "pytorch cpu fp32")[1] == Psnr(decibel=25.5, source="3 pairs, mimo verify")
    assert checked_as(tmp_path / "c.pkl", "other", "pytorch cpu fp32")[1] is None
    # What was compared with an adopted graph is not what was compared with PyTorch.
    Path("a.onnx.verification.json").write_text(json.dumps([entry | {"reference": "a.onnx itself"}]))
    assert checked_as(file, "a", "e")[0] == "as adopted"


def test_a_report_counts_only_for_the_sidecar_and_the_checkpoint_it_was_made_with(tiny: Tiny, tmp_path: Path) -> None:
    artifact = replace(open_artifact(tiny.onnx), path=tmp_path / "m.onnx")
    entry: dict[str, Any] = {
        "sha256": artifact.sha256,
        "engine": "e",
        "status": "passed",
        "against_sha256": artifact.checkpoint_sha256,
        "lineage_sha256": artifact.lineage_sha256,
        "photographs": {path.name: sha256_of(path) for path in list_photographs(PHOTOGRAPHS)},
    }

    def status(**changes: object) -> str:
        verification_of(artifact.path).write_text(json.dumps([entry | changes]))
        return checked_as(artifact.path, artifact.sha256, "e", artifact)[0]

    assert status() == "verified"
    assert status(against_sha256="0" * 64) == "UNVERIFIED"
    assert status(lineage_sha256="0" * 64) == "UNVERIFIED"
    assert status(photographs=None) == "UNVERIFIED"
    assert status(photographs=dict.fromkeys(entry["photographs"], "0" * 64)) == "UNVERIFIED"
    renamed = replace(artifact, tools={"mimo-deblur": "another"})
    status()
    assert checked_as(artifact.path, artifact.sha256, "e", renamed)[0] == "UNVERIFIED"
