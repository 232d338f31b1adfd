"""Where Keras or PyTorch is not what it was, or a model is not what can be fused."""

from __future__ import annotations

from typing import Any, Final

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kerash5.train.engines import make_engine, why_not_fused
from kerash5.train.engines.common import _private
from kerash5.train.engines.common._private import build_variables
from tests.backend.train.engines.cases import CASES, NUM_CLASSES, dense

if keras.backend.backend() == "torch":
    from kerash5.train.engines.torch import _torch_captured

IS_TORCH: Final = keras.backend.backend() == "torch"
only_torch = pytest.mark.skipif(not IS_TORCH, reason="PyTorch alone captures steps")


def values(variables: list[Any]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def test_a_model_that_runs_eagerly_gets_the_plain_engine() -> None:
    model = dense(run_eagerly=True)()
    assert why_not_fused(model) == "the model was compiled with run_eagerly=True"
    assert "run_eagerly" in make_engine(model).describe()


def test_a_model_with_a_training_function_of_its_own_gets_the_plain_engine() -> None:
    class Own(keras.Model):
        def make_train_function(self, force: bool = False) -> Any:
            return super().make_train_function(force)

    model = dense(kind=Own)()
    assert "overrides make_train_function" in (why_not_fused(model) or "")
    engine = make_engine(model)
    engine.train(CASES["plain"].batches(2))
    assert engine.metrics()["loss"] > 0


def test_variables_are_built_without_the_private_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = CASES["plain"].batches(1)[0]
    model, twin = dense()(), dense()()
    build_variables(twin, (x, y))
    before = values(model.weights)
    monkeypatch.setattr(_private, "_BUILD", "_no_longer_there")
    build_variables(model, (x, y))
    for kind in ("optimizer", "metrics"):
        mine, other = (
            each.optimizer.variables if kind == "optimizer" else each.metrics_variables
            for each in (model, twin)
        )
        assert [variable.shape for variable in mine] == [variable.shape for variable in other]
        for one, two in zip(values(mine), values(other), strict=True):
            assert_array_equal(one, two)
    for one, two in zip(values(model.weights), before, strict=True):
        assert_array_equal(one, two)


CAPTURED: Final = {
    *("plain", "sample weights", "class weights", "batch norm", "clipnorm"),
    *("global clipnorm", "clipvalue", "schedule", "weight decay", "amsgrad", "sgd", "rmsprop"),
    *("bf16", "two inputs and outputs", "regularizers", "no metrics", "convolution"),
}
NOT_CAPTURED: Final = {
    "dropout": "capturing failed",  # a seed of its own makes a generator anew at each step
    "short last batch": "capturing failed",
    "ema": "capturing failed",  # it overwrites at some steps only
    "accumulation": "capturing failed",
    "fp16 with loss scaling": "is LossScaleOptimizer, which is not known",
    "own step": "overrides train_step",
    "nested logs": "overrides train_step",
    "array metrics": "is Confusion, which is not known",
    "own loss": "model is Halved, which is not known",
    "added loss": "is Penalty, which is not known",
}


@only_torch
@pytest.mark.parametrize("name", CASES)
def test_a_step_is_captured_or_the_reason_is_given(name: str) -> None:
    case = CASES[name]
    engine = make_engine(case.build(), **case.options)
    engine.train(case.batches(2))
    if name in NOT_CAPTURED:
        assert NOT_CAPTURED[name] in engine.describe()
    else:
        assert name in CAPTURED
        assert engine.describe().startswith("PyTorch, captured steps")


@only_torch
def test_a_loss_that_makes_labels_one_hot_is_captured_and_labels_out_of_range_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_torch_captured, "is_proven", lambda _: True)

    def squares(y: Any, answer: Any) -> Any:
        y = keras.ops.one_hot(keras.ops.reshape(y, (-1,)), NUM_CLASSES)
        return keras.ops.sum(keras.ops.square(y - answer), axis=-1)

    x, y = CASES["plain"].batches(1)[0]
    model, twin = dense(loss=squares)(), dense(loss=squares)()
    engine = make_engine(model)
    for each in (engine, make_engine(twin, is_plain=True)):
        each.train([(x, y), (x, y)])
    assert "captured steps" in engine.describe()
    for one, other in zip(values(model.weights), values(twin.weights), strict=True):
        assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="out of bounds"):
        engine.train([(x, y + NUM_CLASSES)])


@only_torch
@pytest.mark.parametrize("name", ["plain", "dropout"])
def test_without_the_fused_adam_the_update_is_that_of_keras(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_private, "_ADAM_PARTS", ("_no_longer_there",))
    case = CASES[name]
    model, twin = case.build(), case.build()
    engine, plain = make_engine(model), make_engine(twin, is_plain=True)
    for each in (engine, plain):
        each.train(case.batches(6))
    assert "has no _no_longer_there" in engine.describe()
    for one, other in zip(values(model.weights), values(twin.weights), strict=True):
        assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@only_torch
def test_a_subclass_of_adam_keeps_its_own_update() -> None:
    class Own(keras.optimizers.SGD):
        pass

    engine = make_engine(dense(optimizer=Own)())
    engine.train(CASES["plain"].batches(1))
    assert "the optimizer is Own, not Adam or AdamW" in engine.describe()


@only_torch
def test_dropout_without_a_seed_draws_the_same_numbers_captured_or_not() -> None:
    found = []
    for plain in (False, True):
        model = dense(lambda: keras.layers.Dropout(0.3))()
        engine = make_engine(model, is_plain=plain)
        keras.utils.set_random_seed(11)
        engine.train(CASES["plain"].batches(6))
        found.append(values(model.weights))
        assert plain or "captured steps" in engine.describe()
    for one, other in zip(*found, strict=True):
        assert_allclose(one, other, rtol=1e-5, atol=1e-6)
