"""The statistics: known values, and how often intervals hold the truth in simulated rounds."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kerash5.comparison._statistics import (
    Estimate,
    break_even_steps,
    median_interval,
    median_level,
    ratio_interval,
    t_quantile,
    variation,
)
from tests.comparison.simulated import NOISES, Noise, log_noise

SPEEDS: Final = st.floats(1e-3, 1e6)
EACH_NOISE: Final = pytest.mark.parametrize("noise", NOISES)


# Student's t.


@pytest.mark.parametrize(
    ("freedom", "level", "quantile"),
    [
        (1, 0.95, 12.7062),
        (2, 0.95, 4.3027),
        (3, 0.95, 3.1824),
        (4, 0.95, 2.7764),
        (4, 0.99, 4.6041),
        (7, 0.99, 3.4995),
        (9, 0.90, 1.8331),
        (30, 0.95, 2.0423),
        (120, 0.95, 1.9799),
    ],
)
def test_quantiles_are_those_of_the_printed_tables(
    freedom: int, level: float, quantile: float
) -> None:
    assert t_quantile(level, freedom) == pytest.approx(quantile, abs=5e-5)


def test_quantiles_tend_to_those_of_the_normal_distribution() -> None:
    normal = statistics.NormalDist().inv_cdf(0.975)
    assert t_quantile(0.95, 100_000) == pytest.approx(normal, abs=1e-4)


# One contender: the median.


@pytest.mark.parametrize(
    ("count", "level"), [(2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375), (6, 0.96875)]
)
def test_few_samples_give_the_widest_interval_and_its_true_level(count: int, level: float) -> None:
    found = median_interval(range(count))
    assert (found.low, found.high, found.level) == (0, count - 1, level)


def test_many_samples_give_a_narrower_interval_of_at_least_95_percent() -> None:
    found = median_interval(range(20))
    assert (found.low, found.high) == (5, 14)
    assert found.level == pytest.approx(0.9586, abs=1e-4)


@pytest.mark.parametrize("count", range(2, 12))
def test_the_level_is_what_counting_all_outcomes_gives(count: int) -> None:
    # Each sample falls below or above the median with equal chance: count the cases that hold it.
    for rank in range(1, count // 2 + 1):
        outcomes = [sum(sides) for sides in itertools.product((0, 1), repeat=count)]
        held = sum(rank <= below <= count - rank for below in outcomes)
        assert median_level(count, rank) == pytest.approx(held / 2**count)


def test_one_sample_has_no_interval_and_none_is_not_a_number() -> None:
    one, none = median_interval([3.0]), median_interval([math.nan, math.inf])
    assert (one.value, one.has_interval, one.level, one.count) == (3.0, False, 0.0, 1)
    assert math.isnan(none.value)
    assert not none.has_interval


@given(st.lists(SPEEDS, min_size=2, max_size=30))
def test_the_interval_holds_the_median_and_ignores_what_is_no_number(samples: list[float]) -> None:
    found = median_interval([*samples, math.nan])
    assert found.low <= statistics.median(samples) == found.value <= found.high
    assert found.count == len(samples)


# Two contenders: the ratio.


def test_the_ratio_is_the_geometric_mean_of_the_pairs() -> None:
    found = ratio_interval([2.0, 8.0], [1.0, 2.0])
    assert found.value == pytest.approx(math.sqrt(2 * 4))
    half = 12.7062 * statistics.stdev([math.log(2), math.log(4)]) / math.sqrt(2)
    assert found.low == pytest.approx(found.value * math.exp(-half), rel=1e-4)


@given(st.lists(st.tuples(SPEEDS, SPEEDS), min_size=2, max_size=12))
def test_a_ratio_turned_round_is_the_inverse(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = zip(*pairs, strict=True)
    found, turned = ratio_interval(ours, theirs), ratio_interval(theirs, ours).inverse()
    for name in ("value", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(turned, name), rel=1e-6)


@given(st.lists(st.tuples(SPEEDS, SPEEDS, st.floats(0.1, 10.0)), min_size=2, max_size=12))
def test_what_the_machine_does_to_a_whole_round_cancels(
    rounds: list[tuple[float, float, float]],
) -> None:
    ours, theirs, machine = (np.array(part) for part in zip(*rounds, strict=True))
    calm = ratio_interval(ours.tolist(), theirs.tolist())
    rough = ratio_interval((ours * machine).tolist(), (theirs * machine).tolist())
    assert rough.value == pytest.approx(calm.value, rel=1e-6)
    assert rough.low == pytest.approx(calm.low, rel=1e-5)


def test_pairs_that_lack_a_number_are_left_out() -> None:
    found = ratio_interval([2.0, math.nan, 4.0, 0.0], [1.0, 1.0, 2.0, 1.0])
    assert found.value == pytest.approx(2.0)
    assert found.count == 2


def test_one_pair_has_no_interval_and_rules_nothing_out() -> None:
    found = ratio_interval([2.0], [1.0])
    assert not found.has_interval
    assert found.contains(1.0)


def test_more_comparisons_make_each_interval_wider() -> None:
    ours, theirs = [1.0, 1.1, 1.2, 1.1, 1.0], [2.0, 2.3, 2.2, 2.1, 2.0]
    one, three = ratio_interval(ours, theirs), ratio_interval(ours, theirs, comparisons=3)
    assert three.low < one.low < one.high < three.high
    assert three.level == pytest.approx(1 - 0.05 / 3)


def test_numbers_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratio_interval([1.0], [1.0, 2.0])


# How often intervals hold the truth.

EXPERIMENTS: Final = 600
ROUNDS: Final = 5


def coverage(noise: Noise, interval: Callable[[NDArray[np.float64]], tuple[float, float]]) -> float:
    """Return in how many of the experiments with two equal backends the interval holds 1."""
    errors = log_noise(noise, (EXPERIMENTS, 2, ROUNDS), np.random.default_rng(5))
    held = [low <= 1 <= high for low, high in map(interval, np.exp(errors))]
    return sum(held) / len(held)


def student(pair: NDArray[np.float64]) -> tuple[float, float]:
    found = ratio_interval(pair[0].tolist(), pair[1].tolist())
    return found.low, found.high


def bootstrap_of_pairs(pair: NDArray[np.float64]) -> tuple[float, float]:
    """Return what is *not* used: the percentile bootstrap of the mean log ratio of the pairs."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, ROUNDS, (400, ROUNDS))
    means = np.log(pair[0] / pair[1])[drawn].mean(axis=1)
    low, high = np.exp(np.quantile(means, [0.025, 0.975]))
    return float(low), float(high)


@EACH_NOISE
def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says(noise: Noise) -> None:
    # 600 experiments: the share itself is known to 0.9 points (one standard deviation).
    assert coverage(noise, student) >= 0.925


@EACH_NOISE
def test_a_bootstrap_of_five_pairs_is_too_sure(noise: Noise) -> None:
    assert coverage(noise, bootstrap_of_pairs) < 0.88


def test_the_median_interval_holds_the_true_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    # Skewed on purpose: the level must not depend on the distribution. The true median is 1.
    drawn = np.exp(0.5 * rng.standard_normal((2000, ROUNDS)))
    found = [median_interval(samples) for samples in drawn.tolist()]
    held = sum(estimate.contains(1.0) for estimate in found) / len(found)
    assert held == pytest.approx(0.9375, abs=0.02)


# The rest.


def test_variation_is_the_spread_over_the_mean() -> None:
    assert variation([9.0, 10.0, 11.0]) == pytest.approx(0.1)
    assert math.isnan(variation([1.0]))
    assert math.isnan(variation([0.0, 0.0]))


def test_a_slow_start_is_caught_up_by_faster_steps() -> None:
    assert break_even_steps((10.0, 0.01), (4.0, 0.05)) == pytest.approx(150)


@pytest.mark.parametrize(
    ("slow", "fast", "steps"),
    [
        pytest.param((10.0, 0.05), (4.0, 0.05), None, id="equal steps"),
        pytest.param((10.0, 0.06), (4.0, 0.05), None, id="slower at both"),
        pytest.param((4.0, 0.01), (10.0, 0.05), 0.0, id="ahead from the start"),
        pytest.param((math.nan, 0.01), (10.0, 0.05), None, id="unknown start"),
    ],
)
def test_nothing_is_caught_up_where_there_is_nothing_to_catch_up(
    slow: tuple[float, float], fast: tuple[float, float], steps: float | None
) -> None:
    assert break_even_steps(slow, fast) == steps


def test_an_inverse_swaps_its_ends() -> None:
    found = Estimate(0.5, 0.4, 0.8, 0.95, 5).inverse()
    assert (found.value, found.low, found.high) == (2.0, 1.25, 2.5)
