"""The plain engine: exactly what `fit` does, batch for batch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import KerasH5Error, OptionError
from kerash5.batches._batches import Batch
from kerash5.train.engines import make_engine
from kerash5.train.engines.common._weights import ClassWeights
from tests.backend.train.engines.cases import CASES, batches_of, dense


class Listed(keras.utils.PyDataset):
    """Batches, as Keras takes them."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__()
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        return self._batches[index]


def values(variables: list[Any]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


@pytest.mark.parametrize("name", ["short last batch", "sample weights", "own step"])
def test_the_plain_engine_equals_fit_bit_for_bit(name: str) -> None:
    case = CASES[name]
    fitted, trained = case.build(), case.build()
    batches = case.batches(4)
    history = fitted.fit(Listed(batches), shuffle=False, verbose=0, **case.options)
    engine = make_engine(trained, is_plain=True, **case.options)
    engine.begin()
    engine.train(batches[:1])
    engine.train(batches[1:])
    engine.sync()
    found = engine.metrics()
    assert found == {key: value for key, (value,) in history.history.items()}
    for one, other in zip(values(trained.variables), values(fitted.variables), strict=True):
        assert_array_equal(one, other)
    variables = zip(
        values(trained.optimizer.variables), values(fitted.optimizer.variables), strict=True
    )
    for one, other in variables:
        assert_array_equal(one, other)


@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "fast"])
def test_the_block_of_synced_sees_current_variables_and_may_change_them(is_plain: bool) -> None:
    case = CASES["short last batch"]
    model, batches = case.build(), case.batches(4)
    engine = make_engine(model, is_plain=is_plain, **case.options)
    engine.build(batches[0])
    before = values(model.trainable_variables)
    engine.begin()
    engine.train(batches[:1])
    with engine.synced():
        after = values(model.trainable_variables)
        model.optimizer.learning_rate = 0.0
        for variable in model.trainable_variables:
            variable.assign(np.ones(variable.shape, np.float32))
    engine.train(batches[1:])
    with pytest.raises(ZeroDivisionError), engine.synced():
        raise ZeroDivisionError
    assert any((one != other).any() for one, other in zip(before, after, strict=True))
    for found in values(model.trainable_variables):
        assert_array_equal(found, np.ones_like(found))


def test_averages_run_until_they_are_reset() -> None:
    engine = make_engine(dense()(), is_plain=True)
    engine.build(batches_of()(1)[0])
    engine.train(batches_of()(3))
    assert list(engine.metrics()) == ["loss", "accuracy"]
    assert engine.metrics()["loss"] > 0
    engine.reset_metrics()
    assert engine.metrics()["loss"] == 0


def test_building_makes_all_variables_and_runs_no_step() -> None:
    model = dense()()
    engine = make_engine(model, is_plain=True)
    before = values(model.weights)
    engine.build(batches_of()(1)[0])
    assert model.optimizer.built
    assert len(model.optimizer.variables) == 2 + 2 * len(model.trainable_variables)
    assert len(model.metrics_variables) == 4
    assert int(model.optimizer.iterations) == 0
    for one, other in zip(values(model.weights), before, strict=True):
        assert_array_equal(one, other)


@pytest.mark.parametrize(
    "y",
    [np.array([0, 2, 1, 7]), np.eye(3)[[0, 2, 1, 1]], np.array([[0], [2], [1], [1]], np.uint8)],
    ids=["classes", "one-hot", "a last axis"],
)
def test_class_weights_are_those_of_keras(y: np.ndarray) -> None:
    from keras.src.trainers.data_adapters.data_adapter_utils import class_weight_to_sample_weights

    weights = {0: 0.5, 2: 3.0}
    _, _, found = ClassWeights(weights, dense(loss="mse")()).apply((y, y))
    assert_array_equal(found, class_weight_to_sample_weights(y, weights))
    assert found.dtype == np.float32


def test_class_weights_beside_sample_weights_are_refused() -> None:
    engine = make_engine(dense()(), class_weight={0: 2.0}, is_plain=True)
    with pytest.raises(OptionError, match="multiply the weights into a sample_weight column"):
        engine.train(batches_of(weighted=True)(1))


@pytest.mark.parametrize("wrong", [[1.0, 2.0], {"cat": 1.0}, {0: "heavy"}, 3])
def test_class_weights_that_are_no_dict_of_numbers_are_refused(wrong: Any) -> None:
    with pytest.raises(KerasH5Error, match=r"class_weight=.*pass a dict"):
        make_engine(dense()(), class_weight=wrong)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "many", True, None])
def test_steps_per_dispatch_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(
        OptionError, match=r"a number of steps, or .auto.: a whole number, at least 1"
    ):
        make_engine(dense()(), steps_per_dispatch=wrong)
