"""Models of a user's own: subclassed, built late, with losses and layers from elsewhere."""

from typing import Any, Final

import keras
from keras import ops

from tests.backend.differential.kind import Kind
from tests.backend.differential.models import layers, stack


class Subclassed(keras.Model):
    """A model that makes its variables when it sees the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(6, activation="tanh")
        self.drop = keras.layers.Dropout(0.2, seed=1)
        self.answer = keras.layers.Dense(3, activation="softmax")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.answer(self.drop(self.hidden(x), training=training))


class OwnLoss(Subclassed):
    """Computes a loss of its own."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        given = super().compute_loss(x, y, y_pred, sample_weight, training=training)
        return given + ops.mean(y_pred**2)


class OwnMetrics(Subclassed):
    """Reports a number besides."""

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        found = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**found, "largest": ops.max(y_pred)}


class AddsLoss(Subclassed):
    """Adds a loss while it is called."""

    def call(self, x: Any, training: bool = False) -> Any:
        found = super().call(x, training=training)
        self.add_loss(0.1 * ops.mean(found**2))
        return found


class Chooses(Subclassed):
    """Does something else while it trains."""

    def call(self, x: Any, training: bool = False) -> Any:
        found = self.hidden(x)
        return self.answer(found * 2 if training else found)


def late(kind: type[keras.Model], **options: Any) -> Any:
    """Return a function that makes a model which is built by its first batch."""

    def build() -> keras.Model:
        model = kind()
        model.compile(
            **{
                "optimizer": keras.optimizers.Adam(0.01),
                "loss": "sparse_categorical_crossentropy",
                "metrics": ["accuracy"],
                **options,
            }
        )
        return model

    return build


def late_sequential() -> keras.Model:
    """Build a sequential model that does not know its input."""
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def of_module(make: Any) -> Any:
    """Return a function that builds a model around a module of PyTorch."""

    def build() -> keras.Model:
        import torch

        torch.manual_seed(0)
        return stack(lambda: keras.layers.TorchModuleWrapper(make(torch.nn)))()

    return build


def of_jax() -> keras.Model:
    """Build a model around a function of JAX."""

    def apply(params: Any, inputs: Any) -> Any:
        return inputs * params["scale"]

    import jax.numpy as jnp

    layer = keras.layers.JaxLayer(apply, params={"scale": jnp.ones((6,))})
    return stack(layers.Dense(6), lambda: layer)()


MODULES: Final[dict[str, Any]] = {
    "backends": ("torch",),
    "fault": "a module of PyTorch is not trained at all",
}

KINDS: Final = (
    Kind("a subclass built late", late(Subclassed), is_default=True),
    Kind("a sequential model built late", late_sequential),
    Kind("own compute_loss", late(OwnLoss)),
    Kind("own compute_metrics", late(OwnMetrics)),
    Kind("a model that adds a loss", late(AddsLoss)),
    Kind("a model that trains otherwise", late(Chooses)),
    Kind("a subclass, SGD", late(Subclassed, optimizer="sgd")),
    Kind(
        "TorchModuleWrapper(Linear)",
        of_module(lambda nn: nn.Linear(6, 5)),
        is_default=True,
        **MODULES,
    ),
    Kind(
        "TorchModuleWrapper(Linear, BatchNorm1d)",
        of_module(lambda nn: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))),
        **MODULES,
    ),
    Kind(
        "TorchModuleWrapper(Linear, Dropout)",
        of_module(lambda nn: nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5))),
        **MODULES,
    ),
    Kind("JaxLayer", of_jax, backends=("jax",)),
)
