"""Which of two engines is faster, on a machine that is never quiet: A and B alternate, and A is first compared with itself.

A round is four blocks, A B B A or, by a coin, B A A B. What becomes slower steadily then slows both alike; and whatever else
the machine does, it cannot know which engine the coin gave the outer blocks, so that the error of a round is as often in
favour of one as of the other, in bursts and under periodic loads too. A block begins with a call that is not counted,
because the other engine has emptied the caches. A round says one number: how far apart the medians of its blocks are.

The same is first done with A in both roles. That says what this machine finds between equals: the noise floor. It also
decides the number of rounds, before A and B meet, and they are judged once, at the end. Going on until a verdict appears
would be choosing the moment at which chance looks like one (a 95 percent interval looked at after each of 40 rounds excludes
the truth at some moment far more often than in 5 percent).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from benchmarks.units import Fraction, Seconds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Sampler = Callable[[], float]
"""Runs one restoration to its end, synchronised, and returns its seconds."""

Verdict = Literal["faster", "slower", "same", "undecided"]

_RESAMPLES = 2000


@dataclass(frozen=True)
class RoundsRule:
    """How long to compare. Raises ``ValueError`` for a rule that cannot end in a verdict."""

    rounds_min: int = 12
    """Of A against itself, and of A against B. In simulation the bootstrap's 95 percent are 93 with 8 rounds, 94 with 12."""
    rounds_max: int = 40
    samples_per_block: int = 5
    max_seconds: float = 120.0
    """For both runs together, half for each at most; ``rounds_min`` rounds of each are always finished."""
    margin: float = 0.01
    """A difference of less than this fraction is none."""

    def for_calls(self, seconds: float) -> RoundsRule:
        """With as many samples a block, from one to those of this rule, as let the least rounds end within ``max_seconds``.

        ``seconds``: a call's. The least rounds take ``2 * 4 * rounds_min`` blocks, of which each begins with a call that is
        not counted.
        """
        calls = self.max_seconds / seconds / (8 * self.rounds_min)
        return replace(self, samples_per_block=min(max(int(calls) - 1, 1), self.samples_per_block))

    def __post_init__(self) -> None:
        if self.rounds_min < 6:
            raise ValueError(f"{self.rounds_min} rounds have no 95 percent interval; at least 6 have one")
        if self.rounds_max < self.rounds_min or self.samples_per_block < 1 or self.margin <= 0:
            raise ValueError(f"no comparison can follow {self}")


@dataclass(frozen=True)
class Block:
    """Seconds of calls of one engine in a row."""

    discarded: float
    """The first one, which finds the caches as the other engine left them."""
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Round:
    """Two blocks of A and two of B, each pair in the order in which it was measured."""

    order: Literal["ABBA", "BAAB"]
    log_ratio: float
    """Logarithm of A's time over B's, each the geometric mean of its blocks' medians, which cancels a steady drift."""
    a_seconds: tuple[tuple[Seconds, ...], ...]
    """By block."""
    b_seconds: tuple[tuple[Seconds, ...], ...]
    discarded_seconds: tuple[Seconds, ...]
    """The first calls of A's blocks and then of B's."""

    @classmethod
    def of(cls, order: Literal["ABBA", "BAAB"], a: tuple[Block, Block], b: tuple[Block, Block]) -> Round:
        """The round of these blocks."""
        logarithms = (math.fsum(math.log(block.median) for block in blocks) / 2 for blocks in (a, b))
        time_a, time_b = logarithms
        a_seconds, b_seconds = (tuple(block.samples for block in blocks) for blocks in (a, b))
        return cls(order, time_a - time_b, a_seconds, b_seconds, tuple(block.discarded for block in (*a, *b)))


@dataclass(frozen=True)
class Comparison:
    """What was measured and what it says. All ratios are A's time over B's: above 1, B is faster."""

    verdict: Verdict
    """What B is, relative to A, see :func:`verdict_of`."""
    ratio: Fraction
    """The median of the rounds' ratios."""
    low: Fraction
    """With ``high`` the 95 percent bootstrap interval of ``ratio``."""
    high: Fraction
    noise: Fraction
    """The noise floor, 1 or more: the end that lies further from 1 of that interval when A is compared with itself."""
    converged: bool
    """Whether the interval ends within the margin of the ratio, both ways."""
    rule: RoundsRule
    rounds: tuple[Round, ...]
    """A against B."""
    floor_rounds: tuple[Round, ...]
    """A against itself: A is ``b`` here too."""

    @classmethod
    def of(
        cls,
        rule: RoundsRule,
        rounds: Sequence[Round],
        floor_rounds: Sequence[Round],
        *,
        ratio: float,
        low: float,
        high: float,
        noise: float,
    ) -> Comparison:
        """Judge the estimates."""
        verdict = verdict_of(ratio, low, high, noise, rule.margin)
        converged = max(high / ratio, ratio / low) <= 1 + rule.margin
        return cls(verdict, ratio, low, high, noise, converged, rule, tuple(rounds), tuple(floor_rounds))


def verdict_of(ratio: float, low: float, high: float, noise: float, margin: float) -> Verdict:
    """What B is, relative to A.

    ``same``: the whole interval lies within the margin, so that the difference does not matter; or it encloses 1 and
    lies within the noise floor: a difference that this machine cannot show. ``faster`` and ``slower``: the interval
    excludes 1, and the ratio is beyond the noise floor. ``undecided``: neither.
    """
    excludes_one = low > 1 or high < 1
    none = 1 + margin if excludes_one else max(1 + margin, noise)
    if 1 / none <= low and high <= none:
        return "same"
    if excludes_one and not 1 / noise <= ratio <= noise:
        return "faster" if ratio > 1 else "slower"
    return "undecided"


def compare(
    sample_a: Sampler,
    sample_b: Sampler,
    rule: RoundsRule,
    *,
    clock: Callable[[], float] = time.perf_counter,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Compare two engines that are warm; ``clock`` only keeps to ``max_seconds``, the samplers time themselves.

    ``seed`` decides the order of the blocks and the bootstrap's resamples. What a sampler raises passes through, and what
    was measured until then is lost. Raises ``ValueError`` for a sample that is no time (zero, negative, not finite).
    """
    import numpy as np

    random = np.random.default_rng(seed)
    began = clock()

    def measure(sample_b: Sampler, rounds: list[Round], count: int, seconds: float, what: str) -> None:
        """Continue ``rounds`` to ``count``, or at least to ``rounds_min`` if the time is up before."""
        while len(rounds) < count and (len(rounds) < rule.rounds_min or clock() - began < seconds):
            progress(f"{what}, round {len(rounds) + 1} of {count}")
            rounds.append(_round(sample_a, sample_b, rule.samples_per_block, mirrored=bool(random.random() < 0.5)))

    floor: list[Round] = []
    measure(sample_a, floor, rule.rounds_min, 0, "A against itself")
    count = _rounds_needed(floor, rule)
    measure(sample_a, floor, count, rule.max_seconds / 2, "A against itself")
    rounds: list[Round] = []
    # No more than the floor has, where time ran out: it would be that of a shorter comparison.
    measure(sample_b, rounds, len(floor), rule.max_seconds, "A against B")
    (middle, low, high), (_, *floor_ends) = _estimate(rounds, random), _estimate(floor, random)
    return Comparison.of(
        rule=rule,
        rounds=tuple(rounds),
        floor_rounds=tuple(floor),
        ratio=math.exp(middle),
        low=math.exp(low),
        high=math.exp(high),
        noise=math.exp(max(map(abs, floor_ends))),
    )


def _rounds_needed(floor: Sequence[Round], rule: RoundsRule) -> int:
    """How many rounds narrow the interval to half the margin either way, if the noise stays as it is.

    By the spread of the rounds, as if they were normal (where a median's standard error is 1.25 of a mean's): the bootstrap's
    own width is too unsteady with the fewest rounds.
    """
    spread = statistics.stdev(one.log_ratio for one in floor)
    needed = math.ceil((1.96 * 1.25 * spread / (math.log1p(rule.margin) / 2)) ** 2)
    return min(max(needed, rule.rounds_min), rule.rounds_max)


def _estimate(rounds: Sequence[Round], random: np.random.Generator) -> tuple[float, float, float]:
    """The median of the log-ratios and its 95 percent interval, by the percentile bootstrap.

    The median, because a burst spoils whole rounds: they widen its interval, but do not move it. BCa, scipy's default, needs
    a smooth statistic and gives NaN for equal rounds.
    """
    import numpy as np
    from scipy.stats import bootstrap

    ratios = np.array([one.log_ratio for one in rounds])
    interval = bootstrap(
        (ratios,), _medians, n_resamples=_RESAMPLES, method="percentile", vectorized=True, random_state=random
    ).confidence_interval
    return float(np.median(ratios)), float(interval.low), float(interval.high)


def _medians(ratios: Floats, axis: int) -> Floats:
    """``numpy.median``, but several times as fast for the bootstrap's thousands of short rows."""
    import numpy as np

    ordered = np.moveaxis(np.sort(ratios, axis=axis), axis, -1)
    n = ordered.shape[-1]
    return (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2


def _round(sample_a: Sampler, sample_b: Sampler, samples: int, *, mirrored: bool) -> Round:
    outer, inner = (sample_b, sample_a) if mirrored else (sample_a, sample_b)
    first, second, third, fourth = (_block(sampler, samples) for sampler in (outer, inner, inner, outer))
    if mirrored:
        return Round.of("BAAB", a=(second, third), b=(first, fourth))
    return Round.of("ABBA", a=(first, fourth), b=(second, third))


def _block(sample: Sampler, samples: int) -> Block:
    discarded, *counted = (sample() for _ in range(samples + 1))
    if not all(0 < seconds < math.inf for seconds in counted):
        raise ValueError(f"a restoration takes some time, not {counted} s")
    return Block(discarded, tuple(counted))
