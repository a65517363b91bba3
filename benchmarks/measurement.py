"""The only clock of this project, and the only loop that takes samples.

A sample is the time from enqueuing one restoration until the device has finished it. The time until the enqueuing call
returned is kept beside it, because papers have reported it as latency: on a GPU it is not, the work has hardly begun.

    Subject   what one sample is (latency, end to end, several in flight): what is not timed is done before
    measure   first calls -> warm-up until it has settled -> blocks of samples until the median is known well enough
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from benchmarks.timing_statistics import Summary, is_precise, summarise
from engines.runtimes.base import Device, Engine, Images, restore
from mimo.spec import SMALLEST_SIDE, Shape

Clock = Callable[[], float]
Mode = Literal["sync", "e2e", "throughput", "cuda-graph", "cold-cache"]
"""What a sample is. Rows of different modes are never mixed.

``sync``: enqueue to synchronise, input and output on the device. ``e2e``: host array in, host array out, with padding and
copies. ``throughput``: several in flight, their time divided by their number. ``cuda-graph``: ``sync``, the whole network
captured and replayed. ``cold-cache``: ``sync``, with the last-level cache emptied before each sample.
"""

AGREEMENT = 0.02
"""How far medians may differ, as a part of the smaller, to count as the same: windows of the warm-up, halves of the samples."""
WINDOWS = 3
WINDOW_SECONDS = 0.1
BLOCK_SECONDS = 0.5
"""The machine's state is read between blocks of about so long; a block is one sample when a sample takes longer."""
SAMPLES_ON_GPU, SAMPLES_ON_CPU = 100, 20
SECONDS_ON_GPU = 3.0
"""Of warm-up and of sampling, at least: under load a GPU finds its clock in about a second, and its power is a mean of one."""
MOST_EVENTS = 100
"""Runs timed between device events, of a row."""


@dataclass(frozen=True)
class StoppingRule:
    """How long to measure. Seconds on the clock; a sample that has begun is always finished."""

    warm_up_least: float = 0.5
    warm_up_most: float = 10.0
    """When the windows do not agree by then, the row is labelled ``not settled``."""
    precision: float = 0.01
    """Sampling ends when the 95 percent interval of the median reaches no further than this part of it to either side."""
    min_samples: int | None = None
    """Samples before the median can count as known; None: 100 on a GPU, 20 on a CPU."""
    min_seconds: float | None = None
    """Sampling ends no earlier, unless at :attr:`max_seconds` or :attr:`max_samples`; None: 3 on a GPU, 0 on a CPU."""
    max_samples: int = 100_000
    max_seconds: float = 60.0
    """Sampling ends here at the latest, labelled ``not converged``; at least one sample is taken."""

    def on(self, device: Device) -> StoppingRule:
        """The rule with the least samples and seconds for ``device``, where it does not say them itself."""
        is_gpu = device == "cuda"
        return replace(
            self,
            warm_up_least=max(self.warm_up_least, min(SECONDS_ON_GPU, self.warm_up_most)) if is_gpu else self.warm_up_least,
            min_samples=self.min_samples or (SAMPLES_ON_GPU if is_gpu else SAMPLES_ON_CPU),
            min_seconds=(SECONDS_ON_GPU if is_gpu else 0.0) if self.min_seconds is None else self.min_seconds,
        )


class Sample(NamedTuple):
    """Seconds."""

    latency: float
    enqueued: float | None
    """Until the enqueuing call returned; None where nothing is enqueued."""


class Subject(Protocol):
    """What is measured, ready to start: inputs are where they belong, buffers exist."""

    def sample(self) -> Sample:
        """Run once and wait for the end."""

    def events(self) -> float | None:
        """Seconds between two device events around one run of its own; None where there are none."""

    def change_shape(self) -> bool:
        """Run once at another shape and make ready for the first one again; False when the engine takes no other."""


@dataclass(frozen=True)
class Measurement:
    """Raw samples in seconds, in the order they were taken; nothing is clipped. Summaries are properties."""

    first: float
    """The very first call at this shape, with whatever the runtime compiles or allocates then; in no summary."""
    first_after_change: float | None
    """The first call at this shape after one at another; in no summary. None when the engine takes no other shape."""
    warm_up: tuple[float, ...]
    settled: bool
    """Whether three consecutive windows of the warm-up agreed within 2 percent."""
    synchronised: tuple[float, ...]
    """From enqueuing to the end of the work, on the host's clock: the latency (for ``throughput``, divided by the runs)."""
    enqueued: tuple[float, ...]
    """From enqueuing until that call returned. On a GPU this is not latency. Empty where nothing is enqueued."""
    events: tuple[float, ...]
    """Between two device events around the work, from runs of their own, after each block as many as it has samples; 100 at
    most."""
    converged: bool
    """Whether the median is known as well as the rule asks, from enough samples that do not drift."""
    states: tuple[Mapping[str, Any], ...] = ()
    """Of the machine, between blocks: ``after_samples`` and what the gauges read."""

    @property
    def n(self) -> int:
        return len(self.synchronised)

    @property
    def median(self) -> float:
        return statistics.median(self.synchronised)

    @property
    def summary(self) -> Summary:
        return summarise(self.synchronised)

    @property
    def drift(self) -> float:
        """Median of the later half of the samples over that of the earlier half, less 1; 0 for a single sample."""
        return _drift(self.synchronised)

    @property
    def summary_enqueued(self) -> Summary | None:
        """Not latency."""
        return summarise(self.enqueued) if self.enqueued else None

    @property
    def summary_events(self) -> Summary | None:
        return summarise(self.events) if self.events else None


class Latency:
    """One restoration at a time, from enqueuing it until the device is done; ``images`` are on the device beforehand.

    ``before`` runs ahead of each sample, outside the time: to empty the caches, say.
    """

    def __init__(
        self, engine: Engine, images: Images, clock: Clock = time.perf_counter, *, before: Callable[[], None] | None = None
    ) -> None:
        self._engine, self._images, self._clock, self._before = engine, images, clock, before
        self._launch = engine.launcher(images)

    def sample(self) -> Sample:
        engine, clock = self._engine, self._clock
        if self._before is not None:
            self._before()
        engine.synchronize()
        start = clock()
        self._launch()
        returned = clock()
        engine.synchronize()
        return Sample(clock() - start, returned - start)

    def events(self) -> float | None:
        return self._engine.device_seconds(self._launch)

    def change_shape(self) -> bool:
        other = _other(self._engine, self._images)
        if other is None:
            return False
        self._engine.launcher(other)()
        self._engine.synchronize()
        self._launch = self._engine.launcher(self._images)
        return True


class EndToEnd:
    """From a host array to a host array: padding, copies to the device and back, cropping. ``images`` of any size."""

    def __init__(self, engine: Engine, images: Images, clock: Clock = time.perf_counter) -> None:
        self._engine, self._images, self._clock = engine, images, clock

    def sample(self) -> Sample:
        start = self._clock()
        restore(self._engine, self._images)
        return Sample(self._clock() - start, None)

    def events(self) -> float | None:
        return None

    def change_shape(self) -> bool:
        other = _other(self._engine, self._images)
        if other is not None:
            restore(self._engine, other)
        return other is not None


class InFlight:
    """Several restorations at once; a sample is their time from the first start to the last end, divided by their number.

    On a GPU one engine's stream takes ``count`` of them one behind the other, so that the device never waits for the
    host. On a CPU, where a launch is the work, ``engines`` are ``count`` of the same artifact, each in its own thread.
    """

    def __init__(self, engines: Sequence[Engine], images: Images, count: int, clock: Clock = time.perf_counter) -> None:
        self._engines, self._count, self._clock = engines, count, clock
        self._launches = [engine.launcher(images) for engine in engines]
        self._pool = ThreadPoolExecutor(len(engines)) if len(engines) > 1 else None

    def sample(self) -> Sample:
        self._wait()
        start = self._clock()
        if self._pool is None:
            for _ in range(self._count):
                self._launches[0]()
        else:
            for running in [self._pool.submit(launch) for launch in self._launches]:
                running.result()
        self._wait()
        return Sample((self._clock() - start) / self._count, None)

    def events(self) -> float | None:
        return None

    def change_shape(self) -> bool:
        """Not measured here: what a change of shape costs is a latency."""
        return False

    def _wait(self) -> None:
        for engine in self._engines:
            engine.synchronize()


def measure(
    subject: Subject,
    rule: StoppingRule,
    *,
    clock: Clock = time.perf_counter,
    gauges: Callable[[], Mapping[str, Any]] = dict,
) -> Measurement:
    """Measure ``subject``: the first calls apart, then warm-up, then blocks of samples; ``gauges`` are read in between."""
    first = subject.sample().latency
    first_after_change = subject.sample().latency if subject.change_shape() else None
    warm_up, settled = _warm_up(subject, rule, clock)

    least = rule.min_samples or SAMPLES_ON_CPU
    samples: list[Sample] = []
    events: list[float] = []
    has_events = True
    states = [{"after_samples": 0, **gauges()}]
    began = clock()
    while True:
        block_began = clock()
        while True:
            samples.append(subject.sample())
            now = clock()
            full = len(samples) >= rule.max_samples or now - began >= rule.max_seconds
            if full or now - block_began >= BLOCK_SECONDS:
                break
        while has_events and len(events) < min(len(samples), MOST_EVENTS):
            seconds = subject.events()
            if seconds is None:
                has_events = False
            else:
                events.append(seconds)
        states.append({"after_samples": len(samples), **gauges()})
        latencies = [one.latency for one in samples]
        enough = len(samples) >= least and clock() - began >= (rule.min_seconds or 0.0)
        converged = enough and is_precise(latencies, rule.precision) and steady(latencies)
        if converged or full:
            break
    return Measurement(
        first=first,
        first_after_change=first_after_change,
        warm_up=tuple(warm_up),
        settled=settled,
        synchronised=tuple(latencies),
        enqueued=tuple(one.enqueued for one in samples if one.enqueued is not None),
        events=tuple(events),
        converged=converged,
        states=tuple(states),
    )


def steady(samples: Sequence[float]) -> bool:
    """Whether the medians of the earlier and the later half agree within 2 percent: a clock that falls shows here."""
    return abs(_drift(samples)) <= AGREEMENT


def _drift(samples: Sequence[float]) -> float:
    half = len(samples) // 2
    if half == 0:
        return 0.0
    return statistics.median(samples[-half:]) / statistics.median(samples[:half]) - 1


def _warm_up(subject: Subject, rule: StoppingRule, clock: Clock) -> tuple[list[float], bool]:
    """Every warm-up sample, and whether the last windows agreed. A window is a tenth of a second, or one longer sample."""
    taken: list[float] = []
    windows: list[float] = []
    began = clock()
    while True:
        window: list[float] = []
        window_began = clock()
        while not window or clock() - window_began < WINDOW_SECONDS:
            window.append(subject.sample().latency)
        taken += window
        windows.append(statistics.median(window))
        last, elapsed = windows[-WINDOWS:], clock() - began
        settled = len(last) == WINDOWS and max(last) <= (1 + AGREEMENT) * min(last)
        if (settled and elapsed >= rule.warm_up_least) or elapsed >= rule.warm_up_most:
            return taken, settled


def _other(engine: Engine, images: Images) -> Images | None:
    """The middle of ``images`` at about half the height and width, or at another shape that ``engine`` takes; None where there
    is no other, or a new one would be compiled first."""
    multiple = engine.size_multiple
    least = -(-SMALLEST_SIDE // multiple) * multiple
    height, width = (max(least, side // 2 // multiple * multiple) for side in images.shape[2:])
    shape = Shape(images.shape[0], height, width)
    if engine.specialises:
        return None
    if engine.shapes is not None and shape not in engine.shapes:
        shape = engine.shapes.min
    if shape.nchw == images.shape or shape.nchw[0] > images.shape[0]:
        return None
    if shape.height > images.shape[2] or shape.width > images.shape[3]:
        return None
    return np.ascontiguousarray(images[: shape.batch, :, : shape.height, : shape.width])
