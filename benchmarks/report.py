"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from benchmarks.bench import Row, speedup
from benchmarks.measurement import SMALLEST_N_FOR_P95
from mimo.metrics import LABELS, METRICS, text
from mimo.spec import Shape

if TYPE_CHECKING:
    from engines.evaluation import Evaluation, PictureScore, Summary
    from engines.verification import Verification

_COLUMNS = ("median", "p95", "min", "max", "n", "events", "async (not latency)", "vs PyTorch", "checked")
_COLUMNS_ASYNC = ("async (not latency)", "n", "checked")
_COLOURS = {"passed": "green", "failed": "red", "not run": "yellow"}


def bench_table(rows: Sequence[Row], shape: Shape, *, sync: bool) -> Table:
    """Milliseconds a row. Without ``sync``: only the time until the enqueuing call returned, under that name."""
    title = f"{shape}, milliseconds" + ("" if sync else " until the call returned")
    table = _table(title, "engine", *(_COLUMNS if sync else _COLUMNS_ASYNC))
    baseline = next((row for row in rows if row.verified == "reference" and row.measurement), None)
    for number, row in enumerate(rows):
        if number == 0 or row.file != rows[number - 1].file:
            table.add_row(f"[bold]{escape(row.file)}[/bold]")
        measured = row.measurement
        if measured is None:
            table.add_row(f"  {row.engine}", "[yellow]not run[/yellow]")
            continue
        returned = _milliseconds(measured.median_enqueued)
        if not sync:
            table.add_row(f"  {row.engine}", returned, str(measured.n), row.verified)
            continue
        ratio = speedup(row, baseline)
        table.add_row(
            f"  {row.engine}",
            _milliseconds(measured.median),
            f"n<{SMALLEST_N_FOR_P95}" if measured.p95 is None else _milliseconds(measured.p95),
            _milliseconds(measured.minimum),
            _milliseconds(measured.maximum),
            str(measured.n),
            _milliseconds(measured.median_events),
            returned,
            "-" if ratio is None else f"{ratio:.2f}x",
            row.verified,
        )
    return table


def readme_table(report: Mapping[str, Any]) -> str:
    """The rows of a bench report, as ``mimo bench --json`` writes it, in Markdown; seconds, with the machine above."""
    context = report["context"]
    flags = ", ".join(context["cpu_flags"])
    lines = [
        f"{report['shape']} on {context['cores']} cores of {context['cpu']} ({flags}), GPU: {context['gpu'] or 'none'}:",
        "",
        "| file | engine | median | min | max | n | vs eager PyTorch | checked |",
        "|---|---|---|---|---|---|---|---|",
    ]
    medians = {row["verified"]: row["summary_seconds"]["median"] for row in report["rows"] if row["summary_seconds"]}
    for row in report["rows"]:
        if (summary := row["summary_seconds"]) is None:
            lines.append(f"| {row['file']} | {row['engine']} | not run | | | | | {row['verified']} |")
            continue
        seconds = " | ".join(f"{summary[name]:.2f} s" for name in ("median", "min", "max"))
        ratio = f"{medians['reference'] / summary['median']:.2f}x" if "reference" in medians else "-"
        lines.append(f"| {row['file']} | {row['engine']} | {seconds} | {summary['n']} | {ratio} | {row['verified']} |")
    return "\n".join(lines)


def verification_table(results: Sequence[Verification]) -> Table:
    """A line for each shape of each verification."""
    table = _table(None, "engine", "shape", "max error", "mean error", "PSNR", "result")
    for number, one in enumerate(results):
        if number == 0 or one.artifact.path != results[number - 1].artifact.path:
            table.add_row(f"[bold]{escape(one.artifact.path.name)}[/bold]")
        for index, case in enumerate(one.cases):
            numbers = (f"{case.max_error:.1e}", f"{case.mean_error:.1e}", f"{case.psnr:.1f} dB")
            table.add_row("" if index else f"  {one.engine}", case.shape, *numbers, _coloured("passed" if case else "failed"))
        if not one.cases:
            table.add_row(f"  {one.engine}", "-", "-", "-", "-", _coloured(one.status))
    return table


def evaluation_table(result: Evaluation) -> Table:
    """A line per picture (of at most 20: a test set has a thousand, which are for the files), per scene and overall."""
    metrics = METRICS[result.protocol]
    table = _table(None, "picture", "pictures", *(LABELS[metric] for metric in metrics))

    def row(name: str, summary: Summary | PictureScore, pictures: int = 1, style: str = "") -> None:
        scores, blurry = summary.scores, summary.blurry
        after = [text(metric, scores[metric]) for metric in metrics]
        before = [f"{text(metric, blurry[metric])} -> " if blurry else "" for metric in metrics]
        table.add_row(escape(name), str(pictures), *(b + a for b, a in zip(before, after, strict=True)), style=style)

    if len(result.pictures) <= 20:
        for picture in result.pictures:
            row(picture.name, picture)
    if 1 < len(result.scenes) < len(result.pictures):
        for scene, summary in result.scenes.items():
            row(scene, summary, summary.pictures)
    row("overall", result.overall, result.overall.pictures, style="bold")
    return table


def _table(title: str | None, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        # The longest word of the heading, or a time in milliseconds, stays on one line.
        table.add_column(name, justify="right", min_width=max(6, *map(len, name.split())) if len(name) > 1 else None)
    return table


def verification_remarks(results: Sequence[Verification]) -> Iterator[str]:
    """What does not fit the table, in rich's markup: quality against the truth, structure, what was not run and why."""
    for one in results:
        file = escape(one.artifact.path.name)
        if (quality := one.quality) is not None:
            yield (
                f"{file} on {one.engine}: mean PSNR over {quality.pictures} pairs: blurry {quality.blurry:.3f} dB, "
                f"PyTorch {quality.reference:.3f} dB, this engine {quality.candidate:.3f} dB: "
                + _coloured("passed" if quality.passed else "failed")
            )
        if one.structure:
            yield f"{file}: {escape(one.structure)}"
        if one.not_run:
            yield f"[yellow]{file}: numerics: not run ({escape(one.not_run)})[/yellow]"
        if one.failure:
            yield f"[red]{file}: {escape(one.failure)}[/red]"


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


def _coloured(status: str) -> str:
    return f"[{_COLOURS[status]}]{status}[/]"
