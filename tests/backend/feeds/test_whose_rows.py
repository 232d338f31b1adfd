"""Whose rows: what the file says, groups that stay together, classes in balance."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kerash5 as k5
from kerash5._errors import OptionError, RowError, UnknownColumnError

pytestmark = pytest.mark.one_backend

NUM_ROWS = 30
RNG = np.random.default_rng(5)
SPLIT = np.array(["train", "val", "test"], dtype=h5py.string_dtype())[RNG.permutation(NUM_ROWS) % 3]
PATIENT = RNG.permutation(NUM_ROWS) // 3
LABELS = np.array([0] * 20 + [1] * 7 + [2] * 3)
NUMBERS = np.array([3, 1, 17, 8])


@pytest.fixture
def path(tmp_path: Path) -> str:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = np.arange(NUM_ROWS, dtype="f4")[:, None]
        file["y"] = LABELS
        file["split"] = SPLIT
        file["fold"] = np.arange(NUM_ROWS) % 5
        file["patient"] = PATIENT
        file["meta/train_idx"] = NUMBERS
        file["mask"] = LABELS == 1
        file["mask_u1"] = (LABELS == 1).astype("u1")
        file["short"] = np.zeros(4, bool)
    return str(tmp_path / "rows.h5")


def rows_of(dataset: k5.H5Dataset | None) -> list[int]:
    assert dataset is not None
    return sorted(int(row) for x, _ in dataset.batches() for row in x[:, 0])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("meta/train_idx", sorted(NUMBERS)),
        ("mask", list(np.flatnonzero(LABELS == 1))),
        (("split", "train"), list(np.flatnonzero(SPLIT == "train"))),
        (["split", "val"], list(np.flatnonzero(SPLIT == "val"))),
        (("fold", 2), list(range(2, NUM_ROWS, 5))),
        (("mask_u1", 1), list(np.flatnonzero(LABELS == 1))),
    ],
    ids=str,
)
def test_the_file_says_which_rows(path: str, rows: Any, expected: list[int]) -> None:
    assert rows_of(k5.H5Dataset(path, x="x", y="y", rows=rows)) == expected
    data = k5.H5DataModule(path, x="x", y="y", rows=rows)
    assert rows_of(data.train) == expected
    again = k5.H5DataModule(**data.config())
    assert rows_of(again.train) == expected


@pytest.mark.parametrize("which", ["mask", ("split", "val"), ("fold", 2)], ids=str)
def test_the_file_says_what_to_validate_on(path: str, which: Any) -> None:
    data = k5.H5DataModule(path, x="x", y="y", validation_split=which)
    expected = rows_of(k5.H5Dataset(path, x="x", y="y", rows=which))
    assert rows_of(data.validation) == expected
    assert rows_of(data.train) == sorted(set(range(NUM_ROWS)) - set(expected))


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ("nothing", UnknownColumnError, "nothing"),
        ("split", OptionError, "text; it is a data set of row numbers or a mask"),
        ("x", OptionError, "float32"),
        ("short", RowError, "4 values, and the data 30 rows"),
        ("mask_u1", OptionError, r"give rows=\('mask_u1', 1\) for a mask"),
        (("split", "dev"), OptionError, "selects no row; the column holds '"),
        (("fold", 7), OptionError, "selects no row; the column holds 0, 1, 2, 3, 4$"),
        (("short", True), RowError, "one value per row"),
    ],
    ids=str,
)
def test_rows_that_the_file_does_not_say_are_refused(
    path: str, rows: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        k5.H5Dataset(path, x="x", y="y", rows=rows)


def test_numbers_of_one_of_several_files_are_asked_about(path: str, tmp_path: Path) -> None:
    other = tmp_path / "rows2.h5"
    other.write_bytes(Path(path).read_bytes())
    both = [path, str(other)]
    with pytest.raises(OptionError, match="2 files"):
        k5.H5Dataset(both, x="x", y="y", rows="meta/train_idx")
    assert k5.H5Dataset(both, x="x", y="y", rows="mask").num_rows == 14


def test_groups_stay_together(path: str) -> None:
    data = k5.H5DataModule(path, x="x", y="y", validation_split=0.3, groups="patient")
    trained, validated = rows_of(data.train), rows_of(data.validation)
    assert sorted(trained + validated) == list(range(NUM_ROWS))
    assert not set(PATIENT[trained]) & set(PATIENT[validated])
    for options, words in (
        ({"validation_split": [1, 2]}, "needs validation_split= as a fraction"),
        ({}, "needs validation_split="),
        ({"balance": True}, "needs validation_split="),
        ({"validation_split": 0.3, "stratify": True}, "^stratify=True and groups="),
    ):
        with pytest.raises(OptionError, match=words):
            k5.H5DataModule(path, x="x", y="y", groups="patient", **options)


def test_classes_are_balanced_in_training_alone(path: str) -> None:
    data = k5.H5DataModule(path, x="x", y="y", validation_split=6, balance=True, seed=3)
    plain = k5.H5DataModule(path, x="x", y="y", validation_split=6, seed=3)
    counts = Counter(LABELS[rows_of(data.train)].tolist())
    assert len(set(counts.values())) == 1
    assert set(rows_of(data.train)) == set(rows_of(plain.train))
    assert rows_of(data.validation) == rows_of(plain.validation)
    with pytest.raises(OptionError, match="no class labels"):
        k5.H5DataModule(path, x="x", y="x", balance=True)


def test_balanced_class_weights_are_those_of_the_rows_trained_on(path: str, tmp_path: Path) -> None:
    def fit(class_weight: Any, name: str) -> list[np.ndarray]:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        trainer = k5.Trainer(max_epochs=1, run_dir=tmp_path / name, enable_progress_bar=False)
        data = k5.H5Dataset(path, x="x", y="y", batch_size=8)
        trainer.fit(model, data, class_weight=class_weight)
        weights: list[np.ndarray] = model.get_weights()
        return weights

    weights = {0: 30 / 60, 1: 30 / 21, 2: 30 / 9}
    for one, other in zip(fit("balanced", "a"), fit(weights, "b"), strict=True):
        assert_array_equal(one, other)
    with pytest.raises(OptionError, match="'balanced' or None"):
        fit("balance", "c")
