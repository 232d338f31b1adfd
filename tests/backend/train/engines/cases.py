"""Models of every kind that engines must train alike, each with its batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import keras
import numpy as np

from kerash5.batches._batches import Batch

NUM_CLASSES: Final = 3
ROWS: Final = 8
Layers = Callable[[], list[keras.Layer]]


def batches_of(
    *, weighted: bool = False, shape: tuple[int, ...] = (4, 4), short: bool = False
) -> Callable[[int], list[Batch]]:
    """Return what makes so many batches of uint8 rows; the last one can be short."""

    def make(count: int) -> list[Batch]:
        rng = np.random.default_rng(7)
        sizes = [ROWS] * (count - 1) + [ROWS // 2 + 1 if short else ROWS]
        found: list[Batch] = []
        for size in sizes:
            x = rng.integers(0, 256, (size, *shape), dtype=np.uint8)
            y = rng.integers(0, NUM_CLASSES, size)
            weights = rng.random(size, dtype=np.float32)
            found.append((x, y, weights) if weighted else (x, y))
        return found

    return make


@dataclass(frozen=True)
class Case:
    """A model and what it is trained on."""

    build: Callable[[], keras.Model]  # compiled, the same weights each time
    batches: Callable[[int], list[Batch]] = batches_of()  # noqa: RUF009  frozen, like a number
    options: dict[str, Any] = field(default_factory=dict)  # of `make_engine`


def pairs(count: int) -> list[Batch]:
    """Return batches of two inputs and two outputs, by name."""
    return [
        ({"left": x, "right": x[:, ::-1].copy()}, {"kind": y, "odd": (y % 2).astype(np.float32)})
        for x, y in batches_of()(count)
    ]


def dense(
    *hidden: Callable[[], keras.Layer],
    optimizer: Callable[[], Any] = lambda: keras.optimizers.Adam(1e-2),
    policy: str | None = None,
    kind: type[keras.Model] = keras.Model,
    **options: Any,
) -> Callable[[], keras.Model]:
    """Return what builds a small compiled classifier with these layers in its middle."""

    def build() -> keras.Model:
        keras.utils.set_random_seed(3)
        with_policy = {} if policy is None else {"dtype": policy}
        x = inputs = keras.Input((4, 4))
        x = keras.layers.Rescaling(1 / 255, **with_policy)(x)
        x = keras.layers.Flatten(**with_policy)(x)
        x = keras.layers.Dense(6, activation="relu", **with_policy)(x)
        for make in hidden:
            x = make()(x)
        x = keras.layers.Dense(NUM_CLASSES, activation="softmax", dtype="float32")(x)
        model = kind(inputs, x)
        if policy is not None:
            model.dtype_policy = policy
        defaults = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
        model.compile(optimizer=optimizer(), **{**defaults, **options})
        return model

    return build


def convnet() -> keras.Model:
    """Build a small compiled ConvNet."""
    keras.utils.set_random_seed(3)
    layers: Sequence[keras.Layer] = [
        keras.Input((4, 4, 1)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(NUM_CLASSES, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def two_by_two() -> keras.Model:
    """Build a compiled model of two inputs and two outputs."""
    keras.utils.set_random_seed(3)
    left, right = keras.Input((4, 4), name="left"), keras.Input((4, 4), name="right")
    flat = keras.layers.Concatenate()([keras.layers.Flatten()(left), keras.layers.Flatten()(right)])
    x = keras.layers.Dense(6, activation="tanh")(keras.layers.Rescaling(1 / 255)(flat))
    kind = keras.layers.Dense(NUM_CLASSES, activation="softmax", name="kind")(x)
    odd = keras.layers.Dense(1, activation="sigmoid", name="odd")(x)
    model = keras.Model({"left": left, "right": right}, {"kind": kind, "odd": odd})
    model.compile(
        keras.optimizers.Adam(1e-2),
        loss={"kind": "sparse_categorical_crossentropy", "odd": "binary_crossentropy"},
        loss_weights={"kind": 1.0, "odd": 0.5},
        metrics={"kind": ["accuracy"], "odd": ["mae"]},
    )
    return model


class Halved(keras.Model):
    """A model with a loss of its own."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return 0.5 * super().compute_loss(*args, **kwargs)


class Renamed(keras.Model):
    """A model whose own step returns another name."""

    def train_step(self, *args: Any) -> Any:
        found = super().train_step(*args)
        logs, state = found if isinstance(found, tuple) else (found, None)
        logs = {"cost": 2 * logs["loss"]}
        return logs if state is None else (logs, state)


class Nested(keras.Model):
    """A model whose own step returns a dict in a dict, an array and numbers of Python."""

    def train_step(self, *args: Any) -> Any:
        found = super().train_step(*args)
        logs, state = found if isinstance(found, tuple) else (found, None)
        pair = keras.ops.stack([logs["loss"], 2 * logs["loss"]])
        nested = {"all": {**logs, "pair": pair}, "half": 0.5, "three": 3}
        return nested if state is None else (nested, state)


@keras.saving.register_keras_serializable("tests")
class Confusion(keras.metrics.Metric):
    """Counts classes against what they were taken for."""

    def __init__(self, name: str = "confusion", **options: Any) -> None:
        super().__init__(name=name, **options)
        shape = (NUM_CLASSES, NUM_CLASSES)
        self.counts = self.add_variable(shape, "zeros", name="counts")

    def update_state(self, y: Any, answers: Any, sample_weight: Any = None) -> None:
        del sample_weight
        right = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(y, (-1,)), "int32"), NUM_CLASSES)
        taken = keras.ops.one_hot(keras.ops.argmax(answers, axis=-1), NUM_CLASSES)
        self.counts.assign_add(keras.ops.matmul(keras.ops.transpose(right), taken))

    def result(self) -> Any:
        return keras.ops.convert_to_tensor(self.counts)


@keras.saving.register_keras_serializable("tests")
class Both(Confusion):
    """Returns several results by name, one of them an array."""

    def result(self) -> Any:
        counts = keras.ops.convert_to_tensor(self.counts)
        return {"of_class": keras.ops.sum(counts, axis=1), "rows": keras.ops.sum(counts)}


class Penalty(keras.layers.Layer):
    """Adds a loss of what passes through."""

    def call(self, x: Any) -> Any:
        self.add_loss(1e-2 * keras.ops.mean(keras.ops.square(x)))
        return x


def confused() -> keras.Model:
    """Build a model with metrics that return a matrix, and several results by name."""
    return dense(metrics=["accuracy", Confusion(), Both("both")])()


def adam(**options: Any) -> Callable[[], Any]:
    return lambda: keras.optimizers.Adam(**{"learning_rate": 1e-2, **options})


def schedule() -> Any:
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, 20, warmup_steps=3))


def regularized() -> keras.Layer:
    return keras.layers.Dense(
        5, kernel_regularizer="l2", activity_regularizer="l1", kernel_constraint="max_norm"
    )


CASES: Final = {
    "plain": Case(dense()),
    "short last batch": Case(
        dense(lambda: keras.layers.Dropout(0.3, seed=1), keras.layers.BatchNormalization),
        batches_of(short=True),
    ),
    "sample weights": Case(
        dense(weighted_metrics=["sparse_categorical_accuracy"]), batches_of(weighted=True)
    ),
    "class weights": Case(dense(), options={"class_weight": {0: 0.5, 2: 3.0}}),
    "dropout": Case(dense(lambda: keras.layers.Dropout(0.3, seed=1))),
    "batch norm": Case(dense(keras.layers.BatchNormalization)),
    "clipnorm": Case(dense(optimizer=adam(clipnorm=0.1))),
    "global clipnorm": Case(dense(optimizer=adam(global_clipnorm=0.1))),
    "clipvalue": Case(dense(optimizer=adam(clipvalue=0.01))),
    "schedule": Case(dense(optimizer=schedule)),
    "weight decay": Case(dense(optimizer=lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1))),
    "ema": Case(dense(optimizer=adam(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3))),
    "accumulation": Case(dense(optimizer=adam(gradient_accumulation_steps=2))),
    "amsgrad": Case(dense(optimizer=adam(amsgrad=True))),
    "sgd": Case(dense(optimizer=lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True))),
    "rmsprop": Case(dense(optimizer=lambda: keras.optimizers.RMSprop(1e-2))),
    "bf16": Case(dense(policy="mixed_bfloat16")),
    "fp16 with loss scaling": Case(dense(policy="mixed_float16")),
    "two inputs and outputs": Case(two_by_two, pairs),
    "own loss": Case(dense(kind=Halved)),
    "own step": Case(dense(kind=Renamed)),
    "nested logs": Case(dense(kind=Nested), batches_of(short=True)),
    "array metrics": Case(confused),
    "regularizers": Case(dense(regularized)),
    "added loss": Case(dense(Penalty)),
    "no metrics": Case(dense(metrics=None)),
    "convolution": Case(convnet, batches_of(shape=(4, 4, 1))),
}

# Where an engine runs the model's own compiled `train_step`, these are enough: state that changes
# in a step, branches in it, several arrays, and steps that return something else.
TRACED: Final = (
    *("plain", "short last batch", "sample weights", "class weights", "dropout", "ema"),
    *("accumulation", "fp16 with loss scaling", "two inputs and outputs", "own step"),
    *("nested logs", "array metrics", "regularizers", "convolution"),
)
