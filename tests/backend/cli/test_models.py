"""Models of the user's own on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import FileError, FileMissingError, OptionError
from kerash5._options import ModelOptions
from kerash5.cli._main import main
from kerash5.train._models import make_model

pytestmark = pytest.mark.one_backend

MODULE: Final = """
import keras

def build(input_shape, num_classes, width=8, last="softmax"):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Dense(width, "relu"),
        keras.layers.Dense(num_classes, last),
    ])

def compiled(input_shape):
    model = keras.Sequential([keras.Input(input_shape), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model

def several(input_shape):
    a = {name: keras.Input(shape, name=name) for name, shape in input_shape.items()}
    y = keras.layers.Dense(1)(keras.layers.Concatenate()(list(a.values())))
    model = keras.Model(a, y)
    model.compile("sgd", "mse")
    return model

def nothing():
    return 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_models.py").write_text(MODULE)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = np.random.default_rng(1).normal(size=(40, 3)).astype("f4")
        file["y"] = np.arange(40) % 3
        file["target"] = np.linspace(0, 1, 40, dtype="f4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


QUIET: Final = [
    *("--trainer.max-epochs", "2", "--trainer.run-dir", "run", "--trainer.logger", "false"),
    *("--trainer.enable-progress-bar", "false", "--trainer.enable-model-summary", "false"),
]


def test_a_function_is_trained_with_an_optimizer_and_a_schedule(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "rows.h5",
        "--data.x",
        "x",
        "--data.y",
        "y",
        "--model",
        "own_models:build",
        "--model.width",
        "5",
    ]
    words += ["--optimizer", "AdamW", "--optimizer.weight_decay", "1e-3", "--learning-rate", "0.02"]
    words += ["--lr-schedule", "CosineDecay", "--lr-schedule.decay_steps", "50"]
    assert main(["fit", *words, *QUIET]) == 0, capsys.readouterr().err
    model = k5.load_model(folder / "run")
    assert model.layers[0].units == 5
    run = k5.Run.load(folder / "run")
    assert set(run.epochs[-1].metrics) == {"loss", "accuracy"}
    # The run's configuration is the same run again, if the code is named.
    again = ["fit", "--config", "run/config.yaml", "--trainer.run-dir", "again"]
    assert main(again) == 2
    assert main([*again, "--model", "own_models:build"]) == 0
    assert k5.Run.load(folder / "again").history["loss"] == run.history["loss"]


def test_regression_and_several_inputs_train(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["rows.h5", "--data.x", "x", "--data.y", "target", "--model", "own_models:compiled"]
    assert main(["fit", *one, *QUIET]) == 0, capsys.readouterr().err
    assert "mae" in k5.Run.load(folder / "run").epochs[-1].metrics
    two = ["rows.h5", "--data.x", "{a: x, b: x}", "--data.y", "target"]
    assert main(["fit", *two, "--model", "own_models:several", *QUIET]) == 0


def make(options: ModelOptions, y: str = "y") -> keras.Model:
    return make_model(options, k5.H5DataModule("rows.h5", x="x", y=y))


@pytest.mark.usefixtures("folder")
def test_a_saved_model_and_an_application_are_models() -> None:
    made = make(ModelOptions("own_models:build"))
    made.optimizer.build(made.trainable_variables)
    made.save("made.keras")
    loaded = make(ModelOptions("made.keras"))
    for one, other in zip(loaded.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    recompiled = make(ModelOptions("made.keras", optimizer="sgd"))
    assert isinstance(recompiled.optimizer, keras.optimizers.SGD)


@pytest.mark.usefixtures("folder")
def test_only_what_is_given_is_changed_in_a_compiled_model() -> None:
    plain = make(ModelOptions("own_models:compiled"), "target")
    assert float(plain.optimizer.learning_rate) == pytest.approx(0.01)  # SGD's own
    rate = make(ModelOptions("own_models:compiled", learning_rate=0.5), "target")
    assert isinstance(rate.optimizer, keras.optimizers.SGD)
    assert float(rate.optimizer.learning_rate) == pytest.approx(0.5)
    loss = make(ModelOptions("own_models:compiled", loss="mae", learning_rate=0.5), "target")
    assert isinstance(loss.optimizer, keras.optimizers.SGD)
    assert float(loss.optimizer.learning_rate) == pytest.approx(0.5)
    config = loss.get_compile_config()
    assert (config["loss"], config["metrics"]) == ("mae", ["mae"])
    other = make(ModelOptions("own_models:compiled", optimizer="AdamW"), "target")
    assert isinstance(other.optimizer, keras.optimizers.AdamW)
    assert other.get_compile_config()["metrics"] == ["mae"]
    zoo = make(ModelOptions("mlp", optimizer="SGD", learning_rate=0.2))
    assert float(zoo.optimizer.learning_rate) == pytest.approx(0.2)
    assert zoo.get_compile_config()["metrics"] == ["accuracy"]


ERRORS: Final[dict[str, tuple[dict[str, Any], str, type[Exception], str]]] = {
    "no module": ({"name": "nowhere:build"}, "y", OptionError, "no module 'nowhere'"),
    "no function": ({"name": "own_models:bild"}, "y", OptionError, "did you mean 'build'"),
    "no model": ({"name": "own_models:nothing"}, "y", OptionError, "returned a int"),
    "no option": (
        {"name": "own_models:build", "options": {"widht": 3}},
        "y",
        OptionError,
        "did you mean 'width'",
    ),
    "no loss": (
        {"name": "own_models:build", "options": {"last": "linear"}},
        "y",
        OptionError,
        "--loss",
    ),
    "no optimizer": (
        {"name": "own_models:build", "optimizer": "Adan"},
        "y",
        OptionError,
        "did you mean 'Adam'",
    ),
    "no argument of it": (
        {"name": "own_models:build", "optimizer_options": {"beta": 1}},
        "y",
        OptionError,
        "Adam with",
    ),
    "no loss of that name": (
        {"name": "own_models:build", "loss": "mean"},
        "y",
        OptionError,
        "no loss 'mean'",
    ),
    "no application": ({"name": "keras:ResNet50V3"}, "y", OptionError, "did you mean 'ResNet50V2'"),
    "no image": ({"name": "keras:MobileNetV2"}, "y", OptionError, "rows of shape"),
    "no file": ({"name": "no.keras"}, "y", FileMissingError, "no model file"),
    "no labels": ({"name": "mlp"}, "target", OptionError, "module:function"),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("options", "y", "error", "words"), ERRORS.values(), ids=ERRORS)
def test_what_is_no_model_is_refused_in_one_sentence(
    options: dict[str, Any], y: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make(ModelOptions(**options), y)


def test_a_file_that_is_no_model_is_refused(folder: Path) -> None:
    (folder / "bad.keras").write_bytes(b"PK")
    with pytest.raises(FileError, match="cannot be loaded"):
        make(ModelOptions("bad.keras"))
    with pytest.raises(OptionError, match="without lr_schedule"):
        ModelOptions(lr_schedule_options={"decay_steps": 3})
