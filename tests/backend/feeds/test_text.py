"""Text as x: TensorFlow's layers take it, and other backends say what to do instead."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5

BACKEND = keras.backend.backend()
WORDS = ["good film", "bad film", "good", "bad", "so good", "so bad"] * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = WORDS
        file["y"] = np.array(["good" in words for words in WORDS], "u1")
    return tmp_path / "a.h5"


@pytest.mark.skipif(BACKEND != "tensorflow", reason="text is TensorFlow's")
@pytest.mark.parametrize("cache", [0, "auto"])
def test_a_layer_of_tensorflow_takes_text(path: Path, cache: int | str) -> None:
    layer = keras.layers.TextVectorization(output_mode="multi_hot", vocabulary=["good", "bad"])
    inputs = keras.Input((), dtype="string")
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(layer(inputs)))
    model.compile(keras.optimizers.Adam(0.5), "binary_crossentropy", metrics=["accuracy"])
    x = k5.Column("text", dtype=str)
    data = k5.H5Dataset(path, x=x, y="y", batch_size=8, cache=cache)
    model.fit(data, epochs=5, verbose=0)
    assert model.evaluate(data, verbose=0)[1] == 1
    assert model.predict(data, verbose=0).shape == (24, 1)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="which takes text")
def test_other_backends_refuse_it_before_the_first_step(path: Path) -> None:
    with pytest.raises(k5.ColumnError, match="make numbers of it in a transform="):
        k5.H5Dataset(path, x=k5.Column("text", dtype=str), y="y")
