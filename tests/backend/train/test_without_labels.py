"""A test file without labels: predicted, and not tested, in one sentence."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5.cli._main import main

pytestmark = pytest.mark.one_backend


def write_rows(path: Path, *, y: bool, x: bool = True) -> str:
    with h5py.File(path, "w") as file:
        if x:
            file["x"] = np.arange(40, dtype="f4").reshape(20, 2) / 40
        file["z"] = np.zeros(20)
        if y:
            file["y"] = np.arange(20) % 2
    return str(path)


def small_model() -> keras.Model:
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    return model


def test_rows_without_labels_are_predicted_and_testing_says_what_is_missing(
    tmp_path: Path,
) -> None:
    train = write_rows(tmp_path / "train.h5", y=True)
    with k5.H5DataModule(train, write_rows(tmp_path / "test.h5", y=False), x="x", y="y") as data:
        model, trainer = small_model(), k5.Trainer()
        assert trainer.predict(model, data).shape == (20, 2)
        with pytest.raises(k5.RunError, match=r"no 'y' in .*test.h5.*call predict, or give"):
            trainer.test(model, data)


def test_what_lacks_x_is_still_refused(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.h5", y=True)
    test = write_rows(tmp_path / "test.h5", x=False, y=False)
    with pytest.raises(k5.UnknownColumnError, match="'x'"):
        k5.H5DataModule(train, test, x="x", y="y")


def test_the_command_line_predicts_a_file_without_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = tmp_path / "train.h5", tmp_path / "test.h5"
    images = np.zeros((20, 8, 8), np.uint8)
    k5.write(train, image=images, label=np.arange(20) % 2)
    k5.write(test, image=images)
    run = str(tmp_path / "run")
    words = ["--data.train", str(train), "--data.test", str(test), "--model.name", "mlp"]
    assert main(["fit", *words, "--trainer.max_epochs", "1", "--trainer.run_dir", run]) == 0
    assert f"not tested: {test} has no labels" in capsys.readouterr().out
    out = str(tmp_path / "out.h5")
    assert main(["predict", "--run", run, "--data", str(test), "--out", out]) == 0
    with h5py.File(out) as file:
        assert file["prediction"].shape == (20, 2)
