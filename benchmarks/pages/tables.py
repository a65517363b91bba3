"""The tables of the page: what was measured, row by row and cell by cell. All text from a report is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from benchmarks.bench import speedup
from benchmarks.memory import Memory
from benchmarks.pages.quantities import DASH, Unit, digits, duration, html, percent, size, unit_for
from benchmarks.reports import Cell, NetworkRow, Row, Side
from benchmarks.roofline import Ceiling
from benchmarks.timing_statistics import SMALLEST_N
from mimo.spec import Shape

_FULL_HEAT = 1.5
"""Values of a map that are closer together than this factor do not get all of its colours."""

_VERIFIED = {
    "verified": ("good", "gave the pictures of the reference: mimo verify passed"),
    "as adopted": ("good", "gave the pictures of the graph that was adopted; nobody compared that one with PyTorch"),
    "reference": ("good", "PyTorch in FP32: what the others are compared with"),
    "UNVERIFIED": ("poor", "nobody has checked that it gives the right pictures"),
    "FAILED": ("bad", "mimo verify found wrong pictures: a fast wrong answer"),
    "-": ("", "did not run"),
}


def name_of(row: Side) -> str:
    """A row in words, not escaped: network or file, engine, and the mode where it is not plain latency."""
    who = row.file
    if isinstance(row, NetworkRow):
        who = f"{row.network} ({row.way})" if row.way else row.network
    return f"{who}, {row.engine}{_mode(row)}"


def lines_of(row: Row) -> tuple[str, ...]:
    """The same in short lines, for a picture."""
    if isinstance(row, NetworkRow):
        lines: tuple[str | None, ...] = row.network, row.way
    else:
        lines = row.file, row.engine, _mode(row).removeprefix(", ")
    return tuple(f"{line[:25]}…" if len(line) > 26 else line for line in lines if line)


def _mode(row: Side) -> str:
    if row.mode == "sync":
        return ""
    return f", {row.mode} of {row.in_flight}" if row.mode == "throughput" else f", {row.mode}"


def rows_table(rows: Sequence[Row]) -> str:
    """All statistics of the measured rows in one unit."""
    unit = unit_for(row.latency.minimum for row in rows)
    columns: dict[str, Callable[[Row], str]] = {
        f"median, {unit.name}": lambda row: _median(row, unit),
        "to PyTorch": lambda row: _speedup(row, rows),
        "checked": lambda row: _badge(row.verified),
        "p95": lambda row: _percentile(row, 0.95, unit),
        "n": lambda row: str(row.latency.n),
        "of&nbsp;arithmetic ceiling": lambda row: _fraction(row, "compute_fraction"),
        "of&nbsp;per-layer roofline": lambda row: _fraction(row, "layers_fraction"),
        "memory": lambda row: _memory(row.memory),
        "first call": lambda row: unit.number(row.first_call_seconds),
        "p90": lambda row: _percentile(row, 0.90, unit),
        "p99": lambda row: _percentile(row, 0.99, unit),
        "min": lambda row: unit.number(row.latency.minimum),
        "max": lambda row: unit.number(row.latency.maximum),
        "IQR": lambda row: unit.number(row.latency.iqr),
        "CoV": lambda row: percent(row.latency.cov),
        "out&shy;liers": lambda row: str(row.latency.outliers),
        "first call after another&nbsp;shape": lambda row: unit.number(row.first_after_shape_change_seconds),
        "device events": lambda row: unit.number(row.events.median if row.events else None),
        "server: queue": lambda row: unit.number(row.server.queue if row.server else None),
        "server: compute": lambda row: unit.number(row.server.compute if row.server else None),
        "of&nbsp;copy ceiling": lambda row: _fraction(row, "copy_fraction"),
        "mode": lambda row: html(row.mode),
        "sha256": lambda row: _sha256(row.sha256),
    }
    if not any(row.events for row in rows):
        del columns["device events"]
    if not any(row.server for row in rows):
        del columns["server: queue"], columns["server: compute"]
    if len({row.shape for row in rows}) > 1:
        columns = {"shape": lambda row: html(row.shape), **columns}
    cells = [[_who(row), *(show(row) for show in columns.values())] for row in rows]
    return table(f"All times in {unit.name}", ["", *columns], cells)


def unmeasured_table(rows: Sequence[Row]) -> str:
    """What could not be measured, and why."""
    return table("Could not be measured", ["", "reason"], [[_who(row), html(row.reason)] for row in rows], kind="words")


def networks_table(rows: Sequence[NetworkRow]) -> str:
    """The comparison of networks: ours, and what was published, in columns of their own."""
    times = [row.latency.median for row in rows if row.summary]
    times += [row.enqueued_not_latency.median for row in rows if row.enqueued_not_latency]
    unit = unit_for(times)

    def published(row: NetworkRow, key: str) -> str:
        value = getattr(row.published, key) if row.published else None
        return DASH if value is None else f"{value:.{2 if key == 'psnr' else 3}f}"

    gpus = sorted({row.published.gpu for row in rows if row.published and row.published.gpu})
    gpu = html(", ".join(gpus) or "GPU")
    columns: dict[str, Callable[[NetworkRow], str]] = {
        f"latency here, {unit.name}": lambda row: _median(row, unit) if row.summary else "not run",
        "PSNR, dB <small>published</small>": lambda row: published(row, "psnr"),
        f"until the call returned here, {unit.name} <small>not latency</small>": lambda row: unit.number(
            row.enqueued_not_latency.median if row.enqueued_not_latency else None
        ),
        f"{gpu} synchronised, s <small>published</small>": lambda row: published(row, "sync_seconds"),
        f"{gpu} not synchronised, s <small>published; not latency</small>": lambda row: published(row, "async_seconds"),
        "parameters": lambda row: f"{digits(row.parameters / 1e6, 3)} M",
        "GMAC": lambda row: DASH if row.macs is None else f"{row.macs / 1e9:,.0f}".replace(",", "\u202f"),
        "ONNX": lambda row: _export_check(row.export.onnx),
        "FP16": lambda row: _export_check(row.export.fp16),
        "TensorRT-RTX": lambda row: _export_check(row.export.tensorrt_rtx),
    }
    if len({row.shape for row in rows}) > 1:
        columns = {"shape": lambda row: html(row.shape), **columns}
    cells = [[_who(row), *(show(row) for show in columns.values())] for row in rows]
    return table("Under each latency the 95 % interval of the median", ["", *columns], cells, kind="networks")


def ceilings_table(ceilings: Sequence[Ceiling]) -> str:
    """What this machine was measured to do at best."""
    cells = []
    for one in ceilings:
        flops, moved = one.flop_per_second, one.bytes_per_second
        cells.append(
            [
                html(one.label),
                DASH if flops is None else f"{digits(flops / 1e9, 3)} GFLOP/s",
                DASH if moved is None else f"{digits(moved / 1e9, 3)} GB/s",
                html(one.method),
            ]
        )
    return table("The ceilings, measured here", ["", "matrix product", "copy", "how"], cells, kind="words")


def heat_maps(grid: Sequence[Cell]) -> str:
    """Sizes down, batches across: latency per image and per megapixel, memory, and what the first call costs more."""

    def per_image(cell: Cell) -> float:
        return float(cell.median / Shape.parse(cell.shape).batch)

    def per_megapixel(cell: Cell) -> float:
        shape = Shape.parse(cell.shape)
        return float(cell.median / (shape.batch * shape.height * shape.width / 1e6))

    def memory(cell: Cell) -> float | None:
        peak: int | None = cell.memory_peak_bytes
        return peak

    def penalty(cell: Cell) -> float:
        return max(0.0, float((cell.first_call_seconds or 0.0) - cell.median))

    maps: tuple[tuple[str, Callable[[Cell], float | None], Callable[[float], str]], ...] = (
        ("Latency per image", per_image, duration),
        ("Latency per megapixel", per_megapixel, duration),
        ("Peak memory", memory, size),
        ("First call, longer than later ones by", penalty, duration),
    )
    return "".join(_heat_map(title, grid, value, said) for title, value, said in maps)


def grid_table(grid: Sequence[Cell]) -> str:
    """Every cell with its interval, or why there is none."""
    measured = [cell for cell in grid if cell.reason is None]
    unit = unit_for(cell.median for cell in measured)
    cells = [
        [
            html(cell.shape),
            _interval(cell.median, cell.median_low, cell.median_high, unit),
            str(cell.n),
            "yes" if cell.converged else _mark("poor", "not converged"),
            unit.number(cell.first_call_seconds),
            DASH if cell.memory_peak_bytes is None else size(cell.memory_peak_bytes),
        ]
        for cell in measured
    ]
    heads = ["batch x height x width", f"median, {unit.name}", "n", "converged", "first call", "peak memory"]
    return table("All cells", heads, cells)


def table(caption: str, heads: Sequence[str], cells: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """A table in a box that scrolls; the first cell of each row is its header. Cells and ``heads`` are HTML."""
    head = "".join(f'<th scope="col">{one}</th>' if one else "<td></td>" for one in heads)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>" for first, *rest in cells
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table class="{kind}">'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _who(row: Row) -> str:
    """The row's header: names, and what a reader must know before any number of it."""
    if isinstance(row, NetworkRow):
        first, second = html(row.network), html(row.way or "")
    else:
        first, second = html(row.file), html(row.engine + _mode(row))
    marks = []
    if row.verified in ("UNVERIFIED", "FAILED"):
        marks.append(_badge(row.verified))
    if row.converged is False:
        marks.append(_mark("poor", "not converged", "the median is not known as well as was asked for"))
    if row.settled is False:
        marks.append(_mark("poor", "not settled", "it was still getting faster or slower when sampling began"))
    return f"<b>{first}</b>{f'<span>{second}</span>' if second else ''}{' '.join(marks)}"


def _median(row: Row, unit: Unit) -> str:
    summary = row.latency
    return _interval(summary.median, summary.median_low, summary.median_high, unit)


def _interval(median: float, low: float | None, high: float | None, unit: Unit) -> str:
    between = "interval: n too small" if low is None or high is None else f"{unit.number(low)}{DASH}{unit.number(high)}"
    return f"<b>{unit.number(median)}</b><small>{between}</small>"


def _percentile(row: Row, q: float, unit: Unit) -> str:
    value: float | None = getattr(row.latency, f"p{100 * q:.0f}")
    if value is not None:
        return unit.number(value)
    return f'<small title="fewer than {SMALLEST_N[q]} samples cannot bound it">n too small</small>'


def _memory(memory: Memory | None) -> str:
    if memory is None:
        return DASH
    before = size(memory.baseline_bytes)
    # A resident peak is the whole process; one on a device is already without what was there before.
    words = f"resident, {before} before" if memory.kind == "resident" else f"on the device, beyond {before}"
    if memory.engine_bytes is not None:
        words += f"; engine: {size(memory.engine_bytes)}"
    return f"{size(memory.peak_bytes)}<small>{words}</small>"


def _speedup(row: Row, rows: Sequence[Row]) -> str:
    ratio = speedup(row, rows)
    return DASH if ratio is None else f"{digits(ratio, 3)}x"


def _fraction(row: Row, key: str) -> str:
    value = getattr(row.limits, key) if row.limits else None
    return DASH if value is None else percent(value)


def _sha256(sha256: str | None) -> str:
    return DASH if sha256 is None else f'<code title="{html(sha256)}">{html(sha256[:8])}</code>'


def _badge(verified: str) -> str:
    kind, hint = _VERIFIED[verified]
    return _mark(kind, verified, hint)


def _mark(kind: str, text: str, hint: str = "") -> str:
    return f'<em class="{kind}" title="{html(hint)}">{html(text)}</em>'


def _export_check(result: str) -> str:
    return html(result) if result.startswith(("ok", "survives")) else f'<span class="export-check">{html(result)}</span>'


def _heat_map(title: str, grid: Sequence[Cell], value: Callable[[Cell], float | None], said: Callable[[float], str]) -> str:
    by_shape = {Shape.parse(cell.shape): cell for cell in grid}
    sizes = sorted({(shape.height, shape.width) for shape in by_shape}, key=lambda one: (one[0] * one[1], one))
    batches = sorted({shape.batch for shape in by_shape})
    values = {shape: value(cell) for shape, cell in by_shape.items() if cell.reason is None}
    heat = _heat([one for one in values.values() if one is not None])
    rows = []
    for height, width in sizes:
        cells = []
        for batch in batches:
            shape = Shape(batch, height, width)
            cell, number = by_shape.get(shape), values.get(shape)
            if number is not None and cell is not None:
                doubt = "" if cell.converged else '<sup title="not converged">*</sup>'
                cells.append(f'<td style="--heat:{heat(number):.0f}%">{said(number)}{doubt}</td>')
            else:
                why = cell.reason if cell is not None and cell.reason else "not measured"
                cells.append(f'<td class="none" title="{html(why)}">{DASH}</td>')
        rows.append(f'<tr><th scope="row">{height}x{width}</th>{"".join(cells)}</tr>')
    heads = "".join(f'<th scope="col">batch {batch}</th>' for batch in batches)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table class="heat"><caption>{title}</caption>'
        f'<thead><tr><th scope="col">height x width</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _heat(values: Sequence[float]) -> Callable[[float], float]:
    """From 0 for the smallest to 100 for the largest, by their logarithms; less where they hardly differ."""
    positive = [one for one in values if one > 0] or [1.0]
    low, high = math.log(min(positive)), math.log(max(positive))
    span = max(high - low, math.log(_FULL_HEAT))
    return lambda value: 100 * (math.log(value) - low) / span if value > 0 else 0.0
