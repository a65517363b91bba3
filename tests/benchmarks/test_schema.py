"""The schema takes what is written and names what does not fit; reading says what to do about it."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

import cli
from benchmarks.reports import BenchReport, Row
from benchmarks.schema import parse_report, read_report, report_schema
from engines.evaluation import Evaluation, PictureScore
from engines.evaluation_report import parse_evaluation
from engines.verification import PYTORCH, TOLERANCES, Case, Verification
from engines.verification_report import ENTRIES, read_verifications
from mimo.artifact import open_artifact
from mimo.errors import ArtifactError
from mimo.files import write_json
from tests.benchmarks.reports import bench_report, every_kind, row, typed
from tests.tiny import Tiny

KINDS = every_kind()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_fits_before_and_after_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(KINDS[name]))
    report = read_report(path)
    again = json.loads(json.dumps(report.to_json()))
    assert parse_report(again) == report
    assert again == without_null_defaults(json.loads(path.read_text()), again)


def without_null_defaults(written: Any, read: Any) -> Any:
    """``written`` with the nulls that reading gave to fields which it does not have."""
    if isinstance(written, dict):
        filled = {key: None for key, value in read.items() if key not in written and value is None}
        return {**{key: without_null_defaults(value, read[key]) for key, value in written.items()}, **filled}
    if isinstance(written, list):
        return [without_null_defaults(one, other) for one, other in zip(written, read, strict=True)]
    return written


@pytest.mark.parametrize("name", KINDS)
def test_a_report_that_calls_the_rule_a_plan_and_a_sweep_an_atlas_is_still_read(name: str) -> None:
    older = copy.deepcopy(KINDS[name])
    older["plan"] = older.pop("rule")
    if "comparison" in older:
        older["comparison"]["plan"] = older["comparison"].pop("rule")
    older["kind"] = {"sweep": "atlas"}.get(older["kind"], older["kind"])
    assert parse_report(older) == parse_report(KINDS[name])
    older["rule"] = older["plan"]
    with pytest.raises(ValueError, match="plan: not known"):
        parse_report(older)


def test_a_report_without_rows_yet_fits() -> None:
    assert parse_report(bench_report([])).kind == "bench"


def _set(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        place: Any = report
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to

    return change


def _drop(*keys: str | int) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        place: Any = report
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("kind", "change", "path"),
    [
        ("bench", _set("schema", to=1), "schema: expected 2"),
        ("bench", _set("kind", to="poem"), "kind: expected one of bench"),
        ("bench", _set("kind", to=["bench"]), "kind: expected one of bench"),
        ("bench", _drop("context"), "context: missing"),
        ("bench", _set("shape", to="720p"), "shape: expected a shape"),
        ("bench", _set("shape", to="720x1280"), "shape: expected a shape"),
        ("bench", _set("shape", to=720), "shape: expected a string, got 720"),
        ("bench", _set("rows", to={}), "rows: expected a list"),
        ("bench", _set("rows", 2, to=None), r"rows\[2\]: expected an object"),
        ("bench", _set("rows", 0, "summary", "n", to=True), r"rows\[0\].summary.n: expected an integer"),
        ("bench", _set("rows", 0, "summary", "n", to=19), r"rows\[0\].summary.n: expected 20, the number of samples"),
        ("bench", _set("rows", 0, "summary", "median", to=None), r"rows\[0\].summary.median: expected a number"),
        ("bench", _set("rows", 0, "summary", "median", to="1.2"), r"rows\[0\].summary.median: expected a number"),
        ("bench", _set("rows", 0, "summary", "mean", to=float("nan")), r"rows\[0\].summary.mean: expected a finite"),
        ("bench", _set("rows", 0, "summary", "minimum", to=-0.1), r"rows\[0\].summary.minimum: expected at least 0"),
        ("bench", _drop("rows", 1, "summary", "p99"), r"rows\[1\].summary.p99: missing"),
        ("bench", _set("rows", 1, "summary", "p98", to=1.0), r"rows\[1\].summary.p98: not known"),
        ("bench", _set("rows", 1, "speed", to=1.0), r"rows\[1\].speed: not known"),
        ("bench", _set("rows", 0, "summary", to=None), r"rows\[0\].summary: expected a value"),
        ("bench", _set("rows", 0, "settled", to=None), r"rows\[0\].settled: expected a value"),
        ("bench", _set("rows", 0, "reason", to="too hot"), r"rows\[0\].summary: expected null beside a reason"),
        ("bench", _set("rows", 0, "verified", to="probably"), r"rows\[0\].verified: expected 'verified', 'as adopted'"),
        ("bench", _set("rows", 0, "mode", to="async"), r"rows\[0\].mode: expected 'sync'"),
        ("bench", _set("rows", 0, "memory", "kind", to="swap"), r"rows\[0\].memory.kind"),
        ("bench", _set("rows", 0, "samples_seconds", "warm_up", 3, to=None), r"warm_up\[3\]: expected a number"),
        ("bench", _drop("rows", 0, "states", 1, "after_samples"), r"rows\[0\].states\[1\].after_samples: missing"),
        ("table", _drop("rows", 0, "network"), r"rows\[0\].network: missing"),
        ("table", _set("rows", 0, "published", "psnr", to=None), r"rows\[0\].published.psnr: expected a number"),
        ("table", _drop("rows", 0, "export", "fp16"), r"rows\[0\].export.fp16: missing"),
        ("sweep", _set("grid", 0, "median_seconds", to=None), r"grid\[0\].median_seconds: expected null beside"),
        ("sweep", _set("grid", 0, "reason", to="no memory"), r"grid\[0\].median_seconds: expected null beside"),
        ("sweep", _set("advice", 0, to=3), r"advice\[0\]: expected a string"),
        ("compare", _set("comparison", "verdict", to="better"), "comparison.verdict: expected 'faster'"),
        ("compare", _drop("b", "engine"), "b.engine: missing"),
        ("compare", _set("comparison", "rounds", 0, "order", to="AABB"), r"comparison.rounds\[0\].order"),
    ],
)
def test_the_first_thing_that_does_not_fit_is_named(kind: str, change: Callable[[dict[str, Any]], None], path: str) -> None:
    report = copy.deepcopy(KINDS[kind])
    change(report)
    with pytest.raises(ValueError, match=f"^{path}|{path}"):
        parse_report(json.loads(json.dumps(report)))


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(ValueError, match=r"^shape: ") as caught:
        parse_report({**KINDS["bench"], "shape": "9" * 10_000})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "not JSON, or damaged"),
        (b"\xff\xfe\x00", "not JSON, or damaged"),
        (b'{"schema": 2, "kind": "ben', "not JSON, or damaged"),
        (b"[" * 100_000, "not JSON, or damaged"),
        (b"[1, 2]", "no report of mimo bench"),
        (b'{"schema": 1, "rows": []}', "has schema 1, .*measure again"),
        (b'{"schema": 3, "rows": []}', "has schema 3, .*update mimo"),
        (b'{"schema": true}', "no report of mimo bench"),
        (b'{"schema": 2, "kind": "bench"}', "no report of mimo bench .*made: missing"),
    ],
)
def test_a_file_that_is_no_report_says_why_and_what_to_do(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=words) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


def test_a_file_name_that_is_not_utf8_is_written_out() -> None:
    parsed = typed(bench_report([row(file="bad.onnx")]))
    assert isinstance(parsed, BenchReport)
    named = Row(**{**dict(parsed.rows[0]), "file": "bad\udcff.onnx"})
    assert named.file == "bad\\xff.onnx"
    json.dumps(named.model_dump(mode="json")).encode()


def test_a_folder_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_report(tmp_path)


@pytest.mark.parametrize("name", ["bench", "compare", "sweep", "table", "verify", "eval"])
def test_the_published_schemas_are_current(name: str) -> None:
    """Written by ``mimo schema NAME > docs/schemas/NAME.schema.json``."""
    printed = CliRunner().invoke(cli.app, ["schema", name])
    assert printed.exit_code == 0
    published = Path(__file__).parents[2] / "docs" / "schemas" / f"{name}.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == json.loads(printed.output)


def test_a_schema_is_closed_and_knows_the_fields() -> None:
    row_schema = report_schema("bench")["$defs"]["Row"]
    assert row_schema["additionalProperties"] is False
    assert set(row_schema["properties"]) >= set(KINDS["bench"]["rows"][0])
    assert report_schema("bench")["$defs"]["Summary"]["additionalProperties"] is False


def test_a_verification_satisfies_its_schema_and_a_wrong_one_is_named() -> None:
    entry = {
        "file": "a.onnx",
        "sha256": "a",
        "against_sha256": "b",
        "engine": "openvino cpu fp32",
        "status": "passed",
        "numerics": "run",
        "structure": None,
        "failure": None,
        "tolerance": {"max_error": 1e-4, "min_psnr": 100.0, "max_psnr_loss": 0.001},
        "cases": [{"shape": "1x64x64", "max_error": 0.0, "mean_error": 0.0, "psnr": "inf", "passed": True}],
        "quality": None,
    }
    assert ENTRIES.validate_json(json.dumps([entry]))[0].cases[0].psnr == "inf"
    with pytest.raises(ValidationError, match=r"0\.status"):
        ENTRIES.validate_json(json.dumps([entry | {"status": "probably"}]))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (_set(0, "status", to="probably"), r"[0].status: expected"),
        (_set(0, "cases", 0, "psnr", to="good"), r"[0].cases[0].psnr"),
        (_set(0, "tolerance", "more", to=1.0), r"[0].tolerance.more: not known"),
        (_drop(0, "engine"), r"[0].engine: missing"),
    ],
)
def test_a_wrong_verification_is_refused_with_its_path(
    change: Callable[[Any], None], path: str, tiny: Tiny, tmp_path: Path
) -> None:
    artifact = open_artifact(tiny.onnx)
    case = Case("1x64x64", 0.0, 0.0, math.inf, passed=True)
    verification = Verification(artifact, "b", "openvino cpu fp32", TOLERANCES["fp32"], (case,), photographs={"b\udcff": "c"})
    report = tmp_path / "a.verification.json"
    content = [verification.to_json()]
    write_json(report, content)
    (read,) = read_verifications(report)
    assert (read.cases[0].psnr, read.photographs, read.reference) == ("inf", {"b\\xff": "c"}, PYTORCH)
    change(content)
    write_json(report, content)
    with pytest.raises(ArtifactError, match=re.escape(path)):
        read_verifications(report)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_verifications(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (_set("overall", "scores", "psnr", to="much"), "overall.scores.psnr"),
        (_set("pictures", 0, "extra", to=1), "pictures[0].extra: not known in schema 1"),
        (_drop("method"), "method: missing"),
        (_set("schema", to=2), "schema: expected 1"),
    ],
)
def test_a_wrong_evaluation_is_refused_with_its_path(change: Callable[[Any], None], path: str, tmp_path: Path) -> None:
    scores = {"psnr": math.inf, "ssim_matlab3d": math.nan}
    result = Evaluation("mimo", (PictureScore("a.png", "a", scores),), {"data": "\udcff"}, {"numpy": "2"})
    result.write_json(tmp_path / "eval.json")
    content = json.loads((tmp_path / "eval.json").read_text())
    assert parse_evaluation(content).to_json() == content
    assert content["overall"]["scores"] == {"psnr": "inf", "ssim_matlab3d": None}
    change(content)
    with pytest.raises(ValueError, match=re.escape(path)):
        parse_evaluation(content)


FOLDER = Path(__file__).parents[2] / "benchmarks" / "results"
RESULTS = [FOLDER / name for name in ("compare-cpu.json", "cpu-1x720x1280.json", "sweep-cpu.json", "table-cpu-1x256x256.json")]
"""Of the four commands; what a study wrote for itself has no kind."""


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_committed_results_satisfy_their_schemas(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["kind"] in ("bench", "compare", "sweep", "table")
    assert read_report(path).kind == content["kind"]
