"""Class ids with names in the file: categorical groups and enums."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, LabelError
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5 import Column, Source
from tests.column_kinds import check_rows, new_folder, row_lists

ENUM = h5py.enum_dtype({"cat": 3, "dog": 1, "cow": 7}, basetype="i2")
NAMES = ("ant", "bee", "cat", "dog")


def write(path: Path, codes: Any, categories: Any, **more: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["cell/codes"] = np.array(codes, "i1")
        file["cell/categories"] = categories
        file["cell"].attrs["encoding-type"] = "categorical"
        for name, values in more.items():
            file[name] = values
    return path


@settings(max_examples=40)
@given(data=st.data(), num_parts=st.integers(1, 3))
def test_names_decide_and_not_codes(data: Any, num_parts: int) -> None:
    parts = [
        (data.draw(st.permutations(NAMES)), data.draw(st.lists(st.integers(0, 3), min_size=2)))
        for _ in range(num_parts)
    ]
    asked = data.draw(st.sampled_from([None, ("dog", "cat", "bee", "ant")]))
    names = list(asked or parts[0][0])
    with new_folder() as folder:
        paths = [
            write(folder / f"{number}.h5", codes, list(categories))
            for number, (categories, codes) in enumerate(parts)
        ]
        texts = [categories[code] for categories, codes in parts for code in codes]
        column = Column("cell", labels=asked)
        source = Source(paths, y=column)
        assert source.class_names == tuple(names)
        expected = np.array([names.index(text) for text in texts])
        expected = expected.astype(source.columns["y"].dtype)
        check_rows(paths, column, expected, data.draw(row_lists(len(texts))))


def test_rows_without_a_category_are_named_before_the_first_step(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [0, -1, 1, -1, 0], ["a", "b"], x=np.zeros(5))
    source = Source(path, x="x", y="cell")
    assert_array_equal(source.read([0, 2])["y"], [0, 1])
    words = "'cell' has none of its 2 categories in row 1 of .*, row 3 of .*; leave these rows out"
    with pytest.raises(LabelError, match=words):
        source.read(range(5))
    with pytest.raises(LabelError, match=words):
        open_batches(source, "x", "y", None, BatchOptions(batch_size=2))
    options = BatchOptions(batch_size=3, rows=[0, 2, 4], shuffle=False)
    (batch,) = open_batches(source, "x", "y", None, options).epoch(0)
    assert_array_equal(batch[1], [0, 1, 0])


def test_numbers_are_categories_by_their_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [1, 0], np.array([10, 20]))
    assert Source(path, y="cell").class_names == ("10", "20")
    found = Source(path, y=Column("cell", labels=["20", "10"], one_hot=2)).read([0, 1])["y"]
    assert_array_equal(found, [[1, 0], [0, 1]])


def test_a_category_that_labels_lack_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [1, 0], ["a", "b"])
    source = Source(path, y=Column("cell", labels=["b"]))
    assert_array_equal(source.read([0])["y"], [0])
    with pytest.raises(LabelError, match="holds 'a', which is not among its labels 'b'"):
        source.read([1])


def test_codes_with_a_reference_to_their_categories(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["obs/cell"] = np.array([1, 0, 1], "i1")
        file["obs/__categories/cell"] = ["a", "b"]
        file["obs/cell"].attrs["categories"] = file["obs/__categories/cell"].ref
    source = Source(tmp_path / "a.h5", y="obs/cell")
    assert source.class_names == ("a", "b")
    assert_array_equal(source.read([0, 1])["y"], [1, 0])


def test_categories_in_some_parts_only_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", [1, 0], ["a", "b"])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["cell"] = np.array([1, 0], "i1")
    with pytest.raises(ColumnError, match="categories in some files, and in others none"):
        Source([tmp_path / "a.h5", tmp_path / "b.h5"], y="cell")


# enums


@given(data=st.data())
@settings(max_examples=20)
def test_an_enum_gives_ids_and_names(data: Any) -> None:
    stored = data.draw(st.lists(st.sampled_from([3, 1, 7]), min_size=1, max_size=6))
    with new_folder() as folder:
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("x", data=np.array(stored, "i2"), dtype=ENUM)
        source = Source(folder / "a.h5", y="x")
        assert source.class_names == ("dog", "cat", "cow")
        expected = np.array([[1, 3, 7].index(value) for value in stored])
        check_rows(folder / "a.h5", "x", expected, data.draw(row_lists(len(stored))))


@pytest.fixture
def enums(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("odd", data=np.array([3, 9], "i2"), dtype=ENUM)
        plain = h5py.enum_dtype({"b": 1, "a": 0}, basetype="u1")
        file.create_dataset("plain", data=np.array([1, 0], "u1"), dtype=plain)
    return tmp_path / "a.h5"


def test_an_enum_that_counts_from_0_is_read_as_stored(enums: Path) -> None:
    source = Source(enums, y="plain")
    assert source.class_names == ("a", "b")
    assert source.read([0])["y"].dtype == np.uint8
    other = Source(enums, y=Column("plain", labels=["b", "a"]))
    assert_array_equal(other.read([0, 1])["y"], [0, 1])


def test_numbers_as_labels_of_an_enum_mean_what_is_stored(enums: Path) -> None:
    assert_array_equal(Source(enums, y=Column("odd", labels=[9, 3])).read([0, 1])["y"], [1, 0])


def test_a_number_that_an_enum_has_no_name_for_is_refused(enums: Path) -> None:
    with pytest.raises(LabelError, match="'odd' has none of its 3 categories in row 1"):
        Source(enums, y="odd").read([0, 1])
