"""The CSV: a line a row, numbers that can be read back exactly, and nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest

from benchmarks.csv_report import report_csv
from tests.benchmarks.reports import (
    HOSTILE,
    bench_report,
    compare_report,
    every_kind,
    row,
    sweep_report,
    table_report,
    typed,
    unmeasured,
)

KINDS = every_kind()


def lines(report: dict[str, Any]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(report_csv(typed(report)))))


def test_a_line_for_each_row_with_its_numbers() -> None:
    report = bench_report()
    found = lines(report)
    assert len(found) == len(report["rows"]) == 8
    for line, one in zip(found, report["rows"], strict=True):
        assert (line["file"], line["engine"], line["mode"], line["verified"]) == tuple(
            one[name] for name in ("file", "engine", "mode", "verified")
        )
        if one["summary"] is None:
            assert line["median_s"] == line["n"] == line["memory_peak_bytes"] == line["converged"] == ""
            assert line["reason"] == one["reason"]
            continue
        summary = one["summary"]
        assert float(line["median_s"]) == summary["median"]
        assert float(line["min_s"]) == summary["minimum"] <= summary["maximum"] == float(line["max_s"])
        assert int(line["n"]) == summary["n"]
        assert float(line["enqueued_not_latency_median_s"]) == one["enqueued_not_latency"]["median"]
        assert int(line["memory_peak_bytes"]) == one["memory"]["peak_bytes"]
        assert line["reason"] == ""
    assert found[4]["median_low_s"] == found[4]["p90_s"] == "", "five samples have no interval"
    assert found[2]["p95_s"] != "" == found[2]["p99_s"], "eighty have a p95, and no p99"


def test_a_table_has_the_published_numbers_in_columns_of_their_own() -> None:
    report = table_report()
    found = lines(report)
    assert [line["network"] for line in found] == [one["network"] for one in report["rows"]]
    plus = next(line for line in found if line["network"] == "MIMO-UNet+")
    assert (plus["published_psnr_db"], plus["published_async_not_latency_s"], plus["published_sync_s"]) == (
        "32.45",
        "0.025",
        "0.282",
    )
    assert plus["published_gpu"] == "RTX 3090"
    assert float(plus["median_s"]) > 10
    assert {line["export_fp16"] for line in found} == {"survives", "NaN in the output"}
    assert found[-1]["published_sync_s"] == ""


def test_a_sweep_has_a_line_for_each_cell() -> None:
    report = sweep_report()
    found = lines(report)
    assert len(found) == 15
    assert [f"{line['batch']}x{line['height']}x{line['width']}" for line in found] == [cell["shape"] for cell in report["grid"]]
    assert [line["reason"] for line in found if not line["median_s"]] == ["out of memory"] * 3


def test_a_comparison_has_a_line_for_each_round() -> None:
    report = compare_report()
    found = lines(report)
    rounds = report["comparison"]["rounds"]
    against = [line for line in found if line["engine_b"] != line["engine_a"]]
    assert [math.log(float(line["ratio"])) for line in against] == pytest.approx([one["log_ratio"] for one in rounds])
    assert len(found) == len(rounds) + len(report["comparison"]["floor_rounds"])
    for line in found:
        assert float(line["ratio"]) == pytest.approx(float(line["a_s"]) / float(line["b_s"]))


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", HOSTILE, 'a,"b"\nc.onnx'])
def test_no_file_name_is_a_formula_or_breaks_a_line(name: str) -> None:
    report = bench_report([row(file=name), unmeasured(file=name)])
    report_csv(typed(report)).encode()
    found = lines(report)
    assert len(found) == 2
    assert all(line["file"].lstrip("'").startswith(name[:3]) for line in found)
    assert not any(line["file"].startswith(("=", "+", "-", "@", "\t")) for line in found)
    assert all(line["verified"] for line in found), "the dash of what did not run stays one"


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_has_every_column(kind: str) -> None:
    rows = list(csv.reader(io.StringIO(report_csv(typed(KINDS[kind])))))
    assert len({len(cells) for cells in rows}) == 1
    assert len(set(rows[0])) == len(rows[0]) > 5


def test_a_report_without_rows_is_no_error() -> None:
    assert report_csv(typed(bench_report([]))).strip() == ""
