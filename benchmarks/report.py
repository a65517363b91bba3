"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from benchmarks.bench import speedup
from benchmarks.doubts import warnings_of
from benchmarks.measurement import AGREEMENT
from benchmarks.reports import BenchReport, CompareReport, Published, Row, ServerTimes, SweepReport, TableReport, states_of
from benchmarks.timing_statistics import SMALLEST_N, Summary
from mimo.spec import Shape
from mimo.terminal import plain_table
from mimo.wording import literal

_COLUMNS = ("median", "95 %", "p95", "max", "n", "async (not latency)", "sync / async", "vs PyTorch", "of peak", "of layers")
"""What has room on a terminal; the rest is in the files."""
_COLUMNS_ASYNC = ("async (not latency)", "n")


def bench_table(report: BenchReport, *, sync: bool) -> Table:
    """Milliseconds a row. Without ``sync``: only the time until the enqueuing call returned, under that name."""
    title = f"{report.shape}, milliseconds" + ("" if sync else " until the call returned")
    rows = report.rows
    columns = _columns(rows) if sync else _COLUMNS_ASYNC
    table = plain_table(title, "engine", *columns, "checked")
    for number, row in enumerate(rows):
        if number == 0 or row.file != rows[number - 1].file:
            table.add_row(f"[bold]{literal(row.file)}[/bold]")
        summary, enqueued, name = row.summary, row.enqueued_not_latency, f"  {literal(row.engine)}"
        name += f", {_mode(row)}" if row.mode != "sync" else ""
        if summary is None:
            table.add_row(name, "[yellow]not run[/yellow]")
            continue
        returned = _milliseconds(enqueued.median if enqueued else None)
        if not sync:
            table.add_row(name, returned, str(summary.n), row.verified)
            continue
        ratio = speedup(row, rows)
        cells = {
            "median": _milliseconds(summary.median),
            "95 %": _spread(summary),
            "p95": _bounded(summary.p95, 0.95),
            "max": _milliseconds(summary.maximum),
            "n": str(summary.n),
            "async (not latency)": returned,
            "sync / async": f"{summary.median / enqueued.median:.2f}x" if enqueued and enqueued.median else "-",
            "vs PyTorch": "-" if ratio is None else f"{ratio:.2f}x",
            "of peak": _percent(getattr(row.limits, "compute_fraction", None)),
            "of layers": _percent(getattr(row.limits, "layers_fraction", None)),
            "server queue": _milliseconds(getattr(row.server, "queue", None)),
            "server compute": _milliseconds(getattr(row.server, "compute", None)),
        }
        table.add_row(name, *(cells[column] for column in columns), row.verified)
    return table


def _columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Those there is room for: what a server computes has no limits here, and where nothing else ran, nothing was enqueued."""
    if not any(row.server for row in rows):
        return _COLUMNS
    left_out = {"of peak", "of layers"}
    if all(row.runtime == "triton" for row in rows):
        left_out |= {"async (not latency)", "sync / async"}
    return *(name for name in _COLUMNS if name not in left_out), "server queue", "server compute"


def bench_remarks(rows: Sequence[Row]) -> Iterator[str]:
    """What a reader must know before using a number: a line a row, and the machine's state once. In rich's markup."""
    for row in rows:
        name = literal(str(row))
        if (summary := row.summary) is None:
            yield f"[yellow]{name}: {literal(row.reason or '')}[/yellow]"
            continue
        doubts = []
        if not row.converged:
            drift = row.drift or 0.0
            drifted = f"the later half is {drift:+.0%} off the earlier"
            doubts.append(f"not converged ({drifted if abs(drift) > AGREEMENT else f'n = {summary.n}'})")
        if not row.settled:
            doubts.append(f"warm-up not settled after {sum(row.taken.warm_up):.0f} s")
        if row.verified in ("FAILED", "UNVERIFIED"):
            doubts.append(row.verified)
        facts = [f"first call {_milliseconds(row.first_call_seconds)} ms"]
        if row.first_after_shape_change_seconds is not None:
            facts.append(f"after another shape {_milliseconds(row.first_after_shape_change_seconds)} ms")
        if summary.outliers:
            facts.append(f"{summary.outliers} outliers, none left out")
        if row.events is not None:
            facts.append(f"between device events {_milliseconds(row.events.median)} ms")
        if (server := row.server) is not None:
            facts += _on_the_server(server, summary.n * row.in_flight, row.in_flight)
        yield f"{name}: " + "; ".join([*(f"[yellow]{doubt}[/yellow]" for doubt in doubts), *facts])
    for warning in warnings_of(states_of(rows)):
        yield f"[yellow]{literal(warning)}[/yellow]"
    if any(row.converged is False for row in rows):
        yield "[yellow]Not converged: give it more --max-seconds, or a quieter machine.[/yellow]"
    if any(row.verified == "UNVERIFIED" for row in rows):
        yield "[yellow]UNVERIFIED: mimo verify says whether the result is right; a wrong one may be fast.[/yellow]"


def _on_the_server(server: ServerTimes, ours: int, in_flight: int) -> Iterator[str]:
    parts = {name: _milliseconds(getattr(server, name)) for name in ("queue", "input", "inference", "output")}
    yield "on the server, mean of a request: " + ", ".join(f"{name} {text} ms" for name, text in parts.items())
    if server.requests > ours + in_flight:  # the server may count the last of the warm-up late
        yield f"[yellow]it answered {server.requests - ours} requests of others meanwhile[/yellow]"


def comparison_text(report: CompareReport) -> Iterator[str]:
    """The verdict of a compare report in words, in rich's markup."""
    found = report.comparison
    names = [literal(f"{side.file} on {side.engine}") for side in (report.a, report.b)]
    colour = {"faster": "green", "slower": "red"}.get(found.verdict, "yellow")
    within = max(found.rule.margin, found.noise - 1)
    verdicts = {"same": f"the same within {within:.1%} as", "undecided": "undecided against"}
    verdict = verdicts.get(found.verdict, f"{found.verdict} than")
    yield f"B, {names[1]}, is [{colour}]{verdict}[/] A, {names[0]}"
    yield (
        f"A's time over B's: {found.ratio:.3f} (95 % interval {found.low:.3f} to {found.high:.3f}, "
        f"{len(found.rounds)} rounds); A against itself reaches {found.noise:.3f} here"
    )


def sweep_table(report: SweepReport) -> Table:
    """A line per size, a column per batch: milliseconds for each image, and the megapixels a second."""
    cells = {Shape.parse(cell.shape): cell for cell in report.grid}
    batches = sorted({shape.batch for shape in cells})
    table = plain_table(
        f"{report.file} on {report.engine}, milliseconds per image", "size", *map(_batch, batches), "MP/s", "first call"
    )
    for size in sorted({shape.nchw[2:] for shape in cells}, key=lambda sides: (sides[0] * sides[1], sides)):
        here = {shape.batch: cell for shape, cell in cells.items() if shape.nchw[2:] == size}
        seconds = {batch: cell.median_seconds / batch for batch, cell in here.items() if cell.median_seconds}
        firsts = [
            cell.first_call_seconds / cell.median_seconds
            for cell in here.values()
            if cell.median_seconds and cell.first_call_seconds is not None
        ]
        table.add_row(
            f"{size[0]}x{size[1]}",
            *(_milliseconds(seconds.get(batch)) for batch in batches),
            f"{size[0] * size[1] / 1e6 / min(seconds.values()):.2f}" if seconds else "-",
            f"{max(firsts):.1f}x" if firsts else "-",
        )
    return table


NETWORK_COLUMNS = (
    "MParam", "GMAC", "async (not latency)", "sync", "95 %", "n", "of peak",
    "PSNR, published", "async, RTX 3090, published", "sync, RTX 3090, published", "export", "FP16", "TensorRT-RTX",
)  # fmt: skip


_FOR_FILES = ("MParam", "95 %", "n", "of peak", "async, RTX 3090, published", "export")
"""Left out on a terminal, which has no room for them."""


def network_rows(report: TableReport) -> Iterator[tuple[str, ...]]:
    """The cells of the comparison table, a row for each network; seconds."""
    for row in report.rows:
        summary, enqueued, published = row.summary, row.enqueued_not_latency, row.published
        low, high = (summary.median_low, summary.median_high) if summary else (None, None)
        fraction = row.limits.compute_fraction if row.limits else None
        made = row.export
        yield (
            row.network + (f", {row.way}" if row.way else ""),
            f"{row.parameters / 1e6:.2f}",
            "-" if row.macs is None else f"{row.macs / 1e9:.1f}",
            f"{enqueued.median:.3f}" if enqueued else "-",
            (f"{summary.median:.3f}" + ("" if row.converged else "*")) if summary else "not run",
            f"{low:.3f}-{high:.3f}" if low is not None else "n<6" if summary else "",
            str(summary.n) if summary else "",
            "-" if fraction is None else f"{fraction:.0%}",
            *_published(published),
            "ok" if made.onnx == "ok" else "no",
            made.fp16.replace("untrained weights", "untrained"),
            "ok" if made.tensorrt_rtx.startswith("ok") else _cause(made.tensorrt_rtx),
        )


def _cause(sentence: str) -> str:
    """The first words of an error of ours, up to its cure or what TensorRT said."""
    return sentence.split(": ", 1)[-1].split(";", 1)[0].split(". ", 1)[0][:60]


def _published(found: Published | None) -> tuple[str, ...]:
    if found is None:
        return "-", "-", "-"
    times = ("-" if seconds is None else f"{seconds:.3f}" for seconds in (found.async_seconds, found.sync_seconds))
    return f"{found.psnr:.2f}", *times


def networks_table(report: TableReport) -> Table:
    """The comparison table for a terminal; seconds, ``*`` where the median did not converge."""
    row = next((row for row in report.rows if row.summary), report.rows[0])
    shown = [number for number, name in enumerate(NETWORK_COLUMNS) if name not in _FOR_FILES]
    names = [NETWORK_COLUMNS[number] for number in shown]
    table = plain_table(f"{report.shape}, {row.engine}, seconds; * not converged", "network", *names)
    for title, *cells in network_rows(report):
        table.add_row(literal(title), *(literal(cells[number]) for number in shown))
    return table


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.0%}"


def _batch(batch: int) -> str:
    return f"batch {batch}"


def _mode(row: Row) -> str:
    return f"{row.in_flight} in flight, each" if row.mode == "throughput" else row.mode


def _spread(summary: Summary) -> str:
    """The interval of the median around it, as the larger of its two sides in percent."""
    if summary.median_low is None or summary.median_high is None:
        return "n<6"
    return f"±{max(summary.median_high - summary.median, summary.median - summary.median_low) / summary.median:.1%}"


def _bounded(value: float | None, q: float) -> str:
    return f"n<{SMALLEST_N[q]}" if value is None else _milliseconds(value)


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    milliseconds = seconds * 1e3
    return (
        f"{milliseconds:.0f}"
        if milliseconds >= 1000
        else f"{milliseconds:.1f}"
        if milliseconds >= 10
        else f"{milliseconds:.3f}"
    )
