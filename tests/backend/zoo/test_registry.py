"""Names of models: those registered here, those of other packages, and what is said of each."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest

from kerash5 import zoo
from kerash5._errors import OptionError
from kerash5.zoo import _registry

pytestmark = pytest.mark.one_backend


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Forget afterwards what a test registers."""
    before = dict(_registry._REGISTERED)
    yield
    _registry._REGISTERED.clear()
    _registry._REGISTERED.update(before)


def dense(input_shape: tuple[int, ...], num_classes: int, width: int = 3) -> keras.Model:
    """Stack two layers.

    And nothing else.
    """
    layers = [keras.layers.Dense(width), keras.layers.Dense(num_classes, "softmax")]
    return keras.Sequential([keras.Input(input_shape), *layers])


def test_a_registered_function_is_a_model() -> None:
    assert zoo.register(dense) is dense
    assert "dense" in zoo.names()
    assert zoo.describe("dense") == zoo.info("dense").purpose == "Stack two layers"
    assert zoo.info("dense").options == {"width": 3}
    assert zoo.suited_shape("dense", (28, 28)) == (28, 28)
    model = zoo.build("dense", input_shape=(4,), num_classes=2, width=5, learning_rate=0.25)
    assert model.layers[0].units == 5
    assert model.get_compile_config()["loss"] == "crossentropy"
    assert float(model.optimizer.learning_rate) == pytest.approx(0.25)
    with pytest.raises(OptionError, match="no option 'wdth'; did you mean 'width'"):
        zoo.build("dense", input_shape=(4,), num_classes=2, wdth=5)


def test_a_name_is_registered_only_once() -> None:
    zoo.register(dense)
    with pytest.raises(OptionError, match="there is a model 'dense' already; give the function"):
        zoo.register(dense)

    def mlp(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
        return dense(input_shape, num_classes)

    with pytest.raises(OptionError, match="there is a model 'mlp' already"):
        zoo.register(mlp)


def test_a_recipe_compiles_the_model() -> None:
    recipe = zoo.Recipe(
        optimizer="sgd",
        learning_rate=0.5,
        optimizer_options={"momentum": 0.9},
        decay="cosine",
        metrics=("mae",),
    )

    @zoo.register(task="reconstruction", recipe=recipe)
    def linear(input_shape: tuple[int, ...]) -> keras.Model:
        return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(*input_shape)])

    plain = zoo.build("linear", input_shape=(4,))
    assert isinstance(plain.optimizer, keras.optimizers.SGD)
    assert float(plain.optimizer.learning_rate) == pytest.approx(0.5)
    decaying = zoo.build("linear", input_shape=(4,), decay_steps=10)
    schedule = decaying.get_compile_config()["optimizer"]["config"]["learning_rate"]
    assert schedule["class_name"] == "CosineDecay"
    assert schedule["config"]["decay_steps"] == 10
    assert (zoo.info("linear").loss, zoo.info("linear").metrics) == ("mse", ("mae",))


def test_a_compiled_model_stays_as_it_is() -> None:
    @zoo.register
    def compiled(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
        model = dense(input_shape, num_classes)
        model.compile(keras.optimizers.SGD(0.125), "mse")
        return model

    model = zoo.build("compiled", input_shape=(4,), num_classes=2)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.125)
    assert model.get_compile_config()["loss"] == "mse"
    faster = zoo.build("compiled", input_shape=(4,), num_classes=2, learning_rate=0.5)
    assert float(faster.optimizer.learning_rate) == pytest.approx(0.5)


def test_a_function_that_is_no_model_is_named() -> None:
    @zoo.register
    def nothing(input_shape: tuple[int, ...]) -> None:
        assert input_shape

    with pytest.raises(OptionError, match="model 'nothing' returned a NoneType; it must return"):
        zoo.build("nothing", input_shape=(4,))
    with pytest.raises(OptionError, match="has no name; register a function made with def"):
        zoo.register(lambda input_shape: keras.Sequential([keras.Input(input_shape)]))

    def shapeless(num_classes: int) -> keras.Model:
        return dense((3,), num_classes)

    with pytest.raises(OptionError, match="'shapeless' does not take input_shape; add it"):
        zoo.register(shapeless)
    with pytest.raises(OptionError, match="task='regression'; choose 'classification', 'segm"):
        zoo.register(task="regression")(dense)  # type: ignore[call-overload]  # so


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rate": 0}, "learning_rate=0; pass a positive number"),
        ({"decay": "linear"}, "decay='linear'; choose 'cosine' or None"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
    ],
    ids=str,
)
def test_a_recipe_that_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        zoo.Recipe(**options)


def test_an_optimizer_that_keras_lacks_is_named() -> None:
    zoo.register(recipe=zoo.Recipe(optimizer="Adan"))(dense)
    with pytest.raises(OptionError, match="has no 'Adan'; did you mean 'Adam'"):
        zoo.build("dense", input_shape=(4,), num_classes=2)


def test_patterns_choose_names() -> None:
    assert zoo.names("*net*") == ("convnet", "lenet5", "mobilenet_small", "resnet20", "unet_small")
    assert zoo.names("transformer*") == ()


def test_info_is_a_copy_and_frozen() -> None:
    info = zoo.info("resnet20")
    assert (info.year, info.task, info.smallest_input) == (2016, "classification", (4, 4, 1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.name = "other"  # type: ignore[misc]  # that is the test
    info.options["width"] = 3  # type: ignore[index]  # likewise
    assert zoo.info("resnet20").options["width"] == 16
    with pytest.raises(OptionError, match="no model 'resnet'; did you mean 'resnet20'"):
        zoo.info("resnet")


# Models of other packages

PLUGIN = '''
import keras
from kerash5 import zoo

def build(input_shape, num_classes, width=2):
    """Answer quickly."""
    last = keras.layers.Dense(num_classes, "softmax")
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(width), last])

@zoo.register(recipe=zoo.Recipe(optimizer="SGD"))
def plugin_sgd(input_shape, num_classes):
    return build(input_shape, num_classes)

number = 3
'''


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install two packages with models, of which one cannot be imported."""
    points = {
        "plugins": "plugin = zoo_plugin:build\nplugin_sgd = zoo_plugin:plugin_sgd\n"
        "number = zoo_plugin:number\ntwice = zoo_plugin:build\n",
        "broken": "broken = zoo_broken:build\ngone = zoo_gone:build\ntwice = zoo_broken:build\n",
    }
    for name, lines in points.items():
        folder = tmp_path / f"zoo_{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: zoo-{name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[kerash5.zoo]\n{lines}")
    (tmp_path / "zoo_plugin.py").write_text(PLUGIN)
    (tmp_path / "zoo_broken.py").write_text("raise ValueError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("zoo_plugin", "zoo_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.usefixtures("packages")
def test_models_of_other_packages_are_imported_when_asked_for() -> None:
    assert {"plugin", "broken", "gone", "mlp"} <= set(zoo.names())
    assert zoo.describe("plugin") == "a model of the package 'zoo-plugins'"
    assert zoo.suited_shape("plugin", (4, 4)) == (4, 4)
    assert "zoo_plugin" not in sys.modules
    assert zoo.info("plugin").purpose == "Answer quickly"
    model = zoo.build("plugin", input_shape=(4,), num_classes=2, width=7)
    assert model.layers[0].units == 7
    by_recipe = zoo.build("plugin_sgd", input_shape=(4,), num_classes=2)
    assert isinstance(by_recipe.optimizer, keras.optimizers.SGD)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", r"'broken' of the package 'zoo-broken' cannot be imported \(ValueError: no lic"),
        ("gone", r"'gone' of the package 'zoo-broken' cannot be imported \(ModuleNotFoundError"),
        ("number", "'number' of the package 'zoo-plugins' is a int; its entry point must name"),
        ("twice", "packages 'zoo-broken' and 'zoo-plugins' both have a model 'twice'; uninstall"),
        ("plugn", "no model 'plugn'; did you mean 'plugin'"),
    ],
)
def test_a_broken_package_is_named(name: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        zoo.build(name, input_shape=(4,), num_classes=2)
