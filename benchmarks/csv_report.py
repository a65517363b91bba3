"""A report as CSV, for a spreadsheet: one line a row, flat columns, seconds and bytes."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mimo.spec import Shape

_Row = Mapping[str, Any]

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


def report_csv(report: Mapping[str, Any]) -> str:
    """The report (schema 2, checked) as CSV with a header line: a line a row, a cell of an atlas, or a round of a comparison.

    What was not measured is empty. Text that a spreadsheet would run as a formula stands behind an apostrophe.
    """
    lines = _LINES[report["kind"]](report)
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


def _bench(report: _Row) -> list[dict[str, Any]]:
    return [_row(row) for row in report["rows"]]


def _table(report: _Row) -> list[dict[str, Any]]:
    return [
        {
            "network": row["network"],
            "way": row["way"],
            **_row(row),
            "parameters": row["parameters"],
            "network_macs": row["macs"],
            "published_psnr_db": _of(row["published"], "psnr"),
            "published_async_not_latency_s": _of(row["published"], "async_seconds"),
            "published_sync_s": _of(row["published"], "sync_seconds"),
            "published_gpu": _of(row["published"], "gpu"),
            **{f"export_{name}": result for name, result in row["export"].items()},
        }
        for row in report["rows"]
    ]


def _atlas(report: _Row) -> list[dict[str, Any]]:
    lines = []
    for cell in report["grid"]:
        shape = Shape.parse(cell["shape"])
        lines.append(
            {
                **{name: report[name] for name in ("file", "sha256", "engine", "compute")},
                "shape": cell["shape"],
                "batch": shape.batch,
                "height": shape.height,
                "width": shape.width,
                "median_s": cell["median_seconds"],
                "median_low_s": cell["median_low"],
                "median_high_s": cell["median_high"],
                "n": cell["n"],
                "converged": cell["converged"],
                "first_call_s": cell["first_call_seconds"],
                "memory_peak_bytes": cell["memory_peak_bytes"],
                "reason": cell["reason"],
            }
        )
    return lines


def _compare(report: _Row) -> list[dict[str, Any]]:
    return [
        {
            "file_a": report["a"]["file"],
            "engine_a": report["a"]["engine"],
            # The noise floor: A against itself.
            "file_b": report[other]["file"],
            "engine_b": report[other]["engine"],
            "round": number,
            "order": one["order"],
            "ratio": math.exp(one["log_ratio"]),
            "a_s": _middle(one["a_seconds"]),
            "b_s": _middle(one["b_seconds"]),
        }
        for other, rounds in (("a", "floor_rounds"), ("b", "rounds"))
        for number, one in enumerate(report["comparison"][rounds], 1)
    ]


def _middle(blocks: Sequence[Sequence[float]]) -> float:
    """What a round's ratio is made of: the geometric mean of the blocks' medians."""
    return statistics.geometric_mean(map(statistics.median, blocks))


def _row(row: _Row) -> dict[str, Any]:
    memory, limits = row["memory"], row["limits"]
    return {
        **{name: row[name] for name in ("file", "engine", "mode", "in_flight", "shape", "compute", "verified")},
        **{column: _of(row["summary"], key) for column, key in _SUMMARY.items()},
        "converged": row["converged"],
        "settled": row["settled"],
        "drift": row["drift"],
        "first_call_s": row["first_call_seconds"],
        "first_after_shape_change_s": row["first_after_shape_change_seconds"],
        "enqueued_not_latency_median_s": _of(row["enqueued_not_latency"], "median"),
        "events_median_s": _of(row["events"], "median"),
        "psnr_db": _of(row["psnr"], "decibel"),
        "psnr_source": _of(row["psnr"], "source"),
        "memory_kind": _of(memory, "kind"),
        "memory_peak_bytes": _of(memory, "peak_bytes"),
        "memory_baseline_bytes": _of(memory, "baseline_bytes"),
        "memory_engine_bytes": _of(memory, "engine_bytes"),
        "macs": _of(limits, "macs"),
        "moved_bytes": _of(limits, "bytes"),
        "compute_fraction": _of(limits, "compute_fraction"),
        "copy_fraction": _of(limits, "copy_fraction"),
        "floor_s": _of(limits, "floor_seconds"),
        "ceiling": _of(limits, "ceiling"),
        **{name: row[name] for name in ("runtime", "device", "sha256", "checkpoint_sha256", "reason")},
    }


def _of(value: _Row | None, key: str) -> Any:
    return None if value is None else value[key]


_LINES: Mapping[str, Callable[[_Row], list[dict[str, Any]]]] = {
    "bench": _bench,
    "table": _table,
    "atlas": _atlas,
    "compare": _compare,
}
