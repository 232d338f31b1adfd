"""Optimizer, loss and metrics of a model's recipe; objects of Keras by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from kerash5._errors import OptionError
from kerash5._keywords import suggest
from kerash5.zoo._info import ModelInfo, Recipe


def compile_model(
    model: object, info: ModelInfo, learning_rate: float | None, decay_steps: int | None
) -> keras.Model:
    """Compile a model by its recipe, in place; of a compiled one only change the learning rate.

    Args:
        model: What the function of a model returned.
        info: The model's.
        learning_rate: As in `build`.
        decay_steps: As in `build`.

    Raises:
        OptionError: It is no model, or the recipe names no optimizer of Keras.
    """
    if not isinstance(model, keras.Model):
        raise OptionError(
            f"model {info.name!r} returned a {type(model).__name__}; it must return a keras.Model"
        )
    if model.compiled:
        if learning_rate is not None:
            model.optimizer.learning_rate = learning_rate
        return model
    # For a single class Keras would choose the binary loss and metric.
    is_single = isinstance(model.output_shape, tuple) and model.output_shape[-1] == 1
    sparse = keras.metrics.SparseCategoricalAccuracy
    model.compile(
        optimizer=make_optimizer(info.recipe, learning_rate, decay_steps),
        # Keras chooses the sparse or categorical variant by the shape of the labels.
        loss="sparse_categorical_crossentropy"
        if is_single and info.loss == "crossentropy"
        else info.loss,
        metrics=[
            sparse(name=each) if is_single and each == "accuracy" else each for each in info.metrics
        ],
    )
    return model


def make_optimizer(
    recipe: Recipe, learning_rate: float | None, decay_steps: int | None
) -> keras.optimizers.Optimizer:
    """Return the optimizer of a recipe, with its schedule if `decay_steps` is known."""
    rate: Any = recipe.learning_rate if learning_rate is None else learning_rate
    if recipe.decay is not None and decay_steps is not None:
        rate = keras.optimizers.schedules.CosineDecay(rate, decay_steps)
    made: keras.optimizers.Optimizer = make_by_name(
        keras.optimizers, recipe.optimizer, {"learning_rate": rate, **recipe.optimizer_options}
    )
    return made


def make_by_name(module: Any, name: str, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401  Keras'
    """Return an object of a Keras class, whose name is matched case-insensitively.

    Args:
        module: A module of Keras, such as `keras.optimizers`.
        name: Name of a class in it.
        arguments: Arguments of the class.

    Raises:
        OptionError: There is no such class, or it does not accept the arguments.
    """
    classes = {each.lower(): each for each in dir(module) if each[0].isupper()}
    if name.lower() not in classes:
        where = module.__name__.removeprefix("keras._tf_keras.")
        raise OptionError(f"{where} has no {name!r}{suggest(name, list(classes.values()))}")
    try:
        return getattr(module, classes[name.lower()])(**arguments)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} with {dict(arguments)}: {error}") from error
