"""A report as a page to look at: one HTML file, nothing outside it, no script.

    header     what was measured, where and when; what to doubt, first and in words
    sections   the tables, then the pictures, by the report's kind

Its texts come from file names, drivers and error
messages, so each is escaped where it enters the page (``html``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from benchmarks.bench import speedup
from benchmarks.compare import Comparison
from benchmarks.pages.charts import (
    Bar,
    Point,
    distribution,
    in_time,
    latency_against_psnr,
    latency_bars,
    limit_bars,
    pair_bars,
    ratio_rounds,
)
from benchmarks.pages.gauge_lanes import states_in_words
from benchmarks.pages.header import facts_in, warnings_in, when, where
from benchmarks.pages.quantities import digits, duration, html, percent
from benchmarks.pages.tables import (
    ceilings_table,
    grid_table,
    heat_maps,
    lines_of,
    name_of,
    networks_table,
    rows_table,
    unmeasured_table,
)
from benchmarks.reports import (
    BenchReport,
    CompareReport,
    NetworkRow,
    Report,
    Row,
    SweepReport,
    TableReport,
    states_of,
)
from benchmarks.roofline import Limits
from mimo.files import write_bytes
from mimo.pages import render

_MODES = {
    "sync": "from enqueuing one restoration until the device has finished it, its input already on the device",
    "e2e": "from a host array to a host array, with padding and copies",
    "throughput": "several restorations in flight; their time divided by their number, which is no latency",
    "cuda-graph": "as sync, with the whole network captured once and replayed",
    "cold-cache": "as sync, with the caches emptied before each sample",
}


def write_page(path: Path, report: Report) -> None:
    """Write :func:`report_page` atomically. Raises :class:`~mimo.errors.OutputError`; what stood there is then untouched."""
    write_bytes(path, report_page(report).encode())


def report_page(report: Report) -> str:
    """The whole page for a report of any kind."""
    verdict = None
    match report:
        case BenchReport():
            title, lead, sections = _bench(report)
        case TableReport():
            title, lead, sections = _table(report)
        case SweepReport():
            title, lead, sections = _sweep(report)
        case CompareReport():
            title, lead, sections = _compare(report)
            verdict = _verdict(report.comparison)
    values = {
        "title": title,
        "lead": f"{lead} {when(report.made)}",
        "warnings": [Markup(one) for one in warnings_in(report)],
        "verdict": verdict,
        "facts": Markup(facts_in(report)),
        "sections": sections,
    }
    return render("benchmarks.pages", "report.html.j2", values)


Section = tuple[str, Markup]
"""Heading and content."""


def _bench(report: BenchReport) -> tuple[str, str, list[Section]]:
    rows = report.rows
    measured = [row for row in rows if row.summary]
    failed = [row for row in rows if not row.summary]
    files = list(dict.fromkeys(row.file for row in rows))
    what = files[0] if len(files) == 1 else f"{len(files)} files"
    lead = f"{len(measured)} of {len(rows)} rows measured, on {where(report)}."
    sections = [_section("At a glance", _overview(measured))] if measured else []
    sections.append(_section("Numbers", _numbers(measured, failed)))
    if points := _points(measured):
        names = {"measured": "PSNR measured", "published": "PSNR published, not measured here"}
        sections.append(_section("Latency against PSNR", f'<div class="wide">{latency_against_psnr(points, names)}</div>'))
    return f"Latency of {what} at {report.shape}", lead, [*sections, *_pictures(report, measured)]


def _table(report: TableReport) -> tuple[str, str, list[Section]]:
    rows = report.rows
    measured = [row for row in rows if row.summary]
    failed = [row for row in rows if not row.summary]
    networks = len({row.network for row in rows})
    lead = f"{networks} networks for deblurring, measured on {where(report)}, beside what was published."
    remark = (
        "<p>Published PSNR and times are their authors', on their machines and pictures; only what stands under "
        "“here” was measured. The time until the call returned is what papers have printed as latency: it is not.</p>"
    )
    sections = [_section("Networks", (networks_table(rows) if rows else "") + remark)]
    for (device, shape), points in _points_here(rows).items():
        names = {"measured": "measured here, with the published PSNR"}
        title = f"Latency here against published PSNR: {device}, {shape}"
        sections.append(_section(title, f'<div class="wide">{latency_against_psnr(points, names)}</div>'))
    for gpu, points in _published_points(rows).items():
        names = {"published": "published, synchronised", "not-latency": "published, not synchronised: not latency"}
        title = f"As published, on {gpu}"
        sections.append(_section(title, f'<div class="wide">{latency_against_psnr(points, names)}</div>'))
    sections.append(_section("All numbers", _numbers(measured, failed)))
    return f"Deblurring networks at {report.shape}", lead, [*sections, *_pictures(report, measured)]


def _sweep(report: SweepReport) -> tuple[str, str, list[Section]]:
    grid = report.grid
    measured = [cell for cell in grid if cell.reason is None]
    lead = f"{report.engine}, {len(measured)} of {len(grid)} shapes measured, on {where(report)}."
    advice = "".join(f"<li>{html(one)}</li>" for one in report.advice)
    reasons = "".join(f"<li>{html(cell.shape)}: {html(cell.reason)}</li>" for cell in grid if cell.reason is not None)
    sections = [_section("Advice", f"<ul>{advice}</ul>")] if advice else []
    if measured:
        note = "" if all(cell.converged for cell in measured) else "<p>* not converged</p>"
        sections.append(_section("Maps", f'<div class="tiles">{heat_maps(grid)}</div>{note}'))
        sections.append(_section("Numbers", grid_table(grid)))
    if reasons:
        sections.append(_section("Could not be measured", f"<ul>{reasons}</ul>"))
    return f"Sizes and batches of {report.file}", lead, sections


def _compare(report: CompareReport) -> tuple[str, str, list[Section]]:
    a, b, found = report.a, report.b, report.comparison
    title = f"A, {name_of(a)}, against B, {name_of(b)}, at {report.shape}"
    noise = found.noise
    picture = ratio_rounds(
        [math.exp(one.log_ratio) for one in found.floor_rounds],
        [math.exp(one.log_ratio) for one in found.rounds],
        found.ratio,
        (found.low, found.high),
        (1 / noise, noise),
    )
    how = (
        f"<p>A and B took turns in {len(found.rounds)} rounds of four blocks; each dot is one round. The grey band is the "
        f"noise floor: what this machine finds when A is compared with itself ({percent(noise - 1)} either way). The coloured "
        "band is the 95 % interval of the ratio, the line in it the median.</p>"
    )
    return title, f"Interleaved, on {where(report)}.", [_section("Round by round", f'<div class="wide">{picture}</div>{how}')]


def _verdict(found: Comparison) -> str:
    """What the comparison says, for somebody who reads nothing else; ratios are A's time over B's."""
    ratio, low, high = found.ratio, found.low, found.high
    interval = f"95 % interval {digits(low)} to {digits(high)}, noise floor {digits(found.noise)}"
    match found.verdict:
        case "faster":
            return f"B is faster: A takes {digits(ratio)} times as long ({interval})."
        case "slower":
            return (
                f"B is slower: it takes {digits(1 / ratio)} times as long as A (time of A over B {digits(ratio)}; {interval})."
            )
        case "same":
            return (
                f"A and B are the same within what matters or can be seen here (time of A over B {digits(ratio)}; {interval})."
            )
        case _:
            return (
                f"Undecided: time of A over B {digits(ratio)} ({interval}). "
                "Measure more rounds, or on a quieter machine, before choosing either."
            )


def _overview(rows: Sequence[Row]) -> str:
    """All rows on one axis from 0: latency with its interval, and how it stands to PyTorch with the same weights."""
    bars = []
    for row in rows:
        ratio = speedup(row, rows)
        said = "" if ratio is None else f"{digits(ratio, 3)}x the speed of PyTorch"
        said = "the baseline" if ratio is not None and row.verified == "reference" else said
        doubt = "not converged" if not row.converged else ""
        bars.append(Bar(name_of(row), row.latency.median, row.latency.median_low, row.latency.median_high, said, doubt))
    note = (
        "<p>The line at the end of a bar is the median's 95 % interval; where there is none, n is too small. The speed is set "
        "against PyTorch in FP32 with the same weights, on the same device.</p>"
    )
    return f'<div class="wide">{latency_bars(bars)}</div>{note}'


def _points(rows: Sequence[Row]) -> list[Point]:
    return [
        Point(
            row.latency.median,
            row.psnr.decibel,
            lines_of(row),
            "published" if row.psnr.source == "published" else "measured",
            f"{name_of(row)}: {duration(row.latency.median)}, {row.psnr.decibel:.2f} dB ({row.psnr.source})",
        )
        for row in rows
        # What is in flight at once has no latency, and 0 s (a coarse clock) has no place on a logarithmic axis.
        if row.psnr and row.mode != "throughput" and row.latency.median > 0
    ]


def _points_here(rows: Sequence[NetworkRow]) -> dict[tuple[str, str], list[Point]]:
    """What was measured, by device and shape: times of two of either have no place on one axis."""
    found: dict[tuple[str, str], list[Point]] = {}
    for row in rows:
        if row.published is not None and row.summary and row.latency.median > 0:
            median = row.latency.median
            hint = f"{name_of(row)}: {duration(median)} here"
            point = Point(median, row.published.psnr, lines_of(row), "measured", hint)
            found.setdefault((row.device, row.shape), []).append(point)
    return found


def _published_points(rows: Sequence[NetworkRow]) -> dict[str, list[Point]]:
    """By the GPU they were published for; each network once, its two times on one height."""
    found: dict[str, list[Point]] = {}
    by_network = {row.network: row for row in reversed(rows)}
    for network, row in by_network.items():
        if (published := row.published) is None:
            continue
        kinds: tuple[tuple[float | None, Literal["published", "not-latency"], str], ...] = (
            (published.sync_seconds, "published", "synchronised"),
            (published.async_seconds, "not-latency", "not latency"),
        )
        for seconds, kind, words in kinds:
            if seconds is not None:
                gpu = published.gpu or "an unnamed GPU"
                hint = f"{network}: {duration(seconds)} published, {gpu}, {words}"
                lines = (network[:26],) if kind == "published" else ()
                found.setdefault(gpu, []).append(Point(seconds, published.psnr, lines, kind, hint, network))
    return found


def _numbers(measured: Sequence[Row], failed: Sequence[Row]) -> str:
    modes = dict.fromkeys(row.mode for row in measured)
    explained = "".join(f"<li><b>{html(mode)}</b>: {_MODES[mode]}.</li>" for mode in modes)
    parts = []
    if measured:
        parts.append(rows_table(measured))
        parts.append(
            f"<ul>{explained}</ul><p>Under each median its 95 % interval. Outliers lie more than 3 IQR beyond a quartile; "
            "they are counted and in every number. First calls are in none.</p>"
        )
    if failed:
        parts.append(unmeasured_table(failed))
    return "".join(parts) or "<p>Nothing has been measured yet.</p>"


def _pictures(report: BenchReport | TableReport, rows: Sequence[Row]) -> list[Section]:
    sections = []
    pairs = [row for row in rows if row.enqueued_not_latency]
    if pairs:
        bars = [
            (name_of(row), pair_bars(row.enqueued_not_latency.median, row.latency.median, name_of(row)))
            for row in pairs
            if row.enqueued_not_latency
        ]
        sections.append(_section("The trap: until the call returned, and until the work was done", _trap(pairs) + _tiles(bars)))
    limited = [(name_of(row), limit_bars(parts, name_of(row))) for row in rows if row.limits and (parts := _parts(row.limits))]
    if limited or report.ceilings:
        words = (
            "<p>How much of what this machine was measured to do at best each row used, counting only the least work: "
            "every multiplication once, every weight, input and output moved once. What is missing to the end of a bar is "
            "room to get faster. Over 100 % is possible: a runtime may need fewer multiplications than are counted.</p>"
        )
        ceilings = ceilings_table(report.ceilings) if report.ceilings else ""
        sections.append(_section("How far from the floor", words + _tiles(limited) + ceilings))
    if rows:
        figures = "".join(map(_figure, rows))
        sections.append(_section("Every sample", f'<div class="rows">{figures}</div>'))
    return sections


def _tiles(pictures: Sequence[tuple[str, str]]) -> str:
    tiles = "".join(f"<figure><figcaption><h3>{html(name)}</h3></figcaption>{picture}</figure>" for name, picture in pictures)
    return f'<div class="pairs">{tiles}</div>'


def _trap(rows: Sequence[Row]) -> str:
    words = (
        "On a GPU a call returns when the work has been enqueued, not when it is done. The time until then says how fast a "
        "program can ask; it is not latency."
    )
    if any(row.device == "cpu" for row in rows):
        words += " On a CPU both are equal, because there the call itself does the work and returns when it is done."
    return f"<p>{words} Each pair of bars has a scale of its own.</p>"


def _parts(limits: Limits) -> list[tuple[str, float]]:
    ceiling = limits.ceiling or "the ceiling"
    named = (
        (limits.compute_fraction, f"the arithmetic of {ceiling}"),
        (limits.copy_fraction, f"the copying of {ceiling}"),
    )
    return [(what, fraction) for fraction, what in named if fraction is not None]


def _figure(row: Row) -> str:
    summary, taken, name = row.latency, row.taken, name_of(row)
    low, high = summary.median_low, summary.median_high
    interval = None if low is None or high is None else (low, high)
    states = states_of([row])
    said = f'<p class="axis">Machine between the samples: {html(states_in_words(states))}.</p>' if states else ""
    return (
        f'<figure><figcaption><h3>{html(name)}</h3></figcaption><div class="tiles">'
        f"<div>{distribution(taken.synchronised, summary.median, interval, name)}</div>"
        f"<div>{in_time(taken.warm_up, taken.synchronised, states, name)}{said}</div></div></figure>"
    )


def _section(title: str, content: str) -> Section:
    return title, Markup(content)
