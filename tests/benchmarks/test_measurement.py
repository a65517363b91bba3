"""Timing rules, on a fake engine with a fake clock; two tests at the end ask the real clock."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, cycle, repeat
from typing import Any

import numpy as np
import pytest

from benchmarks.measurement import (
    BLOCK_SECONDS,
    EndToEnd,
    InFlight,
    Latency,
    Measurement,
    StoppingRule,
    measure,
    steady,
)
from engines.runtimes.base import Images
from mimo.spec import Shape, ShapeRange
from tests.fake_engine import FakeEngine

IMAGES: Images = np.zeros((1, 3, 64, 96), np.float32)
RULE = StoppingRule(min_samples=20, max_seconds=60)


class Timeline:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class AsynchronousEngine(FakeEngine):
    """Enqueuing takes 1 ms; the work itself runs on until somebody synchronises, as on a GPU."""

    ENQUEUE = 0.001
    UPLOAD = 5.0

    def __init__(self, timeline: Timeline, durations: Iterator[float], shapes: ShapeRange | None = None) -> None:
        super().__init__(lambda images: images, context=0, shapes=shapes)
        self._timeline, self._durations = timeline, durations
        self._busy_until = 0.0
        self.launches = 0
        self.uploads: list[tuple[int, ...]] = []

    def __call__(self, images: Images) -> Images:
        self._timeline.now += self.UPLOAD
        self._launch()
        self.synchronize()
        return super().__call__(images)

    def launcher(self, images: Images) -> Callable[[], None]:
        self.uploads.append(images.shape)
        self._timeline.now += self.UPLOAD
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


class Processor(AsynchronousEngine):
    """No events: there a launch is the work."""

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        return None


ONLY_ONE = ShapeRange(Shape(1, 64, 96), Shape(1, 64, 96), Shape(1, 64, 96))


def run(
    durations: Iterator[float], rule: StoppingRule = RULE, *, gauges: Callable[[], Mapping[str, Any]] = dict
) -> tuple[Measurement, AsynchronousEngine]:
    """On an engine for one shape, so that ``durations`` are: the first call, the warm-up, the samples."""
    timeline = Timeline()
    engine = Processor(timeline, durations, shapes=ONLY_ONE)
    return measure(Latency(engine, IMAGES, timeline), rule, clock=timeline, gauges=gauges), engine


def noise(seed: int, spread: float = 0.02, level: float = 0.02) -> Iterator[float]:
    draw = random.Random(seed)
    while True:
        yield level * draw.lognormvariate(0, spread)


def test_the_latency_is_the_work_and_not_the_enqueuing() -> None:
    measured, _ = run(repeat(0.1))
    assert measured.synchronised == pytest.approx([0.1] * measured.n)
    assert measured.enqueued == pytest.approx([AsynchronousEngine.ENQUEUE] * measured.n)
    assert measured.summary.median == pytest.approx(0.1)
    assert measured.summary_enqueued is not None
    assert measured.summary_enqueued.median == pytest.approx(0.001)


def test_work_left_over_by_a_caller_is_not_counted() -> None:
    timeline = Timeline()
    engine = Processor(timeline, chain([50.0], repeat(0.1)), shapes=ONLY_ONE)
    engine.launcher(IMAGES)()
    assert measure(Latency(engine, IMAGES, timeline), RULE, clock=timeline).first == pytest.approx(0.1)


def test_a_constant_is_known_at_once() -> None:
    measured, _ = run(repeat(0.02))
    assert measured.settled
    assert measured.converged
    # The first block that has the least samples; the clock's own rounding may end it one sample later.
    assert 20 <= measured.n <= 27
    assert measured.summary.cov == pytest.approx(0, abs=1e-9)
    assert measured.drift == pytest.approx(0, abs=1e-9)


def test_the_least_samples_are_taken_even_of_a_constant() -> None:
    assert 100 <= run(repeat(0.02), StoppingRule(min_samples=100))[0].n <= 127
    assert run(repeat(2.0), StoppingRule(min_samples=20, max_seconds=1000))[0].n == 20


def test_noise_takes_as_many_samples_as_the_interval_needs() -> None:
    still, _ = run(noise(1, spread=0.01))
    loud, _ = run(noise(1, spread=0.08), StoppingRule(max_seconds=1000))
    assert still.converged
    assert loud.converged
    assert still.n < loud.n
    summary = loud.summary
    assert summary.median_low is not None
    assert summary.median_high is not None
    assert max(summary.median_high - summary.median, summary.median - summary.median_low) <= 0.01 * summary.median
    assert summary.median_low <= 0.02 <= summary.median_high


def test_what_does_not_converge_ends_in_time_and_says_so() -> None:
    measured, _ = run(noise(2, spread=0.5), StoppingRule(max_seconds=3))
    assert not measured.converged
    assert sum(measured.synchronised) == pytest.approx(3, abs=0.1)
    slow, _ = run(repeat(40.0), StoppingRule(max_seconds=60))
    assert (slow.n, slow.converged) == (2, False)
    single, _ = run(repeat(100.0), StoppingRule(max_seconds=60))
    assert (single.n, single.converged) == (1, False)


def test_a_drift_is_never_called_converged() -> None:
    rising = (0.02 * (1 + 0.0005 * step) for step in range(10**6))
    measured, _ = run(rising, StoppingRule(min_samples=200, max_seconds=20))
    assert not measured.converged
    assert measured.drift > 0.02
    # The median of so many samples is known well: the halves tell what it does not.
    assert measured.n > 200


def test_throttling_half_way_is_never_called_converged() -> None:
    measured, _ = run(chain(repeat(0.02, 500), repeat(0.03)), StoppingRule(min_samples=1000, max_seconds=20))
    assert not measured.converged
    assert measured.drift > 0.02
    assert {round(sample, 6) for sample in measured.synchronised} == {0.02, 0.03}


def test_two_modes_are_both_kept_and_the_interval_spans_them() -> None:
    draw = random.Random(3)
    modes = (draw.choice((0.020, 0.024)) for _ in repeat(None))
    measured, _ = run(modes, StoppingRule(max_seconds=5))
    assert {round(sample, 6) for sample in measured.synchronised} == {0.020, 0.024}
    assert not measured.converged
    assert (measured.summary.median_low, measured.summary.median_high) == pytest.approx((0.020, 0.024))


def test_one_outlier_is_counted_shown_and_does_not_move_the_median() -> None:
    measured, _ = run(chain(repeat(0.125, 15), [7.0], repeat(0.125)), StoppingRule(min_samples=40))
    assert measured.summary.outliers == 1
    assert measured.summary.maximum == 7.0
    assert 7.0 in measured.synchronised
    assert measured.summary.median == 0.125
    assert measured.converged


def test_the_first_call_and_the_warm_up_are_kept_apart() -> None:
    measured, _ = run(chain([9.0, 3.0, 0.5], repeat(0.1)))
    assert measured.first == 9.0
    assert measured.warm_up == pytest.approx([3.0, 0.5, 0.1, 0.1, 0.1])
    assert measured.summary.maximum == pytest.approx(0.1)


def test_the_warm_up_lasts_until_three_windows_agree() -> None:
    falling = [0.1 * (1 + 0.5 * 0.8**step) for step in range(60)]
    measured, _ = run(chain([0.3], falling, repeat(0.1)))
    assert measured.settled
    last = measured.warm_up[-3:]
    assert max(last) <= 1.02 * min(last)
    assert not max(measured.warm_up[-4:-1]) <= 1.02 * min(measured.warm_up[-4:-1])


def test_the_warm_up_lasts_half_a_second_at_least_and_ten_at_most() -> None:
    quick, _ = run(repeat(0.01))
    assert sum(quick.warm_up) == pytest.approx(0.5, abs=0.1)
    restless, _ = run(cycle([0.125, 0.25]))
    assert not restless.settled
    assert sum(restless.warm_up) == pytest.approx(10, abs=0.2)
    slow, _ = run(repeat(30.0), StoppingRule(max_seconds=0))
    assert (len(slow.warm_up), slow.settled) == (1, False)


def test_short_samples_are_warmed_up_in_windows_not_one_by_one() -> None:
    # Singly, three in a row would agree at once; their windows do not.
    steps = (0.01 * (2 - min(step // 10, 9) / 9) for step in range(10**6))
    measured, _ = run(steps)
    assert measured.settled
    assert measured.warm_up[-1] == pytest.approx(0.01)


def test_the_first_call_after_a_change_of_shape_is_reported_on_its_own() -> None:
    timeline = Timeline()
    engine = Processor(timeline, chain([9.0, 1.5, 4.0], repeat(0.1)))
    measured = measure(Latency(engine, IMAGES, timeline), RULE, clock=timeline)
    assert engine.uploads == [(1, 3, 64, 96), (1, 3, 32, 48), (1, 3, 64, 96)]
    assert (measured.first, measured.first_after_change) == (9.0, 4.0)
    assert max(*measured.warm_up, *measured.synchronised) == pytest.approx(0.1)


def test_an_engine_for_one_shape_has_no_first_call_after_a_change() -> None:
    measured, engine = run(repeat(0.1))
    assert measured.first_after_change is None
    assert engine.uploads == [(1, 3, 64, 96)]


def test_an_engine_with_a_profile_is_changed_to_a_shape_that_it_takes() -> None:
    timeline = Timeline()
    profile = ShapeRange(Shape(1, 48, 48), Shape(1, 64, 96), Shape(4, 64, 96))
    engine = Processor(timeline, repeat(0.1), shapes=profile)
    measure(Latency(engine, IMAGES, timeline), RULE, clock=timeline)
    assert engine.uploads[1] == (1, 3, 48, 48)


def test_the_machine_is_looked_at_between_blocks_and_never_inside_a_sample() -> None:
    timeline = Timeline()
    engine = Processor(timeline, repeat(0.1), shapes=ONLY_ONE)

    def look() -> dict[str, Any]:
        timeline.now += 1.0
        return {"celsius": 60}

    measured = measure(Latency(engine, IMAGES, timeline), StoppingRule(), clock=timeline, gauges=look)
    assert measured.synchronised == pytest.approx([0.1] * measured.n)
    assert [state["after_samples"] for state in measured.states] == pytest.approx([0, 5, 10, 15, 20], abs=4)
    assert measured.states[-1]["after_samples"] == measured.n
    assert all(state["celsius"] == 60 for state in measured.states)


def test_events_are_as_many_runs_of_their_own() -> None:
    timeline = Timeline()
    engine = AsynchronousEngine(timeline, repeat(0.25), shapes=ONLY_ONE)
    measured = measure(Latency(engine, IMAGES, timeline), StoppingRule(max_seconds=20), clock=timeline)
    assert measured.events == pytest.approx([0.25] * measured.n)
    assert measured.n == 20
    assert measured.synchronised == pytest.approx([0.25] * measured.n)
    assert engine.launches == 1 + len(measured.warm_up) + 2 * measured.n
    assert len(engine.uploads) == 1


def test_events_are_a_hundred_at_most() -> None:
    timeline = Timeline()
    engine = AsynchronousEngine(timeline, repeat(0.001), shapes=ONLY_ONE)
    rule = StoppingRule(min_samples=2000, max_seconds=60)
    measured = measure(Latency(engine, IMAGES, timeline), rule, clock=timeline)
    assert measured.n >= 2000
    assert len(measured.events) == 100


def test_a_gpu_is_warmed_up_and_sampled_three_seconds_at_least() -> None:
    timeline = Timeline()
    engine = AsynchronousEngine(timeline, repeat(0.01), shapes=ONLY_ONE)
    measured = measure(Latency(engine, IMAGES, timeline), StoppingRule().on("cuda"), clock=timeline)
    assert sum(measured.warm_up) >= 3
    assert sum(measured.synchronised) + sum(measured.events) >= 2.9
    assert measured.converged
    assert StoppingRule(max_seconds=0, warm_up_most=1).on("cuda").warm_up_least == 1
    assert StoppingRule().on("cpu").min_seconds == 0


def test_what_compiles_for_each_shape_is_not_sent_to_another() -> None:
    timeline = Timeline()
    engine = AsynchronousEngine(timeline, repeat(0.25))
    engine.specialises = True
    measured = measure(Latency(engine, IMAGES, timeline), RULE, clock=timeline)
    assert measured.first_after_change is None
    assert set(engine.uploads) == {IMAGES.shape}


def test_a_cpu_engine_has_no_events() -> None:
    measured, _ = run(repeat(0.1))
    assert measured.events == ()
    assert measured.summary_events is None


def test_what_runs_before_a_sample_is_not_in_it() -> None:
    timeline = Timeline()
    engine = Processor(timeline, repeat(0.1), shapes=ONLY_ONE)
    emptied: list[float] = []

    def empty() -> None:
        timeline.now += 3.0
        emptied.append(timeline.now)

    measured = measure(Latency(engine, IMAGES, timeline, before=empty), StoppingRule(max_seconds=30), clock=timeline)
    assert measured.synchronised == pytest.approx([0.1] * measured.n)
    assert len(emptied) == 1 + len(measured.warm_up) + measured.n


def test_end_to_end_holds_the_copies_and_takes_any_size() -> None:
    timeline = Timeline()
    engine = Processor(timeline, repeat(0.1))
    odd: Images = np.zeros((1, 3, 61, 93), np.float32)
    measured = measure(EndToEnd(engine, odd, timeline), StoppingRule(max_seconds=30), clock=timeline)
    assert measured.synchronised == pytest.approx([AsynchronousEngine.UPLOAD + 0.1] * measured.n)
    assert measured.enqueued == ()
    assert engine.seen[0] == Shape(1, 64, 96)
    assert engine.seen[1] == Shape(1, 28, 44)
    assert measured.first_after_change is not None


def test_throughput_keeps_the_device_busy_and_divides_by_the_runs() -> None:
    timeline = Timeline()
    engine = AsynchronousEngine(timeline, repeat(0.1))
    measured = measure(InFlight([engine], IMAGES, 4, timeline), RULE, clock=timeline)
    # Four enqueued at once: the device goes from one to the next, and only the host's first millisecond is hidden.
    assert measured.synchronised == pytest.approx([0.1] * measured.n, rel=1e-3)
    assert engine.launches == 4 * (1 + len(measured.warm_up) + measured.n)
    assert measured.enqueued == ()


def test_throughput_on_a_cpu_runs_in_parallel() -> None:
    together = threading.Barrier(4, timeout=20)

    class Meeting(FakeEngine):
        def launcher(self, images: Images) -> Callable[[], None]:
            def launch() -> None:
                together.wait()

            return launch

    engines = [Meeting(lambda images: images, context=0) for _ in range(4)]
    assert InFlight(engines, IMAGES, 4).sample().latency >= 0  # one after the other, the first would wait in vain


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([1.0], True), ([1.0, 1.0, 1.019, 1.019], True), ([1.0, 1.0, 1.03, 1.03], False), ([1.03, 1.03, 1.0, 1.0], False)],
)
def test_steady(samples: list[float], expected: bool) -> None:
    assert steady(samples) is expected


def test_a_sleep_of_known_length_is_measured_on_the_real_clock() -> None:
    class Sleeper(FakeEngine):
        def launcher(self, images: Images) -> Callable[[], None]:
            return lambda: time.sleep(0.2)

    measured = measure(Latency(Sleeper(lambda images: images, context=0), IMAGES), StoppingRule(warm_up_most=0, max_seconds=2))
    # The smallest: a loaded machine wakes a sleeper late, and never early.
    assert measured.summary.minimum == pytest.approx(0.2, rel=0.01)


def test_a_kernel_agrees_with_the_clock_of_the_thread() -> None:
    """The processor time of this thread, which is another clock and counts no other process."""
    data = np.random.default_rng(0).random(100_000)
    spent: list[float] = []

    class Kernel(FakeEngine):
        def launcher(self, images: Images) -> Callable[[], None]:
            def launch() -> None:
                start = time.thread_time()
                np.sort(data)
                spent.append(time.thread_time() - start)

            return launch

    subject = Latency(Kernel(lambda images: images, context=0), IMAGES)
    measured = measure(subject, StoppingRule(warm_up_most=0.5, min_samples=200, max_seconds=2))
    # Where the scheduler took the processor away in between, the two must differ; on a busy machine that is most of the runs.
    ratios = sorted(whole / own for whole, own in zip(measured.synchronised, spent[-measured.n :], strict=True))
    assert ratios[len(ratios) // 20] == pytest.approx(1, abs=0.01)


def test_a_block_is_long_enough_to_be_worth_a_look() -> None:
    measured, _ = run(repeat(0.01), StoppingRule(min_samples=100))
    after = [state["after_samples"] for state in measured.states]
    steps = np.diff(after)
    assert min(steps) >= BLOCK_SECONDS / 0.01 - 1
