"""The only clock of this project.

A sample is the time from enqueuing one restoration until the device has finished it. The time until the enqueuing call
returned is kept beside it, because papers have reported it as latency: on a GPU it is not, the work has hardly begun.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from engines.protocol import Engine, Images

Clock = Callable[[], float]

SMALLEST_N_FOR_P95 = 72
"""With fewer samples, the 95th percentile has no upper 97.5 percent confidence bound: 0.95**72 < 0.025."""


@dataclass(frozen=True)
class Plan:
    """How long to measure. Seconds on the clock; a sample that has begun is always finished."""

    warm_up_seconds: float = 0.5
    min_samples: int = 5
    max_samples: int = 100
    max_seconds: float = 20.0
    """Once ``min_samples`` are there."""


@dataclass(frozen=True)
class Measurement:
    """Raw samples in seconds, in the order they were taken; nothing is clipped. Summaries are properties."""

    first: float
    """The very first call at this shape, with whatever the runtime compiles or allocates then; in no summary."""
    warm_up: tuple[float, ...]
    synchronised: tuple[float, ...]
    """From enqueuing to the end of the work, on the host's clock: the latency."""
    enqueued: tuple[float, ...]
    """From enqueuing until that call returned. On a GPU this is not latency."""
    events: tuple[float, ...]
    """Between two device events around the work, from runs of their own; empty on a CPU."""

    @property
    def n(self) -> int:
        return len(self.synchronised)

    @property
    def median(self) -> float:
        return statistics.median(self.synchronised)

    @property
    def minimum(self) -> float:
        return min(self.synchronised)

    @property
    def maximum(self) -> float:
        return max(self.synchronised)

    @property
    def p95(self) -> float | None:
        """The 95th percentile (nearest rank); None when there are too few samples to bound it."""
        if self.n < SMALLEST_N_FOR_P95:
            return None
        return sorted(self.synchronised)[-(-self.n * 95 // 100) - 1]

    @property
    def median_enqueued(self) -> float:
        return statistics.median(self.enqueued)

    @property
    def median_events(self) -> float | None:
        return statistics.median(self.events) if self.events else None


def measure(engine: Engine, images: Images, plan: Plan, *, clock: Clock = time.perf_counter) -> Measurement:
    """Measure ``engine`` on ``images``, which are on the device before the clock starts.

    The first call is kept apart; then warm-up calls for ``plan.warm_up_seconds``, at least one; then samples until
    ``plan`` is satisfied. On a GPU as many runs between device events follow.
    """
    launch = engine.launcher(images)

    def sample() -> tuple[float, float]:
        engine.synchronize()
        start = clock()
        launch()
        returned = clock()
        engine.synchronize()
        return clock() - start, returned - start

    first, _ = sample()
    warm_up: list[float] = []
    while not warm_up or sum(warm_up) < plan.warm_up_seconds:
        warm_up.append(sample()[0])
    synchronised: list[float] = []
    enqueued: list[float] = []
    began = clock()
    while len(synchronised) < plan.min_samples or (len(synchronised) < plan.max_samples and clock() - began < plan.max_seconds):
        whole, returned = sample()
        synchronised.append(whole)
        enqueued.append(returned)
    events: list[float] = []
    while len(events) < len(synchronised) and (seconds := engine.device_seconds(launch)) is not None:
        events.append(seconds)
    return Measurement(first, tuple(warm_up), tuple(synchronised), tuple(enqueued), tuple(events))
