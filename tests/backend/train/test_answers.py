"""Confusion, predictions and scores of a finished run: for its test file, or for other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5.train._answers import answers_of_run

pytestmark = pytest.mark.one_backend

ROWS = 40


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Images whose class is the corner that is lit; those to train on, and those to test on."""
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        label = rng.integers(0, 3, ROWS)
        image = np.zeros((ROWS, 4, 4), np.uint8)
        image[np.arange(ROWS), label, label] = 255
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["image"], file["label"] = image, label
            file["name"] = np.array(["ant", "bee", "cow"], dtype="S3")[label]
            file["one_hot"], file["odd"] = np.eye(3, dtype=np.float32)[label], label == 1
    return tmp_path


def train(files: Path, y: Any, *, units: int = 3, loss: str, activation: str = "softmax") -> k5.Run:
    data = k5.H5DataModule(files / "train.h5", files / "test.h5", x="image", y=y, batch_size=8)
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    output = keras.layers.Dense(units, activation=activation)
    model = keras.Sequential([keras.Input((4, 4)), *layers, output])
    model.compile("adam", loss)
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    return k5.Trainer(max_epochs=1, run_dir=files / "run", **quiet).fit(model, data)


SPARSE = "sparse_categorical_crossentropy"
KINDS: dict[str, dict[str, Any]] = {
    "ids": {"y": "label", "loss": SPARSE},
    "names": {"y": "name", "loss": SPARSE},
    "one-hot": {"y": "one_hot", "loss": "categorical_crossentropy"},
    "two classes": {"y": "odd", "units": 1, "loss": "binary_crossentropy", "activation": "sigmoid"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_counted_at_its_class_and_its_prediction(files: Path, kind: str) -> None:
    run = train(files, **KINDS[kind])
    model = k5.load_model(run.run_dir)
    with h5py.File(files / "test.h5") as file:
        found = model.predict(file["image"][:], verbose=0)
        labels = file["odd" if kind == "two classes" else "label"][:].astype(int)
    guesses = (found[:, 0] > 0.5).astype(int) if kind == "two classes" else found.argmax(1)
    expected = np.zeros((2, 2) if kind == "two classes" else (3, 3), int)
    np.add.at(expected, (labels, guesses), 1)
    answers = answers_of_run(run)
    np.testing.assert_array_equal(answers.confusion, expected)
    assert answers.names == {"names": ("ant", "bee", "cow"), "two classes": ("0", "1")}.get(
        kind, ("0", "1", "2")
    )
    assert [score.num_rows for score in run.class_scores()] == expected.sum(1).tolist()


def test_pictures_are_drawn_of_the_run_and_of_other_data(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = train(files, **KINDS["names"])
    for name in ("confusion", "predictions"):
        path = tmp_path / f"{name}.png"
        assert getattr(run, f"plot_{name}")(path) == str(path)
        assert path.read_bytes().startswith(b"\x89PNG")
        data = k5.H5Dataset(files / "train.h5", x="image", y="name", rows=slice(0, 9))
        assert getattr(run, f"plot_{name}")(data=data)._repr_png_().startswith(b"\x89PNG")


def test_rows_of_a_selection_keep_their_labels(files: Path) -> None:
    run = train(files, **KINDS["ids"])
    rows = np.array([7, 3, 30, 11])
    data = k5.H5Dataset(files / "test.h5", x="image", y="label", rows=rows)
    with h5py.File(files / "test.h5") as file:
        assert answers_of_run(run, data).labels.tolist() == file["label"][:][rows].tolist()


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.arange(6) % 4, "answers 3 classes, and y has 3 names and ids from 0 to 3"),
        (np.arange(6) % 3 - 1, "answers 3 classes, and y has 3 names and ids from -1 to 1"),
        (np.array([b"ant", b"bee"] * 3), "answers 3 classes, and y has 2 names"),
    ],
    ids=["a class too many", "a negative id", "a name too few"],
)
def test_classes_that_are_not_those_of_the_model_are_refused(
    files: Path, y: Any, words: str
) -> None:
    run = train(files, **KINDS["ids"])
    k5.write(files / "other.h5", image=np.zeros((6, 4, 4), np.uint8), label=y)
    with pytest.raises(k5.OptionError, match=words):
        run.plot_confusion(data=k5.H5Dataset(files / "other.h5", x="image", y="label"))


def test_what_cannot_be_drawn_is_one_sentence(files: Path) -> None:
    run = train(files, **KINDS["ids"])
    with pytest.raises(k5.OptionError, match="no labels to compare predictions with"):
        run.plot_confusion(data=k5.H5Dataset(files / "test.h5", x="image"))
    with pytest.raises(k5.OptionError, match="no test data; pass the data set"):
        run.plot_confusion(data=k5.H5DataModule(files / "train.h5", x="image", y="label"))
    (files / "test.h5").unlink()
    with pytest.raises(k5.KerasH5Error, match=r"test\.h5"):
        run.class_scores()
