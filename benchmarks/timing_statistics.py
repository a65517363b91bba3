"""What a list of samples says: medians with their intervals, and percentiles only where there are enough samples.

Samples are seconds, in any order; nothing is ever removed from them. The intervals hold for samples that are
independent of each other. Those of a loaded machine come in bursts, so that an interval is then too narrow: whoever wants
to know which of two engines is faster asks ``benchmarks.compare``, whose rounds allow for that.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

_TAIL = 0.025
"""Left on either side of an interval of 95 percent."""


def smallest_n(q: float) -> int:
    """The fewest samples that bound the percentile ``q`` (between 0 and 1) from above, with 97.5 percent confidence.

    All ``n`` samples lie under the true percentile with the probability ``q**n``; while that is 2.5 percent or more, not
    even the largest sample is such a bound. Raises ``ValueError`` for a ``q`` that is not between 0 and 1.
    """
    if not 0 < q < 1:
        raise ValueError(f"a percentile lies between 0 and 1, not at {q}")
    return math.floor(math.log(_TAIL) / math.log(q)) + 1


SMALLEST_N: Mapping[float, int] = MappingProxyType({q: smallest_n(q) for q in (0.90, 0.95, 0.99)})
"""36, 72 and 368: with fewer samples the percentile is not given."""


def percentile(samples: Sequence[float], q: float) -> float | None:
    """The percentile ``q`` (0.95 for p95) by nearest rank: one of the samples. None with fewer than ``smallest_n(q)``."""
    if len(samples) < smallest_n(q):
        return None
    return _nearest_rank(sorted(samples), q)


def median_interval(samples: Sequence[float], *, ascending: bool = False) -> tuple[float, float] | None:
    """The 95 percent confidence interval of the median: two of the samples, whatever their distribution.

    By order statistics (Conover, Practical Nonparametric Statistics, 3rd ed., 3.2), so it covers at least 95 percent.
    None with fewer than 6 samples, whose smallest and largest enclose the median less often than that.

    Sorts, unless the caller says that ``samples`` is ``ascending`` (not checked): then the cost does not grow with n.
    """
    rank = _lower_rank(len(samples))
    if rank == 0:
        return None
    ordered = samples if ascending else sorted(samples)
    return ordered[rank - 1], ordered[-rank]


def is_precise(samples: Sequence[float], within: float = 0.01, *, ascending: bool = False) -> bool:
    """Whether the median's interval exists and ends no further than the fraction ``within`` from the median, both ways.

    For a stopping rule asked after every sample, keep a list with ``bisect.insort`` and say ``ascending`` (not checked):
    the answer then takes some tens of microseconds at any n, and one where that n was asked about before. Otherwise it
    sorts: tens of milliseconds for 10**5 samples.
    """
    ordered = samples if ascending else sorted(samples)
    interval = median_interval(ordered, ascending=True)
    if interval is None:
        return False
    median = _median(ordered)
    return max(interval[1] - median, median - interval[0]) <= within * median


@dataclass(frozen=True)
class Summary:
    """All samples in a dozen numbers; seconds, but for ``n``, ``cov`` and ``outliers``."""

    n: int
    median: float
    median_low: float | None
    """With ``median_high`` the 95 percent interval of the median; None with fewer than 6 samples."""
    median_high: float | None
    mean: float
    minimum: float
    maximum: float
    p90: float | None
    """Nearest rank; this and the next two are None where n is too small (``SMALLEST_N``)."""
    p95: float | None
    p99: float | None
    iqr: float
    """Between the quartiles, which are interpolated (Hyndman and Fan's type 7, as in numpy and R)."""
    cov: float
    """Standard deviation (n - 1) over mean; 0 for a single sample."""
    outliers: int
    """Samples more than 3 IQR beyond a quartile: Tukey's outer fences ("far out", Exploratory Data Analysis, 1977, 2D).
    They are counted only, and are in every other number here."""

    def to_json(self) -> dict[str, Any]:
        """The fields by their names."""
        return asdict(self)


def summarise(samples: Sequence[float]) -> Summary:
    """Summarise at least one sample. Raises ``ValueError`` for none, and for NaN and infinity."""
    if not samples or not all(map(math.isfinite, samples)):
        raise ValueError("a summary needs at least one sample, and finite ones")
    ordered = sorted(samples)
    n = len(ordered)
    low, high = median_interval(ordered, ascending=True) or (None, None)
    first, third = _interpolated(ordered, 0.25), _interpolated(ordered, 0.75)
    fence = 3 * (third - first)
    # The exact functions, not fmean: of equal samples the deviation is 0 and nothing beside it.
    mean = float(statistics.mean(ordered))
    deviation = statistics.stdev(ordered) if n > 1 else 0.0
    return Summary(
        n=n,
        median=_median(ordered),
        median_low=low,
        median_high=high,
        mean=mean,
        minimum=ordered[0],
        maximum=ordered[-1],
        p90=percentile(ordered, 0.90),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
        iqr=third - first,
        cov=deviation / mean if mean else 0.0,
        outliers=sum(not first - fence <= sample <= third + fence for sample in ordered),
    )


@cache
def _lower_rank(n: int) -> int:
    """The largest rank (from 1) that the median undershoots in at most 2.5 percent of samples; 0 if there is none."""
    from scipy.special import bdtr, bdtrik

    if n == 0:
        return 0
    # Where the binomial distribution crosses 2.5 percent is found in floating point, so its neighbours are tried too.
    rank = max(0, math.ceil(bdtrik(_TAIL, n, 0.5)) - 1) if 0.5**n <= _TAIL else 0
    while bdtr(rank, n, 0.5) <= _TAIL:
        rank += 1
    return rank


def _median(ordered: Sequence[float]) -> float:
    n = len(ordered)
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def _nearest_rank(ordered: Sequence[float], q: float) -> float:
    return ordered[math.ceil(round(q * len(ordered), 9)) - 1]  # rounded: 0.55 * 100 is a little more than 55


def _interpolated(ordered: Sequence[float], q: float) -> float:
    below, fraction = divmod((len(ordered) - 1) * q, 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + (high - low) * fraction
