"""Latency, memory and first-call penalty over sizes and batches of one artifact, and what follows for its deployment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.bench import Job, hash_at, head, standing
from benchmarks.measurement import Latency, Measurement, StoppingRule, measure
from benchmarks.memory import PeakMemory
from benchmarks.reports import Cell, SweepReport
from engines.runtimes.base import Engine
from engines.runtimes.opening import open_engine
from engines.sample_images import photograph_batch
from mimo.errors import MimoError
from mimo.files import write_json
from mimo.spec import WHOLE_IMAGE, Shape

SIZES = ("128x128", "256x256", "512x512", "720x1280", "1080x1920")
BATCHES = (1, 2, 4)

BETTER = 0.95
"""A larger batch, or another tile, is worth advising when it takes less than this part of the time for each pixel."""
PHOTOGRAPH = (4000, 6000)
"""Height and width of the photograph of 24 megapixels for which a tile size is advised."""


def sweep(
    job: Job,
    shapes: Sequence[Shape],
    photographs: Sequence[Path],
    rule: StoppingRule,
    *,
    json_out: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> SweepReport:
    """Measure ``job`` at ``shapes``, smallest first, in one engine; returns the report and rewrites ``json_out`` after each.

    A shape whose single call would take longer than ``rule.max_seconds``, judged by the pixels of the one before, is not
    run, and neither are shapes that the engine does not take: cells with their reason. Raises :class:`MimoError` when the
    engine cannot be opened.
    """
    ordered = sorted(set(shapes), key=lambda shape: (shape.batch * shape.height * shape.width, shape))
    with open_engine(job.path, job.runtime, job.device, eager=True) as engine:
        sha256 = hash_at(job.path)
        report = SweepReport(
            **head(ordered[-1]),
            rule=rule,
            file=job.path.name,
            engine=engine.name,
            sha256=sha256,
            compute=engine.compute,
            verified=standing(job, sha256, engine)[0],
        )
        cells: list[Cell] = []
        rate = 0.0
        for shape in ordered:
            progress(f"{shape} on {engine.name}")
            if rate * _pixels(shape) > rule.max_seconds:
                cells.append(
                    _cell(shape, reason=f"one call would take some {rate * _pixels(shape):.0f} s: raise --max-seconds")
                )
            else:
                cells.append(_measured(engine, job, shape, photographs, rule))
                rate = (cells[-1].median_seconds or 0.0) / _pixels(shape) or rate
            said = tuple(advice(cells, engine.context, job))
            report = report.model_copy(update={"grid": tuple(cells), "advice": said})
            if json_out is not None:
                write_json(json_out, report.to_json())
    return report


class Cost(NamedTuple):
    """Of a shape whose median is known, in seconds."""

    median: float
    first_call: float


def advice(grid: Sequence[Cell], context: int, job: Job) -> list[str]:
    """What the converged cells say, in sentences: batches, profiles, tiles, and what a new shape costs.

    A median that is not known is no ground for advice: the shapes that are left out are named, and where none is left that is
    all that is said. Empty when nothing was measured.
    """
    measured = [cell for cell in grid if cell.median_seconds is not None]
    loose = [cell.shape for cell in measured if not cell.converged]
    ran = {
        Shape.parse(cell.shape): Cost(cell.median_seconds, cell.first_call_seconds)
        for cell in grid
        if cell.converged and cell.median_seconds and cell.first_call_seconds is not None
    }
    if not measured:
        return []
    if not ran:
        return ["No cell converged, so nothing can be advised: measure again with more --max-seconds, or a quieter machine."]
    left_out = [f"From converged cells only: {', '.join(loose)} did not, and nothing here rests on them."] if loose else []
    return [
        *left_out,
        *_about_batches(ran),
        _about_profiles(ran, job),
        *_about_tiles(ran, context),
        *_about_first_calls(ran),
    ]


def _about_batches(ran: Mapping[Shape, Cost]) -> list[str]:
    said = []
    compared = False
    for size in sorted({(shape.height, shape.width) for shape in ran}):
        batches = {shape.batch: cell.median / shape.batch for shape, cell in ran.items() if shape.nchw[2:] == size}
        if 1 not in batches or len(batches) == 1:
            continue
        compared = True
        best = min(batches, key=lambda batch: batches[batch])
        if batches[best] < BETTER * batches[1]:
            said.append(
                f"At {size[0]}x{size[1]} a batch of {best} takes {batches[best] / batches[1]:.2f} of the time per image of a "
                "batch of 1: collect that many where latency allows."
            )
    if compared and not said:
        return [f"Batches do not pay here: none takes less than {BETTER:.2f} of the time per image of a batch of 1."]
    return said


def _about_profiles(ran: Mapping[Shape, Cost], job: Job) -> str:
    least = [min(shape.nchw[axis] for shape in ran) for axis in (0, 2, 3)]
    most = [max(shape.nchw[axis] for shape in ran) for axis in (0, 2, 3)]
    best = min(ran, key=lambda shape: ran[shape].median / _pixels(shape))
    low, high = ("x".join(map(str, sides)) for sides in (least, most))
    spread = max(_cost(ran, shape) for shape in ran) / _cost(ran, best)
    one = f"mimo build-engine {job.path.name if job.path.suffix == '.onnx' else ''} --min {low} --opt {best} --max {high}"
    text = f"One profile for all of these shapes, tuned for the one that is cheapest per pixel: {' '.join(one.split())}."
    if spread > 2:
        text += (
            f" The dearest shape costs {spread:.1f} times as much per pixel: build a second engine tuned for it if you use it."
        )
    return text


def _about_tiles(ran: Mapping[Shape, Cost], context: int) -> list[str]:
    """The tile for a photograph of 24 megapixels: what a tile keeps is what is left inside its context."""
    if context >= WHOLE_IMAGE:
        return ["How far this network sees is not known, so no tile is sure to equal the whole image: do not tile."]
    costs = {}
    for shape, cell in ran.items():
        inner = [side - 2 * context for side in (shape.height, shape.width)]
        if shape.batch == 1 and min(inner) > 0:
            tiles = math.prod(math.ceil(length / side) for length, side in zip(PHOTOGRAPH, inner, strict=True))
            costs[shape] = tiles * cell.median
    if not costs:
        return [
            f"No shape here is large enough for a tile with {context} pixels of context on each side: measure "
            f"{2 * context + 256}x{2 * context + 256} and more to choose a --tile."
        ]
    best = min(costs, key=lambda shape: costs[shape])
    side = math.isqrt(best.height * best.width)
    return [
        f"For photographs too large for memory the best tile measured is {best.height}x{best.width}, which is "
        f"mimo deblur --tile {side}: "
        f"some {costs[best]:.0f} s for 24 megapixels, of which {context} pixels on each side of a tile are context."
    ]


def _about_first_calls(ran: Mapping[Shape, Cost]) -> list[str]:
    penalties = {shape: cell.first_call / cell.median for shape, cell in ran.items()}
    worst = max(penalties, key=lambda shape: penalties[shape])
    if penalties[worst] < 1.5:
        return ["A first call at a new shape costs little more than a later one: shapes may vary freely."]
    return [
        f"A first call at a new shape takes up to {penalties[worst]:.1f} times as long ({worst}): send each shape once before "
        "serving, or pad to a few fixed shapes."
    ]


def _cost(ran: Mapping[Shape, Cost], shape: Shape) -> float:
    seconds: float = ran[shape].median
    return seconds / _pixels(shape)


def _measured(engine: Engine, job: Job, shape: Shape, photographs: Sequence[Path], rule: StoppingRule) -> Cell:
    try:
        with PeakMemory(job.device) as peak:
            images = photograph_batch(photographs, shape)

            def read() -> dict[str, Any]:
                peak.sample()
                return {}

            measured = measure(Latency(engine, images), rule.on(job.device), gauges=read)
            memory = peak.result(engine.memory_bytes)
    except MimoError as error:
        return _cell(shape, reason=str(error))
    return _cell(shape, measured, memory.peak_bytes if memory else None)


def _cell(shape: Shape, measured: Measurement | None = None, memory: int | None = None, reason: str | None = None) -> Cell:
    summary = measured.summary if measured else None
    return Cell(
        shape=str(shape),
        median_seconds=summary.median if summary else None,
        median_low=summary.median_low if summary else None,
        median_high=summary.median_high if summary else None,
        n=summary.n if summary else None,
        converged=measured.converged if measured else None,
        first_call_seconds=measured.first if measured else None,
        memory_peak_bytes=memory,
        reason=reason,
        samples_seconds=measured.synchronised if measured else None,
    )


def _pixels(shape: Shape) -> int:
    return shape.batch * shape.height * shape.width
