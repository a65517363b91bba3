"""``mimo --help`` starts about as fast as the smallest program on the same library: nothing of ours weighs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

SMALLEST = """
import typer
app = typer.Typer()
@app.command()
def one(name: str = "x") -> None: "One."
@app.command()
def two(name: str = "x") -> None: "Two."
app(["--help"], prog_name="smallest")
"""
OURS = "import sys; sys.argv = ['mimo', '--help']; import cli; cli.main()"
MODULES = "import atexit, sys; atexit.register(lambda: print(len(sys.modules), file=sys.stderr))\n"


def run(program: str) -> tuple[float, int]:
    """CPU seconds, which other programs on the machine disturb less than the clock's, and modules loaded at the end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = subprocess.run(
        [sys.executable, "-c", MODULES + program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Usage:" in outcome.stdout
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, int(outcome.stderr.split()[-1])


def test_help_costs_little_more_than_the_smallest_program() -> None:
    runs = [(run(SMALLEST), run(OURS)) for _ in range(5)]
    smallest, ours = (min(pair[which][0] for pair in runs) for which in (0, 1))
    assert ours < 2.5 * smallest, f"{ours:.3f} s against {smallest:.3f} s"


def test_help_loads_few_modules_more_than_the_smallest_program() -> None:
    assert run(OURS)[1] - run(SMALLEST)[1] < 150
