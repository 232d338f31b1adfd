"""What callbacks change between epochs and batches: frozen layers, weights, hyperparameters."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import keras

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.callbacks import (
    AtBatchBegin,
    AtBatchEnd,
    AtEpochEnd,
    begins,
)
from tests.backend.differential.kinds.optimizers import ADAM, trained_by
from tests.backend.differential.models import (
    constraints,
    layers,
    optimizers,
    regularizers,
    stack,
)

FREEZES: Final = "a callback that freezes a layer between epochs is not seen"
FROZEN: Final = "a hyperparameter that a callback sets is frozen"


def setting(name: str, value: Callable[[int], Any]) -> Callable[[], Sequence[Any]]:
    """Return a function that makes a callback which sets an attribute of the optimizer."""
    return begins(lambda model, epoch: setattr(model.optimizer, name, value(epoch)))


def freeze(model: keras.Model, epoch: int) -> None:
    """Freeze the first layer in the second epoch alone."""
    model.layers[0].trainable = epoch != 1


def unfreeze(model: keras.Model, epoch: int) -> None:
    """Let the first layer learn from the second epoch on."""
    if epoch >= 1:
        model.layers[0].trainable = True


def begun_frozen() -> keras.Model:
    """Build a model whose first layer is frozen, and an optimizer that knows of its weights."""
    model = THREE()
    model.optimizer.build(model.trainable_variables)
    model.layers[0].trainable = False
    return model


def halve(model: keras.Model, _epoch: int) -> None:
    """Halve all weights."""
    model.set_weights([weight * 0.5 for weight in model.get_weights()])


def rate(model: keras.Model, number: int) -> None:
    """Set a learning rate by number."""
    model.optimizer.learning_rate = 0.02 * (number + 1)


THREE: Final = stack(layers.Dense(6), layers.Dense(6), layers.Dense(6))
SHAPES: Final = stack(layers.Dense(4), layers.Dense(7), layers.Dense(9))
KINDS: Final = (
    Kind("a layer is frozen, SGD", THREE, callbacks=begins(freeze), fault=FREEZES, is_default=True),
    Kind(
        "a layer is frozen, Adam",
        stack(layers.Dense(6), layers.Dense(6), optimizer=optimizers.Adam(0.01)),
        callbacks=begins(freeze),
        fault=FREEZES,
        **ADAM,
    ),
    Kind("a layer is frozen, shapes differ", SHAPES, callbacks=begins(freeze), fault=FREEZES),
    Kind(
        "a layer is unfrozen",
        begun_frozen,
        callbacks=begins(unfreeze),
        fault=FREEZES,
        is_default=True,
    ),
    Kind(
        "a batch normalization is frozen",
        stack(layers.BatchNormalization(), layers.Dense(6)),
        callbacks=begins(freeze),
        fault=FREEZES,
    ),
    Kind(
        "a batch normalization without weights is frozen",
        stack(layers.BatchNormalization(scale=False, center=False), layers.Dense(6)),
        callbacks=begins(freeze),
        fault=FREEZES,
    ),
    Kind("weights are halved", THREE, callbacks=begins(halve)),
    Kind("weights are halved at the end", THREE, callbacks=lambda: [AtEpochEnd(halve)]),
    Kind("weights are halved at each batch", THREE, callbacks=lambda: [AtBatchEnd(halve)]),
    Kind("learning rate by epoch", THREE, callbacks=begins(rate)),
    Kind("learning rate by batch", THREE, callbacks=lambda: [AtBatchBegin(rate)]),
    Kind("learning rate by batch, at its end", THREE, callbacks=lambda: [AtBatchEnd(rate)]),
    Kind(
        "momentum",
        trained_by(optimizers.SGD(0.05, momentum=0.9)),
        fault=FROZEN,
        is_baked=True,
        callbacks=setting("momentum", lambda epoch: 0.9 - 0.3 * epoch),
    ),
    Kind(
        "beta_1",
        trained_by(optimizers.Adam(0.01)),
        fault=FROZEN,
        is_baked=True,
        callbacks=setting("beta_1", lambda epoch: 0.9 - 0.3 * epoch),
        **ADAM,
    ),
    Kind(
        "weight_decay",
        trained_by(optimizers.AdamW(0.01, weight_decay=0.01)),
        fault=FROZEN,
        is_baked=True,
        callbacks=setting("weight_decay", lambda epoch: 0.3 * (epoch + 1)),
        **ADAM,
    ),
    Kind(
        "clipnorm",
        trained_by(optimizers.SGD(0.1, clipnorm=10.0)),
        fault=FROZEN,
        is_baked=True,
        callbacks=setting("clipnorm", lambda epoch: 0.1 / (epoch + 1)),
        is_default=True,
    ),
    Kind(
        "global_clipnorm",
        trained_by(optimizers.SGD(0.1, global_clipnorm=10.0)),
        fault=FROZEN,
        is_baked=True,
        callbacks=setting("global_clipnorm", lambda epoch: 0.1 / (epoch + 1)),
    ),
    Kind(
        "clipvalue",
        trained_by(optimizers.SGD(0.1, clipvalue=10.0)),
        fault=FROZEN,
        is_baked=True,
        callbacks=setting("clipvalue", lambda epoch: 0.01 / (epoch + 1)),
    ),
    Kind(
        "activation",
        stack(layers.Dense(6, activation="relu")),
        fault=FROZEN,
        is_baked=True,
        callbacks=begins(
            lambda model, epoch: setattr(
                model.layers[0],
                "activation",
                keras.activations.tanh if epoch else keras.activations.relu,
            )
        ),
    ),
    Kind(
        "regularizer",
        stack(layers.Dense(6, kernel_regularizer=regularizers.L2(0.01))),
        fault=FROZEN,
        is_baked=True,
        callbacks=begins(
            lambda model, epoch: setattr(
                model.layers[0].kernel.regularizer, "l2", 0.1 * (epoch + 1)
            )
        ),
    ),
    Kind(
        "constraint",
        stack(layers.Dense(6, kernel_constraint=constraints.MaxNorm(2.0))),
        fault=FROZEN,
        is_baked=True,
        callbacks=begins(
            lambda model, epoch: setattr(
                model.layers[0].kernel.constraint, "max_value", 1.0 / (epoch + 1)
            )
        ),
    ),
    Kind(
        "constraint that was not there",
        stack(layers.Dense(6)),
        fault=FROZEN,
        is_baked=True,
        callbacks=begins(
            lambda model, epoch: setattr(
                model.layers[0].kernel,
                "constraint",
                keras.constraints.MaxNorm(0.3) if epoch else None,
            )
        ),
    ),
    Kind(
        "dropout rate",
        stack(layers.Dense(6), layers.Dropout(0.1, seed=1), layers.Dense(6)),
        fault=FROZEN,
        is_baked=True,
        callbacks=begins(
            lambda model, epoch: setattr(model.layers[1], "rate", 0.1 if epoch < 1 else 0.9)
        ),
    ),
    Kind(
        "epsilon of a normalization",
        stack(layers.LayerNormalization()),
        fault=FROZEN,
        is_baked=True,
        callbacks=begins(
            lambda model, epoch: setattr(model.layers[0], "epsilon", 0.5 * epoch + 1e-3)
        ),
    ),
    Kind(
        "momentum of a batch normalization",
        stack(layers.BatchNormalization()),
        fault=FROZEN,
        is_baked=True,
        callbacks=begins(
            lambda model, epoch: setattr(model.layers[0], "momentum", 0.9 / (epoch + 1))
        ),
    ),
)
