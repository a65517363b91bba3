"""Verifications and evaluations as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from engines.evaluation import Evaluation, PictureScore, Summary
from engines.verification import PYTORCH, Verification
from mimo.metrics import LABELS, METRICS, text
from mimo.terminal import plain_table
from mimo.wording import literal

_COLOURS = {"passed": "green", "failed": "red", "not run": "yellow"}


def verification_table(results: Sequence[Verification]) -> Table:
    """A line for each shape of each verification."""
    table = plain_table(None, "engine", "shape", "max error", "mean error", "PSNR", "result")
    for number, one in enumerate(results):
        if number == 0 or one.artifact.path != results[number - 1].artifact.path:
            table.add_row(f"[bold]{literal(one.artifact.path.name)}[/bold]")
        for index, case in enumerate(one.cases):
            numbers = (f"{case.max_error:.1e}", f"{case.mean_error:.1e}", f"{case.psnr:.1f} dB")
            table.add_row("" if index else f"  {one.engine}", case.shape, *numbers, _coloured("passed" if case else "failed"))
        if not one.cases:
            table.add_row(f"  {one.engine}", "-", "-", "-", "-", _coloured(one.status))
    return table


def verification_remarks(results: Sequence[Verification]) -> Iterator[str]:
    """What does not fit the table, in rich's markup: quality against the truth, structure, what was not run and why."""
    for one in results:
        file = literal(one.artifact.path.name)
        source = "PyTorch" if one.reference == PYTORCH else "the graph itself"
        if (quality := one.quality) is not None:
            yield (
                f"{file} on {one.engine}: mean PSNR over {quality.pictures} pairs: blurry {quality.blurry:.3f} dB, "
                f"{source} {quality.reference:.3f} dB, this engine {quality.candidate:.3f} dB: "
                + _coloured("passed" if quality.passed else "failed")
            )
        if one.reference != PYTORCH and one.cases:
            yield f"{file} on {one.engine}: compared with {literal(one.reference)}, not with PyTorch."
        if one.structure:
            yield f"{file}: {literal(one.structure)}"
        if one.not_run:
            yield f"[yellow]{file}: numerics: not run ({literal(one.not_run)})[/yellow]"
        if one.failure:
            yield f"[red]{file}: {literal(one.failure)}[/red]"


def evaluation_table(result: Evaluation) -> Table:
    """A line per picture (of at most 20: a test set has a thousand, which are for the files), per scene and overall."""
    metrics = METRICS[result.protocol]
    table = plain_table(None, "picture", "pictures", *(LABELS[metric] for metric in metrics))

    def row(name: str, summary: Summary | PictureScore, pictures: int = 1, style: str = "") -> None:
        scores, blurry = summary.scores, summary.blurry
        after = [text(metric, scores[metric]) for metric in metrics]
        before = [f"{text(metric, blurry[metric])} -> " if blurry else "" for metric in metrics]
        table.add_row(literal(name), str(pictures), *(b + a for b, a in zip(before, after, strict=True)), style=style)

    if len(result.pictures) <= 20:
        for picture in result.pictures:
            row(picture.name, picture)
    if 1 < len(result.scenes) < len(result.pictures):
        for scene, summary in result.scenes.items():
            row(scene, summary, summary.pictures)
    row("overall", result.overall, result.overall.pictures, style="bold")
    return table


def _coloured(status: str) -> str:
    return f"[{_COLOURS[status]}]{status}[/]"
