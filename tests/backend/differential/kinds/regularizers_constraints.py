"""Regularizers and constraints on weights and on answers; initializers."""

from typing import Any, Final

import keras

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.layers_core import on_images, on_rows
from tests.backend.differential.models import (
    constraints,
    initializers,
    layers,
    regularizers,
    stack,
)

ADDS_UP: Final = "the reported loss adds up from step to step"


class MeanActivity(keras.layers.Layer):
    """Adds a loss of what it is given."""

    def call(self, x: Any) -> Any:
        self.add_loss(0.1 * keras.ops.mean(x**2))
        return x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class Quartic(keras.regularizers.Regularizer):
    """A regularizer of a user's own."""

    def __call__(self, x: Any) -> Any:
        return 0.01 * keras.ops.sum(x**4)


class Halved(keras.constraints.Constraint):
    """A constraint of a user's own."""

    def __call__(self, w: Any) -> Any:
        return keras.ops.clip(w, -0.5, 0.5)


REGULARIZERS: Final = (
    regularizers.L1(0.01),
    regularizers.L2(0.01),
    regularizers.OrthogonalRegularizer(0.01),
    regularizers.OrthogonalRegularizer(0.01, mode="columns"),
    regularizers.L1L2(0.0, 0.01),
)
CONSTRAINTS: Final = (
    constraints.MaxNorm(0.8),
    constraints.MaxNorm(0.8, axis=1),
    constraints.MinMaxNorm(0.2, 0.8, rate=0.5),
    constraints.NonNeg(),
    constraints.UnitNorm(),
)
INITIALIZERS: Final = (
    initializers.Constant(0.1),
    initializers.GlorotNormal(),
    initializers.GlorotUniform(seed=1),
    initializers.HeNormal(),
    initializers.HeUniform(),
    initializers.IdentityInitializer(0.5),
    initializers.LecunNormal(),
    initializers.LecunUniform(),
    initializers.Ones(),
    initializers.OrthogonalInitializer(),
    initializers.RandomNormal(stddev=0.2),
    initializers.RandomUniform(-0.2, 0.2),
    initializers.TruncatedNormal(stddev=0.2),
    initializers.VarianceScaling(0.5),
    initializers.Zeros(),
)

KINDS: Final = (
    *(on_rows(layers.Dense(6, kernel_regularizer=part)) for part in REGULARIZERS),
    Kind(
        "Dense(kernel_regularizer=L1L2(0.01, 0.01))",
        stack(layers.Dense(6, kernel_regularizer=regularizers.L1L2(0.01, 0.01))),
        fault=ADDS_UP,
        is_default=True,
    ),
    Kind(
        "ActivityRegularization(0.1, 0.1)",
        stack(layers.Dense(6), layers.ActivityRegularization(0.1, 0.1)),
        fault=ADDS_UP,
    ),
    on_rows(layers.Dense(6, bias_regularizer="l1", kernel_regularizer="l1_l2")),
    on_rows(layers.Dense(6, activity_regularizer="l2")),
    on_rows(layers.Dense(6, activity_regularizer=regularizers.L1L2(0.01, 0.02))),
    on_images(layers.Conv2D(3, 3, activity_regularizer="l1", bias_regularizer="l2")),
    Kind("own regularizer", stack(lambda: keras.layers.Dense(6, kernel_regularizer=Quartic()))),
    *(on_rows(layers.Dense(6, kernel_constraint=part)) for part in CONSTRAINTS),
    on_rows(
        layers.Dense(6, kernel_constraint="max_norm", bias_constraint="non_neg"),
        layers.Dense(6, kernel_constraint="unit_norm"),
    ),
    on_images(layers.Conv2D(3, 3, kernel_constraint=constraints.MaxNorm(0.5, axis=[0, 1, 2]))),
    Kind("own constraint", stack(lambda: keras.layers.Dense(6, kernel_constraint=Halved()))),
    Kind("a layer that adds a loss", stack(layers.Dense(5), MeanActivity), is_default=True),
    *(on_rows(layers.Dense(6, kernel_initializer=part)) for part in INITIALIZERS),
)
