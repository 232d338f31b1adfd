"""Statistics over a few processes: medians, ratios and their confidence intervals.

The unit is the **process**: the median of a process's timed epochs is one sample. Epochs of one
process are not independent, because they share its memory layout, compiled code and load of the
machine. Processes run in rounds, each backend once per round in random order, so drift of the
machine affects all backends of a round alike. Ratios are therefore formed from *pairs of one
round*.

The intervals are not bootstrapped, because five samples tell a bootstrap too little about the
spread. Simulated coverage of 95 % intervals for the ratio (two equal backends, five rounds, a
drifting machine, and noise that is normal, heavy-tailed, or slows one process in ten; reproduced by
`tests/comparison/test_statistics.py`), where the true ratio is 1:

    =============================================  =====================================
    bootstrap of the mean log ratio of the pairs   82 to 84 %: far too low
    bootstrap of the median ratio of the pairs     93 to 94 %
    bootstrap of the ratio of medians, unpaired    99 %, and wider by 25 to 50
                                                   drift counts as noise
    Student's t on the log ratios of the pairs     94 to 98 %: used here
    =============================================  =====================================

A sign-flip test makes the fewest assumptions, but its smallest p-value with five pairs is 1/16.
Student's t works at any level, which comparing several backends needs (`ratio_interval`), and it is
conservative for heavy tails. With two pairs the interval is of little use; with one pair there is
none.

This module knows no backends or files: numbers in, numbers out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its confidence interval.

    Args:
        value: The estimate; NaN without samples.
        low: Lower end of the interval; NaN if there is none.
        high: Upper end of the interval; NaN if there is none.
        level: Confidence level of the interval; 0 if there is none.
        count: Number of samples.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    level: float = 0.0
    count: int = 0

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def contains(self, value: float) -> bool:
        """Return whether `value` lies in the interval; True if there is no interval."""
        return not self.has_interval or self.low <= value <= self.high

    def inverse(self) -> Estimate:
        """Return the estimate of 1 / value: how many times slower instead of faster."""
        return Estimate(1 / self.value, 1 / self.high, 1 / self.low, self.level, self.count)


def median_interval(samples: Sequence[float]) -> Estimate:
    """Return the median with an interval between two order statistics.

    The interval is distribution-free: the true median lies outside [lowest, highest] of n samples
    only if all of them fall on one side of it, with probability 2 / 2^n. The narrowest such
    interval with a level of at least 95 % is returned. Below six samples there is none, so the
    widest is returned with its actual level: 93.75 % for five (the percentile bootstrap of the
    median ends at the same two numbers and calls them 95 %), 87.5 % for four, 75 % for three, 50 %
    for two.

    Args:
        samples: One number per process; NaN and infinities are ignored.

    Returns:
        The median; without an interval if there are fewer than two samples.
    """
    found = _finite(samples)
    if len(found) < 2:
        return Estimate(found[0] if found else math.nan, count=len(found))
    count = len(found)
    inner = max(1, sum(median_level(count, rank) >= LEVEL for rank in range(1, count // 2 + 1)))
    return Estimate(
        statistics.median(found),
        found[inner - 1],
        found[count - inner],
        median_level(count, inner),
        count,
    )


def median_level(count: int, rank: int) -> float:
    """Return the level of the interval from the rank-th lowest to the rank-th highest sample."""
    return 1.0 - sum(math.comb(count, below) for below in range(rank)) / float(2 ** (count - 1))


def ratio_interval(
    samples: Sequence[float], reference: Sequence[float], *, comparisons: int = 1
) -> Estimate:
    """Return samples / reference as a geometric mean over pairs, with Student's interval.

    Args:
        samples: One positive number per round.
        reference: Numbers of the reference in the same rounds. A pair is ignored if one of its
            numbers is NaN or not positive.
        comparisons: Number of comparisons made together. The level of each is raised (Bonferroni)
            so that all intervals hold jointly at 95 %. Finding the fastest of k takes k (k - 1) / 2
            comparisons, however many are reported.

    Returns:
        The ratio; without an interval if there are fewer than two pairs.

    Raises:
        ValueError: The sequences differ in length.
    """
    logs = [
        math.log(sample / other)
        for sample, other in zip(samples, reference, strict=True)
        if _is_positive(sample) and _is_positive(other)
    ]
    if not logs:
        return Estimate(math.nan)
    center, count = statistics.fmean(logs), len(logs)
    if count == 1:
        return Estimate(math.exp(center), count=1)
    level = 1 - (1 - LEVEL) / comparisons
    half = t_quantile(level, count - 1) * statistics.stdev(logs) / math.sqrt(count)
    low, high = math.exp(center - half), math.exp(min(center + half, 700.0))
    return Estimate(math.exp(center), low, high, level, count)


def variation(samples: Sequence[float]) -> float:
    """Return the coefficient of variation: standard deviation / mean; NaN below two samples."""
    found = _finite(samples)
    mean = statistics.fmean(found) if found else 0.0
    return statistics.stdev(found) / abs(mean) if len(found) > 1 and mean else math.nan


def break_even_steps(
    slow_start: tuple[float, float], fast_start: tuple[float, float]
) -> float | None:
    """Return the number of steps after which the contender that starts slower has caught up.

    Args:
        slow_start: Seconds to the first step, and seconds per later step, of the one that starts
            later.
        fast_start: The same two numbers of the one that starts earlier.

    Returns:
        Number of steps, at least 0; None if it never catches up or a number is not finite.
    """
    lead, gain = slow_start[0] - fast_start[0], fast_start[1] - slow_start[1]
    if not (math.isfinite(lead) and math.isfinite(gain)) or gain <= 0:
        return None
    return max(0.0, lead / gain)


def t_quantile(level: float, freedom: int) -> float:
    """Return t with P(|T| < t) = level, for Student's T with integer degrees of freedom.

    Uses the closed form of the distribution (Abramowitz and Stegun, 26.7.3 and 26.7.4), inverted by
    bisection of its angle, so SciPy is not needed.

    Examples:
        >>> round(t_quantile(0.95, 4), 4)
        2.7764
    """
    low, high = 0.0, math.pi / 2
    for _ in range(80):  # more halvings than a float has bits
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, freedom) < level else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _t_inside(angle: float, freedom: int) -> float:
    """Return P(|T| < sqrt(freedom) tan(angle))."""
    is_odd = freedom % 2
    term = total = 0.0
    if freedom > 1:
        term = total = math.cos(angle) if is_odd else 1.0
    for power in range(3 if is_odd else 2, freedom - 1, 2):
        term *= (power - 1) / power * math.cos(angle) ** 2
        total += term
    inside = math.sin(angle) * total
    return 2 / math.pi * (angle + inside) if is_odd else inside


def _finite(samples: Sequence[float]) -> list[float]:
    return sorted(sample for sample in samples if math.isfinite(sample))


def _is_positive(sample: float) -> bool:
    return math.isfinite(sample) and sample > 0
