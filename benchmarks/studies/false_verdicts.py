"""How often ``compare`` finds a difference where there is none, on this machine.

    python -m benchmarks.studies.false_verdicts

A product of two matrices is compared with itself, many times over, under whatever else the machine does meanwhile. Each
comparison that ends in faster or slower is a false verdict; a 5 percent test may have one in twenty.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.compare import Comparison, RoundsRule, Sampler, compare
from benchmarks.machine import describe_machine
from mimo.files import write_json


def product(size: int) -> Sampler:
    """A sampler of one product of two fixed ``size`` by ``size`` float32 matrices, into memory that is there already."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((size, size), np.float32) for _ in range(2))
    out = np.empty_like(a)

    def sample() -> float:
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        return time.perf_counter() - start

    return sample


def compare_equals(
    sample: Sampler, count: int, rule: RoundsRule, done: Callable[[Comparison], None] = lambda _: None
) -> list[Comparison]:
    """Compare ``sample`` with itself ``count`` times, each with a seed of its own; ``done`` hears of each."""
    found: list[Comparison] = []
    for seed in range(count):
        found.append(compare(sample, sample, rule, seed=seed))
        done(found[-1])
    return found


def count_false(found: list[Comparison]) -> int:
    """Verdicts that equals cannot deserve."""
    return sum(one.verdict in {"faster", "slower"} for one in found)


def main(
    comparisons: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    size: Annotated[int, typer.Option(help="Rows and columns of the matrices.", min=1)] = 512,
    json_out: Annotated[Path | None, typer.Option("--json", help="Every sample, for looking closer.")] = None,
) -> None:
    """Compare, show each verdict, and say how many were false."""
    context = describe_machine()
    sample = product(size)
    sample()  # BLAS starts its threads

    def show(one: Comparison) -> None:
        interval = f"{one.ratio:.4f} ({one.low:.4f} to {one.high:.4f})"
        typer.echo(f"{one.verdict:<9} {interval}, noise {one.noise - 1:.2%}, {len(one.rounds)} rounds")

    found = compare_equals(sample, comparisons, RoundsRule(), show)
    false = count_false(found)
    typer.echo(f"false verdicts: {false} of {comparisons}; load {', '.join(map(str, context['load_average']))}")
    if json_out is not None:
        report = {"size": size, "false_verdicts": false, "context": context}
        write_json(json_out, {**report, "comparisons": [asdict(one) for one in found]})


if __name__ == "__main__":
    typer.run(main)
