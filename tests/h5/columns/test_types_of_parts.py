"""Parts of several types are read in one that changes no value."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError
from kerash5.h5 import Column, Source
from tests.column_kinds import check_rows, new_folder, row_lists

PAIRS = {
    ("i4", "i8"): "i8",
    ("i8", "i4"): "i8",
    ("f4", "f8"): "f8",
    ("f8", ">f4"): "f8",
    ("u1", "i1"): "i2",
    (">i2", "<i2"): "i2",
}


@settings(max_examples=30)
@given(data=st.data(), pair=st.sampled_from(sorted(PAIRS)), chunks=st.sampled_from([None, (2, 3)]))
def test_no_value_changes(data: Any, pair: tuple[str, str], chunks: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    parts = [rng.integers(0, 99, (4, 3)).astype(kind) for kind in pair]
    with new_folder() as folder:
        paths = [folder / f"{number}.h5" for number in range(2)]
        for path, values in zip(paths, parts, strict=True):
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=values, chunks=chunks)
        expected = np.concatenate([part.astype(PAIRS[pair]) for part in parts])
        check_rows(paths, "x", expected, data.draw(row_lists(8)), batches=chunks is None)


def write(folder: Path, *parts: np.ndarray) -> list[Path]:
    paths = [folder / f"{number}.h5" for number in range(len(parts))]
    for path, values in zip(paths, parts, strict=True):
        with h5py.File(path, "w") as file:
            file["x"] = values
    return paths


def test_types_without_a_common_one_take_dtype(tmp_path: Path) -> None:
    paths = write(tmp_path, np.array([1, 2**53 + 1], "i8"), np.array([0.5]))
    with pytest.raises(ColumnError, match=r"int64 in .*float64 in .*; if they do, pass dtype="):
        Source(paths, x="x")
    found = Source(paths, x=Column("x", dtype="float64")).read([2, 0])["x"]
    assert_array_equal(found, [0.5, 1])


def test_a_value_that_does_not_fit_dtype_is_named(tmp_path: Path) -> None:
    paths = write(tmp_path, np.array([1, 2], "u8"), np.array([-1, 5], "i8"))
    source = Source(paths, x=Column("x", dtype="u1"))
    assert_array_equal(source.read([3, 0])["x"], [5, 1])
    with pytest.raises(ColumnError, match="which uint8 cannot hold"):
        source.read([2])


def test_text_of_several_lengths_is_text(tmp_path: Path) -> None:
    paths = write(tmp_path, np.array([b"a", b"b"]), np.array([b"long", b"a"]))
    assert Source(paths, y="x").class_names == ("a", "b", "long")
    with h5py.File(paths[1], "w") as file:
        file["x"] = ["b", "c"]
    source = Source(paths, y="x")
    assert source.class_names == ("a", "b", "c")
    assert_array_equal(source.read([3, 0])["y"], [2, 0])


def test_text_and_numbers_are_read_apart(tmp_path: Path) -> None:
    paths = write(tmp_path, np.array([b"a", b"b"]), np.arange(2))
    with pytest.raises(ColumnError, match="need not mean the same; read them apart"):
        Source(paths, y="x")


def test_codes_of_several_types_are_ids(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(300)]
    for number, kind in enumerate(["i1", "i2"]):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["y/codes"] = np.array([5, 100], kind)
            file["y/categories"] = names[:120] if kind == "i1" else names[::-1]
    source = Source([tmp_path / "0.h5", tmp_path / "1.h5"], y="y")
    assert_array_equal(source.read([0, 1, 2, 3])["y"], [5, 100, 125, 220])
    assert source.class_names is not None
    assert [source.class_names[n] for n in (125, 220)] == ["c294", "c199"]
