"""Captured steps are Keras' steps: what they have read is watched, and what is unknown refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

if keras.backend.backend() != "torch":
    pytest.skip("PyTorch alone captures steps", allow_module_level=True)

import torch

from kerash5.batches._batches import Batch
from kerash5.train.engines import make_engine
from kerash5.train.engines.torch._torch_captured import CapturedSteps
from kerash5.train.engines.torch._torch_parts import read_parts
from kerash5.train.engines.torch._torch_watch import Watch

L = keras.layers
ROWS: Final = 8


def batches(count: int, shape: tuple[int, ...] = (6,)) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [
        (rng.normal(size=(ROWS, *shape)).astype("float32"), rng.integers(0, 3, ROWS))
        for _ in range(count)
    ]


def classifier(
    *layers: keras.Layer, shape: tuple[int, ...] = (6,), optimizer: Any = None, **options: Any
) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), *layers, L.Dense(3, activation="softmax")])
    defaults = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    model.compile(optimizer or keras.optimizers.SGD(0.05), **{**defaults, **options})
    return model


def train_both(
    build: Callable[[], keras.Model],
    change: Callable[[keras.Model], None] = lambda _: None,
    *,
    shape: tuple[int, ...] = (6,),
) -> str:
    """Train as the engine does and as Keras does, change the model, go on; compare all of it."""
    found, said = [], ""
    for is_plain in (False, True):
        keras.utils.set_random_seed(3)
        model = build()
        engine = make_engine(model, is_plain=is_plain)
        keras.utils.set_random_seed(4)
        engine.begin()
        engine.train(batches(5, shape))
        change(model)
        engine.train(batches(4, shape))
        variables = [*model.variables, *model.optimizer.variables]
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        found.append((values, list(engine.metrics().values())))
        said = said or engine.describe()
    for one, other in zip(*found, strict=True):
        for mine, its in zip(one, other, strict=True):
            assert_allclose(mine, its, rtol=1e-5, atol=1e-6)
    return said


def piecewise() -> Any:
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([2, 5], [0.05, 0.01, 0.1])
    return keras.optimizers.SGD(rates, momentum=0.9)


ADDED_UP: Final[dict[str, Callable[[], keras.Model]]] = {
    "a rate in steps": lambda: classifier(L.Dense(5), optimizer=piecewise()),
    "L1L2": lambda: classifier(L.Dense(5, kernel_regularizer=keras.regularizers.L1L2(0.1, 0.1))),
    "activity regularization": lambda: classifier(L.Dense(5), L.ActivityRegularization(0.1, 0.1)),
}


@pytest.mark.parametrize("name", ADDED_UP)
def test_what_begins_as_a_fresh_constant_begins_anew_in_each_step(name: str) -> None:
    assert "captured steps" in train_both(ADDED_UP[name])


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}],
    ids=["plain", "momentum", "nesterov"],
)
def test_sgd_has_the_bits_of_keras(options: dict[str, Any]) -> None:
    found = []
    for is_plain in (False, True):
        keras.utils.set_random_seed(3)
        model = classifier(L.Dense(5), optimizer=keras.optimizers.SGD(0.05, **options))
        engine = make_engine(model, is_plain=is_plain)
        engine.train(batches(9))
        found.append([*model.get_weights(), *engine.metrics().values()])
        assert is_plain or "captured steps" in engine.describe()
    for mine, other in zip(*found, strict=True):
        assert_array_equal(mine, other)


def test_a_batch_that_a_step_writes_to_is_compared_as_it_came() -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=0)  # writes to the weights
    weights = np.random.default_rng(3).random((6, ROWS), "float32")
    found = []
    for is_plain in (False, True):
        keras.utils.set_random_seed(3)
        model = classifier(L.Dense(5), loss=loss, metrics=[])
        engine = make_engine(model, is_plain=is_plain)
        pairs = zip(batches(6), weights.copy(), strict=True)
        engine.train([(*batch, some) for batch, some in pairs])
        assert is_plain or "captured steps" in engine.describe()
        found.append(model.get_weights())
    for mine, other in zip(*found, strict=True):
        assert_array_equal(mine, other)


def test_a_mask_of_the_outputs_reaches_the_metrics() -> None:
    def build() -> keras.Model:
        # Not a recurrent layer: from Keras 3.16 on those drop the mask of their inputs.
        model = keras.Sequential([keras.Input((5, 3)), L.Masking(), L.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mse"])
        return model

    found = []
    for is_plain in (False, True):
        keras.utils.set_random_seed(3)
        engine = make_engine(build(), is_plain=is_plain)
        x = np.ones((ROWS, 5, 3), "float32")
        x[::2, 2:] = 0
        engine.train([(x, np.ones((ROWS, 5, 1), "float32"))] * 3)
        found.append(list(engine.metrics().values()))
    fast, plain = found
    assert_allclose(fast, plain, rtol=1e-6)


def freeze(model: keras.Model) -> None:
    model.layers[0].trainable = not model.layers[0].trainable


def set_of(name: str, value: Any, get: Callable[[keras.Model], Any]) -> Callable[[Any], None]:
    return lambda model: setattr(get(model), name, value)


def optimizer_of(model: keras.Model) -> Any:
    return model.optimizer


CHANGES: Final[dict[str, tuple[Callable[[], keras.Model], Callable[[keras.Model], None]]]] = {
    "frozen": (lambda: classifier(L.Dense(6), L.Dense(6)), freeze),
    "frozen, of another shape": (lambda: classifier(L.Dense(4), L.Dense(7)), freeze),
    "frozen, Adam": (lambda: classifier(L.Dense(4), L.Dense(7), optimizer="adam"), freeze),
    "clipnorm": (
        lambda: classifier(L.Dense(4), optimizer=keras.optimizers.SGD(0.1, clipnorm=10.0)),
        set_of("clipnorm", 0.05, optimizer_of),
    ),
    "momentum": (
        lambda: classifier(L.Dense(4), optimizer=keras.optimizers.SGD(0.1, momentum=0.9)),
        set_of("momentum", 0.1, optimizer_of),
    ),
    "beta_1": (
        lambda: classifier(L.Dense(4), optimizer="adam"),
        set_of("beta_1", 0.1, optimizer_of),
    ),
    "weight decay": (
        lambda: classifier(L.Dense(4), optimizer=keras.optimizers.AdamW(0.01, weight_decay=0.01)),
        set_of("weight_decay", 0.9, optimizer_of),
    ),
    "learning rate": (lambda: classifier(L.Dense(4)), set_of("learning_rate", 0.5, optimizer_of)),
    "activation": (
        lambda: classifier(L.Dense(4, activation="relu")),
        set_of("activation", keras.activations.tanh, lambda model: model.layers[0]),
    ),
    "regularizer": (
        lambda: classifier(L.Dense(4, kernel_regularizer=keras.regularizers.L2(0.01))),
        set_of("l2", 0.5, lambda model: model.layers[0].kernel.regularizer),
    ),
    "constraint": (
        lambda: classifier(L.Dense(4)),
        set_of("constraint", keras.constraints.MaxNorm(0.3), lambda model: model.layers[0].kernel),
    ),
    "dropout": (
        lambda: classifier(L.Dense(4), L.Dropout(0.1)),
        set_of("rate", 0.9, lambda model: model.layers[1]),
    ),
    "batch norm frozen": (
        lambda: classifier(L.Dense(4), L.BatchNormalization(), L.Dense(4)),
        set_of("trainable", False, lambda model: model.layers[1]),
    ),
    "compiled anew": (
        lambda: classifier(L.Dense(4)),
        lambda model: model.compile("adam", "sparse_categorical_crossentropy", metrics=[]),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_between_dispatches_is_seen_by_the_next_captured_step(name: str) -> None:
    build, change = CHANGES[name]
    assert "captured steps" in train_both(build, change)


class Scaled(keras.layers.Layer):
    """A layer whose Python may do anything."""

    scale = 1.0

    def call(self, x: Any) -> Any:
        return x * self.scale

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Cell(keras.layers.Layer):
    """A cell of one's own."""

    state_size = output_size = 4

    def build(self, shape: Any) -> None:
        self.inner = L.Dense(4)
        self.inner.build(shape)

    def call(self, x: Any, states: Any, training: Any = None) -> Any:
        found = keras.ops.tanh(self.inner(x) + states[0])
        return found, [found]


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of one's own."""

    def __call__(self, step: Any) -> float:
        return 0.01


class OwnSGD(keras.optimizers.SGD):
    """An optimizer of one's own."""


def squared(y: Any, found: Any) -> Any:
    return keras.ops.mean(
        keras.ops.square(found - keras.ops.cast(y, found.dtype)[:, None]), axis=-1
    )


UNKNOWN: Final[dict[str, tuple[Callable[[], keras.Model], str, tuple[int, ...]]]] = {
    "layer": (lambda: classifier(L.Dense(4), Scaled()), "Scaled", (6,)),
    "within TimeDistributed": (
        lambda: classifier(L.TimeDistributed(Scaled()), L.Flatten(), shape=(5, 3)),
        "Scaled",
        (5, 3),
    ),
    "cell": (lambda: classifier(L.RNN(Cell()), shape=(5, 3)), "Cell", (5, 3)),
    "activation": (lambda: classifier(L.Dense(4, activation=Scaled())), "Scaled", (6,)),
    "Lambda": (lambda: classifier(L.Lambda(lambda x: x * 2)), "Lambda", (6,)),
    "PyTorch's own": (
        lambda: classifier(L.TorchModuleWrapper(torch.nn.Linear(6, 5))),
        "TorchModuleWrapper",
        (6,),
    ),
    "loss": (lambda: classifier(L.Dense(4), loss=squared), "squared", (6,)),
    "metric": (lambda: classifier(L.Dense(4), metrics=[squared]), "MeanMetricWrapper", (6,)),
    "schedule": (lambda: classifier(optimizer=keras.optimizers.SGD(Rate())), "Rate", (6,)),
    "callable rate": (
        lambda: classifier(optimizer=keras.optimizers.SGD(lambda: 0.1)),
        "<lambda>",
        (6,),
    ),
    "optimizer": (lambda: classifier(optimizer=OwnSGD(0.1)), "OwnSGD", (6,)),
    "regularizer": (
        lambda: classifier(L.Dense(4, kernel_regularizer=lambda x: keras.ops.sum(x * x))),
        "<lambda>",
        (6,),
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_part_is_named_and_the_step_is_that_of_keras(name: str) -> None:
    build, kind, shape = UNKNOWN[name]
    said = train_both(build, shape=shape)
    assert "not captured, because" in said
    assert f"is {kind}, which is not known" in said


def replace_a_method(model: keras.Model) -> None:
    plain = model.layers[0].call
    model.layers[0].call = lambda x, **_: plain(x) * 2


def hook_a_gradient(model: keras.Model) -> None:
    model.layers[0].kernel.value.register_hook(lambda gradient: gradient * 2)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (replace_a_method, "call is <lambda>, which is not known"),
        (hook_a_gradient, "has a hook on its gradient"),
    ],
    ids=["a method", "a hook"],
)
def test_what_was_tampered_with_is_not_captured(
    tamper: Callable[[keras.Model], None], reason: str
) -> None:
    def build() -> keras.Model:
        model = classifier(L.Dense(4))
        tamper(model)
        return model

    assert reason in train_both(build)


def test_evaluation_and_plain_fits_between_leave_captured_steps_as_they_are() -> None:
    model = classifier(L.Dense(4), L.BatchNormalization(), L.Dropout(0.5))
    (x, y), *_ = batches(1)
    model.fit(x, y, verbose=0)
    before = read_parts(model)
    assert before.is_current()
    model.fit(x, y, verbose=0, validation_data=(x, y))
    model.evaluate(x, y, verbose=0)
    model.predict(x, verbose=0)
    assert read_parts(model).tokens == before.tokens


def test_settings_that_change_at_every_step_are_left_to_keras() -> None:
    model = classifier(L.Dense(4), optimizer=keras.optimizers.SGD(0.1, momentum=0.5))
    engine = make_engine(model)
    for step, batch in enumerate(batches(8)):
        model.optimizer.momentum = 0.1 * (step + 1)
        engine.train([batch])
    assert "change too often" in engine.describe()


def test_a_captured_step_that_goes_wrong_is_replaced_by_keras_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Watch, "is_due", staticmethod(lambda step: step == 4))
    model, twin = (classifier(L.Dense(4, kernel_initializer="ones")) for _ in range(2))
    twin.set_weights(model.get_weights())
    engine, plain = make_engine(model), make_engine(twin, is_plain=True)
    first, rest = batches(6)[:4], batches(6)[4:]
    engine.train(first)
    plain.train([*first, *rest])
    steps: Any = engine._captured  # type: ignore[attr-defined]
    assert isinstance(steps, CapturedSteps)
    (shapes,) = steps._codes
    steps._codes[shapes] = lambda *tensors: tensors[0].add_(1.0)
    with pytest.warns(RuntimeWarning, match="captured step 4 differs from Keras"):
        engine.train(rest)
    assert "kernel differs by" in engine.describe()
    for mine, its in zip(model.get_weights(), twin.get_weights(), strict=True):
        assert_allclose(mine, its, rtol=1e-5, atol=1e-6)


def test_a_first_capture_that_differs_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CapturedSteps, "_capture", lambda *_: lambda *tensors: tensors[0].add_(1.0))
    assert "kernel differs by" in train_both(lambda: classifier(L.Dense(4)))
