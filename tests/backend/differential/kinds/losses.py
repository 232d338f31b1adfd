"""Every loss with several arguments, alone and with weights of rows."""

from dataclasses import dataclass
from typing import Any, Final

import keras

from tests.backend.differential.kind import Kind
from tests.backend.differential.models import Part, layers, losses, stack


@dataclass(frozen=True)
class Task:
    """What a loss compares: a column, and answers of a width and an activation."""

    y: str
    units: int
    activation: str | None


CLASSES: Final = Task("label", 3, "softmax")
CLASS_LOGITS: Final = Task("label", 3, None)
ONE_HOT: Final = Task("one_hot", 3, "softmax")
ONE_HOT_LOGITS: Final = Task("one_hot", 3, None)
BINARY: Final = Task("binary", 1, "sigmoid")
BINARY_LOGITS: Final = Task("binary", 1, None)
SIGNS: Final = Task("sign", 1, "tanh")
NUMBERS: Final = Task("targets", 2, None)
AMOUNTS: Final = Task("amounts", 3, "softplus")
SHARES: Final = Task("amounts", 3, "softmax")

LOSSES: Final[tuple[tuple[Task, Part], ...]] = (
    (CLASSES, losses.SparseCategoricalCrossentropy()),
    (CLASS_LOGITS, losses.SparseCategoricalCrossentropy(from_logits=True)),
    (CLASSES, losses.SparseCategoricalCrossentropy(ignore_class=0)),
    (ONE_HOT, losses.CategoricalCrossentropy()),
    (ONE_HOT_LOGITS, losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)),
    (BINARY, losses.BinaryCrossentropy()),
    (BINARY_LOGITS, losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)),
    (BINARY, losses.BinaryFocalCrossentropy()),
    (BINARY_LOGITS, losses.BinaryFocalCrossentropy(apply_class_balancing=True, from_logits=True)),
    (ONE_HOT, losses.CategoricalFocalCrossentropy()),
    (ONE_HOT_LOGITS, losses.CategoricalFocalCrossentropy(gamma=1.0, from_logits=True)),
    (CLASSES, losses.CategoricalGeneralizedCrossEntropy()),
    (NUMBERS, losses.MeanSquaredError()),
    (NUMBERS, losses.MeanSquaredError(reduction="sum")),
    (NUMBERS, losses.MeanSquaredError(reduction="mean_with_sample_weight")),
    (NUMBERS, losses.MeanSquaredError(dtype="float64")),
    (NUMBERS, losses.MeanAbsoluteError()),
    (AMOUNTS, losses.MeanAbsolutePercentageError()),
    (AMOUNTS, losses.MeanSquaredLogarithmicError()),
    (NUMBERS, losses.Huber(0.5)),
    (NUMBERS, losses.LogCosh()),
    (SHARES, losses.KLDivergence()),
    (AMOUNTS, losses.Poisson()),
    (NUMBERS, losses.CosineSimilarity()),
    (NUMBERS, losses.CosineSimilarity(axis=0)),
    (SIGNS, losses.Hinge()),
    (SIGNS, losses.SquaredHinge()),
    (ONE_HOT_LOGITS, losses.CategoricalHinge()),
    (ONE_HOT, losses.Tversky(alpha=0.3, beta=0.7)),
    (ONE_HOT, losses.Dice()),
    (ONE_HOT, losses.Dice(axis=0)),
)
# Percentages of small targets make steps so large that rounding grows with each.
TOLERANCE: Final = {"MeanAbsolutePercentageError": 1e-2}
# A loss of the whole batch has no value for a row that a weight could multiply.
UNWEIGHTED: Final = ("Tversky", "Dice")


def build(task: Task, loss: Any, **options: Any) -> Any:
    """Return a function that builds a model for a task."""
    head = layers.Dense(task.units, activation=task.activation)
    hidden = layers.Dense(6, activation="tanh")
    return stack(hidden, head=head, loss=loss, **{"metrics": (), **options})


def spread(y: Any, answer: Any) -> Any:
    """A loss of a user's own."""
    return keras.ops.mean(keras.ops.abs(keras.ops.cast(y, answer.dtype) - answer) ** 1.5, -1)


def several(loss: Any) -> Any:
    """Return a function that builds a model of two inputs and outputs by name."""

    def make() -> keras.Model:
        vector, other = keras.Input((6,), name="vector"), keras.Input((6,), name="other")
        hidden = keras.layers.Concatenate()(
            [keras.layers.Dense(4)(vector), keras.layers.Dense(3)(other)]
        )
        label = keras.layers.Dense(3, activation="softmax", name="label")(hidden)
        target = keras.layers.Dense(1, name="target")(hidden)
        model = keras.Model({"vector": vector, "other": other}, {"label": label, "target": target})
        model.compile(keras.optimizers.SGD(0.05), **loss)
        return model

    return make


def in_order(**options: Any) -> Any:
    """Return a function that builds a model of two inputs and outputs in order."""

    def make() -> keras.Model:
        inputs = [keras.Input((6,)), keras.Input((6,))]
        hidden = keras.layers.Concatenate()([keras.layers.Dense(4)(one) for one in inputs])
        outputs = [
            keras.layers.Dense(3, activation="softmax")(hidden),
            keras.layers.Dense(1)(hidden),
        ]
        model = keras.Model(inputs, outputs)
        model.compile(
            keras.optimizers.SGD(0.05), ["sparse_categorical_crossentropy", "mse"], **options
        )
        return model

    return make


BY_NAME: Final = {
    "loss": {"label": "sparse_categorical_crossentropy", "target": "mse"},
    "loss_weights": {"label": 0.3, "target": 2.0},
    "metrics": {"label": ["accuracy"], "target": ["mae"]},
}
IN: Final = {"vector": "vector", "other": "other"}
OUT: Final = {"label": "label", "target": "target"}
RAGGED: Final = "losses of single outputs are averaged over batches, not rows"

KINDS: Final = (
    *(
        Kind(f"loss {loss}", build(task, loss), y=task.y, tolerance=TOLERANCE.get(loss.name, 5e-5))
        for task, loss in LOSSES
    ),
    *(
        Kind(
            f"loss {loss} weighted",
            build(task, loss),
            y=task.y,
            sample_weight="weight",
            tolerance=TOLERANCE.get(loss.name, 5e-5),
        )
        for task, loss in LOSSES
        if loss.name not in UNWEIGHTED
    ),
    Kind(
        "loss Circle()",
        stack(layers.Dense(6), head=layers.UnitNormalization(), loss=losses.Circle(), metrics=()),
        batch_size=11,  # so that each batch has several rows of each class
    ),
    Kind("weights of zero", build(NUMBERS, "mse"), y="targets", sample_weight="weight_zeros"),
    Kind(
        "weights of steps",
        stack(layers.LSTM(4, return_sequences=True), shape=(5, 3), metrics=()),
        "sequence",
        "label_sequence",
        sample_weight="weight_sequence",
    ),
    Kind(
        "CTC",
        stack(layers.Dense(8), head=None, shape=(5, 3), loss=losses.CTC(), metrics=()),
        "sequence",
        "label_sequence_from_one",
    ),
    Kind("own loss function", build(NUMBERS, spread), y="targets"),
    Kind("loss in a list", build(NUMBERS, ["mse"]), y="targets"),
    Kind("whole numbers as targets", build(BINARY, "mse"), y="binary"),
    Kind("outputs by name", several(BY_NAME), IN, OUT, is_default=True),
    Kind(
        "outputs by name, other order",
        several(BY_NAME),
        dict(reversed(IN.items())),
        dict(reversed(OUT.items())),
    ),
    Kind(
        "outputs in order",
        in_order(metrics=[["accuracy"], ["mae"]]),
        ("vector", "other"),
        ("label", "target"),
    ),
    Kind(
        "outputs in order, loss weights",
        in_order(loss_weights=[0.3, 2.0]),
        ("vector", "other"),
        ("label", "target"),
    ),
    Kind("one loss for two outputs of one kind", several({"loss": {"target": "mae"}}), IN, OUT),
    Kind(
        "no loss but that of a regularizer",
        stack(layers.Dense(5, activity_regularizer="l2"), loss=None, metrics=()),
        y=None,
    ),
    Kind("auto_scale_loss", build(NUMBERS, "mse", auto_scale_loss=True), y="targets"),
)
