"""The head of the page: what to doubt, where the numbers come from and when they were made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from benchmarks.doubts import warnings_of
from benchmarks.pages.quantities import html, short, size
from benchmarks.pages.tables import name_of
from benchmarks.reports import BenchReport, CompareReport, Report, Row, Side, SweepReport, TableReport, states_of


def warnings_in(report: Report) -> list[str]:
    """What makes a number doubtful, worst first, as HTML: a sentence each, with what it is about."""
    rows: Sequence[Row] = report.rows if isinstance(report, BenchReport | TableReport) else ()
    cells = report.grid if isinstance(report, SweepReport) else ()
    sides = (report.a, report.b) if isinstance(report, CompareReport) else rows
    checked = [(name_of(one), one.verified) for one in sides]
    if isinstance(report, SweepReport):
        checked.append((report.file, report.verified))

    def about(sentence: str, names: Sequence[str]) -> list[str]:
        return [f"{sentence}: {html('; '.join(names))}."] if names else []

    failed = [name for name, verified in checked if verified == "FAILED"]
    unverified = [name for name, verified in checked if verified == "UNVERIFIED"]
    loose = [name_of(row) for row in rows if row.converged is False]
    loose += [cell.shape for cell in cells if cell.converged is False]
    moving = [name_of(row) for row in rows if row.settled is False]
    missing = [name_of(row) for row in rows if row.reason] + [cell.shape for cell in cells if cell.reason]
    found = [
        *about('<span class="bad">FAILED</span>: mimo verify found wrong pictures, so the speed means nothing', failed),
        *about("<b>UNVERIFIED</b>: nobody has checked that the pictures are right; run mimo verify", unverified),
        *about("Not converged: the median is not as sure as was asked for; measure for longer (--max-seconds)", loose),
        *about("Not settled: still getting faster or slower when sampling began; measure again on a quieter machine", moving),
        *_about_the_machine(rows),
        *about("Could not be measured, for the reasons below", missing),
    ]
    if isinstance(report, CompareReport) and not report.comparison.converged:
        found.append(
            "Not converged: the interval is wider than the margin that was asked for; compare for longer (--max-seconds)."
        )
    return found


def _about_the_machine(rows: Sequence[Row]) -> list[str]:
    """Throttling, falling clocks, load: each kind once, with its numbers for the first row that has it."""
    found: dict[str, tuple[str, list[str]]] = {}
    for row in rows:
        for sentence in warnings_of(states_of([row])):
            kind = re.sub(r"[\d.]+", "", sentence)
            found.setdefault(kind, (sentence, []))[1].append(name_of(row))
    return [
        html(f"{names[0]}: {sentence}" + (f" Likewise: {'; '.join(names[1:])}." if len(names) > 1 else ""))
        for sentence, names in found.values()
    ]


def where(report: Report) -> str:
    """The processor and the GPU in words, not escaped."""
    context = report.context
    where = f"{'?' if context.cores is None else context.cores} cores of {context.cpu}"
    return f"{context.gpu} with {where}" if context.gpu else f"{where}, no GPU"


def when(made: str) -> str:
    """The moment in words and in UTC; as it stands when it is none."""
    try:
        moment = datetime.fromisoformat(made).astimezone(UTC)
    except ValueError:
        return made
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC."


_FIRST = ("cpu", "cpu_flags", "cores", "threads", "load_average", "gpu", "gpu_details")
"""Of the context, what decides how fast a machine is."""

_TITLES = {
    "cpu": "processor",
    "cpu_flags": "instruction sets",
    "memory_bytes": "memory",
    "load_average": "load when it began (1, 5, 15 min)",
    "gpu": "GPU",
    "gpu_details": "GPU in detail",
    "tools": "versions",
}


def facts_in(report: Report) -> str:
    """Where and how, entry by entry; whatever the context holds is shown, the longer part of it folded."""
    context = report.context.model_dump()
    named: dict[str, Side | SweepReport] = {}
    if isinstance(report, CompareReport):
        named = {"A": report.a, "B": report.b}
    elif isinstance(report, SweepReport):
        named = {"artifact": report}
    artifacts = {
        key: f"{html(one.file)}, {html(one.engine)}, {html(one.verified)}{_sha(one.sha256)}" for key, one in named.items()
    }
    shown = _entries({key: context[key] for key in _FIRST if key in context})
    folded = _entries({key: value for key, value in context.items() if key not in _FIRST} | {"rule": asdict(report.rule)})
    return f"{_list(artifacts | shown)}<details><summary>Versions, rule and the rest</summary>{_list(folded)}</details>"


def _entries(values: Mapping[str, Any]) -> dict[str, str]:
    """Names and values as HTML; what the machine could not tell is left out."""
    said = {_TITLES.get(key, key.replace("_", " ")): _said(key, value) for key, value in values.items()}
    return {html(key): html(value) for key, value in said.items() if value}


def _list(entries: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<div><dt>{key}</dt><dd>{value}</dd></div>' for key, value in entries.items())}</dl>"


def _said(key: str, value: Any) -> str:
    if value is None or value in ({}, []):
        return "none" if key == "gpu" else ""
    if isinstance(value, Mapping):
        said = {name: _said(name, one) for name, one in value.items()}
        # Settings of the environment (OMP_NUM_THREADS) keep their spelling.
        words = {name: name if name.isupper() else name.replace("_bytes", "").replace("_", " ") for name in said}
        return ", ".join(f"{words[name]} {one}" for name, one in said.items() if one)
    if isinstance(value, list | tuple):
        return ", ".join(_said("", one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("bytes") and isinstance(value, int):
        return size(value)
    return short(value) if isinstance(value, float) else str(value)


def _sha(sha256: str | None) -> str:
    return "" if sha256 is None else f', <code title="{html(sha256)}">{html(sha256[:8])}</code>'
