"""Hostile inputs end in a result or a sentence; and the harness sees whatever else could happen."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mimo.errors import MimoError
from tests.fuzz.child import CANARY, Ending, in_child

ROOT = Path(__file__).parent.parent.parent
EACH = 15


def test_no_hostile_input_ends_in_anything_but_a_result_or_a_sentence() -> None:
    """In a process of its own, which has no threads when it forks."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--count", str(EACH)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    all_of_them = done.stdout.splitlines()[-1].split("|")
    assert all_of_them[1].strip() == "all"
    assert int(all_of_them[2]) > 300


def refused(folder: Path) -> None:
    raise MimoError("it is refused: give another.")


def verbose(folder: Path) -> None:
    raise MimoError("x" * 100_000)


def crashed(folder: Path) -> None:
    ctypes.string_at(0)


def greedy(folder: Path) -> None:
    bytearray(2**32)


def run(folder: Path) -> None:
    (folder / CANARY).touch()


@pytest.mark.parametrize(
    ("read", "ending"),
    [
        (lambda folder: None, "done"),
        (refused, "refused"),
        (verbose, "traceback"),
        (lambda folder: int("x"), "traceback"),
        (crashed, "signal"),
        (lambda folder: time.sleep(60), "over time"),
        (greedy, "over memory"),
        (run, "code run"),
        (lambda folder: sys.exit(0), "traceback"),
    ],
)
def test_the_harness_sees(read: Callable[[Path], object], ending: Ending) -> None:
    assert in_child(read, seconds=1).ending == ending
