"""`H5Dataset.split`: two disjoint sides, drawn as `H5DataModule` and `split_rows` draw them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import kerash5 as k5

pytestmark = pytest.mark.one_backend

ROWS = 50


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = np.arange(ROWS)
        file["y"] = np.arange(ROWS) % 5 == 0
        file["patient"] = rng.integers(0, 12, ROWS)
    return tmp_path / "rows.h5"


def rows_of(data: k5.H5Dataset) -> np.ndarray:
    return np.concatenate([batch[0] for batch in data.batches()])


@pytest.mark.parametrize(("validation", "count"), [(0.2, 10), (7, 7)])
def test_both_sides_together_are_all_rows(path: Path, validation: float, count: int) -> None:
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8, seed=3)
    train, held_out = data.split(validation)
    assert sorted([*rows_of(train), *rows_of(held_out)]) == list(range(ROWS))
    expected = k5.split_rows(ROWS, validation, seed=3)
    assert rows_of(held_out).tolist() == expected.validation.tolist()  # in the stored order
    assert len(expected.validation) == count
    assert sorted(rows_of(train)) == expected.train.tolist() != rows_of(train).tolist()
    assert rows_of(train).tolist() != np.concatenate([b[0] for b in train.batches(1)]).tolist()


def test_it_splits_as_the_data_module_does(path: Path) -> None:
    options: dict[str, Any] = {"x": "x", "y": "y", "batch_size": 8, "seed": 1}
    module = k5.H5DataModule(path, validation_split=0.3, stratify=True, **options)
    train, held_out = k5.H5Dataset(path, **options).split(0.3, stratify=True)
    assert module.validation is not None
    assert rows_of(held_out).tolist() == rows_of(module.validation).tolist()
    assert rows_of(train).tolist() == rows_of(module.train).tolist()
    assert np.mean([y.mean() for _, y in held_out.batches()]) == pytest.approx(0.2, abs=0.03)


def test_groups_stay_together_and_a_seed_draws_others(path: Path) -> None:
    data = k5.H5Dataset(path, x="x", y="y")
    train, held_out = data.split(0.25, groups="patient")
    with h5py.File(path) as file:
        patient = file["patient"][:]
    assert set(patient[rows_of(train)]).isdisjoint(patient[rows_of(held_out)])
    assert rows_of(data.split(0.25, seed=1)[1]).tolist() != rows_of(data.split(0.25)[1]).tolist()


def test_rows_of_a_selection_are_split_among_themselves(path: Path) -> None:
    train, held_out = k5.H5Dataset(path, x="x", y="y", rows=slice(10, 30)).split(0.5)
    assert sorted([*rows_of(train), *rows_of(held_out)]) == list(range(10, 30))


def test_the_last_batch_of_validation_is_not_dropped(path: Path) -> None:
    train, held_out = k5.H5Dataset(path, x="x", y="y", batch_size=8, drop_last=True).split(0.2)
    assert (len(rows_of(train)), len(rows_of(held_out))) == (40, 10)


@pytest.mark.parametrize("validation", [0, 1.0, 50, -0.1, True, "0.2", [1, 2], None])
def test_what_leaves_a_side_empty_is_refused(path: Path, validation: Any) -> None:
    with pytest.raises(k5.OptionError, match=r"^validation="):
        k5.H5Dataset(path, x="x", y="y").split(validation)
