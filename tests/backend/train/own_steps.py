"""Models with a `train_step` of their own, as keras.io has them, for the backend that is set.

None but "halves" has a `call`; none but "autoencoder" and "halves" trains with `model.optimizer`
alone. Each call of a builder gives the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import keras
import numpy as np

BACKEND: Final = keras.backend.backend()
WIDTH: Final = 6
ROWS: Final = np.random.default_rng(3).normal(size=(44, WIDTH)).astype("float32")


def descend(
    model: keras.Model, optimizer: Any, loss_of: Callable[[], Any], variables: Sequence[Any]
) -> Any:
    """Take a step of an optimizer on some variables; return the loss. Not on JAX."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of()
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss
    import torch

    model.zero_grad()
    loss = loss_of()
    loss.backward()
    with torch.no_grad():
        optimizer.apply([variable.value.grad for variable in variables], variables)
    return loss.detach()


def net(width: int, *units: int) -> keras.Sequential:
    layers = [keras.layers.Dense(each, activation="tanh") for each in units]
    return keras.Sequential([keras.Input((width,)), *layers])


class Autoencoder(keras.Model):
    """Takes x alone, as an array, and compares it with what it makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = net(WIDTH, 3), net(3, WIDTH)
        self.tracker = keras.metrics.Mean(name="loss")
        self.built = BACKEND != "tensorflow"  # where fit does not ask for it

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker]

    def loss_of(self, data: Any) -> Any:
        return keras.ops.mean(keras.ops.square(self.decoder(self.encoder(data)) - data))

    def train_step(self, *arguments: Any) -> Any:
        *state, data = arguments
        assert not isinstance(data, tuple | list)
        if state:
            return self.train_statelessly(state[0], data)
        weights = self.trainable_variables
        self.tracker.update_state(
            descend(self, self.optimizer, lambda: self.loss_of(data), weights)
        )
        return {"loss": self.tracker.result()}

    def test_step(self, *arguments: Any) -> Any:
        *state, data = arguments
        assert not isinstance(data, tuple | list)
        if not state:
            self.tracker.update_state(self.loss_of(data))
            return {"loss": self.tracker.result()}
        weights, others, metrics = state[0]
        pairs = list(zip(self.trainable_variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            loss = self.loss_of(data)
        metrics = self.tracker.stateless_update_state(metrics, loss)
        return {"loss": self.tracker.stateless_result(metrics)}, (weights, others, metrics)

    def train_statelessly(self, state: Any, data: Any) -> Any:
        import jax

        weights, others, slots, metrics = state

        def loss_of(values: Any) -> Any:
            pairs = list(zip(self.trainable_variables, values, strict=True))
            with keras.StatelessScope(state_mapping=pairs):
                return self.loss_of(data)

        loss, gradients = jax.value_and_grad(loss_of)(weights)
        weights, slots = self.optimizer.stateless_apply(slots, gradients, weights)
        metrics = self.tracker.stateless_update_state(metrics, loss)
        logs = {"loss": self.tracker.stateless_result(metrics)}
        return logs, (weights, others, slots, metrics)


class Gan(keras.Model):
    """Two networks with an optimizer each, noise from a seed generator, and no "loss"."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = net(4, WIDTH), net(WIDTH, 5, 1)
        self.seeds = keras.random.SeedGenerator(5)
        self.trackers = [keras.metrics.Mean(name="g_loss"), keras.metrics.Mean(name="d_loss")]
        self.built = BACKEND != "tensorflow"

    def compile(self, optimizers: Mapping[str, Any], **options: Any) -> None:
        super().compile(**options)
        self.optimizers = dict(optimizers)

    @property
    def metrics(self) -> list[Any]:
        return self.trackers

    def judge(self, noise: Any) -> Any:
        return keras.ops.mean(self.discriminator(self.generator(noise)))

    def train_step(self, *arguments: Any) -> Any:
        (data,) = arguments
        if isinstance(data, tuple):
            (data,) = data
        noise = keras.random.normal((keras.ops.shape(data)[0], 4), seed=self.seeds)
        found = [
            descend(self, self.optimizers[name], loss_of, net.trainable_variables)
            for name, net, loss_of in (
                ("g", self.generator, lambda: -self.judge(noise)),
                (
                    "d",
                    self.discriminator,
                    lambda: self.judge(noise) - keras.ops.mean(self.discriminator(data)),
                ),
            )
        ]
        for tracker, loss in zip(self.trackers, found, strict=True):
            tracker.update_state(loss)
        return {tracker.name: tracker.result() for tracker in self.trackers}


class StatelessGan(Gan):
    """The same on JAX: the generator's optimizer lends its variables to the model's state."""

    @property
    def non_trainable_variables(self) -> list[Any]:
        own: list[Any] = super().non_trainable_variables
        lent = self.optimizers["g"].variables if hasattr(self, "optimizers") else []
        return [*own, *lent]

    def train_step(self, *arguments: Any) -> Any:
        import jax

        (weights, others, slots, metrics), data = arguments
        names = {
            id(variable): place
            for place, variable in enumerate(
                [*self.trainable_variables, *self.non_trainable_variables]
            )
        }
        values = [*weights, *others]
        seed = names[id(self.seeds.state)]
        with keras.StatelessScope([(self.seeds.state, values[seed])]) as scope:
            noise = keras.random.normal((data.shape[0], 4), seed=self.seeds)
            values[seed] = scope.get_current_value(self.seeds.state)
        losses = []
        for name, net in (("g", self.generator), ("d", self.discriminator)):
            indices = [names[id(variable)] for variable in net.trainable_variables]

            def loss_of(some: Any, indices: Any = indices, name: str = name) -> Any:
                now = dict(enumerate(values)) | dict(zip(indices, some, strict=True))
                variables = [*self.trainable_variables, *self.non_trainable_variables]
                pairs = [(each, now[place]) for place, each in enumerate(variables)]
                with keras.StatelessScope(state_mapping=pairs):
                    fake = self.judge(noise)
                    return -fake if name == "g" else fake - keras.ops.mean(self.discriminator(data))

            loss, gradients = jax.value_and_grad(loss_of)([values[place] for place in indices])
            losses.append(loss)
            optimizer = self.optimizers[name]
            lent = None if name == "d" else [names[id(each)] for each in optimizer.variables]
            own = slots if lent is None else [values[place] for place in lent]
            some, own = optimizer.stateless_apply(
                own, gradients, [values[place] for place in indices]
            )
            for place, value in zip(indices, some, strict=True):
                values[place] = value
            if lent is None:
                slots = own
            else:
                for place, value in zip(lent, own, strict=True):
                    values[place] = value
        count = len(weights)
        halves = metrics[:2], metrics[2:]
        halves = tuple(
            tracker.stateless_update_state(list(half), loss)
            for tracker, half, loss in zip(self.trackers, halves, losses, strict=True)
        )
        logs = {
            tracker.name: tracker.stateless_result(half)
            for tracker, half in zip(self.trackers, halves, strict=True)
        }
        return logs, (values[:count], values[count:], slots, [*halves[0], *halves[1]])


class Halves(keras.Model):
    """A model with a `call`, whose halves are trained by two optimizers, one of them in a list.

    What it counts is where Keras does not look: in a tuple, and in the closure of its loss.
    """

    def compile(self, first: Any, second: Any, **options: Any) -> None:
        super().compile(first, **options)
        self.further = [second]
        count = keras.Variable(0.0, trainable=False, name="count")
        self.counts: Any = (lambda: count.assign(count + 1.0),)
        self.weight_of: Any = lambda: 1.0 / (1.0 + 0.1 * count)

    def train_step(self, data: Any) -> dict[str, Any]:
        variables = self.trainable_variables
        loss = 0.0
        for optimizer, some in ((self.optimizer, variables[:2]), (self.further[0], variables[2:])):
            loss = descend(self, optimizer, lambda: self.loss_of(data), some)
        for count in self.counts:
            count()
        return {"loss": loss}

    def loss_of(self, data: Any) -> Any:
        wrong = keras.ops.square(self(data, training=True) - data)
        return keras.ops.mean(wrong) * self.weight_of()


def seeded(make: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        keras.utils.set_random_seed(1)
        return make()

    return build


def adam() -> Any:
    return keras.optimizers.Adam(0.05)


@seeded
def autoencoder() -> keras.Model:
    model = Autoencoder()
    model.compile(adam())
    return model


@seeded
def gan() -> keras.Model:
    """Return a GAN; Keras' default optimizer is there and unused, but on JAX."""
    if BACKEND != "jax":
        model = Gan()
        model.compile({"g": adam(), "d": adam()})
        return model
    model = StatelessGan()
    optimizers = {"g": adam(), "d": adam()}
    optimizers["g"].build(model.generator.trainable_variables)
    optimizers["d"].build(model.discriminator.trainable_variables)
    model.compile(optimizers, optimizer=optimizers["d"])
    return model


@seeded
def gan_without_optimizer() -> keras.Model:
    model = Gan()
    model.compile({"g": adam(), "d": adam()}, optimizer=None)
    return model


@seeded
def halves() -> keras.Model:
    x = keras.Input((WIDTH,))
    model = Halves(x, keras.layers.Dense(WIDTH)(keras.layers.Dense(5, "tanh")(x)))
    model.compile(adam(), adam())
    return model


STATELESS: Final = {"autoencoder": autoencoder, "gan": gan}
BUILDERS: Final[dict[str, Callable[[], keras.Model]]] = (
    STATELESS
    if BACKEND == "jax"
    else {**STATELESS, "gan without optimizer": gan_without_optimizer, "halves": halves}
)
