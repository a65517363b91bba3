"""What a report's JSON looks like, and reading one: schema 2.

    bench, table    rows, one for each file on each runtime in each mode; a table's rows are networks
    atlas           a grid of sizes and batches of one artifact
    compare         two rows and what their interleaved rounds say

A check here is a function of a value and its path; it raises ``ValueError`` with that path and what was expected there.
Objects named in this file are closed: a key that is missing and a key that is not known are both errors, so that nobody
reads a column that nobody writes. ``plan``, ``context`` and the states of the machine are open.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mimo.errors import ArtifactError, ShapeError
from mimo.spec import Shape

SCHEMA = 2

_Check = Callable[[Any, str], None]


def read_report(path: Path) -> dict[str, Any]:
    """Read and check a report. Raises :class:`~mimo.errors.ArtifactError` when it is missing, damaged or of another schema."""
    try:
        report = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror or error}): give a file that --json wrote.") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON, or damaged ({error}): measure again with --json.") from error
    schema = report.get("schema") if isinstance(report, dict) else None
    if type(schema) is int and schema != SCHEMA:
        cure = "measure again with --json" if schema < SCHEMA else "update mimo"
        raise ArtifactError(f"{path} has schema {schema}, and this version of mimo reads schema {SCHEMA}: {cure}.")
    try:
        check_report(report)
    except ValueError as error:
        raise ArtifactError(f"{path} is no report of mimo bench ({error}): measure again with --json.") from error
    return dict(report)


def check_report(report: Any) -> None:
    """Raise ``ValueError`` naming the path of the first thing that does not fit schema 2, as ``rows[0].summary.n``."""
    _need(isinstance(report, Mapping), "the report", "an object", report)
    _need(report.get("schema") == SCHEMA, "schema", str(SCHEMA), report.get("schema"))
    kind = report.get("kind")
    _need(isinstance(kind, str) and kind in _KINDS, "kind", f"one of {', '.join(_KINDS)}", kind)
    _KINDS[kind](report, "")


def _need(fits: bool, path: str, expected: str, value: Any) -> None:
    if not fits:
        shown = repr(value)
        raise ValueError(f"{path}: expected {expected}, not {shown if len(shown) <= 60 else shown[:57] + '...'}")


def _text(value: Any, path: str) -> None:
    _need(isinstance(value, str), path, "text", value)


def _flag(value: Any, path: str) -> None:
    _need(isinstance(value, bool), path, "true or false", value)


def _count(value: Any, path: str) -> None:
    _need(type(value) is int and value >= 0, path, "a whole number of at least 0", value)


def _real(value: Any, path: str) -> None:
    # Python's JSON reads NaN and Infinity, which no report may hold.
    _need(type(value) in (int, float) and math.isfinite(value), path, "a finite number", value)


def _positive(value: Any, path: str) -> None:
    """At least 0: seconds of a clock that may be coarse, fractions, ratios."""
    _real(value, path)
    _need(value >= 0, path, "at least 0", value)


def _anything(value: Any, path: str) -> None:
    """Written by other modules in their own words, and shown word for word."""


def _maybe(check: _Check) -> _Check:
    def checked(value: Any, path: str) -> None:
        if value is not None:
            check(value, path)

    return checked


def _one_of(*names: str) -> _Check:
    return lambda value, path: _need(isinstance(value, str) and value in names, path, f"one of {', '.join(names)}", value)


def _each(check: _Check) -> _Check:
    def checked(value: Any, path: str) -> None:
        _need(isinstance(value, list | tuple), path, "a list", value)
        for index, one in enumerate(value):
            check(one, f"{path}[{index}]")

    return checked


def _fields(checks: Mapping[str, _Check], *, closed: bool = True) -> _Check:
    def checked(value: Any, path: str) -> None:
        _need(isinstance(value, Mapping), path or "the report", "an object", value)
        prefix = f"{path}." if path else ""
        for name, check in checks.items():
            if name not in value:
                raise ValueError(f"{prefix}{name}: missing")
            check(value[name], prefix + name)
        unknown = [name for name in value if name not in checks]
        if closed and unknown:
            raise ValueError(f"{prefix}{unknown[0]}: not known in schema {SCHEMA}")

    return checked


def _shape(value: Any, path: str) -> None:
    try:
        fits = str(Shape.parse(value)) == value
    except (ShapeError, AttributeError):
        fits = False
    _need(fits, path, "a shape such as 1x720x1280", value)


def _row(checks: Mapping[str, _Check]) -> _Check:
    fields = _fields(checks)

    def checked(row: Any, path: str) -> None:
        fields(row, path)
        if row["reason"] is not None:
            _need(row["summary"] is None, f"{path}.summary", "null beside a reason", row["summary"])
            return
        for name in _MEASURED:
            _need(row[name] is not None, f"{path}.{name}", "a value, as there is no reason", None)
        samples, n = row["samples_seconds"]["synchronised"], row["summary"]["n"]
        _need(len(samples) == n, f"{path}.summary.n", f"{len(samples)}, the number of samples", n)

    return checked


def _cell(value: Any, path: str) -> None:
    _fields(_CELL)(value, path)
    for name in ("median_seconds", "n", "converged", "first_call_seconds"):
        fits = (value[name] is None) == (value["reason"] is not None)
        _need(fits, f"{path}.{name}", "null beside a reason, and a value without one", value[name])


_MEASURED = ("converged", "settled", "drift", "first_call_seconds", "summary", "samples_seconds")

_OPEN = _fields({}, closed=False)

_SUMMARY = _fields(
    {
        "n": _count,
        "median": _positive,
        "median_low": _maybe(_positive),
        "median_high": _maybe(_positive),
        "mean": _positive,
        "minimum": _positive,
        "maximum": _positive,
        "p90": _maybe(_positive),
        "p95": _maybe(_positive),
        "p99": _maybe(_positive),
        "iqr": _positive,
        "cov": _positive,
        "outliers": _count,
    }
)

_VERIFIED = _one_of("verified", "FAILED", "UNVERIFIED", "reference", "-")

_WHAT: Mapping[str, _Check] = {
    "file": _text,
    "sha256": _maybe(_text),
    "checkpoint_sha256": _maybe(_text),
    "engine": _text,
    "runtime": _text,
    "device": _text,
    "compute": _maybe(_text),
    "mode": _one_of("sync", "e2e", "throughput", "cuda-graph", "cold-cache"),
    "in_flight": _count,
    "shape": _shape,
    "verified": _VERIFIED,
    "reason": _maybe(_text),
}

_ROW: Mapping[str, _Check] = {
    **_WHAT,
    "psnr": _maybe(_fields({"decibel": _real, "source": _text})),
    "converged": _maybe(_flag),
    "settled": _maybe(_flag),
    "drift": _maybe(_real),
    "first_call_seconds": _maybe(_positive),
    "first_after_shape_change_seconds": _maybe(_positive),
    "summary": _maybe(_SUMMARY),
    "enqueued_not_latency": _maybe(_SUMMARY),
    "events": _maybe(_SUMMARY),
    "memory": _maybe(
        _fields(
            {
                "peak_bytes": _count,
                "baseline_bytes": _count,
                "kind": _one_of("resident", "device"),
                "engine_bytes": _maybe(_count),
            }
        )
    ),
    "limits": _maybe(
        _fields(
            {
                "macs": _maybe(_count),
                "bytes": _count,
                "compute_fraction": _maybe(_positive),
                "copy_fraction": _maybe(_positive),
                "floor_seconds": _maybe(_positive),
                "ceiling": _maybe(_text),
            }
        )
    ),
    "samples_seconds": _maybe(
        _fields({name: _each(_positive) for name in ("warm_up", "synchronised", "enqueued_not_latency", "events")})
    ),
    "states": _maybe(_each(_fields({"after_samples": _count}, closed=False))),
}

_NETWORK: Mapping[str, _Check] = {
    **_ROW,
    "network": _text,
    "way": _maybe(_text),
    "parameters": _count,
    "macs": _maybe(_count),
    "published": _maybe(
        _fields({"psnr": _real, "async_seconds": _maybe(_positive), "sync_seconds": _maybe(_positive), "gpu": _maybe(_text)})
    ),
    "export": _fields({"onnx": _text, "fp16": _text, "tensorrt_rtx": _text}),
}

_CELL: Mapping[str, _Check] = {
    "shape": _shape,
    "median_seconds": _maybe(_positive),
    "median_low": _maybe(_positive),
    "median_high": _maybe(_positive),
    "n": _maybe(_count),
    "converged": _maybe(_flag),
    "first_call_seconds": _maybe(_positive),
    "memory_peak_bytes": _maybe(_count),
    "reason": _maybe(_text),
    "samples_seconds": _maybe(_each(_positive)),
}

_HEAD: Mapping[str, _Check] = {"schema": _count, "kind": _text, "made": _text, "shape": _shape, "plan": _OPEN, "context": _OPEN}

_SIDE = _fields({name: check for name, check in _WHAT.items() if name != "reason"}, closed=False)

_ROUND = _fields(
    {
        "order": _one_of("ABBA", "BAAB"),
        "log_ratio": _real,
        "a_seconds": _each(_each(_positive)),
        "b_seconds": _each(_each(_positive)),
        "discarded_seconds": _each(_positive),
    }
)

_COMPARISON = _fields(
    {
        "verdict": _one_of("faster", "slower", "same", "undecided"),
        "ratio": _positive,
        "low": _positive,
        "high": _positive,
        "noise": _positive,
        "converged": _flag,
        "plan": _OPEN,
        "rounds": _each(_ROUND),
        "floor_rounds": _each(_ROUND),
    }
)

_KINDS: Mapping[str, _Check] = {
    "bench": _fields({**_HEAD, "ceilings": _each(_OPEN), "rows": _each(_row(_ROW))}),
    "table": _fields({**_HEAD, "ceilings": _each(_OPEN), "rows": _each(_row(_NETWORK))}),
    "atlas": _fields(
        {
            **_HEAD,
            "file": _text,
            "engine": _text,
            "sha256": _maybe(_text),
            "compute": _maybe(_text),
            "verified": _VERIFIED,
            "grid": _each(_cell),
            "advice": _each(_text),
        }
    ),
    "compare": _fields({**_HEAD, "a": _SIDE, "b": _SIDE, "comparison": _COMPARISON}),
}
