"""What a list of samples says: medians with their intervals, and percentiles only where there are enough samples.

Samples are seconds, in any order; nothing is ever removed from them. The intervals hold for samples that are
independent of each other. Those of a loaded machine come in bursts, so that an interval is then too narrow: whoever wants
to know which of two engines is faster asks ``benchmarks.compare``, whose rounds allow for that.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.units import Count, Fraction, Seconds

_TAIL = 0.025
"""Left on either side of an interval of 95 percent."""
_SMALLEST_INTERVAL = 6
"""The fewest samples with such an interval: all lie on one side of the median with the probability ``0.5**n``."""


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


def median_interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """The 95 percent confidence interval of the median: two of the samples, whatever their distribution.

    By order statistics (Conover, Practical Nonparametric Statistics, 3rd ed., 3.2), so it covers at least 95 percent.
    None with fewer than 6 samples, whose smallest and largest enclose the median less often than that.
    """
    if len(samples) < _SMALLEST_INTERVAL:
        return None
    from scipy.stats import quantile_test

    interval = quantile_test(samples, p=0.5).confidence_interval(1 - 2 * _TAIL)
    return float(interval.low), float(interval.high)


def is_precise(samples: Sequence[float], within: float = 0.01) -> bool:
    """Whether the median's interval exists and ends no further than the fraction ``within`` from the median, both ways."""
    interval = median_interval(samples)
    if interval is None:
        return False
    median = statistics.median(samples)
    return max(interval[1] - median, median - interval[0]) <= within * median


@dataclass(frozen=True)
class Summary:
    """All samples in a dozen numbers; seconds, but for ``n``, ``cov`` and ``outliers``."""

    n: Count
    median: Seconds
    median_low: Seconds | None
    """With ``median_high`` the 95 percent interval of the median; None with fewer than 6 samples."""
    median_high: Seconds | None
    mean: Seconds
    minimum: Seconds
    maximum: Seconds
    p90: Seconds | None
    """Nearest rank; this and the next two are None where n is too small (``SMALLEST_N``)."""
    p95: Seconds | None
    p99: Seconds | None
    iqr: Seconds
    """Between the quartiles, which are interpolated (Hyndman and Fan's type 7, as in numpy and R)."""
    cov: Fraction
    """Standard deviation (n - 1) over mean; 0 for a single sample."""
    outliers: Count
    """Samples more than 3 IQR beyond a quartile: Tukey's outer fences ("far out", Exploratory Data Analysis, 1977, 2D).
    They are counted only, and are in every other number here."""


def summarise(samples: Sequence[float]) -> Summary:
    """Summarise at least one sample. Raises ``ValueError`` for none, and for NaN and infinity."""
    if not samples or not all(map(math.isfinite, samples)):
        raise ValueError("a summary needs at least one sample, and finite ones")
    ordered = sorted(samples)
    n = len(ordered)
    low, high = median_interval(ordered) or (None, None)
    first, _, third = statistics.quantiles(ordered, n=4, method="inclusive") if n > 1 else ordered * 3
    fence = 3 * (third - first)
    # The exact functions, not fmean: of equal samples the deviation is 0 and nothing beside it.
    mean = float(statistics.mean(ordered))
    deviation = statistics.stdev(ordered) if n > 1 else 0.0
    return Summary(
        n=n,
        median=statistics.median(ordered),
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


def _nearest_rank(ordered: Sequence[float], q: float) -> float:
    return ordered[math.ceil(round(q * len(ordered), 9)) - 1]  # rounded: 0.55 * 100 is a little more than 55
