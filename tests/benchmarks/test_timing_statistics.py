"""Summaries of samples: what n allows, what an interval covers, and that nothing is clipped."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.timing_statistics import SMALLEST_N, is_precise, median_interval, percentile, smallest_n, summarise

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]


@pytest.mark.parametrize(("q", "n"), [(0.90, 36), (0.95, 72), (0.99, 368)])
def test_a_percentile_is_withheld_while_n_cannot_bound_it(q: float, n: int) -> None:
    samples = [float(number) for number in range(n)]
    assert SMALLEST_N[q] == smallest_n(q) == n
    # Below, all samples lie under the true percentile with a chance of 2.5 percent or more.
    assert q**n < 0.025 <= q ** (n - 1)
    assert percentile(samples[:-1], q) is None
    assert percentile(samples, q) is not None
    name = f"p{round(100 * q)}"
    assert getattr(summarise(samples[:-1]), name) is None
    assert getattr(summarise(samples), name) == percentile(samples, q)


@pytest.mark.parametrize("n", [*range(1, 40), 72, 100, 1000])
def test_the_n_of_any_percentile_is_the_smallest_that_bounds_it(n: int) -> None:
    q = 0.025 ** (1 / n)  # just at the edge: all n samples lie under it in exactly 2.5 percent
    assert smallest_n(q - 1e-9) == n
    assert smallest_n(q + 1e-9) == n + 1


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, 95.0])
def test_a_percentile_that_is_none(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        percentile([1.0] * 1000, q)


@pytest.mark.parametrize(
    ("n", "q", "rank"),
    [(36, 0.90, 33), (72, 0.95, 69), (100, 0.95, 95), (101, 0.95, 96), (368, 0.99, 365), (100, 0.55, 55), (100, 0.07, 7)],
)
def test_a_percentile_is_the_sample_of_the_nearest_rank(n: int, q: float, rank: int) -> None:
    samples = [float(number) for number in range(1, n + 1)]
    random.Random(0).shuffle(samples)
    assert percentile(samples, q) == rank


DRAWS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(10, 1, shape),
    "lognormal": lambda rng, shape: rng.lognormal(0, 1.5, shape),
    "exponential": lambda rng, shape: rng.exponential(1, shape),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "bimodal": lambda rng, shape: rng.normal(np.where(rng.random(shape) < 0.55, 1.0, 2.0), 0.01),
    "coarse clock": lambda rng, shape: rng.poisson(2.7, shape).astype(np.float64),
}
MEDIANS = {"normal": 10.0, "lognormal": 1.0, "exponential": math.log(2), "Cauchy": 0.0, "coarse clock": 3.0}


@pytest.mark.parametrize("n", [6, 9, 20, 73, 200])
@pytest.mark.parametrize("name", DRAWS)
def test_the_interval_covers_the_median(name: str, n: int) -> None:
    rng = np.random.default_rng(n)
    drawn = DRAWS[name](rng, (4000, n))
    true = MEDIANS.get(name, float(np.median(DRAWS[name](rng, (1, 200_001)))))
    # Which ranks the function takes is asked once; that it takes these of any samples, of some of the draws.
    ranks = median_interval(range(n))
    assert ranks is not None
    low, high = (np.sort(drawn)[:, int(rank)] for rank in ranks)
    for row in range(0, 4000, 200):
        assert median_interval(drawn[row].tolist()) == (low[row], high[row])
    covered = np.mean((low <= true) & (true <= high))
    assert covered >= 0.94
    if name == "normal":  # nor is it wider than it need be: one rank further in would cover less than 95 percent
        inner_low, inner_high = np.sort(drawn)[:, int(ranks[0]) + 1], np.sort(drawn)[:, int(ranks[1]) - 1]
        assert np.mean((inner_low <= true) & (true <= inner_high)) < 0.955


@pytest.mark.parametrize("n", [*range(6, 60), 100, 1000, 100_000])
def test_the_ranks_of_the_interval_are_the_innermost_that_cover_95_percent(n: int) -> None:
    interval = median_interval(range(n))
    assert interval is not None
    rank = int(interval[0]) + 1
    assert interval[1] == n - rank

    def below(count: int) -> float:
        """The chance that at most ``count`` of n samples lie under the median."""
        logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(count + 1)]
        return math.fsum(map(math.exp, logs))

    assert below(rank - 1) <= 0.025 < below(rank)


@pytest.mark.parametrize("n", range(6))
def test_no_interval_from_fewer_than_six(n: int) -> None:
    samples = [0.1] * n
    assert median_interval(samples) is None
    assert not is_precise(samples)
    if n:
        assert (summarise(samples).median_low, summarise(samples).median_high) == (None, None)
    assert 2 * 0.5**5 > 0.05 >= 2 * 0.5**6  # the smallest and the largest of five do not cover 95 percent


def test_precise_is_within_one_percent_both_ways() -> None:
    low, middle, high = [99.0] * 2, [100.0] * 5, [101.0] * 2
    assert median_interval(low + middle + high) == (99.0, 101.0)
    assert is_precise(low + middle + high, 0.01)
    assert not is_precise([98.9] * 2 + middle + high, 0.01)
    assert not is_precise(low + middle + [101.1] * 2, 0.01)
    assert is_precise(low + middle + [101.1] * 2, 0.02)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.007, 1.7e-6])
@pytest.mark.parametrize("n", [1, 2, 7, 400])
def test_a_constant(value: float, n: int) -> None:
    summary = summarise([value] * n)
    assert (summary.median, summary.mean, summary.minimum, summary.maximum) == (value,) * 4
    assert (summary.iqr, summary.cov, summary.outliers) == (0.0, 0.0, 0)
    if n >= 6:
        assert (summary.median_low, summary.median_high) == (value, value)
        assert is_precise([value] * n, 0.0)
    if n >= 368:
        assert summary.p90 == summary.p95 == summary.p99 == value


def test_an_outlier_is_counted_and_not_clipped() -> None:
    rng = random.Random(2)
    samples = [rng.normalvariate(0.1, 0.001) for _ in range(99)]
    without = summarise(samples)
    summary = summarise([*samples[:40], 7.0, *samples[40:]])
    assert (without.outliers, summary.outliers) == (0, 1)
    assert summary.n == 100
    assert summary.maximum == 7.0
    assert summary.mean == pytest.approx((without.mean * 99 + 7) / 100)
    assert summary.cov > 10 * without.cov
    assert summary.median == pytest.approx(without.median, rel=1e-3)


def test_outliers_lie_beyond_the_outer_fences_on_either_side() -> None:
    quartiles = [1.0, 2.0, 3.0] * 20  # quartiles 1 and 3: the fences are at -5 and 9
    assert summarise([*quartiles, 9.0, -5.0]).outliers == 0
    assert summarise([*quartiles, 9.01, -5.01, 50.0]).outliers == 3
    assert summarise([0.1] * 99 + [0.1001]).outliers == 1  # zero IQR: whatever differs


def test_the_quartiles_are_those_of_numpy() -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 4, 5, 50, 101):
        samples = rng.lognormal(size=n)
        first, third = np.percentile(samples, [25, 75])
        summary = summarise(samples.tolist())
        assert summary.iqr == pytest.approx(third - first)
        assert summary.median == pytest.approx(np.median(samples))
        assert summary.cov == pytest.approx(samples.std(ddof=1) / samples.mean() if n > 1 else 0)


@pytest.mark.parametrize("samples", [[], [0.1, math.nan], [math.inf] * 10])
def test_what_cannot_be_summarised(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        summarise(samples)


def test_the_json() -> None:
    names = {
        "n",
        "median",
        "median_low",
        "median_high",
        "mean",
        "minimum",
        "maximum",
        "p90",
        "p95",
        "p99",
        "iqr",
        "cov",
        "outliers",
    }
    content = asdict(summarise([0.1, 0.2]))
    assert content.keys() == names
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["p95"] is None
