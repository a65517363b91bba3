"""The gate of a CI job: slower, not slower, undecided; and the commands that end with its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from benchmarks.bench import Job
from benchmarks.gate import against_baseline, allowed_fraction, exit_code, of_comparison, outcome_of
from benchmarks.reports import BenchReport, CompareReport
from mimo.errors import MimoError
from tests.benchmarks.reports import bench_report, compare_report, row, typed, unmeasured


def bench_of(*rows: dict[str, Any]) -> BenchReport:
    report = typed(bench_report(list(rows)))
    assert isinstance(report, BenchReport)
    return report


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (1.06, 1.10, "slower"),
        (0.98, 1.04, "passed"),
        (0.90, 0.95, "passed"),
        (1.03, 1.08, "undecided"),
        (0.9, 1.2, "undecided"),
    ],
)
def test_only_an_interval_on_one_side_decides(low: float, high: float, outcome: str) -> None:
    assert outcome_of(low, high, 0.05) == outcome


@pytest.mark.parametrize(
    ("factor", "outcome", "code"), [(1.2, "slower", 1), (1.0, "passed", 0), (0.8, "passed", 0), (1.05, "undecided", 4)]
)
def test_a_run_against_its_baseline(factor: float, outcome: str, code: int) -> None:
    rulings = against_baseline(bench_of(row(1.2 * factor, n=200)), bench_of(row(1.2, n=200)), 0.05)
    assert [one.outcome for one in rulings] == [outcome]
    assert exit_code(rulings, failed=1, undecided=4) == code


@pytest.mark.parametrize(
    ("now", "before", "why"),
    [
        (row(converged=False), row(), "not known well enough now"),
        (row(), row(n=5), "not known well enough in the baseline"),
        (unmeasured(), row(), "did not run now"),
    ],
)
def test_what_is_not_known_decides_nothing(now: dict[str, Any], before: dict[str, Any], why: str) -> None:
    (ruling,) = against_baseline(bench_of(now), bench_of(before), 0.05)
    assert ruling.outcome == "undecided"
    assert why in ruling.why


def test_another_machine_decides_nothing() -> None:
    there = bench_report([row()])
    there["context"]["cores"] = 64
    before = typed(there)
    assert isinstance(before, BenchReport)
    (ruling,) = against_baseline(bench_of(row(9.0)), before, 0.05)
    assert (ruling.outcome, "another machine" in ruling.why) == ("undecided", True)


def test_a_row_that_is_gone_is_undecided_and_a_new_one_is_not_judged() -> None:
    rulings = against_baseline(bench_of(row(n=200), row(file="new.onnx")), bench_of(row(n=200), row(file="old.onnx")), 0.05)
    assert [(one.name.split()[0], one.outcome) for one in rulings] == [("mimo-unet.onnx", "passed"), ("old.onnx", "undecided")]


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(MimoError, match="no row of this run is in the baseline"):
        against_baseline(bench_of(row(file="a.onnx")), bench_of(row(file="b.onnx")), 0.05)


@pytest.mark.parametrize(("ratio", "outcome"), [(1 / 1.2, "slower"), (1.2, "passed"), (1.0, "passed")])
def test_a_comparison(ratio: float, outcome: str) -> None:
    report = typed(compare_report(ratio))
    assert isinstance(report, CompareReport)
    assert of_comparison(report, 0.05).outcome == outcome


def test_a_difference_within_the_noise_floor_is_undecided() -> None:
    report = compare_report(1 / 1.2)
    report["comparison"]["noise"] = 1.5
    noisy = typed(report)
    assert isinstance(noisy, CompareReport)
    assert of_comparison(noisy, 0.05).outcome == "undecided"


@pytest.mark.parametrize("text", ["5", "0.05", "-5%", "many%", "", "nan%", "inf%"])
def test_what_is_no_percentage(text: str) -> None:
    with pytest.raises(MimoError, match="must be a percentage such as 5%"):
        allowed_fraction(text)


@pytest.mark.parametrize(("factor", "code"), [(1.3, 1), (1.0, 0), (1.05, 4)])
def test_the_commands_end_with_the_exit_code(factor: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/ci-gate.md shows, with made-up times in place of measured ones."""
    old = tmp_path / "old.json"
    old.write_text(json.dumps(bench_report([row(1.2, n=200)])))
    monkeypatch.setattr("benchmarks.bench.bench", lambda *_, **__: bench_of(row(1.2 * factor, n=200)))
    monkeypatch.setattr("benchmarks.targets.bench_jobs", lambda *_, **__: [])
    outcome = CliRunner().invoke(cli.app, ["bench", "--sync", "--baseline", str(old), "--fail-slower", "5%"])
    assert outcome.exit_code == code, outcome.output
    assert {1: "slower:", 0: "passed:", 4: "undecided:"}[code] in outcome.output
    comparison = compare_report(1 / factor)
    if code == 4:
        comparison["comparison"] |= {"low": 0.93, "high": 0.97, "ratio": 0.95}
    monkeypatch.setattr("benchmarks.bench.compare_jobs", lambda *_, **__: typed(comparison))
    monkeypatch.setattr("benchmarks.targets.one_job", lambda *_, **__: Job(Path("a.onnx"), "openvino", "cpu"))
    outcome = CliRunner().invoke(cli.app, ["compare", "a", "b", "--fail-slower", "5%"])
    assert outcome.exit_code == code, outcome.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "--size", "64", "--batch", "32"], "HEIGHTxWIDTH"),
        (["compare", "a", "b", "--size", "64", "--batch", "32"], "HEIGHTxWIDTH"),
        (["sweep", "a", "--size", "64,128x128"], "HEIGHTxWIDTH"),
        (["table", "--size", "64"], "HEIGHTxWIDTH"),
        (["sweep", "a", "--size", "64x64", "--batch", "two"], "whole numbers"),
        (["bench", "--size", "2x64x64", "--batch", "3"], "leave one out"),
        (["bench", "--fail-slower", "5%"], "belong together"),
        (["bench", "--baseline", "x.json"], "belong together"),
    ],
)
def test_options_that_say_too_little_or_too_much_are_refused(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MimoError, match=words):
        CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
