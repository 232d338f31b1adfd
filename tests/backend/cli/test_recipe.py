"""`kerash5 fit --model NAME`: the recipe of a model of the zoo, and what is said against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
import yaml

import kerash5 as k5
from kerash5 import zoo
from kerash5._errors import OptionError
from kerash5._options import DataOptions, ModelOptions, TrainerOptions
from kerash5.cli._main import main
from kerash5.cli._recipe import count_decay_steps, with_recipe
from kerash5.train._models import make_model
from kerash5.zoo import _registry

pytestmark = pytest.mark.one_backend

QUIET: Final = [
    *("--trainer.logger", "false", "--trainer.enable-progress-bar", "false"),
    *("--trainer.enable-model-summary", "false", "--trainer.run-dir", "run"),
]
RECIPE: Final = zoo.Recipe(
    optimizer="SGD", learning_rate=0.25, decay="cosine", epochs=2, batch_size=10
)


@pytest.fixture(autouse=True)
def own_model() -> Iterator[None]:
    """Register a model with a recipe, and forget it afterwards."""
    before = dict(_registry._REGISTERED)

    @zoo.register(recipe=RECIPE)
    def own(input_shape: tuple[int, ...], num_classes: int, width: int = 3) -> keras.Model:
        layers = [keras.layers.Flatten(), keras.layers.Dense(width, "relu")]
        last = keras.layers.Dense(num_classes, "softmax")
        return keras.Sequential([keras.Input(input_shape), *layers, last])

    yield
    _registry._REGISTERED.clear()
    _registry._REGISTERED.update(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    images = np.random.default_rng(3).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["image"], file["label"] = images, np.arange(40) % 3
        file["mask"] = (images > 100).astype(np.uint8) + (images > 200)
        file["heights"] = images / np.float32(255)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fit(*words: str) -> k5.Run:
    assert main(["fit", "rows.h5", *words, *QUIET]) == 0
    return k5.Run.load("run")


def compiled(options: ModelOptions) -> dict[str, Any]:
    """Return the optimizer that options compile the model with, as Keras saves it."""
    data = k5.H5DataModule("rows.h5", x="image", y="label")
    config = make_model(options, data, decay_steps=8).get_compile_config()
    found: dict[str, Any] = config["optimizer"]
    return found


@pytest.mark.usefixtures("folder")
def test_a_recipe_is_used_where_nothing_is_said() -> None:
    run = fit("--model", "own", "--model.width", "5")
    assert len(run.epochs) == 2
    assert yaml.safe_load(Path("run/config.yaml").read_text())["data"]["batch_size"] == 10
    model = k5.load_model("run")
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    schedule = model.get_compile_config()["optimizer"]["config"]["learning_rate"]
    assert schedule["config"]["initial_learning_rate"] == 0.25
    assert schedule["config"]["decay_steps"] == 8  # 2 epochs of 4 steps
    # The run's configuration is the same run again.
    assert main(["fit", "--config", "run/config.yaml", "--trainer.run-dir", "again"]) == 0
    assert k5.Run.load("again").history["loss"] == run.history["loss"]


@pytest.mark.usefixtures("folder")
def test_what_is_said_wins() -> None:
    run = fit("--model", "own", "--trainer.max-epochs", "1", "--data.batch-size", "20")
    assert len(run.epochs) == 1
    assert yaml.safe_load(Path("run/config.yaml").read_text())["data"]["batch_size"] == 20
    rate = compiled(ModelOptions("own", learning_rate=0.125))["config"]["learning_rate"]
    assert rate["config"]["initial_learning_rate"] == 0.125
    adam = compiled(ModelOptions("own", optimizer="Adam"))
    assert adam["config"]["learning_rate"] == pytest.approx(1e-3)
    options = ModelOptions("own", optimizer="SGD", learning_rate=0.5)
    assert compiled(options)["config"]["learning_rate"] == pytest.approx(0.5)


@pytest.mark.usefixtures("folder")
def test_a_mask_is_learned_for_each_pixel(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model.width", "2", "--model.depth", "1", "--trainer.max-epochs", "1")
    run = fit("--model", "unet_small", "--data.y", "mask", *words)
    assert set(run.epochs[0].metrics) == {"loss", "accuracy"}
    assert k5.load_model("run").output_shape == (None, 8, 8, 3)
    assert main(["fit", "rows.h5", "--model", "unet_small", *QUIET]) == 1
    assert "needs a mask as y: class ids in integers" in capsys.readouterr().err
    assert main(["fit", "rows.h5", "--model", "unet_small", "--data.y", "heights", *QUIET]) == 1
    assert "not rows of float32 (8, 8)" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_an_autoencoder_gets_x_as_y() -> None:
    run = fit("--model", "autoencoder", "--trainer.max-epochs", "1", "--model.code", "3")
    assert set(run.epochs[0].metrics) == {"loss", "mae"}
    assert yaml.safe_load(Path("run/config.yaml").read_text())["data"]["y"] == "image"


@pytest.mark.usefixtures("folder")
def test_the_length_of_the_decay_follows_the_limits() -> None:
    data = DataOptions("rows.h5", x="image", y="label", batch_size=None)
    model = ModelOptions("own")

    def steps(**limits: Any) -> int:
        chosen, trainer = with_recipe(data, model, TrainerOptions(**limits))
        return count_decay_steps("own", k5.H5DataModule.from_options(chosen), trainer)

    assert steps() == 8
    assert steps(max_epochs=5) == 20
    assert steps(max_steps=6) == 6
    assert steps(max_time="1h") == 8
    assert steps(max_epochs=5, limit_train_batches=2) == 10
    with pytest.raises(OptionError, match="no model 'ownn'; did you mean 'own'"):
        with_recipe(data, ModelOptions("ownn"), TrainerOptions())


def test_help_lists_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "own: a model of" in text
    assert all(f"{name}: {zoo.describe(name)}" in text for name in zoo.names())
