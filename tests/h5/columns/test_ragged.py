"""Rows of any length: variable-length data sets, and values with offsets."""

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, OptionError
from kerash5._options import format_columns, parse_columns
from kerash5.h5 import Column, Source
from kerash5.h5.columns import _ragged
from kerash5.h5.reading import _ranges
from tests.column_kinds import check_rows, new_folder, row_lists


def pad(rows: list[list[int]], pad_to: int, pad_value: float, dtype: Any) -> np.ndarray:
    out = np.full((len(rows), pad_to), pad_value, dtype)
    for padded, row in zip(out, rows, strict=True):
        padded[: len(row)] = row[:pad_to]
    return out


def write_vlen(path: Path, rows: list[list[int]], dtype: Any, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("x", (len(rows),), h5py.vlen_dtype(np.dtype(dtype)), **options)
        for number, row in enumerate(rows):
            stored[number] = np.array(row, dtype)


def write_flat(path: Path, rows: list[list[int]], dtype: Any, **options: Any) -> None:
    flat = np.array([value for row in rows for value in row], dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("g/values", data=flat, **(options if flat.size else {}))
        file["g/indptr"] = np.cumsum([0, *map(len, rows)])


RAGGED = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=4, max_size=4)


@settings(max_examples=40)
@given(
    data=st.data(),
    parts=st.lists(RAGGED, min_size=1, max_size=2),
    pad_to=st.integers(1, 7),
    is_flat=st.booleans(),
    layout=st.sampled_from([{}, {"chunks": (3,)}, {"chunks": (3,), "compression": "gzip"}]),
)
def test_rows_are_padded_and_truncated(
    data: Any, parts: list[list[list[int]]], pad_to: int, is_flat: bool, layout: Any
) -> None:
    dtype, pad_value = data.draw(st.sampled_from([("u1", 0), ("i4", -1), ("f4", 0.5)]))
    whole = [row for rows in parts for row in rows]
    with new_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranges, "_MAX_VALUES", data.draw(st.sampled_from([1, 7, 1 << 20])))
        paths = [folder / f"{number}.h5" for number in range(len(parts))]
        for path, rows in zip(paths, parts, strict=True):
            write = write_flat if is_flat else write_vlen
            fits = sum(map(len, rows)) >= 3 or not is_flat
            write(path, rows, dtype, **(layout if fits else {}))
        name, offsets = ("g/values", "indptr") if is_flat else ("x", None)
        column = Column(name, pad_to=pad_to, pad_value=pad_value, offsets=offsets)
        count = sum(len(row) > pad_to for row in whole)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            check_rows(
                paths,
                column,
                pad(whole, pad_to, pad_value, dtype),
                data.draw(row_lists(len(whole))),
            )
        found = [str(one.message) for one in told if "longer" in str(one.message)]
        assert len(found) == (count > 0)
        if count:
            assert found[0].startswith(f"{count} of the {len(whole)} rows of column {name!r}")
            assert f"the longest has {max(map(len, whole))} values" in found[0]


def test_values_of_several_axes_are_padded_on_the_first(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["values"] = np.arange(10.0).reshape(5, 2)
        file["starts"] = [0, 2, 2, 5]
    source = Source(tmp_path / "a.h5", x=Column("values", pad_to=3, offsets="starts"))
    assert source.columns["x"].shape == (3, 2)
    assert_array_equal(source.read([1, 0])["x"][1], [[0, 1], [2, 3], [0, 0]])


def test_rows_whose_lengths_are_not_known_are_warned_of_when_first_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vlen(tmp_path / "a.h5", [[1], [1, 2, 3]], "i4")
    monkeypatch.setattr(_ragged, "read_vlen_lengths", lambda *_, **__: None)
    source = Source(tmp_path / "a.h5", x=Column("x", pad_to=2))
    source.read([0])
    with pytest.warns(UserWarning, match="has rows longer than pad_to=2, such as one of 3 values"):
        source.read([1])
    source.read([1])  # once


def test_described_and_kept_in_a_config(tmp_path: Path) -> None:
    write_vlen(tmp_path / "a.h5", [[1], [2, 3]], "i4")
    column = Column("x", pad_to=2, pad_value=-1)
    source = Source(tmp_path / "a.h5", x=column)
    assert "rows padded to 2" in source.describe()
    assert source.fingerprint() != Source(tmp_path / "a.h5", x=Column("x", pad_to=2)).fingerprint()
    for one in (column, Column("x", pad_to=2, offsets="indptr")):
        assert parse_columns(format_columns(one)) == one


def test_select_and_cf_go_with_it(tmp_path: Path) -> None:
    write_vlen(tmp_path / "a.h5", [[1], [2, 3]], "i4")
    found = Source(tmp_path / "a.h5", x=Column("x", pad_to=2, select=-1)).read([0, 1])["x"]
    assert_array_equal(found, [0, 3])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    write_vlen(tmp_path / "a.h5", [[1], [2, 3]], "i4")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["plain"] = np.zeros((3, 2))
        file["down"] = [0, 2, 1]
        file["far"] = [0, 2, 9]
        file["none"] = np.zeros(2)
        file["text"] = np.array([b"a", b"b"])
    refused = {
        r"whose rows all have the shape \(2,\)": Column("plain", pad_to=2),
        r"pad_value=0\.5 of column 'x' .* is no int32": Column("x", pad_to=2, pad_value=0.5),
        r"offsets 'down' .* do not ascend": Column("plain", pad_to=2, offsets="down"),
        r"offsets 'far' .*\(they go from 0 to 9\)": Column("plain", pad_to=2, offsets="far"),
        r"offsets 'none' .* are float64": Column("plain", pad_to=2, offsets="none"),
        r"no data set 'nowhere'": Column("plain", pad_to=2, offsets="nowhere"),
        r"pass pad_to=, the length": Column("x"),
    }
    for words, column in refused.items():
        with pytest.raises(ColumnError, match=words):
            Source(tmp_path / "a.h5", x=column)


@pytest.mark.parametrize(
    "options",
    [
        {"pad_to": 0},
        {"pad_to": 1.5},
        {"pad_to": 2, "pad_value": "0"},
        {"offsets": "indptr"},
        {"pad_to": 2, "offsets": 3},
        {"pad_to": 2, "field": "a"},
        {"pad_to": 2, "decode": "image"},
        {"pad_to": 2, "offsets": "indptr", "axis": 1},
        {"pad_value": 1},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_at_once(options: Any) -> None:
    with pytest.raises(OptionError, match="of column 'x'"):
        Column("x", **options)
