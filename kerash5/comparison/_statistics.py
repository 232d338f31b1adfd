"""What a handful of processes says about speed: medians, ratios, and how sure one can be.

The unit is the **process**: the median of a process's timed epochs is one sample, for epochs of one
process share its memory layout, its compiled code and its neighbours, and five of them are not five
answers. Processes run in rounds, each backend once per round in random order, so whatever the
machine does to a round it does to all of them: a ratio is made of *pairs of one round*.

The intervals are not bootstrapped: with five samples a bootstrap knows too little of the spread.
Simulated (two equal backends, five rounds, a machine that drifts, and noise that is normal, has
heavy tails, or makes one process in ten slow; `tests/comparison/test_statistics.py` does it again),
95 % intervals for the ratio hold 1 in

    =============================================  =====================================
    bootstrap of the mean log ratio of the pairs   82 to 84 %: much too sure
    bootstrap of the median ratio of the pairs     93 to 94 %
    bootstrap of the ratio of medians, unpaired    99 %, and wider by a quarter to a half:
                                                   it takes the drift for doubt
    Student's t on the log ratios of the pairs     94 to 98 %: what is used
    =============================================  =====================================

A sign-flip test, the cleanest of all, cannot be surer than 1 in 16 with five pairs. Student's t can
be asked for any level, which comparing several backends needs (`ratio_interval`), and it errs to
the cautious side where tails are heavy. With two pairs it is a formality, with one there is none.

Nothing here knows backends or files: numbers in, numbers out.
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
    """A value and how far it can be trusted.

    Args:
        value: The estimate; NaN where there are no samples.
        low: Of the interval; NaN where there is none.
        high: Of the interval; NaN where there is none.
        level: The chance with which such an interval holds the truth; 0 where there is none.
        count: Samples behind it.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    level: float = 0.0
    count: int = 0

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval at all."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def holds(self, value: float) -> bool:
        """Say whether `value` lies in the interval; without one, nothing can be ruled out."""
        return not self.has_interval or self.low <= value <= self.high

    def inverse(self) -> Estimate:
        """Return the same of 1 / value: how many times slower instead of faster."""
        return Estimate(1 / self.value, 1 / self.high, 1 / self.low, self.level, self.count)


def median_interval(samples: Sequence[float]) -> Estimate:
    """Return the median, and the interval between two order statistics that holds the true one.

    Free of any distribution: the median lies outside [lowest, highest] of n samples only if all
    fall on one side of it, which has the chance 2 / 2^n. The narrowest such interval of at least
    95 % is taken; below six samples there is none, and the widest is given with its true level:
    93.75 % for five (the percentile bootstrap of the median ends at the same two numbers and calls
    them 95 %), 87.5 % for four, 75 % for three, 50 % for two.

    Args:
        samples: One number per process; NaN and infinities are left out.

    Returns:
        The median; without an interval where there is one sample or none.
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
    """Return the chance that the median lies between the rank-th lowest and highest of `count`."""
    return 1.0 - sum(math.comb(count, below) for below in range(rank)) / float(2 ** (count - 1))


def ratio_interval(
    samples: Sequence[float], reference: Sequence[float], *, comparisons: int = 1
) -> Estimate:
    """Return samples / reference, pair by pair, as a geometric mean with Student's interval.

    Args:
        samples: One positive number per round.
        reference: The same rounds of what they are compared with; pairs with a number that is
            missing (NaN) or not positive are left out.
        comparisons: How many such comparisons are looked at together. The level of each is raised
            (Bonferroni) until all hold at once with 95 %. Who looks for the fastest of k has
            looked at k (k - 1) / 2 pairs, whichever he reports.

    Returns:
        The ratio; without an interval where there are fewer than two pairs.

    Raises:
        ValueError: The numbers do not pair up.
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
    """Return after how many steps the one that starts slower has caught up.

    Args:
        slow_start: Seconds to the first step, and seconds per step after it.
        fast_start: The same of the one that starts earlier.

    Returns:
        Steps, at least 0; None where it never catches up, or something is not known.
    """
    lead, gain = slow_start[0] - fast_start[0], fast_start[1] - slow_start[1]
    if not (math.isfinite(lead) and math.isfinite(gain)) or gain <= 0:
        return None
    return max(0.0, lead / gain)


def t_quantile(level: float, freedom: int) -> float:
    """Return the t with P(|T| < t) = level, for Student's T with whole degrees of freedom.

    Closed form of the distribution (Abramowitz and Stegun, 26.7.3 and 26.7.4), inverted by
    bisection of its angle: no SciPy for one number.

    Example:
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
