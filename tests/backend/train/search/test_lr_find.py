"""The learning-rate search: it finds a rate that trains, and gives back the model as it was."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from numpy.testing import assert_array_equal

import kerash5 as k5
from kerash5._errors import OptionError, RunError
from kerash5.report import LearningRates
from kerash5.train.search._lr_find import find_learning_rate

NUM_ROWS: Final = 96


@pytest.fixture
def data(tmp_path: Path) -> k5.H5Dataset:
    """Rows whose label a linear model can learn."""
    random = np.random.default_rng(4)
    x = random.standard_normal((NUM_ROWS, 6)).astype(np.float32)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"] = x, (x @ random.standard_normal(6) > 0).astype(np.int64)
    return k5.H5Dataset(tmp_path / "rows.h5", x="x", y="y", batch_size=32)


def build(optimizer: Any = "sgd", *, is_compiled: bool = False) -> keras.Model:
    """Return a model; where it does not matter to a test, its steps are not compiled."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.1), layers.Dense(2)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], run_eagerly=not is_compiled)
    return model


def find(model: keras.Model, data: k5.H5Dataset, **options: Any) -> LearningRates:
    defaults = {"min_lr": 1e-4, "max_lr": 10.0, "num_training": 20}
    return find_learning_rate(model, data, **{**defaults, **options})


def state(model: keras.Model) -> list[np.ndarray]:
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [keras.ops.convert_to_numpy(variable.value).copy() for variable in variables]


def fit(model: keras.Model, data: k5.H5Dataset) -> dict[str, list[float]]:
    history: dict[str, list[float]] = model.fit(data, epochs=1, verbose=0).history
    return history


OPTIMIZERS: Final[dict[str, Any]] = {
    "schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.01, 3, 0.5)
    ),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "ema": lambda: keras.optimizers.Adam(0.01, use_ema=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_model_and_optimizer_are_afterwards_what_they_were(
    data: k5.H5Dataset, optimizer: Any
) -> None:
    model = build(optimizer(), is_compiled=True)
    fit(model, data)
    before, rate = state(model), float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    found = find(model, data, max_lr=0.1)
    assert len(found.losses) == 20
    assert len(before) == len(state(model))
    for old, new in zip(before, state(model), strict=True):
        assert_array_equal(old, new, strict=True)
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == rate


def test_training_goes_on_as_if_nothing_had_happened(data: k5.H5Dataset) -> None:
    ended = []
    for is_lent in (True, False):
        model = build(keras.optimizers.SGD(0.1, momentum=0.9), is_compiled=True)
        fit(model, data)
        if is_lent:
            find(model, data)
        with warnings.catch_warnings(action="ignore"):  # of a second fit of one epoch
            ended.append((fit(model, data), model.get_weights()))
    (lent, lent_weights), (expected, weights) = ended
    assert lent == expected
    for ours, theirs in zip(lent_weights, weights, strict=True):
        assert_array_equal(ours, theirs)


def test_a_model_that_was_never_built_is_built_and_not_trained(data: k5.H5Dataset) -> None:
    model = build()
    find(model, data)
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 0
    expected = build()
    expected.test_on_batch(*data.read(0))
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        assert_array_equal(ours, theirs)
    metrics = [keras.ops.convert_to_numpy(each) for each in model.metrics_variables]
    assert metrics
    assert not any(np.any(value) for value in metrics)


def test_rates_grow_evenly_and_the_data_come_as_in_training(data: k5.H5Dataset) -> None:
    found = find(build(), data, min_lr=1e-5, max_lr=1e-3, num_training=21)
    steps = np.diff(np.log(found.rates))
    assert found.rates[0] == pytest.approx(1e-5)
    assert found.rates[-1] == pytest.approx(1e-3)
    np.testing.assert_allclose(steps, steps[0])
    assert found.losses[0] == pytest.approx(
        build().train_on_batch(*data.read(0), return_dict=True)["loss"], rel=1e-5
    )


def test_a_schedule_searches_the_same_rates_as_a_number(data: k5.H5Dataset) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 9)
    found, expected = [
        find(build(keras.optimizers.SGD(rate), is_compiled=True), data, max_lr=0.1).losses
        for rate in (schedule, 0.5)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_loss_that_explodes_ends_the_search_early(data: k5.H5Dataset) -> None:
    found = find(build(), data, max_lr=1e6, num_training=40)
    assert len(found.rates) == len(found.losses) < 40


def test_data_that_are_nan_are_one_sentence(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "nan.h5", "w") as file:
        file["x"], file["y"] = np.full((8, 6), math.nan, np.float32), np.zeros(8, np.int64)
    data = k5.H5Dataset(tmp_path / "nan.h5", x="x", y="y", batch_size=4)
    model = build()
    with pytest.raises(RunError, match="check for NaN in the data"):
        find(model, data)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"min_lr": 1.0, "max_lr": 0.1}, "0 < min_lr < max_lr"),
        ({"min_lr": 0.0}, "0 < min_lr"),
        ({"max_lr": math.inf}, "max_lr=inf"),
        ({"num_training": 5}, "at least 20 steps"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    data: k5.H5Dataset, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(OptionError, match=match):
        find(build(), data, **options)
