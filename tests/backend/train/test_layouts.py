"""Rows that are windows, patches, groups or sparse: trained on, stopped in mid-epoch, resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kerash5 as k5

Open = Callable[..., k5.Source]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        signal = rng.random((220, 2), "f4")
        file.create_dataset("signal", data=signal, chunks=(16, 2), compression="gzip")
        file["state"] = (signal[:, 0] > 0.5).astype("u1")
        volume = rng.integers(0, 255, (20, 24, 24), "u1")
        file.create_dataset("raw", data=volume, chunks=(8, 8, 8), compression="gzip")
        file.create_dataset("mask", data=(volume > 99).astype("f4"), chunks=(8, 8, 8))
        for number in range(41):
            file[f"row_{number}/image"] = rng.random((3, 4), "f4")
            file[f"row_{number}"].attrs["label"] = "odd" if number % 2 else "even"
        for name in ("cells", "others"):
            write_csr(file.create_group(name), rng.random((60, 9)) * (rng.random((60, 9)) < 0.3))
        file["kinds"] = rng.integers(0, 2, 60)
    return tmp_path / "odd.h5"


def write_csr(group: h5py.Group, matrix: np.ndarray) -> None:
    """Write a sparse matrix as AnnData does."""
    rows, group["indices"] = np.nonzero(matrix)
    group["data"] = matrix[matrix != 0].astype("f4")
    group["indptr"] = np.cumsum([0, *np.bincount(rows, minlength=len(matrix))])
    group.attrs.update({"encoding-type": "csr_matrix", "shape": matrix.shape})


def windows(path: Path, **options: Any) -> k5.Source:
    options = {"length": 10, "stride": 3, "y_at": "next", **options}
    return k5.windows_from_series(path, x="signal", y="state", **options)


def patches(path: Path, **options: Any) -> k5.Source:
    options = {"shape": (6, 6, 6), "stride": 5, "border": "shift", **options}
    return k5.patches_from_volumes(path, x="raw", y="mask", **options)


def groups(path: Path, x: str = "row_{row}/image") -> k5.Source:
    return k5.rows_from_groups(path, x=x, y="row_{row}@label")


def sparse(path: Path, x: str = "cells") -> k5.Source:
    return k5.Source(path, x=x, y="kinds")


LAYOUTS: Final[dict[str, Open]] = {
    "windows": windows,
    "patches": patches,
    "groups": groups,
    "sparse": sparse,
}
OTHERS: Final[dict[str, dict[str, Any]]] = {
    "windows": {"stride": 2},
    "patches": {"border": "drop"},
    "groups": {"x": "row_{row:d}/image"},
    "sparse": {"x": "others"},
}


def build(data: k5.H5Dataset) -> keras.Model:
    keras.utils.set_random_seed(3)
    x, y = data[0]
    hidden = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dropout(0.2)]
    size = int(np.prod(y.shape[1:])) if y.ndim > 1 else 2
    outputs = [keras.layers.Dense(size, "sigmoid" if y.ndim > 1 else "softmax")]
    if y.ndim > 1:
        outputs.append(keras.layers.Reshape(y.shape[1:]))
    model = keras.Sequential([keras.Input(x.shape[1:]), *hidden, *outputs])
    model.compile("adam", "mse" if y.ndim > 1 else "sparse_categorical_crossentropy")
    model.run_eagerly = keras.backend.backend() != "jax"  # compiling is most of the time
    return model


class StopError(Exception):
    """Ends a fit."""


class StopAt(keras.callbacks.Callback):
    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        if self._left == 0:
            raise StopError


def make_trainer(folder: Path, **options: Any) -> k5.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 2}
    return k5.Trainer(**{**quiet, "run_dir": folder, "every_n_train_steps": 1, **options})


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("cache", [0, "auto"])
def test_a_fit_stopped_in_mid_epoch_ends_as_if_it_had_not(
    name: str, cache: Any, path: Path, tmp_path: Path
) -> None:
    def open_data() -> k5.H5Dataset:
        return k5.H5Dataset(LAYOUTS[name](path), batch_size=7, seed=1, cache=cache, shuffle="rows")

    expected = build(open_data())
    make_trainer(tmp_path / "whole").fit(expected, open_data())
    stop = StopAt(len(open_data()) + 2)
    with pytest.raises(StopError):
        make_trainer(tmp_path / "a", callbacks=[stop]).fit(build(open_data()), open_data())
    model = build(open_data())
    run = make_trainer(tmp_path / "a").fit(model, open_data(), resume="auto")
    assert run.status == "done"
    for found, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_fit_is_not_resumed_on_rows_that_are_cut_otherwise(
    name: str, path: Path, tmp_path: Path
) -> None:
    data = k5.H5Dataset(LAYOUTS[name](path), batch_size=7)
    with pytest.raises(StopError):
        make_trainer(tmp_path / "a", callbacks=[StopAt(2)]).fit(build(data), data)
    make: Open = LAYOUTS[name]
    other = k5.H5Dataset(make(path, **OTHERS[name]), batch_size=7)
    with pytest.raises(k5.RunError, match="data"):
        make_trainer(tmp_path / "a").fit(build(other), other, resume="auto")


def test_keras_fits_on_windows_and_predicts_them_in_order(path: Path) -> None:
    data = k5.H5Dataset(windows(path), batch_size=7)
    model = build(data)
    model.fit(data, epochs=1, verbose=0)
    rows = windows(path).read(np.arange(data.num_rows))["x"]
    found, expected = model.predict(data, verbose=0), model.predict(rows, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
