"""Columns of every kind against NumPy: the same rows by every way that rows are read."""

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5 import Column, Runs, Source


def check_rows(
    paths: Sequence[Path] | Path,
    column: Column | str,
    expected: np.ndarray,
    rows: Sequence[int],
    *,
    batches: bool = True,
) -> Source:
    """Check that a column has the expected rows, however they are asked for.

    Args:
        paths: The files; several are parts.
        column: The column.
        expected: All rows, over all parts.
        rows: Some row numbers.
        batches: Also as batches, which hold numbers.

    Returns:
        The source.
    """
    source = Source(paths if isinstance(paths, Path) else list(paths), x=column)
    assert len(source) == len(expected)
    assert source.columns["x"].shape == expected.shape[1:]
    assert source.columns["x"].dtype == expected.dtype
    wanted = np.array(rows, np.int64)
    again = pickle.loads(pickle.dumps(source))
    for one in (source, again):
        found = one.read(wanted)["x"]
        assert found.dtype == expected.dtype
        assert_array_equal(found, expected[wanted])
    check_runs(source, expected)
    source.describe()
    source.fingerprint()
    if batches and expected.dtype.kind in "biuf":
        for cache in (0, "auto"):
            options = BatchOptions(batch_size=3, cache=cache, seed=len(rows), threads=1)
            made = open_batches(source, None, None, None, options)
            order = np.concatenate([made.plan.rows(step) for step in range(len(made))])
            for _ in range(2):  # the second epoch may come from memory
                read = np.concatenate([np.asarray(batch[0]) for batch in made.epoch(0)])
                assert_array_equal(read, expected[order])
    return source


def check_runs(source: Source, expected: np.ndarray) -> None:
    """Check runs in every part, to positions in another order than theirs."""
    column = source.columns["x"]
    starts = source.part_starts.tolist()
    bounds = [
        (low, high)
        for start, stop in pairwise(starts)
        for low, high in ((start, (start + stop) // 2), ((start + stop) // 2, stop))
        if low < high
    ][::-1]
    positions = np.cumsum([0, *[high - low for low, high in bounds]])
    total = int(positions[-1])
    out = source.allocate(total)
    runs = Runs(*np.array([[*pair, to] for pair, to in zip(bounds, positions, strict=False)]).T)
    source.load_runs(runs, out)
    order = np.concatenate([np.arange(low, high) for low, high in bounds])
    assert_array_equal(column.finish(out["x"]), expected[order])


def row_lists(num_rows: int) -> st.SearchStrategy[list[int]]:
    """Draw row numbers in any order, with repeats."""
    return st.lists(st.integers(0, num_rows - 1), max_size=12)


def numbered(shape: tuple[int, ...], dtype: Any = "f4") -> np.ndarray:
    """Return an array of which every value is another one, as far as the type goes."""
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


@contextmanager
def new_folder() -> Iterator[Path]:
    """Make a folder that is gone afterwards: Hypothesis runs a test many times."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
