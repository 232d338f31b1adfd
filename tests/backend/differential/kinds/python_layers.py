"""Layers, schedules and optimizers that hold state outside Keras' variables, and Lambdas.

What is counted in Python cannot be resumed, and what is drawn or counted while a step is compiled
depends on how often that happens: such kinds are for PyTorch alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import keras
import numpy as np
from keras import ops

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.callbacks import AtEpochBegin
from tests.backend.differential.kinds.python_state import (
    BOX,
    DRAWN,
    FROZEN,
    IN_PYTHON,
    RANDOM,
    TORCH,
    by_epoch,
)
from tests.backend.differential.models import layers, optimizers, own, stack

# Layers.


class Scaled(keras.layers.Layer):
    """Multiplies by an attribute that a callback changes."""

    scale = 1.0

    def call(self, x: Any) -> Any:
        return x * self.scale

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class ScaledDense(keras.layers.Dense):
    """A dense layer that multiplies by an attribute that a callback changes."""

    scale = 1.0

    def call(self, x: Any, training: Any = None) -> Any:
        return super().call(x) * self.scale


class CountingLayer(Scaled):
    """Counts its calls in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def call(self, x: Any) -> Any:
        self.calls += 1
        return x * (1 + 0.1 * self.calls)


class VariableLayer(keras.layers.Layer):
    """Counts training steps and averages inputs in variables of its own."""

    def build(self, input_shape: Any) -> None:
        self.count = self.add_weight(initializer="zeros", trainable=False, name="count")
        self.mean = self.add_weight(initializer="zeros", trainable=False, name="mean")

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.count.assign_add(1.0)
            self.mean.assign(self.mean * 0.9 + ops.mean(x))
        return x * (1 + 0.01 * self.count) + self.mean

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class ScaledCell(keras.layers.Layer):
    """A recurrent cell that multiplies by an attribute that a callback changes."""

    scale = 1.0
    state_size = 4
    output_size = 4

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], 4), name="kernel")
        self.recurrent = self.add_weight(shape=(4, 4), name="recurrent")

    def call(self, x: Any, states: Any, training: Any = None) -> Any:
        (state,) = states
        found = ops.tanh(ops.matmul(x, self.kernel) * self.scale + state @ self.recurrent)
        return found, [found]


def both_ways() -> keras.layers.Layer:
    """Make a layer that runs a cell in both directions."""
    forward = keras.layers.RNN(ScaledCell())
    backward = keras.layers.RNN(ScaledCell(), go_backwards=True)
    return keras.layers.Bidirectional(forward, backward_layer=backward)


def rescaled(find: Callable[[keras.Model], Any]) -> Callable[[], Sequence[Any]]:
    """Return a function that makes a callback which sets the attribute of a layer."""
    return lambda: [AtEpochBegin(lambda model, epoch: setattr(find(model), "scale", 1.0 + epoch))]


def of_lambda(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function that builds a model around a function as a layer."""

    def build() -> keras.Model:
        BOX.value = 1.0
        layer = layers.Lambda(function, output_shape=lambda shape: shape)
        return stack(layers.Dense(6), layer)()

    return build


def count_calls(x: Any) -> Any:
    """Count calls in the number."""
    BOX.value += 1
    return x * (1 + 0.1 * BOX.value)


# Schedules and optimizers.


class CountingSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Counts its calls in Python."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: Any) -> Any:
        self.calls += 1
        return 0.01 * self.calls


class BoxedSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Returns a number that a callback changes."""

    def __call__(self, step: Any) -> Any:
        return 0.01 * BOX.value


class CountingSGD(keras.optimizers.SGD):
    """Counts updates in Python."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__(learning_rate)
        self.calls = 0

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        self.calls += 1
        scaled = [grad * (1 + 0.1 * self.calls) for grad in grads]
        return super().apply(scaled, trainable_variables)


class VariableSGD(keras.optimizers.SGD):
    """Counts updates in a variable that the optimizer does not know of."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__(learning_rate)
        self.held = [keras.Variable(0.0, trainable=False)]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.held[0].assign_add(0.1)
        super().update_step(gradient * (1 + self.held[0]), variable, learning_rate)


def box_rate() -> Any:
    """Return a learning rate that a callback changes."""
    return 0.01 * BOX.value


def boxed(optimizer: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function that builds a model, with the number as it is at first."""

    def build() -> keras.Model:
        BOX.value = 1.0
        return stack(layers.Dense(6, activation="tanh"), optimizer=optimizer)()

    return build


LAYERS: Final = (
    Kind(
        "attribute of a layer",
        stack(layers.Dense(5), Scaled),
        fault=FROZEN,
        is_baked=True,
        callbacks=rescaled(lambda model: model.layers[1]),
        is_default=True,
    ),
    Kind(
        "attribute of a layer in TimeDistributed",
        stack(lambda: keras.layers.TimeDistributed(Scaled()), layers.Flatten(), shape=(5, 3)),
        "sequence",
        fault=FROZEN,
        is_baked=True,
        callbacks=rescaled(lambda model: model.layers[0].layer),
    ),
    Kind(
        "attribute of a recurrent cell",
        stack(lambda: keras.layers.RNN(ScaledCell()), shape=(5, 3)),
        "sequence",
        fault=FROZEN,
        is_baked=True,
        callbacks=rescaled(lambda model: model.layers[0].cell),
    ),
    Kind(
        "attribute of a cell in Bidirectional",
        stack(both_ways, shape=(5, 3)),
        "sequence",
        fault=FROZEN,
        is_baked=True,
        callbacks=rescaled(lambda model: model.layers[0].forward_layer.cell),
    ),
    Kind(
        "attribute of a layer in SpectralNormalization",
        stack(lambda: keras.layers.SpectralNormalization(ScaledDense(5))),
        fault=FROZEN,
        is_baked=True,
        callbacks=rescaled(lambda model: model.layers[0].layer),
    ),
    Kind(
        "attribute of a layer in a Pipeline",
        stack(lambda: keras.layers.Pipeline([Scaled()]), layers.Dense(5)),
        fault=FROZEN,
        is_baked=True,
        callbacks=rescaled(lambda model: model.layers[0].layers[0]),
    ),
    Kind(
        "attribute of a layer that is an activation",
        stack(lambda: keras.layers.Dense(5, activation=Scaled())),
        fault=FROZEN,
        is_baked=True,
        callbacks=rescaled(lambda model: model.layers[0].activation),
    ),
    Kind(
        "attribute of a layer in a model",
        stack(lambda: keras.Sequential([keras.layers.Dense(5), Scaled()])),
        fault=FROZEN,
        is_baked=True,
        callbacks=rescaled(lambda model: model.layers[0].layers[1]),
    ),
    Kind("layer that counts in Python", stack(layers.Dense(5), CountingLayer), **IN_PYTHON),
    Kind(
        "layer that counts in Python, jit_compile=True",
        stack(layers.Dense(5), CountingLayer, jit_compile=True),
        **IN_PYTHON,
    ),
    Kind("layer that counts in variables", stack(layers.Dense(5), VariableLayer), is_default=True),
    Kind(
        "activation that closes over a number",
        stack(lambda: keras.layers.Dense(5, activation=lambda x: ops.relu(x) * BOX.value)),
        callbacks=by_epoch,
        fault=FROZEN,
        is_baked=True,
    ),
)
LAMBDAS: Final = (
    Kind(
        "Lambda of a number in Python",
        of_lambda(lambda x: x * BOX.value),
        callbacks=by_epoch,
        fault=FROZEN,
        is_baked=True,
        is_default=True,
    ),
    Kind("Lambda that counts", of_lambda(count_calls), **IN_PYTHON),
    Kind("Lambda that draws from NumPy", of_lambda(lambda x: x * float(np.random.rand())), **DRAWN),  # noqa: NPY002  as users do
    Kind(
        "Lambda that draws without a seed",
        of_lambda(lambda x: x + keras.random.normal(ops.shape(x))),
        backends=TORCH,
        fault=RANDOM,
        why_not_resumed="Keras' global seed is in no checkpoint",
    ),
    Kind(
        "Lambda: cond on values",
        of_lambda(lambda x: ops.cond(ops.mean(x) > 0, lambda: x * 2, lambda: x)),
    ),
    Kind(
        "Lambda: cond on a constant",
        of_lambda(lambda x: ops.cond(ops.convert_to_tensor(True), lambda: x * 2, lambda: x)),
    ),
    Kind(
        "Lambda: Python's if on values",
        of_lambda(lambda x: x * 2 if float(ops.mean(x)) > 0 else x),
        backends=TORCH,
        fault=FROZEN,
        is_baked=True,
    ),
    Kind(
        "Lambda: NumPy's mean of values",
        of_lambda(lambda x: x * 2 if x.detach().cpu().numpy().mean() > 0 else x),
        backends=TORCH,
        fault=FROZEN,
        is_baked=True,
    ),
    Kind(
        "Lambda: boolean mask",
        of_lambda(lambda x: x + ops.sum(x[x > 0])),
        backends=("tensorflow", "torch"),
        fault="shapes of the first batch",
        is_default=True,
    ),
    Kind(
        "Lambda: while_loop that counts",
        of_lambda(
            lambda x: ops.while_loop(lambda i, _: i < 3, lambda i, s: (i + 1, s * 0.5), (0, x))[1]
        ),
        backends=TORCH,
    ),
    Kind(
        "Lambda: while_loop on values",
        of_lambda(
            lambda x: ops.while_loop(
                lambda s: ops.mean(ops.abs(s)) > 0.1, lambda s: (s * 0.5,), (x,)
            )[0]
        ),
        backends=TORCH,
    ),
    Kind(
        "Lambda: fori_loop", of_lambda(lambda x: ops.fori_loop(0, 3, lambda i, s: s + x * 0.1, x))
    ),
    Kind(
        "Lambda: scan",
        of_lambda(
            lambda x: ops.transpose(
                ops.scan(lambda c, a: (c + a, c + a), ops.zeros_like(x[:, 0]), ops.transpose(x))[1]
            )
        ),
    ),
    Kind(
        "Lambda: associative_scan",
        of_lambda(lambda x: ops.associative_scan(lambda a, b: a + b, x, axis=1)),
    ),
    Kind(
        "Lambda: switch",
        of_lambda(
            lambda x: ops.switch(
                ops.cast(ops.sum(x) > 0, "int32"), [lambda a: a, lambda a: 2 * a], x
            )
        ),
    ),
)
UPDATES: Final = (
    Kind(
        "schedule that counts in Python",
        boxed(optimizers.SGD(own(CountingSchedule))),
        **IN_PYTHON,
    ),
    Kind(
        "schedule of a number in Python",
        boxed(optimizers.SGD(own(BoxedSchedule))),
        callbacks=by_epoch,
        fault=FROZEN,
        is_baked=True,
    ),
    Kind(
        "learning rate that is a function",
        boxed(optimizers.SGD(box_rate)),
        callbacks=by_epoch,
        fault=FROZEN,
        is_baked=True,
        is_default=True,
    ),
    Kind("optimizer that counts in Python", boxed(own(CountingSGD, 0.01)), **IN_PYTHON),
    Kind(
        "optimizer that counts in a variable",
        boxed(own(VariableSGD, 0.01)),
        backends=("tensorflow", "torch"),
        fault=FROZEN,
    ),
)

KINDS: Final = (*LAYERS, *LAMBDAS, *UPDATES)
