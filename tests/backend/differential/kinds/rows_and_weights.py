"""Weights of classes and rows, transforms, sizes of batches, and several fits of one model."""

from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from tests.backend.differential.kind import Fit, Kind
from tests.backend.differential.models import layers, metrics, optimizers, stack
from tests.backend.differential.rows import BATCH_SIZE, COLUMNS, NUM_ROWS

SMALL: Final = stack(layers.Dense(6, activation="relu"))
ADAM: Final = stack(layers.Dense(6), layers.Dense(6), optimizer=optimizers.Adam(0.01))
ONE_HOT: Final = stack(layers.Dense(6), loss="categorical_crossentropy")
WEIGHTED: Final = stack(layers.Dense(6), weighted_metrics=[metrics.SparseCategoricalAccuracy()])
CLASS_WEIGHT: Final = {"class_weight": {0: 1.0, 1: 3.0, 2: 0.2}}
BUFFER: Final = np.empty((NUM_ROWS, 6), np.float32)
BY_NAME: Final = {"a": "vector", "b": "other"}


def scaled(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale the inputs."""
    return x * 2 + 1, y


def scaled_into_a_buffer(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale the inputs into memory that the next batch uses again."""
    out = BUFFER[: len(x)]
    np.multiply(x, 2, out=out)
    return out, y


def in_any_order(x: dict[str, Any], y: Any) -> tuple[dict[str, Any], Any]:
    """Return the inputs by name, in an order that depends on the rows."""
    a, b = x["a"], x["b"] * 3
    return ({"a": a, "b": b} if a[0, 0] > 0 else {"b": b, "a": a}), y


def two_inputs() -> keras.Model:
    """Build a model that treats its two inputs differently."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    hidden = keras.layers.Dense(6)(a) - 2 * keras.layers.Dense(6)(b)
    answer = keras.layers.Dense(3, activation="softmax")(hidden)
    model = keras.Model({"a": a, "b": b}, answer)
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    return model


def plain(model: keras.Model) -> None:
    """Train an epoch by `fit`, whoever trains the rest."""
    x, y = COLUMNS["vector"], COLUMNS["label"]
    keras.utils.set_random_seed(1)
    model.fit(x, y, batch_size=BATCH_SIZE, shuffle=False, verbose=0)


def compile_anew(model: keras.Model, **options: Any) -> None:
    """Compile with another optimizer."""
    loss = "sparse_categorical_crossentropy"
    model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": loss, **options})


def twice(model: keras.Model, fit: Fit) -> None:
    """Fit twice."""
    fit(2)
    fit(2)


def freeze_between(model: keras.Model, fit: Fit) -> None:
    """Freeze a layer between two fits, without compiling."""
    fit(1)
    model.layers[0].trainable = False
    fit(1)


def freeze_and_compile(model: keras.Model, fit: Fit) -> None:
    """Freeze a layer between two fits, and compile."""
    fit(1)
    model.layers[0].trainable = False
    compile_anew(model)
    fit(1)


def unfreeze_and_compile(model: keras.Model, fit: Fit) -> None:
    """Fine-tune: train the head, then all."""
    model.layers[0].trainable = False
    compile_anew(model)
    fit(1)
    model.layers[0].trainable = True
    compile_anew(model)
    fit(1)


def compile_between(model: keras.Model, fit: Fit) -> None:
    """Compile another loss and optimizer between two fits."""
    fit(1)
    loss = keras.losses.SparseCategoricalCrossentropy()
    compile_anew(model, optimizer=keras.optimizers.RMSprop(0.01), loss=loss, metrics=["accuracy"])
    fit(1)


def other_rate(model: keras.Model, fit: Fit) -> None:
    """Change hyperparameters between two fits."""
    fit(1)
    model.optimizer.learning_rate = 0.1
    fit(1)


def other_beta(model: keras.Model, fit: Fit) -> None:
    """Change a hyperparameter that is no variable between two fits."""
    fit(1)
    model.optimizer.beta_1 = 0.5
    fit(1)


def plain_first(model: keras.Model, fit: Fit) -> None:
    """Train by `fit` first."""
    plain(model)
    fit(1)


def plain_between(model: keras.Model, fit: Fit) -> None:
    """Train by `fit` in between."""
    fit(1)
    plain(model)
    fit(1)


def shared() -> keras.Model:
    """Build a model with two variables of one value."""
    model = stack(layers.Dense(6, activation="tanh"), layers.Dense(6, activation="tanh"))()
    for first, second in zip(model.layers[0].weights, model.layers[1].weights, strict=True):
        second.assign(keras.ops.convert_to_numpy(first).copy())
    return model


KINDS: Final = (
    Kind("class weights", WEIGHTED, fit_options=CLASS_WEIGHT, is_default=True),
    Kind(
        "class weights of one class", SMALL, fit_options={"class_weight": {0: 1.0, 1: 3.0, 2: 1.0}}
    ),
    Kind("class weights of one-hot labels", ONE_HOT, y="one_hot", fit_options=CLASS_WEIGHT),
    Kind("class weights, validated", WEIGHTED, fit_options=CLASS_WEIGHT, is_validated=True),
    Kind("row weights", WEIGHTED, sample_weight="weight", is_default=True),
    Kind("row weights, validated", WEIGHTED, sample_weight="weight", is_validated=True),
    Kind("row weights of zero", WEIGHTED, sample_weight="weight_zeros"),
    Kind("transform", SMALL, transform=scaled),
    Kind(
        "transform into a buffer",
        SMALL,
        transform=scaled_into_a_buffer,
        is_default=True,
        fault="a transform that returns the same buffer again trains on the last batch",
    ),
    Kind(
        "transform in any order of names",
        two_inputs,
        BY_NAME,
        transform=in_any_order,
        fault="a transform whose dict changes its key order swaps inputs",
        is_default=True,
    ),
    Kind("inputs by name", two_inputs, BY_NAME),
    Kind("inputs by name, other order", two_inputs, dict(reversed(BY_NAME.items()))),
    Kind(
        "batches of one row",
        stack(layers.Dense(6), layers.LayerNormalization()),
        batch_size=1,
        epochs=1,
    ),
    Kind("one batch", SMALL, batch_size=64),
    Kind("batches that fit", SMALL, batch_size=11),
    Kind("two variables of one value", shared),
    Kind("two fits", ADAM, drive=twice),
    Kind("freeze between fits", ADAM, drive=freeze_between),
    Kind("freeze and compile between fits", ADAM, drive=freeze_and_compile, is_default=True),
    Kind("unfreeze and compile between fits", ADAM, drive=unfreeze_and_compile),
    Kind("compile between fits", ADAM, drive=compile_between),
    Kind("another rate between fits", ADAM, drive=other_rate),
    Kind("another beta between fits", ADAM, drive=other_beta),
    Kind("plain fit, then fit", ADAM, drive=plain_first),
    Kind("fit, plain fit, fit", ADAM, drive=plain_between),
)
