"""`axis=`: rows along any axis of a data set."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerash5._errors import ColumnError, OptionError
from kerash5._options import format_columns, parse_columns
from kerash5.h5 import Column, Source
from kerash5.h5.reading import _readers
from tests.column_kinds import check_rows, new_folder, numbered, row_lists


@settings(max_examples=40)
@given(
    data=st.data(),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    is_chunked=st.booleans(),
    num_parts=st.integers(1, 2),
    slab=st.sampled_from([1, 40, 32 << 20]),
)
def test_rows_along_any_axis_are_those_of_moveaxis(
    data: Any, shape: tuple[int, ...], is_chunked: bool, num_parts: int, slab: int
) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    chunks = data.draw(st.tuples(*[st.integers(1, n) for n in shape])) if is_chunked else None
    parts = [numbered(shape, "f4") + 1000 * number for number in range(num_parts)]
    with new_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_readers, "_SLAB_BYTES", slab)
        patch.setattr(_readers, "_BAND_BYTES", slab)
        paths = [folder / f"{number}.h5" for number in range(num_parts)]
        for path, values in zip(paths, parts, strict=True):
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=values, chunks=chunks)
        expected = np.concatenate([np.moveaxis(part, axis, 0) for part in parts])
        rows = data.draw(row_lists(len(expected)))
        check_rows(paths, Column("x", axis=axis), expected, rows, batches=slab == 40)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        values = np.repeat(numbered((100,)), 10 * 12).reshape(100, 10, 12)
        file.create_dataset("x", data=values, chunks=(25, 10, 4), compression="gzip")
        file["plain"] = numbered((7, 5, 3), "u2")
        file["table"] = np.array([[(1, 2.0), (3, 4.0)]], [("a", "i4"), ("b", "f4")])
        file.create_dataset("array", (2, 3), np.dtype(("f4", (4,))))
        file["label"] = np.arange(12)
    return tmp_path / "a.h5"


def test_describe_says_what_a_row_costs(path: Path) -> None:
    text = Source(path, x=Column("x", axis=-1)).describe()
    assert "rows along axis 2: a single row costs 4 chunks (0.0 MB decoded), and 4 rows no" in text
    text = Source(path, x=Column("plain", axis=1)).describe()
    assert "a single row costs 7 pieces of the file, and 5 rows no more" in text


def test_rows_of_a_block_are_read_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(path, x=Column("x", axis=-1))
    assert source.block_rows == 4
    asked: list[tuple[int, int]] = []
    read = _readers.H5pyReader._read_slab

    def note(self: Any, dataset: Any, start: int, stop: int, out: np.ndarray) -> None:
        asked.append((start, stop))
        read(self, dataset, start, stop, out)

    monkeypatch.setattr(_readers.H5pyReader, "_read_slab", note)
    source.read([11, 8, 0, 3])
    assert asked == [(0, 4), (8, 12)]


def test_other_options_go_with_an_axis(path: Path) -> None:
    x = Column("plain", axis=1, select=(0, ...))
    check_rows(path, x, np.moveaxis(numbered((7, 5, 3), "u2"), 1, 0)[:, 0], [4, 0, 4])
    check_rows(path, Column("table", field="a", axis=1), np.array([[1], [3]], "i4"), [1, 0])
    source = Source(path, x=Column("x", axis=-1), y="label")
    assert (len(source), source.columns["x"].shape) == (12, (100, 10))
    assert parse_columns(format_columns(x)) == x


@pytest.mark.parametrize("axis", [2, -3, 5])
def test_an_axis_that_is_not_there_is_refused_with_the_shape(axis: int, path: Path) -> None:
    # The axes of an array that each value is are none of the data set's.
    with pytest.raises(ColumnError, match=r"axis=.* which has the shape \(2, 3\); choose an axis"):
        Source(path, x=Column("array", axis=axis))


@pytest.mark.parametrize("axis", [1.0, "1", None, True], ids=repr)
def test_what_is_no_axis_is_refused_at_once(axis: Any) -> None:
    with pytest.raises(OptionError, match="number of the axis that counts rows"):
        Column("x", axis=axis)
