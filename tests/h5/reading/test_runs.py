import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kerash5.h5 import Runs

LENGTHS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2), st.integers(0, 2)), max_size=20)


def make(lengths: list[tuple[int, int, int]]) -> Runs:
    """Return runs with gaps before some of them, in the file and in the target."""
    runs, row, place = [], 0, 0
    for length, gap, shift in lengths:
        row, place = row + gap, place + shift
        runs.append((row, row + length, place))
        row, place = row + length, place + length
    return Runs(*np.array(runs, np.int64).reshape(-1, 3).T)


def moves(runs: Runs) -> list[tuple[int, int]]:
    return [(row, place + row - start) for start, stop, place in runs for row in range(start, stop)]


@given(LENGTHS)
def test_joined_runs_move_the_same_rows_and_no_two_are_neighbours(
    lengths: list[tuple[int, int, int]],
) -> None:
    runs = make(lengths)
    joined = runs.joined()
    assert moves(joined) == moves(runs)
    ends = [(stop, place + stop - start) for start, stop, place in joined]
    begins = [(start, place) for start, _, place in joined]
    assert not set(ends) & set(begins)


@given(LENGTHS, st.integers(-5, 5))
def test_rows_are_counted_from_anywhere(lengths: list[tuple[int, int, int]], row: int) -> None:
    runs = make(lengths)
    assert moves(runs.counted_from(row)) == [(each - row, place) for each, place in moves(runs)]


def test_one_run_and_none() -> None:
    assert list(Runs.one(3, 7)) == [(3, 7, 0)]
    assert len(Runs.one(3, 3)) == 0
    assert len(Runs.one(3, 3).joined()) == 0
