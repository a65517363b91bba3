"""``python -m tests.fuzz``: hostile inputs for every reader, each in a child of its own, and the table of what they came to.

Exit code 1 when one ended in anything but a result or a sentence of refusal; each such input is named with its place.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.child import Ending, Outcome, in_child
from tests.fuzz.kinds import Kind, kinds, named

ENDINGS: tuple[Ending, ...] = get_args(Ending)


def fuzz(kind: Kind, count: int, number: int) -> list[tuple[Outcome, Any]]:
    """Up to ``count`` inputs of ``kind``, drawn from the seed ``number``, and how each ended."""
    found: list[tuple[Outcome, Any]] = []

    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(kind.inputs)
    def one(value: Any) -> None:
        found.append((in_child(lambda folder: kind.read(value, folder)), value))

    one()
    return found


def main() -> int:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", help="Beginnings of their names; all by default.")
    parser.add_argument("--count", type=int, default=120, help="Inputs of each kind.")
    parser.add_argument("--seed", type=int, default=0, help="Another seed gives other inputs.")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    bad: list[tuple[str, Outcome, Any]] = []
    total: Counter[str] = Counter()
    began = time.monotonic()
    say = sys.stdout.write
    say("| kind | tried | " + " | ".join(ENDINGS) + " |\n|---|" + "---|" * (len(ENDINGS) + 1) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        for kind in named(kinds(Path(folder)), asked.kinds):
            found = fuzz(kind, asked.count, asked.seed)
            counts: Counter[str] = Counter(outcome.ending for outcome, _ in found)
            total += counts
            say(_row(kind.name, counts))
            sys.stdout.flush()
            bad += [(kind.name, outcome, value) for outcome, value in found if outcome.ending not in ("done", "refused")]
    say(_row("all", total))
    sys.stderr.write(f"seed {asked.seed}, {time.monotonic() - began:.0f} s\n")
    for name, outcome, value in bad:
        sys.stderr.write(f"\n{name}: {outcome.ending}\n{outcome.detail}\n{value!r:.300}\n")
    return 1 if bad else 0


def _row(name: str, counts: Counter[str]) -> str:
    return f"| {name} | {counts.total()} | " + " | ".join(str(counts[one]) for one in ENDINGS) + " |\n"


if __name__ == "__main__":
    sys.exit(main())
