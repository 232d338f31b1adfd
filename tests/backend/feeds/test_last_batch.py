"""Tests of the last batch: `drop_last` "all" and "pad", and models of a fixed batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import OptionError, ShapeError

ROWS, SIZE = 21, 8
X = np.random.default_rng(0).random((ROWS, 5, 3)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, ROWS)
WEIGHTS = np.random.default_rng(2).random(ROWS).astype("float32")


@pytest.fixture
def path(tmp_path: Path) -> str:
    k5.write(tmp_path / "rows.h5", x=X, y=Y, w=WEIGHTS)
    return str(tmp_path / "rows.h5")


def rows_of(path: str, **options: Any) -> k5.H5Dataset:
    return k5.H5Dataset(path, x="x", y="y", **{"batch_size": SIZE, "shuffle": False, **options})


def build(size: int | None = SIZE, *, stateful: bool = False, **asked: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input(batch_shape=(size, 5, 3)),
        keras.layers.GRU(4, stateful=stateful),
        keras.layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(layers, name="net")
    asked = asked or {"weighted_metrics": ["accuracy"]}
    model.compile("sgd", "sparse_categorical_crossentropy", **asked)
    return model


class Same(keras.layers.Layer):
    """Returns its input, if that has 8 rows."""

    def call(self, x: Any) -> Any:
        return keras.ops.reshape(x, (SIZE, 5, 3))


@pytest.mark.parametrize("weights", [None, "w"], ids=["plain", "weighted"])
@pytest.mark.parametrize("rows", [None, slice(0, 16), slice(0, 5)], ids=["21", "16", "5"])
def test_padded_rows_do_not_change_an_evaluation(path: str, rows: Any, weights: Any) -> None:
    data = rows_of(path, drop_last="pad", rows=rows, sample_weight=weights)
    model = build(None)
    kept = slice(None) if rows is None else rows
    given = {} if weights is None else {"sample_weight": WEIGHTS[kept]}
    wanted = model.evaluate(X[kept], Y[kept], batch_size=SIZE, verbose=0, **given)
    np.testing.assert_allclose(model.evaluate(data, verbose=0), wanted, rtol=1e-5)
    found = k5.Trainer().validate(model, data)
    np.testing.assert_allclose([found["loss"], found["accuracy"]], wanted, rtol=1e-5)


@pytest.mark.parametrize("size", [SIZE, SIZE + 3], ids=["8", "11"])
def test_the_weights_after_a_fit_are_those_of_short_batches(path: str, size: int) -> None:
    found = []
    for last in (False, "pad"):
        model = build(None)
        data = rows_of(path, batch_size=size, drop_last=last, shuffle="rows")
        model.fit(data, epochs=2, verbose=0)
        found.append(model.get_weights())
    for wanted, padded in zip(*found, strict=True):
        np.testing.assert_allclose(padded, wanted, rtol=1e-5, atol=1e-6)


def test_a_trainer_trains_and_validates_on_padded_batches(path: str, tmp_path: Path) -> None:
    found = []
    for last in (False, "pad"):
        module = k5.H5DataModule(
            path, x="x", y="y", batch_size=SIZE, drop_last=last, validation_split=6
        )
        trainer = k5.Trainer(max_epochs=2, run_dir=tmp_path / str(last))
        found.append(trainer.fit(build(None), module).epochs[-1].metrics)
    for name in ("val_loss", "val_accuracy"):
        assert found[1][name] == pytest.approx(found[0][name], rel=1e-4)


def test_predictions_of_padded_rows_are_left_out(path: str, tmp_path: Path) -> None:
    data = rows_of(path, drop_last="pad")
    wanted = build(None).predict(X, batch_size=SIZE, verbose=0)
    model = build(stateful=True)
    trainer = k5.Trainer()
    np.testing.assert_allclose(trainer.predict(model, data)[:SIZE], wanted[:SIZE], rtol=1e-4)
    out = trainer.predict(build(), data, out=tmp_path / "out.h5")
    rows = k5.Source(out, x="prediction").read(np.arange(ROWS))["x"]
    np.testing.assert_allclose(rows, wanted, rtol=1e-4)
    with pytest.raises(OptionError, match=r"answers for the 3 repeated rows of .*Trainer"):
        model.predict(data, verbose=0)
    assert build().predict(data, verbose=0).shape == (ROWS, 3)


def test_a_batch_is_filled_up_with_its_own_rows_of_weight_0(path: str) -> None:
    x, y, weights = rows_of(path, drop_last="pad").read(2)
    np.testing.assert_array_equal(x, X[[16, 17, 18, 19, 20, 16, 17, 18]])
    np.testing.assert_array_equal(y, Y[[16, 17, 18, 19, 20, 16, 17, 18]])
    np.testing.assert_allclose(weights, [SIZE / 5] * 5 + [0] * 3)
    assert "filled up with 3 repeated rows" in rows_of(path, drop_last="pad").describe()


def test_all_drops_rows_in_evaluation_and_says_how_many(path: str) -> None:
    data = rows_of(path, drop_last="all")
    model = build(stateful=True)
    with pytest.warns(UserWarning, match="drop_last='all' leaves the last 5 rows out"):
        found = model.evaluate(data, verbose=0)
    model = build(stateful=True)
    np.testing.assert_allclose(
        found, model.evaluate(X[:16], Y[:16], batch_size=SIZE, verbose=0), rtol=1e-5
    )
    for predict in (model.predict, k5.Trainer().predict):
        with pytest.raises(OptionError, match="'all' drops the last 5; give drop_last='pad'"):
            predict(*((data,) if predict == model.predict else (model, data)))


def test_all_reaches_the_validation_rows_of_a_module(path: str, tmp_path: Path) -> None:
    module = k5.H5DataModule(path, x="x", y="y", batch_size=4, drop_last="all", validation_split=6)
    trainer = k5.Trainer(max_epochs=1, run_dir=tmp_path / "run")
    with pytest.warns(UserWarning, match="leaves the last 2 rows out of the evaluation"):
        trainer.fit(build(4), module)


@pytest.mark.parametrize("last", [False, True])
def test_a_layer_of_a_fixed_size_refuses_a_short_last_batch(path: str, last: Any) -> None:
    model = keras.Sequential([keras.Input(batch_shape=(SIZE, 5, 3)), Same(), keras.layers.GRU(3)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    data = rows_of(path, drop_last=last)
    cure = "takes batches of 8 rows alone, and the last batch to evaluate on has 5; give drop_last="
    with pytest.raises(ShapeError, match=cure):
        model.evaluate(data, verbose=0)
    with pytest.raises(ShapeError, match=cure):
        k5.Trainer().validate(model, data)
    whole = rows_of(path, rows=slice(0, 16))
    with pytest.raises(ShapeError, match=cure):
        model.fit(whole, validation_data=rows_of(path, rows=slice(16, 21)), verbose=0)
    if not last:
        with pytest.raises(
            ShapeError, match="to fit on has 5; give drop_last=True, 'pad' or 'all'"
        ):
            model.fit(data, verbose=0)
    with pytest.raises(ShapeError, match="last batch to predict on has 5; give drop_last='pad'"):
        model.predict(data, verbose=0)


def test_a_fixed_size_that_no_layer_needs_takes_a_short_batch(path: str) -> None:
    model = build()
    found = model.evaluate(rows_of(path), verbose=0)
    np.testing.assert_allclose(found, model.evaluate(X, Y, batch_size=SIZE, verbose=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"metrics": ["accuracy"]}, r"compile it with weighted_metrics=\['accuracy'\]"),
        ({"weighted_metrics": [keras.metrics.TruePositives()]}, "'true_positives.*' adds up"),
    ],
    ids=["metrics", "counts"],
)
def test_metrics_that_would_count_padded_rows_are_refused(
    path: str, asked: dict[str, Any], message: str
) -> None:
    data = rows_of(path, drop_last="pad")
    for call in (lambda m: m.evaluate(data, verbose=0), lambda m: k5.Trainer().validate(m, data)):
        with pytest.raises(OptionError, match=message):
            call(build(None, **asked))
    build(None, metrics=["accuracy"]).evaluate(
        rows_of(path, drop_last="pad", rows=slice(0, 16)), verbose=0
    )


def test_what_padding_cannot_weigh_is_refused(path: str) -> None:
    data = rows_of(path, drop_last="pad")
    model = build(None)
    with pytest.raises(OptionError, match="choose False, True"):
        rows_of(path, drop_last="al")
    with pytest.raises(OptionError, match="2 steps of data with drop_last='pad'"):
        model.evaluate(data, steps=2, verbose=0)
    with pytest.raises(OptionError, match="class_weight= and drop_last='pad' both give"):
        k5.Trainer().fit(model, data, class_weight={0: 2.0})
    sums = keras.losses.SparseCategoricalCrossentropy(reduction="sum")
    model.compile("sgd", sums)
    with pytest.raises(OptionError, match="reduction='sum', which does not average"):
        model.evaluate(data, verbose=0)
    each = keras.Sequential([keras.Input((5, 3)), keras.layers.Dense(3)])
    each.compile("sgd", "mse")
    with pytest.raises(OptionError, match="takes a weight for each position"):
        each.evaluate(k5.H5Dataset(path, "x", "x", batch_size=8, drop_last="pad"), verbose=0)
    alone = k5.H5Dataset(path, "x", batch_size=8, drop_last="pad")
    each.compile("sgd")
    with pytest.raises(OptionError, match="data without y have no weights"):
        each.fit(alone, verbose=0)


def test_a_transform_that_changes_the_number_of_rows_is_not_padded(path: str) -> None:
    data = rows_of(path, drop_last="pad", transform=lambda x, y: (x[:3], y[:3]))
    with pytest.raises(OptionError, match="returned 3 rows for 8, and drop_last='pad'"):
        data.read(0)
