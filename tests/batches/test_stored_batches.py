"""Batches of whatever HDF5 can store are h5py's rows in the plan's order, by every store."""

from typing import Any, Final

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kerash5._errors import OptionError
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5.reading._select_reader import READERS
from tests.strategies import (
    DTYPES,
    StoredArray,
    assert_same_bytes,
    expected_rows,
    stored_arrays,
    written,
)

# What a model takes; the rest is refused before the first batch.
NUMBERS: Final = tuple(name for name, dtype in DTYPES.items() if dtype.base.kind in "biuf")


@st.composite
def batch_options(draw: st.DrawFn, num_rows: int) -> BatchOptions:
    """Draw options that a data set of that many rows can meet."""
    count = draw(st.integers(1, min(3, num_rows)))
    rows = draw(st.none() | st.lists(st.integers(0, num_rows - 1), min_size=count, max_size=40))
    return BatchOptions(
        batch_size=draw(st.integers(2, 12)),
        shuffle=draw(st.sampled_from(["auto", "rows", "chunks", False])),
        seed=draw(st.integers(0, 3)),
        rows=rows,
        cache=draw(st.sampled_from([10**6, 0, 500, 2000])),
        threads=draw(st.sampled_from([0, 0, 2])),
        shard=(draw(st.integers(0, count - 1)), count),
    )


@given(case=stored_arrays(dtype_names=NUMBERS), reader=st.sampled_from(READERS), data=st.data())
def test_batches_of_any_stored_array_are_the_plans_rows_as_h5py_reads_them(
    case: StoredArray, reader: Any, data: st.DataObject
) -> None:
    options = data.draw(batch_options(case.shape[0]))
    with written(case) as path:
        whole = expected_rows(path, "x", range(case.shape[0]))
        whole = whole.astype(whole.dtype.newbyteorder("="))
        try:
            batches = open_batches(path, "x", None, None, options, reader=reader)
        except OptionError as error:
            if options.shuffle != "chunks" or "raise cache=" not in str(error):
                raise
            return
        steps = range(len(batches), 2 * len(batches))
        served = []
        for step, (x,) in zip(steps, batches.epoch(1), strict=True):
            rows = batches.plan.rows(step)
            assert_same_bytes(x, whole[rows])
            served += rows.tolist()
        low, high = batches.plan.shard_bounds
        assert len(served) == high - low
        if options.shard == (0, 1):
            wanted = range(case.shape[0]) if options.rows is None else options.rows
            assert sorted(served) == sorted(np.asarray(wanted).tolist())
