"""A gate for a CI job: is it slower than before by more than is allowed, beyond what the noise can explain?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.reports import BenchReport, CompareReport, Row
from mimo.errors import MimoError

Outcome = Literal["passed", "slower", "undecided"]


@dataclass(frozen=True)
class Ruling:
    """On one row or comparison: the outcome, and the numbers or the reason for it in words."""

    name: str
    outcome: Outcome
    why: str


def allowed_fraction(text: str) -> float:
    """``5%`` as 0.05. Raises :class:`MimoError` for anything but a percentage of 0 or more."""
    number = text.strip().removesuffix("%").strip()
    try:
        value = float(number) / 100
    except ValueError:
        value = -1.0
    if not text.strip().endswith("%") or not 0 <= value < 100:
        raise MimoError(f"--fail-slower must be a percentage such as 5%, got {text!r:.40}.")
    return value


def outcome_of(low: float, high: float, allowed: float) -> Outcome:
    """Of the interval of new time over old time: wholly beyond ``1 + allowed``, wholly within it, or neither."""
    if low > 1 + allowed:
        return "slower"
    return "passed" if high <= 1 + allowed else "undecided"


def against_baseline(report: BenchReport, baseline: BenchReport, allowed: float) -> list[Ruling]:
    """A ruling for each row of ``report`` that ``baseline`` has too, and for each of ``baseline`` that is missing now.

    A row is the same when file, engine, mode, number in flight and shape are. The interval of the ratio is made of the two
    medians' 95 percent intervals, so it is wider than 95 percent: what it calls slower is. Numbers of another machine, of
    medians that are not known and of rows that did not run decide nothing.

    Raises :class:`MimoError` when the two have no row in common.
    """
    before = {_key(row): row for row in baseline.rows}
    now = {_key(row): row for row in report.rows}
    if not before.keys() & now.keys():
        raise MimoError(
            "no row of this run is in the baseline, so nothing can be compared: measure the same files at the same size, "
            "or make a new baseline with --json."
        )
    elsewhere = _other_machine(report, baseline)
    rulings = [_ruling(row, before[key], allowed, elsewhere) for key, row in now.items() if key in before]
    gone = [Ruling(str(row), "undecided", "it was not measured this time") for key, row in before.items() if key not in now]
    return rulings + gone


def of_comparison(report: CompareReport, allowed: float) -> Ruling:
    """Whether B is slower than A by more than is allowed; the noise floor counts beside the interval."""
    found = report.comparison
    low, high = 1 / found.high, 1 / found.low
    outcome = outcome_of(low, high, allowed)
    if outcome == "slower" and 1 / found.ratio <= found.noise:
        outcome = "undecided"
    return Ruling(f"{report.b} against {report.a}", outcome, _said(1 / found.ratio, low, high, allowed))


def exit_code(rulings: Sequence[Ruling], *, failed: int, undecided: int) -> int:
    """``failed`` if anything is slower, else ``undecided`` if anything is, else 0."""
    outcomes = {ruling.outcome for ruling in rulings}
    return failed if "slower" in outcomes else undecided if "undecided" in outcomes else 0


def _key(row: Row) -> tuple[object, ...]:
    return row.file, row.engine, row.mode, row.in_flight, row.shape


def _other_machine(report: BenchReport, baseline: BenchReport) -> str | None:
    for name in ("cpu", "cores", "gpu"):
        now, before = getattr(report.context, name), getattr(baseline.context, name)
        if now != before:
            return f"the baseline was measured on another machine ({name}: {before}, now {now})"
    return None


def _ruling(row: Row, before: Row, allowed: float, elsewhere: str | None) -> Ruling:
    name = str(row)
    if elsewhere:
        return Ruling(name, "undecided", elsewhere)
    for one, when in ((row, "now"), (before, "in the baseline")):
        if one.summary is None:
            return Ruling(name, "undecided", f"it did not run {when}: {one.reason}")
        if not one.converged or not one.summary.median_low:
            return Ruling(name, "undecided", f"its median is not known well enough {when} (n = {one.summary.n})")
    new, old = row.latency, before.latency
    assert new.median_low and new.median_high and old.median_low and old.median_high
    low, high = new.median_low / old.median_high, new.median_high / old.median_low
    return Ruling(name, outcome_of(low, high, allowed), _said(new.median / old.median, low, high, allowed))


def _said(ratio: float, low: float, high: float, allowed: float) -> str:
    return f"{ratio:.3f} times as long as before ({low:.3f} to {high:.3f}; up to {1 + allowed:.3f} is allowed)"
