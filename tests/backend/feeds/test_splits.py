"""Columns that are named by whose rows they hold: X_train, X_val and X_test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kerash5 as k5
from kerash5._errors import ColumnError, UnknownColumnError
from kerash5.h5.storage._find import has_object

pytestmark = pytest.mark.one_backend

WORDS = ("train", "validation", "valid", "val", "test")


def write_splits(path: Path, *words: str, form: str = "X_{}") -> str:
    """Write x and y for each word: 20 rows, all x being the word's number."""
    with h5py.File(path, "w") as file:
        for word in words:
            file[form.format(word)] = np.full((20, 3), WORDS.index(word), "f4")
            file[form.format(word).replace("X", "y").replace("set_x", "set_y")] = np.arange(20) % 2
    return str(path)


def numbers(dataset: k5.H5Dataset | None) -> set[float]:
    assert dataset is not None
    return {float(x.flat[0]) for x, _ in dataset.batches()}


@pytest.mark.parametrize("word", ["validation", "valid", "val"])
def test_one_file_holds_all_three(tmp_path: Path, word: str) -> None:
    path = write_splits(tmp_path / "all.h5", "train", word, "test")
    data = k5.H5DataModule(path, x="X_{split}", y="y_{split}")
    assert numbers(data.train) == {0.0}
    assert numbers(data.validation) == {float(WORDS.index(word))}
    assert numbers(data.test) == {4.0}
    again = k5.H5DataModule(**data.config())
    assert_array_equal(again.validation.read(0)[0], data.validation.read(0)[0])  # type: ignore[union-attr]


def test_a_file_is_looked_at_once_for_each_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def note(file: Any, path: str) -> bool:
        looked.append(path)
        return has_object(file, path)

    monkeypatch.setattr("kerash5.feeds._splits.has_object", note)
    path = write_splits(tmp_path / "all.h5", "train", "val", "test")
    k5.H5DataModule(path, x="X_{split}", y="y_{split}")
    assert looked == ["X_validation", "X_valid", "X_val", "X_test"]


def test_what_is_not_in_the_file_is_none(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "some.h5", "train")
    data = k5.H5DataModule(path, x="X_{split}", y="y_{split}")
    assert (data.validation, data.test) == (None, None)
    split = k5.H5DataModule(path, x="X_{split}", y="y_{split}", validation_split=0.25)
    assert split.validation is not None
    assert (split.train.num_rows, split.validation.num_rows) == (15, 5)


def test_files_of_their_own_have_columns_of_their_own(tmp_path: Path) -> None:
    train = write_splits(tmp_path / "train.h5", "train", form="{}_set_x")
    test = write_splits(tmp_path / "test.h5", "test", form="{}_set_x")
    val = write_splits(tmp_path / "val.h5", "val", form="{}_set_x")
    columns: dict[str, Any] = {"x": "{split}_set_x", "y": "{split}_set_y"}
    data = k5.H5DataModule(train, test, validation_data=val, **columns)
    assert (numbers(data.validation), numbers(data.test)) == ({3.0}, {4.0})
    with pytest.raises(UnknownColumnError, match=r"no 'test_set_x' in .*train\.h5.*Source"):
        k5.H5DataModule(train, train, **columns)
    with pytest.raises(UnknownColumnError, match="no 'validation_set_x' or 'valid_set_x' or"):
        k5.H5DataModule(train, validation_data=test, **columns)


def test_two_words_for_validation_are_asked_about(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "both.h5", "train", "val", "valid")
    with pytest.raises(ColumnError, match=r"'X_valid' and 'X_val'.*Source"):
        k5.H5DataModule(path, x="X_{split}", y="y_{split}")
    chosen = k5.Source(path, x="X_val", y="y_val")
    data = k5.H5DataModule(path, x="X_{split}", y="y_{split}", validation_data=chosen)
    assert numbers(data.validation) == {3.0}


def test_columns_of_columns_are_filled(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "all.h5", "train", "test")
    x: Any = {"a": k5.Column("X_{split}", shape=(3, 1)), "b": "X_{split}"}
    data = k5.H5DataModule(path, x=x, y="y_{split}")
    assert data.input_shape == {"a": (3, 1), "b": (3,)}
    assert data.test is not None
    assert float(data.test.read(0)[0]["a"].flat[0]) == 4.0
