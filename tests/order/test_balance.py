"""Classes that are made to weigh the same: by repeating rows, or by weights."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import OptionError
from kerash5.order._balance import balance_rows, balanced_weights
from kerash5.order._split import Split, split_rows

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(labels=LABELS, seed=st.integers(0, 2**32))
def test_every_class_has_as_many_rows_as_the_largest(labels: list[int], seed: int) -> None:
    rows = balance_rows(labels, seed=seed)
    counts = Counter(labels)
    most = max(counts.values())
    assert Counter(np.array(labels)[rows].tolist()) == dict.fromkeys(counts, most)
    assert_array_equal(rows, np.sort(rows))
    for row, times in Counter(rows.tolist()).items():
        low = most // counts[labels[row]]
        assert times in (low, low + 1)
    assert set(rows.tolist()) == set(range(len(labels)))  # no row is lost
    assert_array_equal(rows, balance_rows(labels, seed=seed))


def test_the_draw_is_that_of_the_seed() -> None:
    labels = [0] * 7 + [1] * 4
    drawn = {tuple(balance_rows(labels, seed=seed).tolist()) for seed in range(10)}
    assert len(drawn) > 1
    assert_array_equal(balance_rows(["b", "a", "b"]), [0, 1, 1, 2])


@given(labels=LABELS)
def test_balanced_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    found = balanced_weights(labels)
    counts = np.bincount(labels)
    for number, weight in found.items():
        assert weight == len(labels) / (np.count_nonzero(counts) * counts[number])
    assert np.mean([found[label] for label in labels]) == pytest.approx(1)


def test_what_has_no_classes_is_refused() -> None:
    for labels in ([], [[0, 1]]):
        with pytest.raises(OptionError, match="one class per row"):
            balance_rows(labels)
    with pytest.raises(OptionError, match="float64"):
        balanced_weights([0.5, 1.0])


@given(num_rows=st.integers(2, 50), seed=st.integers(0, 9))
def test_a_split_is_json_and_back(num_rows: int, seed: int) -> None:
    split = split_rows(num_rows, 1, seed=seed)
    again = Split.from_json(split.to_json())
    assert_array_equal(again.train, split.train)
    assert_array_equal(again.validation, split.validation)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"train": [0], "validation": [0]}'),
        *('{"train": [0.5], "validation": [1]}', '{"train": [[1]], "validation": [0]}'),
        '{"train": "all", "validation": [0]}',
    ],
)
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="no split"):
        Split.from_json(text)
