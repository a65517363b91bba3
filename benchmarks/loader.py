"""Whether loading holds training up: the rate of training with the loader against that on a batch that is there already."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor

from mimo.learning.crops import Pictures, batches, to_device
from mimo.learning.datasets import Watch
from mimo.learning.distributed import join
from mimo.learning.recipe import Recipe, Session
from mimo.learning.sources import learnt_pictures, source_of
from mimo.learning.state import Learner


@dataclass(frozen=True)
class LoaderRates:
    """Seconds for each round of equally many training steps, and for loading alone."""

    crops: int
    """Per round."""
    loaded: tuple[float, ...]
    """Training, batches from the loader."""
    in_memory: tuple[float, ...]
    """Training, one batch of the same size that lies on the device; each round right after its neighbour."""
    loading: float
    """One round of loading without training."""
    kept: float
    """The part of the pictures that stays decoded in memory, from 0 to 1."""

    @property
    def ratio(self) -> float:
        """The rate with the loader, as a part of that without: the median over the rounds."""
        return statistics.median(memory / loaded for loaded, memory in zip(self.loaded, self.in_memory, strict=True))

    def __str__(self) -> str:
        with_loader, without = (self.crops / statistics.median(times) for times in (self.loaded, self.in_memory))
        return (
            f"training {with_loader:.2f} crops/s with the loader, {without:.2f} on data in memory ({self.ratio:.1%}); "
            f"the loader alone {self.crops / self.loading:.0f} crops/s, {self.kept:.0%} of the pictures kept in memory"
        )


def measure_loader(
    recipe: Recipe, session: Session, *, rounds: int = 7, steps: int = 10, watch: Watch | None = None
) -> LoaderRates:
    """Train ``rounds`` times ``steps`` steps each way, by turns, so that a machine that slows down slows both.

    The weights go nowhere. Every picture is decoded first, as a run does. Raises as
    :func:`mimo.learning.train.train` does before it learns.
    """
    pairs, photographs = learnt_pictures(recipe)
    pictures = Pictures((*pairs, *photographs), int(session.cache_gib * 2**30), smallest=recipe.patch_size)
    pictures.check(workers=session.workers, watch=watch)
    crops = source_of(recipe, pictures, len(pairs), len(photographs))
    with join(session.device) as world:
        learner, device = Learner(recipe, world), world.device

        def seconds(next_batch: Callable[[], tuple[Tensor, Tensor]]) -> float:
            _wait(device)
            start = time.perf_counter()
            for _ in range(steps):
                blur, sharp = next_batch()
                learner.learn(blur, sharp, recipe.lr)
            _wait(device)
            return time.perf_counter() - start

        size, pinned = recipe.batch_size, device.type == "cuda"
        loader = batches(crops, first=0, size=size, stride=size, workers=session.workers, pinned=pinned)
        with closing(loader) as loading:

            def on_device() -> tuple[Tensor, Tensor]:
                blur, sharp = (to_device(batch, device, channels_last=True) for batch in next(loading))
                return blur, sharp

            fixed = cycle([on_device()])
            # Not counted: compilation, the choice of algorithms, the first batches of an empty loader.
            seconds(fixed.__next__)
            seconds(on_device)
            loaded, in_memory = zip(*((seconds(on_device), seconds(fixed.__next__)) for _ in range(rounds)), strict=True)
        loader = batches(crops, first=0, size=size, stride=size, workers=session.workers, pinned=pinned)
        with closing(loader) as loading:
            next(loading)
            start = time.perf_counter()
            for _ in range(steps):
                next(loading)
            alone = time.perf_counter() - start
    return LoaderRates(steps * size, loaded, in_memory, alone, pictures.kept_pairs / len(pictures))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
