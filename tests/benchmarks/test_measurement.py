"""Timing rules, on a fake engine with a fake clock: nothing here waits for anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat

import numpy as np
import pytest

from benchmarks.measurement import SMALLEST_N_FOR_P95, Measurement, Plan, measure
from engines.protocol import Images
from tests.fake_engine import FakeEngine

IMAGES: Images = np.zeros((1, 3, 16, 16), np.float32)


class Timeline:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class AsynchronousEngine(FakeEngine):
    """Enqueuing takes 1 ms; the work itself runs on until somebody synchronises, as on a GPU."""

    ENQUEUE = 0.001

    def __init__(self, timeline: Timeline, durations: Iterator[float]) -> None:
        super().__init__(lambda images: images, context=0)
        self._timeline, self._durations = timeline, durations
        self._busy_until = 0.0
        self.launches = self.uploads = 0

    def launcher(self, images: Images) -> Callable[[], None]:
        self.uploads += 1
        return self._launch

    def _launch(self) -> None:
        self.launches += 1
        self._busy_until = max(self._timeline.now, self._busy_until) + next(self._durations)
        self._timeline.now += self.ENQUEUE

    def synchronize(self) -> None:
        self._timeline.now = max(self._timeline.now, self._busy_until)

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        self.synchronize()
        start = self._timeline.now
        launch()
        self.synchronize()
        return self._timeline.now - start


def run(durations: Iterator[float], plan: Plan) -> tuple[Measurement, AsynchronousEngine]:
    timeline = Timeline()
    engine = AsynchronousEngine(timeline, durations)
    return measure(engine, IMAGES, plan, clock=timeline), engine


def test_the_latency_is_the_work_and_not_the_enqueuing() -> None:
    measured, _ = run(repeat(0.1), Plan(max_seconds=1.0))
    assert measured.synchronised == pytest.approx([0.1] * measured.n)
    assert measured.enqueued == pytest.approx([AsynchronousEngine.ENQUEUE] * measured.n)
    assert measured.median == pytest.approx(0.1)
    assert measured.median_enqueued == pytest.approx(0.001)


def test_work_left_over_by_a_caller_is_not_counted() -> None:
    timeline = Timeline()
    engine = AsynchronousEngine(timeline, chain([50.0], repeat(0.1)))
    engine.launcher(IMAGES)()
    measured = measure(engine, IMAGES, Plan(), clock=timeline)
    assert measured.first == pytest.approx(0.1)


def test_the_first_call_and_the_warm_up_are_kept_apart() -> None:
    measured, _ = run(chain([9.0, 3.0], repeat(0.1)), Plan(warm_up_seconds=3.45))
    assert measured.first == 9.0
    assert measured.warm_up == pytest.approx([3.0, *[0.1] * 5])
    assert measured.maximum == pytest.approx(0.1)


def test_nothing_is_clipped() -> None:
    measured, _ = run(chain(repeat(0.1, 10), [7.0], repeat(0.1)), Plan(max_samples=40, max_seconds=100))
    assert measured.n == 40
    assert (measured.minimum, measured.median, measured.maximum) == pytest.approx((0.1, 0.1, 7.0))


@pytest.mark.parametrize(
    ("plan", "n"),
    [
        (Plan(min_samples=7, max_seconds=0), 7),
        (Plan(min_samples=5, max_samples=5, max_seconds=1e9), 5),
        (Plan(min_samples=1, max_samples=1000, max_seconds=2.0), 20),
    ],
)
def test_when_it_stops(plan: Plan, n: int) -> None:
    measured, _ = run(repeat(0.1), plan)
    assert abs(measured.n - n) <= (1 if plan.max_seconds == 2.0 else 0)


def test_inputs_are_uploaded_once_before_the_clock_starts() -> None:
    measured, engine = run(repeat(0.1), Plan())
    assert engine.uploads == 1
    assert engine.launches == 1 + len(measured.warm_up) + measured.n + len(measured.events)


def test_events_are_as_many_runs_of_their_own() -> None:
    measured, _ = run(repeat(0.25), Plan(max_seconds=1.0))
    assert measured.events == pytest.approx([0.25] * measured.n)
    assert measured.median_events == pytest.approx(0.25)


def test_a_cpu_engine_has_no_events() -> None:
    class Cpu(FakeEngine):
        def launcher(self, images: Images) -> Callable[[], None]:
            return lambda: None

    ticks = (float(tick) for tick in range(10**6))
    measured = measure(Cpu(lambda images: images, context=0), IMAGES, Plan(), clock=lambda: next(ticks))
    assert measured.events == ()
    assert measured.median_events is None


def of(samples: list[float]) -> Measurement:
    return Measurement(0.0, (), tuple(samples), tuple(samples), ())


def test_p95_is_withheld_from_too_few_samples() -> None:
    samples = [float(number) for number in range(1, SMALLEST_N_FOR_P95 + 1)]
    assert of(samples[:-1]).p95 is None
    assert of(samples).p95 == 69.0  # ceil(0.95 * 72)
    # Why 72: below, all samples can lie under the true 95th percentile with a chance of more than 2.5 percent.
    assert 0.95**SMALLEST_N_FOR_P95 < 0.025 < 0.95 ** (SMALLEST_N_FOR_P95 - 1)


def test_a_sleep_of_known_length_is_measured_on_the_real_clock() -> None:
    class Sleeper(FakeEngine):
        def launcher(self, images: Images) -> Callable[[], None]:
            return lambda: time.sleep(0.05)

    measured = measure(Sleeper(lambda images: images, context=0), IMAGES, Plan(warm_up_seconds=0, max_seconds=0))
    assert 0.05 <= measured.minimum < 0.06
