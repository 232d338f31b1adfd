"""What the values of labels are, found piece by piece, equals what is found at once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kerash5.feeds.labels import _facts
from kerash5.feeds.labels._facts import (
    LabelFacts,
    find_facts,
    is_one_hot,
    read_facts,
    read_is_one_hot,
)

RANDOM = np.random.default_rng(1)


def test_facts_name_the_value_and_its_row() -> None:
    values = np.array([[2.0, 1.0], [np.nan, 0.5], [7.0, -1.0]])
    found = find_facts(values, np.array([10, 20, 30]), None)
    assert found.smallest == (-1.0, 30)
    assert found.largest == (7.0, 30)
    assert found.fraction == (0.5, 20)
    assert found.nonfinite is not None
    assert np.isnan(found.nonfinite[0])
    assert found.nonfinite[1] == 20


def test_an_ignored_class_is_left_out() -> None:
    values = np.array([255, 0, 2, 255], np.uint8)
    found = find_facts(values, np.arange(4), 255)
    assert (found.smallest, found.largest) == ((0, 1), (2, 2))
    assert find_facts(values[:1], np.arange(1), 255) == LabelFacts()


@pytest.mark.parametrize("row_shape", [(), (3,), (40, 40)], ids=str)
def test_pieces_give_the_facts_of_the_whole(
    row_shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_facts, "_BLOCK_BYTES", 1 << 12)
    values = RANDOM.integers(-5, 90, (700, *row_shape)).astype(np.float64)
    values[600] = 0.25
    rows = RANDOM.permutation(700)
    at_once = find_facts(values[rows], rows, None)
    row_bytes = values[0].nbytes
    in_pieces = read_facts(lambda wanted: values[wanted], rows, row_bytes, None)
    for name in ("smallest", "largest", "fraction", "nonfinite"):
        one, other = getattr(at_once, name), getattr(in_pieces, name)
        assert (one is None) == (other is None)
        assert one is None or one[0] == other[0]


@pytest.mark.parametrize("place", [0, 57_000, 99_999])
def test_a_single_small_label_is_found_wherever_it_is(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_facts, "_MAX_BYTES", 1000)
    values = np.zeros(100_000, np.int64)
    values[place] = 9
    found = read_facts(lambda wanted: values[wanted], np.arange(100_000), 8, None)
    assert found.largest == (9, place)


def test_large_rows_beyond_the_limit_are_read_in_blocks_over_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_facts, "_MAX_BYTES", 1 << 16)
    monkeypatch.setattr(_facts, "_BLOCK_BYTES", 1 << 10)
    seen: list[NDArray[np.int64]] = []

    def read(wanted: NDArray[np.int64]) -> np.ndarray:
        seen.append(wanted)
        return np.zeros((len(wanted), 64), np.uint8)

    read_facts(read, np.arange(10_000), 64, None)
    every = np.concatenate(seen)
    assert {0, 9_999} <= set(every.tolist())
    assert len(np.unique(every)) == len(every) == 16 * 16


ONE_HOT = {
    "integers": (np.eye(3, dtype=np.int64), True),
    "floats": (np.eye(3, dtype=np.float32), True),
    "masks": (np.eye(3)[RANDOM.integers(0, 3, (4, 5, 5))], True),
    "booleans": (np.eye(2, dtype=bool), True),
    "two ones": (np.array([[1, 1, 0]]), False),
    "none": (np.array([[0, 0]]), False),
    "soft": (np.array([[0.9, 0.1]]), False),
    "ids": (np.array([0, 1, 0]), False),
    "one class": (np.ones((3, 1)), False),
    "NaN": (np.array([[1, np.nan]]), False),
}


@pytest.mark.parametrize("case", ONE_HOT.values(), ids=ONE_HOT)
def test_one_hot_is_one_1_among_zeros(case: tuple[np.ndarray, bool]) -> None:
    values, expected = case
    assert is_one_hot(values) is expected


def test_looking_for_one_hot_stops_at_the_first_row_that_is_not() -> None:
    seen: list[int] = []

    def read(wanted: NDArray[np.int64]) -> np.ndarray:
        seen.append(len(wanted))
        return np.full((len(wanted), 4), 0.5, np.float32)

    assert not read_is_one_hot(read, np.arange(1_000_000), 16)
    assert seen == [256]
