"""Models with a `train_step` of their own, as the guides of keras.io have them."""

from typing import Any, Final

import keras
from keras import ops

from tests.backend.differential.kind import Kind

NESTED: Final = "logs that are nested or Python floats end the epoch with an error"
NO_CALL: Final = "a model without call cannot be built"
TWO: Final = ("tensorflow", "torch")


def torch_step(model: Any, data: Any) -> dict[str, Any]:
    """Run the training step of keras.io's guide for PyTorch."""
    import torch

    x, y = data
    model.zero_grad()
    answer = model(x, training=True)
    loss = model.compute_loss(y=y, y_pred=answer)
    loss.backward()
    gradients = [each.value.grad for each in model.trainable_weights]
    with torch.no_grad():
        model.optimizer.apply(gradients, model.trainable_weights)
    for metric in model.metrics:
        if metric.name == "loss":
            metric.update_state(loss)
        else:
            metric.update_state(y, answer)
    return {"loss": loss}


def tensorflow_step(model: Any, data: Any) -> dict[str, Any]:
    """Run the training step of keras.io's guide for TensorFlow."""
    import tensorflow as tf

    x, y = data
    with tf.GradientTape() as tape:
        answer = model(x, training=True)
        loss = model.compute_loss(y=y, y_pred=answer)
    gradients = tape.gradient(loss, model.trainable_variables)
    model.optimizer.apply(gradients, model.trainable_variables)
    for metric in model.metrics:
        if metric.name == "loss":
            metric.update_state(loss)
        else:
            metric.update_state(y, answer)
    return {"loss": loss}


def jax_step(model: Any, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
    """Run the training step of keras.io's guide for JAX."""
    import jax

    trainable, other, slots, counters = state
    x, y = data

    def lose(trainable: Any) -> Any:
        answer, changed = model.stateless_call(trainable, other, x, training=True)
        return model.compute_loss(x, y, answer), (answer, changed)

    (loss, (answer, other)), gradients = jax.value_and_grad(lose, has_aux=True)(trainable)
    trainable, slots = model.optimizer.stateless_apply(slots, gradients, trainable)
    logs = {"loss": loss}
    changed: list[Any] = []
    for metric in model.metrics:
        mine = counters[len(changed) : len(changed) + len(metric.variables)]
        if metric.name == "loss":
            mine = metric.stateless_update_state(mine, loss)
        else:
            mine = metric.stateless_update_state(mine, y, answer)
        logs[f"_{metric.name}"] = metric.stateless_result(mine)
        changed += mine
    return logs, (trainable, other, slots, changed)


class OwnStep(keras.Model):
    """Trains by the step of keras.io's guide, and reports the averages of its metrics."""

    def train_step(self, *given: Any) -> Any:
        if keras.backend.backend() == "jax":
            logs, state = jax_step(self, *given)
            averages = {name[1:]: value for name, value in logs.items() if name[0] == "_"}
            return self.report(logs["loss"], averages), state
        step = torch_step if keras.backend.backend() == "torch" else tensorflow_step
        logs = step(self, *given)
        return self.report(logs["loss"], {each.name: each.result() for each in self.metrics})

    def report(self, loss: Any, averages: dict[str, Any]) -> dict[str, Any]:
        """Return what the step reports."""
        return averages


class LossAlone(OwnStep):
    """Reports the loss of the last batch."""

    def report(self, loss: Any, averages: dict[str, Any]) -> dict[str, Any]:
        return {"loss": loss}


class PythonFloat(OwnStep):
    """Reports a number of Python, and another name."""

    def report(self, loss: Any, averages: dict[str, Any]) -> dict[str, Any]:
        return {"loss": loss, "twice": 2 * loss, "half": 0.5}


class Vector(OwnStep):
    """Reports a vector."""

    def report(self, loss: Any, averages: dict[str, Any]) -> dict[str, Any]:
        return {"loss": loss, "pair": ops.stack([loss, loss])}


class AutoEncoder(keras.Model):
    """The autoencoder of keras.io: no `call`, but a `train_step`."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
        self.decode = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)])
        self.mean = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.mean]

    def train_step(self, data: Any) -> Any:
        x = data[0] if isinstance(data, tuple) else data
        loss = descend(
            self,
            lambda: ops.mean((self.decode(self.encode(x)) - x) ** 2),
            self.optimizer,
            self.trainable_weights,
        )
        self.mean.update_state(loss)
        return {"loss": self.mean.result()}


class Adversaries(keras.Model):
    """The adversarial networks of keras.io: no `call`, two optimizers, noise of a seed."""

    def __init__(self) -> None:
        super().__init__()
        self.make = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6)])
        self.judge = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
        self.seed = keras.random.SeedGenerator(5)

    def compile(self, judge: Any, make: Any) -> None:
        super().compile()
        self.judge_optimizer, self.make_optimizer = judge, make
        self.mean = keras.metrics.Mean(name="d_loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.mean]

    def train_step(self, data: Any) -> Any:
        x = data[0] if isinstance(data, tuple) else data
        noise = keras.random.normal((ops.shape(x)[0], 4), seed=self.seed)
        judged = descend(
            self,
            lambda: ops.mean(self.judge(self.make(noise))) - ops.mean(self.judge(x)),
            self.judge_optimizer,
            self.judge.trainable_weights,
        )
        descend(
            self,
            lambda: -ops.mean(self.judge(self.make(noise))),
            self.make_optimizer,
            self.make.trainable_weights,
        )
        self.mean.update_state(judged)
        return {"d_loss": self.mean.result()}


class TwoOptimizers(keras.Model):
    """Trains its first layer and the others by an optimizer each."""

    def compile(self, first: Any, second: Any, **options: Any) -> None:
        super().compile(optimizer=first, **options)
        self.second = second

    def train_step(self, data: Any) -> Any:
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            answer = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=answer)
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply(gradients[:2], variables[:2])
        self.second.apply(gradients[2:], variables[2:])
        return {"loss": loss}


def descend(model: Any, lose: Any, optimizer: Any, variables: Any) -> Any:
    """Take one step of an optimizer on TensorFlow or PyTorch; return the loss."""
    if keras.backend.backend() == "torch":
        import torch

        model.zero_grad()
        loss = lose()
        loss.backward()
        with torch.no_grad():
            optimizer.apply([each.value.grad for each in variables], variables)
        return loss.detach()
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = lose()
    optimizer.apply(tape.gradient(loss, variables), variables)
    return loss


def stepping(kind: type[keras.Model], *, metrics: list[str] | None = None) -> Any:
    """Return a function that builds a functional model of a class."""

    def build() -> keras.Model:
        rows = keras.Input((6,))
        hidden = keras.layers.Dense(6, activation="relu")(rows)
        model = kind(rows, keras.layers.Dense(3, activation="softmax")(hidden))
        loss = "sparse_categorical_crossentropy"
        model.compile(keras.optimizers.SGD(0.05), loss, metrics=metrics)
        return model

    return build


def autoencoder() -> keras.Model:
    """Build the autoencoder."""
    model = AutoEncoder()
    model.compile(optimizer=keras.optimizers.SGD(0.05))
    return model


def adversaries() -> keras.Model:
    """Build the adversarial networks."""
    model = Adversaries()
    model.compile(keras.optimizers.SGD(0.01), keras.optimizers.Adam(0.01))
    return model


def two_optimizers() -> keras.Model:
    """Build a model with two optimizers."""
    rows = keras.Input((6,))
    hidden = keras.layers.Dense(6, activation="relu")(rows)
    model = TwoOptimizers(rows, keras.layers.Dense(3, activation="softmax")(hidden))
    both = (keras.optimizers.Adam(0.05), keras.optimizers.Adam(0.05))
    both[0].build(model.trainable_variables[:2])
    both[1].build(model.trainable_variables[2:])
    model.compile(*both, loss="sparse_categorical_crossentropy")
    return model


KINDS: Final = (
    Kind("own step", stepping(OwnStep)),
    Kind(
        "own step with metrics",
        stepping(OwnStep, metrics=["accuracy"]),
        fault=NESTED,
        is_default=True,
    ),
    Kind("own step that reports the loss", stepping(LossAlone)),
    Kind("own step that reports Python's numbers", stepping(PythonFloat), fault=NESTED),
    Kind("own step that reports a vector", stepping(Vector), fault=NESTED),
    Kind(
        "an autoencoder without call",
        autoencoder,
        y=None,
        backends=("tensorflow",),
        fault=NO_CALL,
        is_default=True,
    ),
    Kind(
        "adversaries without call",
        adversaries,
        y=None,
        backends=("tensorflow",),
        fault=NO_CALL,
        trainer_options={"monitor": "d_loss"},
    ),
    Kind(
        "two optimizers",
        two_optimizers,
        backends=("tensorflow",),
        fault="a second optimizer is in no checkpoint",
        is_default=True,
    ),
)
