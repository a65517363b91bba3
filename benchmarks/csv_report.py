"""A report as CSV, for a spreadsheet: one line a row, flat columns, seconds and bytes."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.reports import BenchReport, Cell, CompareReport, NetworkRow, Report, Row, SweepReport, TableReport
from mimo.spec import Shape

_SUMMARY = {
    "n": "n",
    "median_s": "median",
    "median_low_s": "median_low",
    "median_high_s": "median_high",
    "mean_s": "mean",
    "min_s": "minimum",
    "max_s": "maximum",
    "p90_s": "p90",
    "p95_s": "p95",
    "p99_s": "p99",
    "iqr_s": "iqr",
    "cov": "cov",
    "outliers": "outliers",
}
_LIMITS = {
    "macs": "macs",
    "moved_bytes": "bytes",
    "compute_fraction": "compute_fraction",
    "copy_fraction": "copy_fraction",
    "layers_fraction": "layers_fraction",
    "floor_s": "floor_seconds",
    "ceiling": "ceiling",
}


def report_csv(report: Report) -> str:
    """The report as CSV with a header line: a line a row, a cell of a sweep, or a round of a comparison.

    What was not measured is empty. Text that a spreadsheet would run as a formula stands behind an apostrophe.
    """
    match report:
        case BenchReport():
            lines = [_row(row) for row in report.rows]
        case TableReport():
            lines = [_network(row) for row in report.rows]
        case SweepReport():
            lines = [_cell(report, cell) for cell in report.grid]
        case CompareReport():
            lines = _rounds(report)
    stream = io.StringIO()
    names = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in line.items()} for line in lines)
    return stream.getvalue()


def _harmless(value: Any) -> Any:
    """File names come from anywhere: ``=HYPERLINK(...)`` is one, and bytes that are no UTF-8."""
    if not isinstance(value, str):
        return value
    value = value.encode(errors="replace").decode()
    return f"'{value}" if len(value) > 1 and value[0] in "=+-@\t\r\n" else value


def _network(row: NetworkRow) -> dict[str, Any]:
    published = row.published
    return {
        "network": row.network,
        "way": row.way,
        **_row(row),
        "parameters": row.parameters,
        "network_macs": row.macs,
        "published_psnr_db": _of(published, "psnr"),
        "published_async_not_latency_s": _of(published, "async_seconds"),
        "published_sync_s": _of(published, "sync_seconds"),
        "published_gpu": _of(published, "gpu"),
        **{f"export_{name}": result for name, result in row.export},
    }


def _cell(report: SweepReport, cell: Cell) -> dict[str, Any]:
    shape = Shape.parse(cell.shape)
    return {
        **{name: getattr(report, name) for name in ("file", "sha256", "engine", "compute")},
        "shape": cell.shape,
        "batch": shape.batch,
        "height": shape.height,
        "width": shape.width,
        "median_s": cell.median_seconds,
        "median_low_s": cell.median_low,
        "median_high_s": cell.median_high,
        "n": cell.n,
        "converged": cell.converged,
        "first_call_s": cell.first_call_seconds,
        "memory_peak_bytes": cell.memory_peak_bytes,
        "reason": cell.reason,
    }


def _rounds(report: CompareReport) -> list[dict[str, Any]]:
    found = report.comparison
    # The noise floor first: A against itself.
    return [
        {
            "file_a": report.a.file,
            "engine_a": report.a.engine,
            "file_b": other.file,
            "engine_b": other.engine,
            "round": number,
            "order": one.order,
            "ratio": math.exp(one.log_ratio),
            "a_s": _middle(one.a_seconds),
            "b_s": _middle(one.b_seconds),
        }
        for other, rounds in ((report.a, found.floor_rounds), (report.b, found.rounds))
        for number, one in enumerate(rounds, 1)
    ]


def _middle(blocks: Sequence[Sequence[float]]) -> float:
    """What a round's ratio is made of: the geometric mean of the blocks' medians."""
    return statistics.geometric_mean(map(statistics.median, blocks))


def _row(row: Row) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in ("file", "engine", "mode", "in_flight", "shape", "compute", "verified")},
        **{column: _of(row.summary, key) for column, key in _SUMMARY.items()},
        "converged": row.converged,
        "settled": row.settled,
        "drift": row.drift,
        "first_call_s": row.first_call_seconds,
        "first_after_shape_change_s": row.first_after_shape_change_seconds,
        "enqueued_not_latency_median_s": _of(row.enqueued_not_latency, "median"),
        "events_median_s": _of(row.events, "median"),
        **{f"server_{name}_s": _of(row.server, name) for name in ("queue", "input", "inference", "output")},
        "psnr_db": _of(row.psnr, "decibel"),
        "psnr_source": _of(row.psnr, "source"),
        **{f"memory_{name}": _of(row.memory, name) for name in ("kind", "peak_bytes", "baseline_bytes", "engine_bytes")},
        **{column: _of(row.limits, key) for column, key in _LIMITS.items()},
        **{name: getattr(row, name) for name in ("runtime", "device", "sha256", "checkpoint_sha256", "reason")},
    }


def _of(value: object, key: str) -> Any:
    return None if value is None else getattr(value, key)
