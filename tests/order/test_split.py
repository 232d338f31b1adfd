"""Splits: nothing lost, nothing twice, shares kept, groups whole, errors in words."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import OptionError
from kerash5.order._split import Split, k_folds, split_rows

SEEDS = st.integers(-5, 1 << 40)
LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=120)


def assert_complete(split: Split, num_rows: int) -> None:
    """Check that both sides are sorted, not empty, disjoint, and together all rows."""
    for side in (split.train, split.validation):
        assert side.dtype == np.int64
        assert len(side)
        assert (np.diff(side) > 0).all()
    both = np.concatenate([split.train, split.validation])
    assert_array_equal(np.sort(both), np.arange(num_rows))


@given(num_rows=st.integers(2, 500), data=st.data(), seed=SEEDS)
def test_a_split_by_number_holds_out_that_many_rows(
    num_rows: int, data: st.DataObject, seed: int
) -> None:
    wanted = data.draw(st.integers(1, num_rows - 1))
    split = split_rows(num_rows, wanted, seed=seed)
    assert_complete(split, num_rows)
    assert len(split.validation) == wanted


@given(num_rows=st.integers(2, 500), share=st.floats(0.01, 0.99))
def test_a_split_by_fraction_holds_out_that_share(num_rows: int, share: float) -> None:
    assume(0 < round(share * num_rows) < num_rows)
    split = split_rows(num_rows, share)
    assert_complete(split, num_rows)
    assert abs(len(split.validation) - share * num_rows) <= 0.5


@given(labels=LABELS, data=st.data(), seed=SEEDS)
def test_a_stratified_split_keeps_each_labels_share_within_one_row(
    labels: list[int], data: st.DataObject, seed: int
) -> None:
    wanted = data.draw(st.integers(1, len(labels) - 1))
    split = split_rows(len(labels), wanted, labels=labels, seed=seed)
    assert_complete(split, len(labels))
    assert len(split.validation) == wanted
    array = np.array(labels)
    for label in np.unique(array):
        held_out = (array[split.validation] == label).sum()
        assert abs(held_out - (array == label).sum() * wanted / len(labels)) < 1


@given(groups=LABELS, data=st.data(), seed=SEEDS)
def test_a_grouped_split_tears_no_group_apart(
    groups: list[int], data: st.DataObject, seed: int
) -> None:
    assume(len(set(groups)) > 1)
    wanted = data.draw(st.integers(1, len(groups) - 1))
    split = split_rows(len(groups), wanted, groups=groups, seed=seed)
    assert_complete(split, len(groups))
    array = np.array(groups)
    assert not set(array[split.train]) & set(array[split.validation])
    # About as many as asked for: one group more or less would not be nearer.
    largest = np.bincount(array).max()
    assert abs(len(split.validation) - wanted) <= largest


@given(num_rows=st.integers(2, 200), data=st.data(), seed=SEEDS)
def test_folds_hold_out_every_row_once_in_equal_parts(
    num_rows: int, data: st.DataObject, seed: int
) -> None:
    count = data.draw(st.integers(2, min(num_rows, 12)))
    folds = list(k_folds(num_rows, count, seed=seed))
    assert len(folds) == count
    for fold in folds:
        assert_complete(fold, num_rows)
        assert len(fold.validation) in (num_rows // count, num_rows // count + 1)
    assert_array_equal(np.sort(np.concatenate([f.validation for f in folds])), np.arange(num_rows))


@given(labels=LABELS, data=st.data())
def test_stratified_folds_share_each_label_within_one_row(
    labels: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(2, min(len(labels), 8)))
    array = np.array(labels)
    for fold in k_folds(len(labels), count, labels=labels):
        assert_complete(fold, len(labels))
        for label in np.unique(array):
            held_out = (array[fold.validation] == label).sum()
            assert abs(held_out - (array == label).sum() / count) < 1


@given(groups=LABELS, data=st.data())
def test_grouped_folds_hold_each_group_in_one_fold(groups: list[int], data: st.DataObject) -> None:
    assume(len(set(groups)) > 1)
    count = data.draw(st.integers(2, len(set(groups))))
    array = np.array(groups)
    held_out = []
    for fold in k_folds(len(groups), count, groups=groups):
        assert_complete(fold, len(groups))
        assert not set(array[fold.train]) & set(array[fold.validation])
        held_out.append(fold.validation)
    assert_array_equal(np.sort(np.concatenate(held_out)), np.arange(len(groups)))


def test_grouped_folds_are_about_equally_large() -> None:
    sizes = [50, 30, 20, 20, 20, 10, 10, 10, 10, 10, 5, 5]
    folds = k_folds(sum(sizes), 4, groups=np.repeat(np.arange(len(sizes)), sizes))
    assert max(abs(len(fold.validation) - 50) for fold in folds) <= 5


SPLITS: list[Any] = [
    pytest.param(lambda seed: split_rows(200, 0.2, seed=seed), id="plain"),
    pytest.param(lambda seed: split_rows(200, 0.2, labels=[0, 1] * 100, seed=seed), id="labels"),
    pytest.param(
        lambda seed: split_rows(200, 0.2, groups=np.arange(200) // 4, seed=seed), id="groups"
    ),
    pytest.param(lambda seed: next(iter(k_folds(200, 5, seed=seed))), id="folds"),
]


@pytest.mark.parametrize("make", SPLITS)
def test_a_seed_gives_one_split_and_another_seed_another(make: Callable[[int], Split]) -> None:
    assert_array_equal(make(3).validation, make(3).validation)
    assert make(3).validation.tolist() != make(4).validation.tolist()


def test_labels_may_be_text() -> None:
    split = split_rows(100, 0.2, labels=["cat"] * 70 + ["dog"] * 30)
    assert (split.validation < 70).sum() == 14


def test_a_validation_row_is_drawn_from_everywhere() -> None:
    counts = np.zeros(40)
    for seed in range(1000):
        counts[split_rows(40, 0.25, seed=seed).validation] += 1
    # 250 each; the standard deviation of a binomial is 14.
    assert np.abs(counts - 250).max() < 5 * 14


# Whoever compares a new model with last year's on "the validation rows of seed 7" breaks when one
# of these moves: rows that trained the old model would judge the new one.
def test_golden_splits_stand() -> None:
    assert split_rows(12, 0.25, seed=7).validation.tolist() == [2, 6, 7]
    assert split_rows(12, 0.25, labels=[0, 1] * 6, seed=7).validation.tolist() == [4, 7, 11]
    assert split_rows(12, 0.25, groups=[0, 1, 2] * 4, seed=7).validation.tolist() == [2, 5, 8, 11]
    folds = [fold.validation.tolist() for fold in k_folds(7, 3, seed=7)]
    assert folds == [[0, 4, 6], [1, 2], [3, 5]]


WRONG: list[Any] = [
    pytest.param({"validation": 0.0}, r"validation=0\.0; .* between 0 and 1", id="no share"),
    pytest.param({"validation": 1.0}, r"validation=1\.0; .* between 0 and 1", id="all"),
    pytest.param({"validation": -0.2}, "between 0 and 1", id="negative share"),
    pytest.param({"validation": float("nan")}, "between 0 and 1", id="nan"),
    pytest.param({"validation": float("inf")}, "between 0 and 1", id="infinite"),
    pytest.param({"validation": True}, "a fraction between 0 and 1", id="bool"),
    pytest.param({"validation": "0.2"}, r"validation='0\.2'", id="text"),
    pytest.param({"validation": 0}, "is 0 rows; both sides", id="no rows"),
    pytest.param({"validation": -1}, "both sides of a split", id="negative rows"),
    pytest.param({"validation": 10}, "10 of 10 rows is 10 rows; both sides", id="all rows"),
    pytest.param({"validation": 0.01}, "is 0 rows; both sides", id="rounds to none"),
    pytest.param({"labels": [0] * 9}, r"labels of shape \(9,\) for 10 rows", id="labels short"),
    pytest.param({"labels": np.eye(10)}, "one value a row", id="one-hot labels"),
    pytest.param({"groups": [0] * 11}, r"groups of shape \(11,\) for 10 rows", id="groups long"),
    pytest.param({"groups": [0] * 10}, "all rows are of one group", id="one group"),
    pytest.param({"labels": [0] * 10, "groups": [0] * 10}, "both labels= and groups=", id="both"),
    pytest.param({"seed": 0.5}, r"seed=0\.5.*whole number", id="seed"),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_a_split_that_makes_no_sense_says_why(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        split_rows(10, **{"validation": 0.2, **options})


WRONG_FOLDS: list[Any] = [
    pytest.param({"count": 1}, "count=1; it is the number of folds.* at least 2", id="one"),
    pytest.param({"count": "3"}, "count='3'", id="text"),
    pytest.param({"count": 11}, "11 folds of 10 rows; use fewer", id="more than rows"),
    pytest.param({"groups": [0, 1] * 5}, "3 folds of 2 groups; use fewer", id="few groups"),
    pytest.param({"labels": [0]}, "one value a row", id="labels short"),
    pytest.param({"labels": [0] * 10, "groups": [0] * 10}, "both labels= and groups=", id="both"),
]


@pytest.mark.parametrize(("options", "words"), WRONG_FOLDS)
def test_folds_that_make_no_sense_say_why_before_the_first_is_asked_for(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        k_folds(10, **{"count": 3, **options})
