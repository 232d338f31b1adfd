"""Tests of rows that are stored as one-hot vectors: `labels="one_hot"`, and of `describe`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import ColumnError, OptionError

IDS = np.random.default_rng(0).integers(0, 4, 50)
ROWS = np.eye(4, dtype="uint8")[IDS]


def read_ids(path: Path, stored: np.ndarray, **options: Any) -> np.ndarray:
    k5.write(path, y=stored, overwrite=True)
    source = k5.Source(path, y=k5.Column("y", labels="one_hot", **options))
    return source.read(np.arange(len(source)))["y"]


@pytest.mark.parametrize("dtype", ["uint8", "float64", "bool", "int32"])
def test_one_hot_rows_are_class_ids(tmp_path: Path, dtype: str) -> None:
    found = read_ids(tmp_path / "a.h5", ROWS.astype(dtype))
    np.testing.assert_array_equal(found, IDS)
    assert found.dtype == np.int64


def test_masks_are_class_ids_of_each_pixel(tmp_path: Path) -> None:
    masks = IDS[:48].reshape(3, 4, 4)
    np.testing.assert_array_equal(read_ids(tmp_path / "a.h5", np.eye(4)[masks]), masks)


def test_other_options_of_the_column_go_before(tmp_path: Path) -> None:
    table = np.concatenate([np.random.default_rng(1).random((50, 3)), ROWS], axis=1)
    found = read_ids(tmp_path / "a.h5", table, select=slice(3, None), dtype="int32")
    np.testing.assert_array_equal(found, IDS)
    assert found.dtype == np.int32


def test_the_number_of_classes_is_the_width(tmp_path: Path) -> None:
    k5.write(tmp_path / "a.h5", x=ROWS, y=np.eye(9)[IDS])
    column = k5.Column("y", labels="one_hot")
    data = k5.H5Dataset(tmp_path / "a.h5", x="x", y=column, batch_size=10)
    assert data.num_classes == 9
    assert "'one_hot'" in repr(column)


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ([0, 0, 0, 0], r"\[0. 0. 0. 0.\]"),
        ([1, 1, 0, 0], r"\[1. 1. 0. 0.\]"),
        ([0, 0.5, 0.5, 0], "0.5 0.5"),
        ([0, np.nan, 1, 0], "nan"),
        ([0, 2, 0, 0], "2"),
    ],
)
def test_a_row_that_is_not_one_hot_is_named(tmp_path: Path, row: list[float], shown: str) -> None:
    stored = ROWS.astype("float64")
    stored[17] = row
    with pytest.raises(ColumnError, match=f"row 17 of column 'y' of .* is not one-hot: .*{shown}"):
        read_ids(tmp_path / "a.h5", stored)


def test_rows_that_are_no_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match=r"are int64 of shape \(\); leave it out if they are"):
        read_ids(tmp_path / "a.h5", IDS)
    k5.write(tmp_path / "b.h5", y=ROWS)
    with pytest.raises(OptionError, match=r"labels='onehot' of .* or 'one_hot'"):
        k5.Source(tmp_path / "b.h5", y=k5.Column("y", labels="onehot"))


@pytest.mark.parametrize("width", [3, 9])
def test_describe_says_one_hot_and_names_a_model_of_classes(tmp_path: Path, width: int) -> None:
    x, y = np.zeros((1200, 5), "float32"), np.eye(width)[np.arange(1200) % width]
    k5.write(tmp_path / "a.h5", x=x, y=y)
    told = k5.describe(tmp_path / "a.h5")
    assert f"y = y, rows of ({width},) float64, one-hot (the first 1000); 1200 rows" in told
    assert "--data.y y --model mlp" in told
    y[5] = 0
    k5.write(tmp_path / "a.h5", x=x, y=y, overwrite=True)
    assert "--data.y y --model MODULE:FUNCTION --loss mse" in k5.describe(tmp_path / "a.h5")
