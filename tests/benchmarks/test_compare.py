"""Comparing, on a machine of which everything is known: its noise is made up, and so is the difference of the engines."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import pytest
import typer
from scipy.signal import lfilter
from typer.testing import CliRunner

from benchmarks.compare import Block, Comparison, Round, RoundsRule, Sampler, compare, verdict_of
from benchmarks.studies.false_verdicts import compare_equals, count_false, main, product

Floats = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Floats]
"""A factor for each of a number of calls in a row."""

CALLS = 2 * 40 * 4 * 6
"""The longest comparison by the default rule: two runs, 40 rounds, 4 blocks, 6 calls."""


class Machine:
    """Engines that take turns on one noisy machine. Its clock moves only while they run."""

    def __init__(self, noise: Iterator[float]) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        self._noise = noise

    def engine(self, name: str, seconds: float) -> Sampler:
        def sample() -> float:
            taken = seconds * next(self._noise)
            self.now += taken
            self.calls.append(name)
            return taken

        return sample

    def compare(self, a: float, b: float, rule: RoundsRule | None = None, seed: int = 0) -> Comparison:
        rule = rule or RoundsRule()
        return compare(self.engine("a", a), self.engine("b", b), rule, clock=lambda: self.now, seed=seed)


def jitter(random: np.random.Generator, calls: int) -> Floats:
    return random.lognormal(0, 0.02, calls)


def drift(random: np.random.Generator, calls: int) -> Floats:
    return jitter(random, calls) * np.exp(np.linspace(0, random.choice([-0.3, 0.3]), calls))


def bursts(random: np.random.Generator, calls: int) -> Floats:
    """Load that comes and goes over some fifty calls: two blocks."""
    correlation = 0.98
    load = lfilter([1], [1, -correlation], random.normal(0, 0.05 * math.sqrt(1 - correlation**2), calls + 200))[200:]
    return np.asarray(jitter(random, calls) * np.exp(load))


def two_clocks(random: np.random.Generator, calls: int) -> Floats:
    """Two frequencies, 30 percent apart; each lasts some fifty calls."""
    return jitter(random, calls) * np.where(np.cumsum(random.random(calls) < 0.02) % 2, 1.3, 1.0)


def throttling(random: np.random.Generator, calls: int) -> Floats:
    return jitter(random, calls) * np.where(np.arange(calls) > random.integers(calls), 1.4, 1.0)


def outliers(random: np.random.Generator, calls: int) -> Floats:
    return jitter(random, calls) * np.where(random.random(calls) < 0.05, random.uniform(1.5, 20, calls), 1.0)


def in_step(random: np.random.Generator, calls: int) -> Floats:
    """A load with the period of a round: were the order always A B B A, it would always be the same engine's."""
    return jitter(random, calls) * np.exp(0.1 * np.cos(2 * np.pi * np.arange(calls) / 24))


def everything(random: np.random.Generator, calls: int) -> Floats:
    kinds = (drift, bursts, two_clocks, throttling, outliers)
    return np.asarray(np.prod([kind(random, calls) for kind in kinds], axis=0))


NOISES: tuple[Noise, ...] = (jitter, drift, bursts, two_clocks, throttling, outliers, in_step, everything)
MODERATE: tuple[Noise, ...] = (jitter, drift, throttling, outliers)


def comparisons(noise: Noise, b: float, count: int) -> list[Comparison]:
    machines = (Machine(iter(noise(np.random.default_rng(seed), CALLS).tolist())) for seed in range(count))
    return [machine.compare(1e-3, b * 1e-3, seed=seed) for seed, machine in enumerate(machines)]


def verdicts(noise: Noise, b: float, count: int) -> Counter[str]:
    return Counter(found.verdict for found in comparisons(noise, b, count))


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.slow
def test_at_most_5_percent_false_verdicts_between_equals(noise: Noise) -> None:
    found = comparisons(noise, 1.0, 100)
    if noise in MODERATE:
        assert sum(one.verdict == "same" for one in found) >= 75
    assert sum(one.verdict in {"faster", "slower"} for one in found) <= 5
    # Of 95 percent intervals, fewer than 89 of 100 cover the truth in one of 200 such tests.
    assert sum(one.low <= 1 <= one.high for one in found) >= 89


@pytest.mark.parametrize("noise", MODERATE)
@pytest.mark.parametrize(("b", "expected"), [(0.97, "faster"), (1.03, "slower"), (0.9, "faster"), (1.1, "slower")])
def test_a_difference_is_found_in_moderate_noise_and_its_direction_is_right(noise: Noise, b: float, expected: str) -> None:
    found = verdicts(noise, b, 10)
    assert found[expected] >= 9, found
    assert set(found) <= {expected, "undecided"}


@pytest.mark.parametrize("noise", [bursts, two_clocks])
def test_ten_percent_are_found_in_any_noise_of_a_real_machine(noise: Noise) -> None:
    assert verdicts(noise, 0.9, 10)["faster"] >= 9


def test_little_is_said_on_a_machine_whose_noise_is_larger_than_the_difference() -> None:
    found = verdicts(in_step, 0.99, 10)
    assert found["faster"] + found["slower"] <= 1, found


def test_a_constant_machine_needs_no_more_than_the_fewest_rounds() -> None:
    machine = Machine(itertools.repeat(1.0))
    found = machine.compare(2.0, 1.0, replace(RoundsRule(), max_seconds=1e9))
    assert (found.ratio, found.low, found.high, found.noise) == (2.0, 2.0, 2.0, 1.0)
    assert (found.verdict, found.converged) == ("faster", True)
    assert len(found.rounds) == len(found.floor_rounds) == 12


def test_the_noise_between_equals_decides_the_number_of_rounds() -> None:
    rounds = []
    for spread in (0.001, 0.03, 0.3):
        random = np.random.default_rng(5)
        found = Machine(iter(random.lognormal(0, spread, CALLS).tolist())).compare(1e-3, 0.5e-3)
        assert len(found.rounds) == len(found.floor_rounds)
        rounds.append(len(found.rounds))
    assert rounds[0] == 12 < rounds[1] < rounds[2] == 40


def test_what_happens_while_b_runs_cannot_change_the_number_of_rounds() -> None:
    """No peeking: chance in A against B can neither end it nor make it go on."""
    floor = np.random.default_rng(7).lognormal(0, 0.02, CALLS // 2).tolist()
    count = len(Machine(itertools.chain(floor, floor)).compare(1e-3, 1e-3).floor_rounds)
    assert 12 < count < 40
    for seed, spread in itertools.product(range(5), (0.001, 0.3)):
        later = np.random.default_rng(seed).lognormal(0, spread, CALLS).tolist()
        machine = Machine(itertools.chain(floor[: count * 4 * 6], later))
        assert len(machine.compare(1e-3, 0.95e-3).rounds) == count


def test_a_is_compared_with_itself_first_and_blocks_alternate() -> None:
    machine = Machine(itertools.repeat(1.0))
    found = machine.compare(0.2, 0.1, RoundsRule(rounds_min=10, rounds_max=10, samples_per_block=3))
    blocks = [machine.calls[start : start + 4] for start in range(0, len(machine.calls), 4)]
    assert all(len(set(block)) == 1 for block in blocks)
    names = "".join(block[0] for block in blocks)
    assert names[:40] == "a" * 40
    orders = [names[start : start + 4].upper() for start in range(40, 80, 4)]
    assert orders == [one.order for one in found.rounds]
    assert set(orders) == {"ABBA", "BAAB"}
    assert {one.order for one in found.floor_rounds} == {"ABBA", "BAAB"}
    assert len(machine.calls) == 2 * 10 * 4 * 4


def test_samples_stand_with_the_engine_and_in_the_order_measured() -> None:
    ticks = itertools.count(1)
    taken: list[tuple[str, float]] = []

    def engine(name: str) -> Sampler:
        def sample() -> float:
            taken.append((name, float(next(ticks))))
            return taken[-1][1]

        return sample

    found = compare(engine("a"), engine("b"), RoundsRule(rounds_min=6, rounds_max=6, samples_per_block=2), clock=lambda: 0.0)
    calls = iter(taken[6 * 4 * 3 :])
    for one in found.rounds:
        firsts = {"A": iter(one.discarded_seconds[:2]), "B": iter(one.discarded_seconds[2:])}
        blocks = {"A": iter(one.a_seconds), "B": iter(one.b_seconds)}
        for name in one.order:
            block = next(firsts[name]), *next(blocks[name])
            assert [next(calls) for _ in range(3)] == [(name.lower(), value) for value in block]
    assert next(calls, None) is None


def test_the_first_call_of_a_block_is_kept_apart() -> None:
    """Whoever comes second finds the other's data in the caches: here the first call of each block takes ten times as long."""
    machine = Machine(itertools.cycle([10.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    found = machine.compare(0.1, 0.1)
    assert found.verdict == "same"
    assert {first for one in found.rounds for first in one.discarded_seconds} == {1.0}
    blocks = [block for one in found.rounds for block in (*one.a_seconds, *one.b_seconds)]
    assert {sample for block in blocks for sample in block} == {0.1}


def test_the_ratio_of_a_round() -> None:
    def block(*samples: float) -> Block:
        return Block(99.0, samples)

    one = Round.of("ABBA", a=(block(2, 2, 50), block(8, 8, 1)), b=(block(1, 1, 1), block(4, 4, 4)))
    assert one.log_ratio == pytest.approx(math.log(2))
    # A steady drift, by the same factor from block to block, is none.
    steady = Round.of("ABBA", a=(block(1.0), block(1.3**3)), b=(block(1.3), block(1.3**2)))
    assert steady.log_ratio == pytest.approx(0)


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    found = Machine(iter(bursts(np.random.default_rng(0), CALLS).tolist())).compare(1.1e-3, 1e-3)
    assert found.ratio == pytest.approx(math.exp(median(one.log_ratio for one in found.rounds)))
    assert found.low < found.ratio < found.high


def test_the_noise_floor_is_at_least_what_was_found_between_equals() -> None:
    below = 0
    for seed in range(20):
        noise = bursts(np.random.default_rng(seed), CALLS).tolist()
        found = Machine(iter(noise)).compare(1e-3, 1e-3, RoundsRule(rounds_min=6, rounds_max=6), seed=seed)
        ratios = [one.log_ratio for one in found.floor_rounds]
        below += median(ratios) < 0
        assert abs(median(ratios)) <= math.log(found.noise) <= max(map(abs, ratios))
    assert 0 < below < 20  # it errs to either side, and the floor is for both


@pytest.mark.parametrize(
    ("ratio", "low", "high", "noise", "verdict"),
    [
        (1.05, 1.02, 1.08, 1.03, "faster"),
        (1 / 1.05, 1 / 1.08, 1 / 1.02, 1.03, "slower"),
        (1.05, 1.02, 1.08, 1.06, "undecided"),  # excludes 1, but A and A differ by as much
        (1 / 1.05, 1 / 1.08, 1 / 1.02, 1.2, "undecided"),  # within the noise, but not enclosing 1: not the same either
        (1.05, 0.99, 1.08, 1.03, "undecided"),  # beyond the noise, but does not exclude 1
        (1 / 1.05, 1 / 1.08, 1.01, 1.03, "undecided"),
        (1.0, 0.995, 1.005, 1.001, "same"),
        (1.004, 1.002, 1.006, 1.001, "same"),  # a difference, but one that does not matter
        (1.015, 1.011, 1.019, 1.001, "faster"),
        (1.0, 0.98, 1.02, 1.001, "undecided"),
        (1.0, 0.98, 1.02, 1.03, "same"),  # this machine shows no such difference
        (1.0, 1.0, 1.0, 1.0, "same"),
    ],
)
def test_the_verdict(ratio: float, low: float, high: float, noise: float, verdict: str) -> None:
    found = Comparison.of(RoundsRule(margin=0.01), (), (), ratio=ratio, low=low, high=high, noise=noise)
    assert found.verdict == verdict_of(ratio, low, high, noise, 0.01) == verdict


@pytest.mark.parametrize(("low", "high", "converged"), [(1.99, 2.01, True), (1.97, 2.01, False), (1.99, 2.03, False)])
def test_converged_is_within_the_margin_both_ways(low: float, high: float, converged: bool) -> None:
    assert Comparison.of(RoundsRule(margin=0.01), (), (), ratio=2.0, low=low, high=high, noise=1.0).converged is converged


def test_time_that_is_up_ends_it_after_the_fewest_rounds() -> None:
    noise = bursts(np.random.default_rng(0), CALLS).tolist()
    whole = Machine(iter(noise)).compare(1e-3, 1e-3, RoundsRule(max_seconds=1e9))
    assert len(whole.rounds) == len(whole.floor_rounds) == 39
    none = Machine(iter(noise)).compare(1e-3, 1e-3, RoundsRule(max_seconds=0))
    assert len(none.rounds) == len(none.floor_rounds) == 12
    machine = Machine(iter(noise))
    some = machine.compare(1e-3, 1e-3, RoundsRule(max_seconds=1.2))
    assert 12 < len(some.rounds) <= len(some.floor_rounds) < 40
    assert 1.1 < machine.now < 1.3
    # The floor takes no more than half the time, so that there is some for B; one that is much slower still gets its rounds.
    slow = Machine(iter(noise)).compare(1e-3, 10e-3, RoundsRule(max_seconds=1.2))
    assert len(slow.rounds) == 12 < len(slow.floor_rounds)


def test_the_same_seed_gives_the_same_answer() -> None:
    noise = bursts(np.random.default_rng(0), CALLS).tolist()
    first, again, other = (Machine(iter(noise)).compare(1e-3, 1e-3, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert [one.order for one in first.rounds] != [one.order for one in other.rounds]


def test_progress_says_what_is_under_way() -> None:
    said: list[str] = []
    rule = RoundsRule(rounds_min=6, rounds_max=6)
    compare(lambda: 1.0, lambda: 1.0, rule, clock=lambda: 0.0, progress=said.append)
    assert said[0] == "A against itself, round 1 of 6"
    assert said[-1] == "A against B, round 6 of 6"
    assert len(said) == 12


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_sample_that_is_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="takes some time"):
        compare(lambda: 1.0, lambda: seconds, RoundsRule(), clock=lambda: 0.0)


def test_what_an_engine_raises_passes_through() -> None:
    def broken() -> float:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        compare(lambda: 1.0, broken, RoundsRule(), clock=lambda: 0.0)


@pytest.mark.parametrize("wrong", [{"rounds_min": 5}, {"rounds_max": 11}, {"samples_per_block": 0}, {"margin": 0.0}])
def test_plans_without_a_verdict(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"rounds|comparison"):
        replace(RoundsRule(), **wrong)  # type: ignore[arg-type]


def test_the_json_has_the_verdict_and_every_sample() -> None:
    found = Machine(iter(jitter(np.random.default_rng(0), CALLS).tolist())).compare(1.1e-3, 1e-3)
    content = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert list(content) == ["verdict", "ratio", "low", "high", "noise", "converged", "rule", "rounds", "floor_rounds"]
    assert content["verdict"] == found.verdict == "faster"
    assert content["rule"]["margin"] == 0.01
    assert len(content["rounds"]) == len(found.rounds)
    first = content["rounds"][0]
    assert set(first) == {"order", "log_ratio", "a_seconds", "b_seconds", "discarded_seconds"}
    assert first["a_seconds"] == [list(block) for block in found.rounds[0].a_seconds]
    assert first["b_seconds"] == [list(block) for block in found.rounds[0].b_seconds]
    assert first["log_ratio"] == found.rounds[0].log_ratio
    assert len(first["discarded_seconds"]) == 4
    assert len(content["floor_rounds"][0]["b_seconds"][1]) == 5


def test_real_equals_are_compared_again_and_again() -> None:
    """How often this finds a difference is for the command to say on a machine of one's own, not for a test."""
    rule = RoundsRule(rounds_min=6, rounds_max=6, samples_per_block=1)
    heard: list[Comparison] = []
    found = compare_equals(product(8), 3, rule, heard.append)
    assert found == heard
    assert len({one.ratio for one in found}) == 3
    assert all(0 < sample < 1 for one in found for pair in one.rounds for block in pair.a_seconds for sample in block)
    assert count_false([replace(one, verdict="faster") for one in found[:2]] + found[2:]) >= 2
    assert count_false([replace(one, verdict="undecided") for one in found]) == 0


def test_the_command_writes_every_sample(tmp_path: Path) -> None:
    out = tmp_path / "false.json"
    app = typer.Typer()
    app.command()(main)
    outcome = CliRunner().invoke(app, ["--comparisons", "1", "--size", "8", "--json", str(out)])
    assert outcome.exit_code == 0, outcome.output
    content = json.loads(out.read_text(encoding="utf-8"))
    assert outcome.output.splitlines()[-1].startswith(f"false verdicts: {content['false_verdicts']} of 1")
    assert content["comparisons"][0]["rounds"][0]["a_seconds"]


@pytest.mark.parametrize(("seconds", "samples"), [(0.001, 5), (0.2, 5), (0.4, 2), (0.6, 1), (30.0, 1)])
def test_slow_calls_make_short_blocks(seconds: float, samples: int) -> None:
    assert RoundsRule().for_calls(seconds).samples_per_block == samples
