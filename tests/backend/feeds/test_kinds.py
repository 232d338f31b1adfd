"""Number types that a backend does not take, or would change: each says what to do."""

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5

BACKEND = keras.backend.backend()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u8"] = np.arange(8, dtype="u8")
        file["large"] = np.array([0, 1, 2, 3, 4, 5, 2**40, 7])
        file["negative"] = np.array([0, 1, 2, 3, 4, 5, -(2**31) - 1, 7])
        file["x"] = np.ones((8, 2), "f4")
        file["c"] = np.ones((8, 2), "c8")
        file["y"] = np.zeros(8, "f4")
        file.create_dataset("text", data=list("abcdabcd"), dtype=h5py.string_dtype())
    return tmp_path / "a.h5"


@pytest.mark.skipif(BACKEND != "torch", reason="the others take uint64")
def test_uint64_on_pytorch_names_its_cure(path: Path) -> None:
    with pytest.raises(
        k5.ColumnError, match=r"PyTorch does not support.*Column\('u8', dtype='int64'"
    ):
        k5.H5Dataset(path, x="u8", y="y")
    (x, _) = k5.H5Dataset(path, x=k5.Column("u8", dtype="int64"), y="y", shuffle=False).read(0)
    assert keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(x)).tolist() == list(range(8))


@pytest.mark.parametrize("name", ["large", "negative"])
def test_integers_reach_the_backend_as_they_are_or_not_at_all(path: Path, name: str) -> None:
    ds = k5.H5Dataset(path, x=name, y="y", shuffle=False)
    if BACKEND == "jax":
        with pytest.raises(
            k5.ColumnError, match=rf"'{name}' .* but JAX converts int64 to int32; use"
        ):
            ds.read(0)
        ds = k5.H5Dataset(path, x=k5.Column(name, dtype="float32"), y="y", shuffle=False)
    with h5py.File(path) as file:
        stored = file[name][()].astype(float).tolist()
    tensor = keras.ops.convert_to_tensor(ds.read(0)[0])
    assert keras.ops.convert_to_numpy(tensor).astype(float).tolist() == pytest.approx(stored)


@pytest.mark.parametrize("role", ["x", "y", "key"])
@pytest.mark.parametrize("value", [2**31, 2**40, -(2**31) - 1])
def test_integers_of_a_transform_reach_the_backend_as_they_are_or_not_at_all(
    path: Path, role: str, value: int
) -> None:
    def large(x: Any, y: Any) -> Any:
        wide = np.full(len(x), value)
        return {"x": (wide, y), "y": (x, wide), "key": ({"a": x, "b": wide}, y)}[role]

    ds = k5.H5Dataset(path, x="x", y="y", transform=large)
    if BACKEND != "jax":
        ds.read(0)
        return
    with pytest.raises(
        k5.ColumnError, match=rf"as transform= .*{value}.* JAX converts int64 to int32"
    ) as said:
        ds.read(0)
    assert "astype('float32')" in str(said.value)


@pytest.mark.skipif(BACKEND != "jax", reason="the others take 64 bits")
@pytest.mark.parametrize("value", [2**31 - 1, -(2**31)])
def test_integers_of_a_transform_that_fit_32_bits_are_taken(path: Path, value: int) -> None:
    ds = k5.H5Dataset(path, x="x", y="y", transform=lambda x, y: (np.full(len(x), value), y))
    assert keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(ds.read(0)[0]))[0] == value


@pytest.mark.parametrize("name", ["c", "text"])
def test_what_is_no_real_number_is_refused_by_everything_that_feeds_keras(
    path: Path, name: str
) -> None:
    words = "has (complex64 values, whose|text, which)"
    with pytest.raises(k5.ColumnError, match=words):
        k5.H5Dataset(path, x=name, y="y")
    with pytest.raises(k5.ColumnError, match=words):
        k5.H5DataModule(path, x=name, y="y")
    with pytest.raises(k5.ColumnError, match=words):
        k5.H5Dataset(k5.Source(path, x=name, y="y"))


def test_a_transform_gets_text_in_training_validation_and_test(tmp_path: Path) -> None:
    for name, texts in (("train", "abcdabcd"), ("test", "abxy")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("text", data=list(texts), dtype=h5py.string_dtype())
            file["y"] = np.zeros(len(texts), "f4")

    def encode(x: Any, y: Any) -> Any:
        return np.array([[ord(text)] for text in x], "f4"), y

    train, test = tmp_path / "train.h5", tmp_path / "test.h5"
    data = k5.H5DataModule(train, test, x="text", y="y", transform=encode, validation_split=0.25)
    assert data.test is not None
    assert data.test.read(0)[0][:, 0].tolist() == [ord(text) for text in "abxy"]
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert np.isfinite(model.evaluate(data.validation, verbose=0))
