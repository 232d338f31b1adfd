"""`select=`: a NumPy index applied to each row."""

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
from kerash5.h5.columns._indices import format_select, parse_select
from tests.column_kinds import check_rows, new_folder, numbered, row_lists


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Draw an index that fits an array of this shape."""
    parts: list[Any] = []
    has_list = False
    for length in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["int", "slice", "list"]))
        number = st.integers(-length, length - 1)
        if kind == "int":
            parts.append(draw(number))
        elif kind == "slice" or has_list:
            parts.append(draw(st.slices(length)))
        else:
            has_list = True
            parts.append(draw(st.lists(number, min_size=1, max_size=3)))
    if draw(st.booleans()):
        parts.insert(0 if draw(st.booleans()) and len(parts) < 1 else len(parts), Ellipsis)
    return tuple(parts) if len(parts) != 1 or draw(st.booleans()) else parts[0]


@settings(max_examples=40)
@given(data=st.data(), chunked=st.booleans(), num_parts=st.integers(1, 2))
def test_each_row_is_indexed_as_numpy_does_it(data: Any, chunked: bool, num_parts: int) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    select = data.draw(indices(shape))
    whole = numbered((4 * num_parts, *shape), data.draw(st.sampled_from(["u1", ">i4", "f8"])))
    with new_folder() as folder:
        paths = [folder / f"{number}.h5" for number in range(num_parts)]
        for path, values in zip(paths, np.split(whole, num_parts), strict=True):
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=values, chunks=(3, *shape) if chunked else None)
        expected = np.array([row[select] for row in whole], whole.dtype)
        expected = expected.reshape(len(whole), *whole[0][select].shape)
        column = Column("x", select=select)
        check_rows(paths, column, expected, data.draw(row_lists(len(whole))), batches=False)


@given(data=st.data())
def test_an_index_survives_its_text(data: Any) -> None:
    select = parse_select(data.draw(indices((3, 4, 5))), "x")
    assert parse_select(format_select(select), "x") == select
    column = Column("x", select=select)
    assert parse_columns(format_columns(column)) == column


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("m", data=numbered((10, 6)), chunks=(4, 6), compression="gzip")
        file["s"] = np.arange(10)
    return tmp_path / "a.h5"


def test_x_and_y_are_cut_from_one_matrix(path: Path) -> None:
    source = Source(path, x=Column("m", select=slice(-1)), y=Column("m", select=-1))
    whole = numbered((10, 6))
    found = source.read([3, 3, 0])
    np.testing.assert_array_equal(found["x"], whole[[3, 3, 0], :-1])
    np.testing.assert_array_equal(found["y"], whole[[3, 3, 0], -1])


def test_batches_hold_the_part(path: Path) -> None:
    check_rows(path, Column("m", select="1:4"), numbered((10, 6))[:, 1:4], [9, 0])


def test_describe_and_the_fingerprint_tell_the_index(path: Path) -> None:
    source = Source(path, x=Column("m", select=(slice(None, None, 2),)))
    assert "[::2,] of each row" in source.describe()
    other = Source(path, x=Column("m", select=slice(0, 6, 2)))
    assert source.fingerprint() != other.fingerprint()
    assert Source(path, x="m").fingerprint()["columns"] == {"x": ["m", [6], "float32"]}


@pytest.mark.parametrize(
    "select",
    [1.5, "a", "1:2:3:4", "1:2:0", [], [1.5], True, (..., ...), ([0], [1]), "[0", {}, b"1", None],
    ids=repr,
)
def test_what_is_no_index_is_refused_at_once(select: Any) -> None:
    if select is None:
        assert Column("x", select=select).select is None
        return
    with pytest.raises(OptionError, match=r"select=.* of column 'x': .*it is a NumPy index"):
        Column("x", select=select)


@pytest.mark.parametrize("select", [6, -7, (0, 0), [0, 6]], ids=repr)
def test_an_index_that_does_not_fit_names_the_shape(select: Any, path: Path) -> None:
    with pytest.raises(ColumnError, match=r"does not fit column 'm' of .*rows have shape \(6,\)"):
        Source(path, x=Column("m", select=select))


def test_rows_of_one_number_have_nothing_to_select(path: Path) -> None:
    with pytest.raises(ColumnError, match=r"rows have shape \(\)"):
        Source(path, x=Column("s", select=0))
