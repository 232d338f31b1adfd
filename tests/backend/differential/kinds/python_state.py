"""Losses and metrics that hold state outside Keras' variables.

What is counted in Python cannot be resumed, and what is drawn or counted while a step is compiled
depends on how often that happens: such kinds are for PyTorch alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import keras
import numpy as np
from keras import ops

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.callbacks import AtBatchBegin, AtEpochBegin
from tests.backend.differential.models import layers, own, stack

FROZEN: Final = "state in Python, NumPy, tensors or a variable of one's own is frozen"
RANDOM: Final = "randomness drawn by Python or NumPy is frozen"
TORCH: Final = ("torch",)
IN_PYTHON: Final[dict[str, Any]] = {
    "backends": TORCH,
    "fault": FROZEN,
    "is_baked": True,
    "why_not_resumed": "what Python counts is in no checkpoint",
}
DRAWN: Final[dict[str, Any]] = {"backends": TORCH, "fault": RANDOM}


class Box:
    """A number that a loss or a layer reads and a callback changes."""

    value: float = 1.0


BOX: Final = Box()


def set_box(model: keras.Model, number: int) -> None:
    """Change the number."""
    BOX.value = 1.0 + number


def regression(loss: Any, *, units: int = 1, metrics: Sequence[Any] = ()) -> Callable[..., Any]:
    """Return a function that builds a model for a loss, with the number as it is at first."""

    def build() -> keras.Model:
        BOX.value = 1.0
        head = layers.Dense(units)
        return stack(layers.Dense(5), head=head, loss=loss, metrics=metrics)()

    return build


def squared(y: Any, answer: Any) -> Any:
    """Return the mean squared error of each row."""
    return ops.mean(ops.square(y - answer), axis=-1)


# Losses.


def boxed_loss(y: Any, answer: Any) -> Any:
    """Weigh the error by a number that a callback changes."""
    return BOX.value * squared(y, answer)


def noisy_loss(y: Any, answer: Any) -> Any:
    """Weigh the error by a number that NumPy draws."""
    return squared(y, answer) * float(np.random.rand())  # noqa: NPY002  as users do


class CountingLoss(keras.losses.Loss):
    """Counts its calls in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def call(self, y: Any, answer: Any) -> Any:
        self.calls += 1
        return ops.square(y - answer) * (1 + self.calls * 0.1)


class VariableLoss(keras.losses.Loss):
    """Counts its calls in a variable that no model knows of."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = keras.Variable(0.0, trainable=False)

    def call(self, y: Any, answer: Any) -> Any:
        self.calls.assign_add(1.0)
        return ops.square(y - answer) * (1 + self.calls * 0.1)


def annealed(derive: Callable[[Any], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a model whose loss closes over a variable, and callbacks that change that."""
    held: list[keras.Variable] = []

    def build() -> keras.Model:
        beta = keras.Variable(0.1, trainable=False, name="beta")
        held[:] = [beta]
        return regression(lambda y, answer: derive(beta) * squared(y, answer))()

    def change(model: keras.Model, epoch: int) -> None:
        held[0].assign(0.1 + epoch)

    return build, lambda: [AtEpochBegin(change)]


def in_place(y: Any, answer: Any) -> Any:
    """Add to a tensor that begins as a constant."""
    import torch

    total = torch.tensor(0.0)
    total += ((y - answer) ** 2).mean()
    return total


def in_place_by_row(y: Any, answer: Any) -> Any:
    """Add to a tensor of zeros."""
    import torch

    total = torch.zeros(answer.shape[0])
    total += ((y - answer) ** 2).mean(-1)
    return total


def in_place_at(y: Any, answer: Any) -> Any:
    """Change an element of a constant."""
    import torch

    weights = torch.tensor([1.0, 2.0])
    weights[0] += y.mean()
    return ((y - answer) ** 2 * weights).mean(-1)


# Metrics.


class CountingMetric(keras.metrics.Metric):
    """Counts batches in Python."""

    def __init__(self) -> None:
        super().__init__(name="counting")
        self.count = 0.0

    def update_state(self, y: Any, answer: Any, sample_weight: Any = None) -> None:
        self.count += 1.0

    def result(self) -> Any:
        return self.count

    def reset_state(self) -> None:
        self.count = 0.0


class CollectingMetric(keras.metrics.Metric):
    """Collects answers in NumPy."""

    def __init__(self) -> None:
        super().__init__(name="collecting")
        self.answers: list[Any] = []

    def update_state(self, y: Any, answer: Any, sample_weight: Any = None) -> None:
        self.answers.append(ops.convert_to_numpy(answer).copy())

    def result(self) -> Any:
        return float(np.concatenate(self.answers).std()) if self.answers else 0.0

    def reset_state(self) -> None:
        self.answers = []


class TensorMetric(keras.metrics.Metric):
    """Adds answers up in a bare tensor."""

    def __init__(self) -> None:
        super().__init__(name="tensor")
        self.total: Any = ops.zeros((3,))

    def update_state(self, y: Any, answer: Any, sample_weight: Any = None) -> None:
        self.total = self.total + ops.sum(ops.stop_gradient(answer), axis=0)

    def result(self) -> Any:
        return ops.sum(self.total)

    def reset_state(self) -> None:
        self.total = ops.zeros((3,))


class DecidingMetric(keras.metrics.Metric):
    """Decides in Python by value."""

    def __init__(self) -> None:
        super().__init__(name="deciding")
        self.most = self.add_weight(name="most", initializer="zeros")

    def update_state(self, y: Any, answer: Any, sample_weight: Any = None) -> None:
        if ops.max(answer) > self.most:
            self.most.assign(ops.max(answer))

    def result(self) -> Any:
        return self.most * 1.0

    def reset_state(self) -> None:
        self.most.assign(0.0)


def counted_metric(y: Any, answer: Any) -> Any:
    """Count calls in the number."""
    BOX.value += 1
    return ops.mean(answer) * 0 + BOX.value


def by_epoch() -> Sequence[keras.callbacks.Callback]:
    """Make a callback that changes the number with each epoch."""
    return [AtEpochBegin(set_box)]


def by_batch() -> Sequence[keras.callbacks.Callback]:
    """Make a callback that changes the number with each batch."""
    return [AtBatchBegin(set_box)]


DIRECT, DERIVED = annealed(lambda beta: beta), annealed(lambda beta: ops.sigmoid(beta * 2.0))

LOSSES: Final = (
    Kind(
        "loss of a number in Python",
        regression(boxed_loss),
        y="target",
        callbacks=by_epoch,
        fault=FROZEN,
        is_baked=True,
        is_default=True,
    ),
    Kind(
        "loss of a number in Python, by batch",
        regression(boxed_loss),
        y="target",
        callbacks=by_batch,
        backends=TORCH,
        fault=FROZEN,
        is_baked=True,
    ),
    Kind(
        "loss that closes over a variable",
        DIRECT[0],
        y="target",
        callbacks=DIRECT[1],
        fault=FROZEN,
        is_default=True,
    ),
    Kind(
        "loss that closes over what is derived of a variable",
        DERIVED[0],
        y="target",
        callbacks=DERIVED[1],
        fault=FROZEN,
    ),
    Kind(
        "loss that closes over a variable, many epochs",
        DIRECT[0],
        y="target",
        epochs=8,
        callbacks=DIRECT[1],
        fault="programs compiled later bake values of then",
    ),
    Kind(
        "loss that counts in a variable",
        regression(own(VariableLoss)),
        y="target",
        backends=("tensorflow", "torch"),
        fault=FROZEN,
        is_default=True,
    ),
    Kind("loss that counts in Python", regression(own(CountingLoss)), y="target", **IN_PYTHON),
    Kind("loss that draws from NumPy", regression(noisy_loss), y="target", **DRAWN),
    *(
        Kind(
            f"loss that adds in place: {loss.__name__}",
            regression(loss, units=units),
            y=column,
            backends=TORCH,
            fault="a constant that is written in place adds up",
        )
        for loss, units, column in (
            (in_place, 1, "target"),
            (in_place_by_row, 1, "target"),
            (in_place_at, 2, "targets"),
        )
    ),
)
METRICS: Final = (
    Kind(
        "metric that counts in Python",
        stack(layers.Dense(5), metrics=[own(CountingMetric)]),
        **IN_PYTHON,
    ),
    Kind(
        "metric that collects in NumPy",
        stack(layers.Dense(5), metrics=[own(CollectingMetric)]),
        is_default=True,
        **IN_PYTHON,
    ),
    Kind(
        "metric of a bare tensor", stack(layers.Dense(5), metrics=[own(TensorMetric)]), **IN_PYTHON
    ),
    Kind(
        "metric that decides by value",
        stack(layers.Dense(5), metrics=[own(DecidingMetric)]),
        backends=TORCH,
        fault=FROZEN,
        is_baked=True,
    ),
    Kind(
        "metric function that counts",
        regression(boxed_loss, metrics=[counted_metric]),
        y="target",
        **IN_PYTHON,
    ),
)
KINDS: Final = (*LOSSES, *METRICS)
