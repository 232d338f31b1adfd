"""Answers written to a file: those of `model.predict`, in the stored order, in little memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from numpy.testing import assert_array_equal

import kerash5 as k5
from kerash5._errors import FileError, OptionError, ShapeError
from kerash5.train._predict import predict_to_file

NUM_ROWS: Final = 23
IMAGES: Final = np.random.default_rng(2).integers(0, 256, (NUM_ROWS, 4), dtype=np.uint8)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = IMAGES, np.arange(NUM_ROWS) % 3
    return path


def open_rows(path: Path, **options: Any) -> k5.H5Dataset:
    return k5.H5Dataset(path, x="image", y="label", **{"batch_size": 5, **options})


def build(outputs: Any = None) -> keras.Model:
    keras.utils.set_random_seed(3)
    x = keras.Input((4,))
    hidden = layers.Dense(3)(layers.Rescaling(1 / 255)(x))
    return keras.Model(x, hidden if outputs is None else outputs(hidden))


def to_file(model: keras.Model, data: k5.H5Dataset, path: Path, **options: Any) -> str:
    defaults: dict[str, Any] = {"name": "prediction", "class_ids": False, "overwrite": False}
    return predict_to_file(model, data, path, **{**defaults, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": "rows", "drop_last": True},
        {"shuffle": "chunks", "cache": 0},
        {"rows": np.array([7, 3, 22, 0, 4, 1])},
        {"threads": 0},
        {"transform": lambda x, y: (x[:, ::-1].copy(), y)},
    ],
    ids=["default", "shuffled", "windows", "chosen rows", "no threads", "transform"],
)
def test_the_file_holds_what_predict_returns(
    stored: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    model, data = build(), open_rows(stored, **options)
    written = to_file(model, data, tmp_path / "out.h5", class_ids=True)
    expected = model.predict(data, verbose=0)
    with h5py.File(written) as file:
        assert_array_equal(file["prediction"][:], expected)
        assert_array_equal(file["prediction_class"][:], expected.argmax(axis=1))
        assert file.attrs["rows_of"] == str(stored)


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (lambda x: [layers.Dense(2)(x), layers.Dense(1)(x)], ["0", "1"]),
        (lambda x: {"kind": layers.Dense(2)(x), "age": layers.Dense(1)(x)}, ["kind", "age"]),
    ],
    ids=["list", "dict"],
)
def test_several_outputs_are_columns_of_a_group(
    stored: Path, tmp_path: Path, outputs: Any, names: list[str]
) -> None:
    model, data = build(outputs), open_rows(stored)
    expected = model.predict(data, verbose=0)
    with h5py.File(to_file(model, data, tmp_path / "out.h5", name="answer")) as file:
        assert sorted(file["answer"]) == sorted(names)
        for name in names:
            part = expected[int(name)] if name.isdigit() else expected[name]
            assert_array_equal(file["answer"][name][:], part)


def test_a_shard_writes_its_own_rows(stored: Path, tmp_path: Path) -> None:
    model, whole = build(), []
    for index in range(2):
        data = open_rows(stored, shard=(index, 2))
        with h5py.File(to_file(model, data, tmp_path / f"{index}.h5")) as file:
            whole.append(file["prediction"][:])
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(np.concatenate(whole), expected, rtol=1e-5, atol=1e-6)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "many.h5"
    num_rows = 4_000
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros((num_rows, 4), np.uint8)
    model = build(layers.Dense(1024))
    data = k5.H5Dataset(path, x="image", batch_size=200)
    to_file(model, data, tmp_path / "warm.h5")
    tracemalloc.start()
    try:
        to_file(model, data, tmp_path / "out.h5")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["prediction"].nbytes > 16e6
    assert peak < 6e6


def test_bad_input_is_one_sentence_and_leaves_nothing(stored: Path, tmp_path: Path) -> None:
    data, folder = open_rows(stored), tmp_path / "out"
    folder.mkdir()
    with pytest.raises(ShapeError, match="leave class_ids out"):
        to_file(build(layers.Dense(1)), data, folder / "a.h5", class_ids=True)
    with pytest.raises(OptionError, match="name='/'"):
        to_file(build(), data, folder / "a.h5", name="/")
    with pytest.raises(FileError, match="no folder"):
        to_file(build(), data, folder / "b" / "a.h5")
    assert list(folder.iterdir()) == []
