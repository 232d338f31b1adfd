"""x and y whose keys or numbers of arrays are not the model's are refused before the first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import KerasH5Error, OptionError, ShapeError
from kerash5.feeds._keras_structure import check_structure

ROWS: Final = 20
BACKEND: Final = keras.backend.backend()
Function = Callable[[Any, Any], Any]
SPARSE: Final = "sparse_categorical_crossentropy"


@pytest.fixture
def path(tmp_path: Path) -> str:
    random = np.random.default_rng(0)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = random.random((ROWS, 4), dtype=np.float32)
        file["y"] = random.integers(0, 3, ROWS)
        file["value"] = random.random(ROWS, dtype=np.float32)
    return str(tmp_path / "rows.h5")


def chain() -> keras.Model:
    layers = [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    return compiled(keras.Sequential(layers, name="net"))


def two_inputs(*, keyed: bool = True) -> keras.Model:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    y = keras.layers.Dense(3, activation="softmax")(keras.layers.Add()([a, b]))
    return compiled(keras.Model({"a": a, "b": b} if keyed else [a, b], y, name="net"))


def two_inputs_in_a_list() -> keras.Model:
    return two_inputs(keyed=False)


def two_outputs(*, keyed: bool = True) -> keras.Model:
    a = keras.Input((4,), name="a")
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(a)
    value = keras.layers.Dense(1, name="value")(a)
    if keyed:
        model = keras.Model(a, {"kind": kind, "value": value}, name="net")
        return compiled(model, {"kind": SPARSE, "value": "mse"})
    return compiled(keras.Model(a, [kind, value], name="net"), [SPARSE, "mse"])


def two_outputs_in_a_list() -> keras.Model:
    return two_outputs(keyed=False)


def compiled(model: keras.Model, loss: Any = SPARSE) -> keras.Model:
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


def fit(model: keras.Model, data: Any, folder: Path) -> None:
    options: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    k5.Trainer(max_epochs=1, run_dir=folder / "run", **options).fit(model, data)


Make = Callable[[], keras.Model]
WRONG: Final[dict[str, tuple[Make, Function, str]]] = {
    "other keys": (
        two_inputs,
        lambda x, y: ({"a": x, "c": x}, y),
        "for x a dict with the keys 'a', 'c', and model 'net' takes a dict with the keys 'a', 'b'",
    ),
    "a key missing": (
        two_inputs,
        lambda x, y: ({"a": x}, y),
        "a dict with the key 'a', and model 'net' takes a dict with the keys 'a', 'b'; name those",
    ),
    "one array for two": (two_inputs, lambda x, y: (x, y), "has 1 array in x.*add the other"),
    "other keys for a list": (
        two_inputs_in_a_list,
        lambda x, y: ({"a": x, "c": x}, y),
        r"the keys 'a', 'c', and model 'net' takes 2 arrays \('a', 'b'\); name those of x so",
    ),
    "three arrays for two": (
        two_inputs_in_a_list,
        lambda x, y: ((x, x, x), y),
        "has 3 arrays in x, and model 'net' takes 2 arrays .*give the model an Input for each",
    ),
    "a dict for an array": (
        chain,
        lambda x, y: ({"x": x}, y),
        "a dict with the key 'x', and model 'net' takes one array; return the array itself",
    ),
    "two arrays for one": (chain, lambda x, y: ((x, x), y), "2 arrays in x.*takes one array;"),
    "rows of another shape": (
        chain,
        lambda x, y: (x[:, :3], y),
        r"rows of shape \(3,\) for x, and model 'net' takes \(4,\); return that shape, or build",
    ),
    "one of two of another shape": (
        two_inputs,
        lambda x, y: ({"a": x, "b": x[:, :3]}, y),
        r"rows of shape \(3,\) for x\['b'\], and model 'net' takes \(4,\)",
    ),
    "other keys of y": (
        two_outputs,
        lambda x, y: (x, {"kind": y, "size": y}),
        "for y a dict with the keys 'kind', 'size', and model 'net' has the outputs 'kind', 'val",
    ),
    "a key of y missing": (
        two_outputs,
        lambda x, y: (x, {"kind": y}),
        "for y a dict with the key 'kind', and model 'net' has the outputs.*name them so",
    ),
    "one array of y for two": (
        two_outputs_in_a_list,
        lambda x, y: (x, y),
        "1 array in y, and model 'net' has the outputs 'kind', 'value'; give one for each output",
    ),
    "three arrays of y for two": (
        two_outputs_in_a_list,
        lambda x, y: (x, (y, y, y)),
        "3 arrays in y, and model 'net' has the outputs",
    ),
    "two arrays of y for one": (chain, lambda x, y: (x, (y, y)), "2 arrays in y.*has one output"),
}
EACH: Final = pytest.mark.parametrize(("make", "function", "words"), WRONG.values(), ids=WRONG)


@EACH
def test_a_transform_is_refused_before_the_first_step(
    path: str, tmp_path: Path, make: Make, function: Function, words: str
) -> None:
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8, transform=function)
    model = make()
    before = model.get_weights()
    with pytest.raises(ShapeError, match=words) as caught:
        fit(model, data, tmp_path)
    assert "\n" not in str(caught.value)
    for found, weights in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, weights)
    with pytest.raises(ShapeError, match=words):
        fit(model, k5.H5DataModule(path, x="x", y="y", transform=function), tmp_path)
    with pytest.raises(ShapeError, match=words):
        k5.Trainer().test(model, data)


@EACH
def test_keras_own_loops_say_so_too(path: str, make: Make, function: Function, words: str) -> None:
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8, transform=function)
    with pytest.raises(ShapeError, match=words):
        make().fit(data, verbose=0)
    with pytest.raises(ShapeError, match=words):
        make().evaluate(data, verbose=0)


def test_predict_is_refused_with_and_without_a_file(path: str, tmp_path: Path) -> None:
    for transform, words in (
        (lambda x, y: ({"a": x, "c": x}, y), "the keys 'a', 'c'"),
        (lambda x, y: ((x, x, x), y), "3 arrays in x"),
    ):
        data = k5.H5Dataset(path, x="x", y="y", transform=transform)
        for out in (None, tmp_path / "answers.h5"):
            with pytest.raises(ShapeError, match=words):
                k5.Trainer().predict(two_inputs(), data, out=out)
    assert not (tmp_path / "answers.h5").exists()


def test_predict_needs_a_row_for_each_row(path: str, tmp_path: Path) -> None:
    def halved(x: Any, y: Any) -> Any:
        return (x, y) if x.shape[0] == 8 else (x[1:], y[1:])  # the last batch is short

    data = k5.H5Dataset(path, x="x", y="y", batch_size=8, transform=halved)
    fit(chain(), data, tmp_path)
    assert np.isfinite(chain().evaluate(data, verbose=0))
    for out in (None, tmp_path / "answers.h5"):
        with pytest.raises(OptionError, match="returned 3 rows for 4, and predict answers each"):
            k5.Trainer().predict(chain(), data, out=out)
    assert not (tmp_path / "answers.h5").exists()


def test_predict_does_not_look_at_y(path: str) -> None:
    data = k5.H5Dataset(path, x="x", y="y", transform=lambda x, y: (x, (y, y)))
    assert k5.Trainer().predict(chain(), data).shape == (ROWS, 3)


COLUMNS: Final[dict[str, tuple[Make, Any, Any, str]]] = {
    "other keys": (two_inputs, {"a": "x", "c": "x"}, "y", "for x a dict with the keys 'a', 'c'"),
    "one for two": (two_inputs, "x", "y", "has 1 column in x.*add the other columns"),
    "two for one": (chain, ("x", "x"), "y", "has 2 columns in x, and model 'net' takes one array"),
    "keys of y": (two_outputs, "x", {"kind": "y", "v": "value"}, "with the keys 'kind', 'v', and"),
    "two of y for one": (chain, "x", ("y", "y"), "2 columns in y.*has one output; give y the one"),
}


@pytest.mark.parametrize("case", COLUMNS.values(), ids=COLUMNS)
def test_columns_are_refused_likewise(
    path: str, tmp_path: Path, case: tuple[Make, Any, Any, str]
) -> None:
    make, x, y, words = case
    data = k5.H5Dataset(path, x=x, y=y, batch_size=8)
    with pytest.raises(ShapeError, match=f"Source.*{words}"):
        fit(make(), data, tmp_path)
    with pytest.raises(ShapeError, match=words):
        make().fit(data, verbose=0)


RIGHT: Final[dict[str, tuple[Make, Function]]] = {
    "the array": (chain, lambda x, y: (x, y)),
    "the keys": (two_inputs, lambda x, y: ({"b": x, "a": x}, y)),
    "keys for a list": (two_inputs_in_a_list, lambda x, y: ({"b": x, "a": x}, y)),
    "a tuple for a list": (two_inputs_in_a_list, lambda x, y: ((x, x), y)),
    "the keys of y": (two_outputs, lambda x, y: (x, {"value": x[:, 0], "kind": y})),
    "a tuple of y": (two_outputs_in_a_list, lambda x, y: (x, (y, x[:, 0]))),
    "a list of y": (two_outputs_in_a_list, lambda x, y: (x, [y, x[:, 0]])),
    "labels with an axis": (chain, lambda x, y: (x, y[:, None])),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("make", "function"), RIGHT.values(), ids=RIGHT)
def test_what_keras_takes_is_taken(
    path: str, tmp_path: Path, make: Make, function: Function
) -> None:
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8, transform=function)
    fit(make(), data, tmp_path)
    assert np.isfinite(make().fit(data, verbose=0).history["loss"][0])


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_an_output_without_a_loss_needs_no_y(path: str, tmp_path: Path) -> None:
    model = compiled(two_outputs(keyed=False), [SPARSE, None])
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8, transform=lambda x, y: (x, (y,)))
    fit(model, data, tmp_path)


def test_a_model_with_steps_of_its_own_takes_what_it_likes(path: str, tmp_path: Path) -> None:
    class Own(keras.Model):
        def compute_loss(
            self,
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            training: bool = True,
        ) -> Any:
            return keras.ops.mean(keras.ops.square(y_pred - keras.ops.cast(y["k"], "float32")[0]))

    a = keras.Input((4,), name="a")
    model = compiled(Own(a, keras.layers.Dense(1)(a)), None)
    data = k5.H5Dataset(path, x="x", y="y", transform=lambda x, y: (x, {"k": y, "w": y}))
    fit(model, data, tmp_path)


TYPES: Final[dict[str, tuple[Any, tuple[str, ...], str]]] = {
    "text": (lambda x: x.astype("U8"), ("jax", "torch"), "encode text as numbers"),
    "long double": (lambda x: x.astype("g"), ("jax", "tensorflow", "torch"), "'float64'"),
    "uint64": (lambda x: x.astype("u8"), ("torch",), "'int64'"),
    "dates": (lambda x: x.astype("i8").astype("M8[s]"), ("jax", "tensorflow", "torch"), "int64"),
}


@pytest.mark.parametrize(("change", "backends", "cure"), TYPES.values(), ids=TYPES)
def test_a_type_that_the_backend_does_not_take_is_refused(
    path: str, tmp_path: Path, change: Any, backends: tuple[str, ...], cure: str
) -> None:
    if BACKEND not in backends:
        pytest.skip("this backend takes it")
    data = k5.H5Dataset(path, x="x", y="y", transform=lambda x, y: (change(x), y))
    with pytest.raises(OptionError, match=f"values for x, which {BACKEND} does not.*{cure}"):
        fit(chain(), data, tmp_path)


def test_no_labels_from_a_transform_are_refused_by_both(path: str, tmp_path: Path) -> None:
    data = k5.H5Dataset(path, x="x", y="y", transform=lambda x, _: (x, None))
    with pytest.raises(KerasH5Error, match="as transform= returns it, has no y"):
        fit(chain(), data, tmp_path)


def test_batches_of_another_size_than_a_stateful_layer_takes_are_refused(path: str) -> None:
    with h5py.File(path, "r+") as file:
        file["series"] = np.zeros((ROWS, 5, 2), np.float32)
    layers = [keras.Input(batch_shape=(8, 5, 2)), keras.layers.GRU(3, stateful=True)]
    model = compiled(keras.Sequential(layers, name="net"), "mse")
    asked: dict[str, Any] = {"batch_size": 8}
    data = k5.H5Dataset(path, x="series", **asked)
    cure = r"last batch to {} on has 4; give {}rows= whose number divides by 8, such as slice"
    with pytest.raises(ShapeError, match=cure.format("fit", "drop_last=True, 'pad' or 'all', or ")):
        check_structure(model, data, "fit")
    tasks: tuple[Literal["evaluate", "predict"], ...] = ("evaluate", "predict")
    for task in tasks:
        others = "drop_last='pad' or 'all', or " if task == "evaluate" else "drop_last='pad', or "
        with pytest.raises(ShapeError, match=cure.format(task, others)):
            check_structure(model, k5.H5Dataset(path, x="series", drop_last=True, **asked), task)
    with pytest.raises(ShapeError, match="rows alone, and the data have batch_size=10"):
        check_structure(model, k5.H5Dataset(path, x="series", batch_size=10), "fit")
    with pytest.raises(ShapeError, match="last batch to predict on has 4"):
        k5.Trainer().predict(model, data)
    whole = k5.H5Dataset(path, x="series", rows=slice(0, 16), **asked)
    assert k5.Trainer().predict(model, whole).shape == (16, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("train.h5", r"is a str, .*: give an .*, such as H5DataModule\('train.h5', x=..., y=...,"),
        ((np.zeros(3), np.zeros(3)), "is a tuple, .*; model.fit takes arrays in memory, and k5.wr"),
    ],
    ids=["a path", "arrays"],
)
def test_a_trainer_says_what_it_takes_as_data(data: Any, words: str) -> None:
    trainer = k5.Trainer()
    for call in (trainer.fit, trainer.test, trainer.validate, trainer.predict):
        with pytest.raises(OptionError, match=words):
            call(chain(), data)
