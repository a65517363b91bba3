"""A training process of its own, to be killed, multiplied and looked into.

    python -m tests.mimo.learning.training_worker JSON

It prints ``step N`` after each step and leaves ``rank-N.json`` beside the run: which samples it took and a digest of its
weights at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from mimo.errors import MimoError
from mimo.learning import train as training
from mimo.learning.crops import Source
from mimo.learning.log import Event, Progress
from mimo.learning.recipe import Recipe, Session
from mimo.learning.state import Learner


def tell(line: str) -> None:
    # In one piece: several processes share the pipe.
    os.write(1, f"{line}\n".encode())


def main(order: dict[str, Any]) -> int:
    torch.set_num_threads(1)
    learners: list[Learner] = []
    samples: list[int] = []

    class Watched(Learner):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            learners.append(self)

    taken = Source.batch

    def batch(self: Source, first: int, size: int, *, pinned: bool = False) -> Any:
        samples.extend(range(first, first + size))
        return taken(self, first, size, pinned=pinned)

    vars(training)["Learner"] = Watched
    Source.batch = batch  # type: ignore[method-assign]

    def report(event: Event) -> None:
        if isinstance(event, Progress):
            tell(f"step {event.step}")

    out = Path(order["out"])
    session = Session(device="cpu", workers=order.get("workers", 0), tensorboard=False)
    tell(f"rank {os.environ.get('RANK', '0')} pid {os.getpid()}")
    try:
        if order.get("resume"):
            outcome = training.resume(out, session, report, iterations=order.get("iterations"))
        else:
            outcome = training.train(Recipe.from_json(order["recipe"]), out, session, report)
    except MimoError as error:
        tell(str(error))
        return 2
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in learners[0].network.state_dict().values()))
    facts = {"samples": samples, "weights": digest.hexdigest(), "stopped": outcome.stopped, "step": outcome.step}
    (out / f"rank-{learners[0].world.rank}.json").write_text(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
