"""Every activation of Keras by name, in a layer of its own and inside others."""

import inspect
from typing import Any, Final

import keras

from tests.backend.differential.kind import Kind
from tests.backend.differential.models import classify, graph, layers, stack

_NOT_ACTIVATIONS: Final = ("deserialize", "get", "serialize")
NAMES: Final = tuple(
    name
    for name, value in vars(keras.activations).items()
    if inspect.isfunction(value) and name not in _NOT_ACTIVATIONS
)


def rectified(x: Any) -> Any:
    """Return what is above a threshold."""
    return keras.activations.threshold(x, 0.1, 0.0)


_DEFAULT: Final = ("relu", "sparsemax")

KINDS: Final = (
    *(
        Kind(
            f"Dense(activation={name!r})",
            stack(layers.Dense(6, activation=name)),
            epochs=2,
            is_default=name in _DEFAULT,
        )
        for name in NAMES
        # One halves the answers, the other needs to be told what to compare with.
        if name not in ("glu", "threshold")
    ),
    Kind("threshold", stack(layers.Dense(6, activation=rectified))),
    Kind("glu", graph(lambda x: classify(keras.activations.glu(keras.layers.Dense(6)(x))))),
    *(
        Kind(f"Activation({name!r}) after Dense", stack(layers.Dense(6), layers.Activation(name)))
        for name in ("gelu", "softplus", "tanh", "hard_silu")
    ),
    *(
        Kind(f"{part} after Dense", stack(layers.Dense(6), part))
        for part in (
            layers.ReLU(),
            layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.05),
            layers.LeakyReLU(negative_slope=0.2),
            layers.ELU(alpha=0.5),
            layers.PReLU(),
            layers.PReLU(alpha_initializer="ones", alpha_regularizer="l2"),
            layers.Softmax(),
            layers.Softmax(axis=0),
        )
    ),
    Kind(
        "PReLU with shared axes",
        stack(layers.PReLU(shared_axes=[1, 2]), layers.Flatten(), shape=(8, 8, 3)),
        x="image",
    ),
)
