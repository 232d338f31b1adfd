"""`field=`: fields of compound data sets, and "table:field" for short."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, OptionError, UnknownColumnError
from kerash5._options import format_columns, parse_columns
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5 import Column, Source
from kerash5.h5.columns._functions import find_common_type
from tests.column_kinds import check_rows, new_folder, row_lists
from tests.strategies import random_values

TABLE = np.dtype(
    [
        ("px", "f4"),
        ("py", ">f4"),
        ("n", "i2"),
        ("big", "i8"),
        ("hit", [("energy", "f8"), ("at", "i2", (2,))]),
        ("name", "S4"),
        ("dotted.name", "u1"),
    ],
    align=True,
)
FIELDS = ["px", "n", "hit.energy", "hit.at", "dotted.name", ["px", "py"], ["n", "px"], ["n", "n"]]


def take(table: np.ndarray, field: str) -> np.ndarray:
    if field in (table.dtype.names or ()):
        return table[field]
    first, _, rest = field.partition(".")
    return take(table[first], rest)


def expected_of(table: np.ndarray, field: Any) -> np.ndarray:
    if isinstance(field, str):
        return take(table, field)
    return np.stack([take(table, one) for one in field], axis=-1)


@settings(max_examples=30)
@given(
    data=st.data(),
    field=st.sampled_from(FIELDS),
    seed=st.integers(0, 99),
    chunks=st.sampled_from([None, 3]),
    num_parts=st.integers(1, 2),
)
def test_fields_are_those_that_h5py_reads(
    data: Any, field: Any, seed: int, chunks: int | None, num_parts: int
) -> None:
    inner = (2,) * (seed % 2)
    tables = random_values(TABLE, (5 * num_parts, *inner), np.random.default_rng(seed))
    with new_folder() as folder:
        paths = [folder / f"{number}.h5" for number in range(num_parts)]
        for path, table in zip(paths, np.split(tables, num_parts), strict=True):
            with h5py.File(path, "w") as file:
                file.create_dataset("t", data=table, chunks=(chunks, *inner) if chunks else None)
        rows = data.draw(row_lists(len(tables)))
        expected = expected_of(tables, field)
        check_rows(paths, Column("t", field=field), expected, rows, batches=seed < 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table = random_values(TABLE, (6,), np.random.default_rng(1))
    table["name"] = [b"dog", b"cat", b"dog", b"cow", b"cat", b"cat"]
    text = np.dtype([("word", h5py.string_dtype()), ("v", "f4"), ("w", "f8")])
    mixed = np.array([("b", 1, 10), ("a", 2, 20), ("b", 3, 30)] * 2, text)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t"] = table
        file["mixed"] = mixed
        file["g/t"] = table
        file["plain"] = np.arange(6.0)
        file["plain:v"] = np.arange(6.0) + 1
    return tmp_path / "a.h5"


def test_the_short_form_names_a_field(path: Path) -> None:
    source = Source(path, x="t:px", y="g/t:hit.energy", z="t:px,py")
    with h5py.File(path) as file:
        table = file["t"][()]
    found = source.read(np.arange(6))
    assert_array_equal(found["x"], table["px"])
    assert_array_equal(found["y"], table["hit"]["energy"])
    assert_array_equal(found["z"], np.stack([table["px"], table["py"]], axis=-1))
    assert "field px" in source.describe()


def test_a_data_set_of_that_very_name_comes_first(path: Path) -> None:
    assert_array_equal(Source(path, x="plain:v").read([0])["x"], [1])
    with pytest.raises(ColumnError, match=r"'plain' of .* holds float64 values, which have no fi"):
        Source(path, x="plain:w")


def test_text_becomes_labels(path: Path) -> None:
    source = Source(path, y="t:name")
    assert source.class_names == ("cat", "cow", "dog")
    assert_array_equal(source.read([0, 1, 3])["y"], [2, 0, 1])


@pytest.mark.parametrize("field", ["v", ["v", "w"]], ids=str)
def test_numbers_beside_text_of_any_length_are_read(field: Any, path: Path) -> None:
    with h5py.File(path) as file:
        table = file["mixed"][()]
    check_rows(path, Column("mixed", field=field), expected_of(table, field), [5, 0, 0, 3])


def test_text_of_any_length_becomes_labels(path: Path) -> None:
    source = Source(path, y="mixed:word")
    assert source.class_names == ("a", "b")
    assert_array_equal(source.read([0, 1])["y"], [1, 0])


@pytest.mark.parametrize("most", [1 << 53, -(1 << 53), (1 << 53) + 1, -(1 << 60)])
def test_integers_beside_floats_are_float64_where_that_holds_them(
    tmp_path: Path, most: int
) -> None:
    table = np.zeros(6, [("count", "i8"), ("mean", "f8"), ("flag", "?")])
    table["count"][3], table["mean"], table["flag"] = most, 0.1, True
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t"] = table
    source = Source(tmp_path / "a.h5", x="t:count,mean,flag")
    assert source.columns["x"].dtype == np.float64
    if abs(most) <= 1 << 53:
        assert_array_equal(source.read([3])["x"], [[most, 0.1, 1]])
    else:
        with pytest.raises(ColumnError, match=f"'count' of .* holds {most}, which float64 cannot"):
            source.read([3])
    rounded = Source(tmp_path / "a.h5", x=Column("t:count,mean", dtype="float32"))
    assert_array_equal(rounded.read([3])["x"], np.array([[most, 0.1]], "f4"))


def test_fields_without_a_common_type_take_dtype(path: Path) -> None:
    source = Source(path, x=Column("t", field=["px", "n"], dtype="float16"))
    assert source.columns["x"].dtype == np.float16


def test_fields_of_several_shapes_are_columns_of_their_own(path: Path) -> None:
    with pytest.raises(ColumnError, match=r"they have the shapes \(\), \(2,\)"):
        Source(path, x=Column("t", field=["n", "hit.at"]))


@pytest.mark.parametrize("field", ["pz", "hit.enrgy", "px.x", ["px", "pz"]], ids=str)
def test_an_unknown_field_is_named(field: Any, path: Path) -> None:
    with pytest.raises(ColumnError, match=r"has no field|have no fields"):
        Source(path, x=Column("t", field=field))


def test_an_unknown_table_is_named_as_it_was_given(path: Path) -> None:
    with pytest.raises(UnknownColumnError, match="no data set 'T:px'"):
        Source(path, x="T:px")


@pytest.mark.parametrize("field", [3, [], [1], "", b"px", ["px", ""], None], ids=repr)
def test_what_is_no_field_is_refused_at_once(field: Any) -> None:
    if field is None:
        assert Column("t", field=field).field is None
        return
    with pytest.raises(OptionError, match="it is the name of a field"):
        Column("t", field=field)


def test_a_compound_for_a_model_says_to_name_a_field(path: Path) -> None:
    with pytest.raises(ColumnError, match=r"Column\('t', field='px'\)"):
        open_batches(Source(path, x="t"), None, None, None, BatchOptions())
    with pytest.raises(ColumnError, match="name those to read with field="):
        Source(path, x="mixed")


@pytest.mark.parametrize("field", ["px", ("px", "py")])
def test_fields_survive_a_config(field: Any) -> None:
    column = Column("t", field=field)
    assert parse_columns(format_columns(column)) == column


@pytest.mark.parametrize(
    ("types", "common"),
    [
        (["i4", "i8"], "i8"),
        (["u4", "i4"], "i8"),
        (["u8", "i8"], None),
        (["i8", "f8"], None),
        (["i4", "f8"], "f8"),
        (["i4", "f4"], "f8"),
        (["u1", "f2"], "f2"),
        (["f4", "f8"], "f8"),
        (["?", "i1"], "i1"),
        (["S2", "S5"], "S5"),
        (["S2", "i4"], None),
        (["f4", "c8"], "c8"),
        (["V2", "i4"], None),
    ],
)
def test_a_common_type_changes_no_value(types: list[str], common: str | None) -> None:
    wanted = None if common is None else np.dtype(common)
    assert find_common_type([np.dtype(one) for one in types]) == wanted
