"""H5Dataset in evaluation, prediction and validation; weights, several columns, and errors."""

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

import kerash5 as k5
from kerash5.feeds._served import served_by
from tests.backend.feeds.served import (
    BATCH_SIZE,
    NUM_ROWS,
    STORES,
    Ledger,
    Recorder,
    open_rows,
    planned,
    reading_threads,
)

KINDS = list(STORES)
RNG = np.random.default_rng(3)
X = RNG.normal(size=(NUM_ROWS, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, NUM_ROWS)
WEIGHTS = RNG.uniform(0.5, 2, NUM_ROWS).astype(np.float32)
CLASS_WEIGHT = {0: 1.0, 1: 2.0, 2: 5.0}


@pytest.fixture
def table(tmp_path: Path) -> str:
    return k5.write(
        str(tmp_path / "table.h5"),
        a=X,
        b=X[:, :2] * 2,
        label=LABELS,
        y=LABELS[:, None].astype(np.float32),
        z=WEIGHTS[:, None],
        w=WEIGHTS,
    )


def make_silent(num_inputs: int = 4) -> keras.Model:
    """Return a model that answers 0 and does not learn: its loss is known beforehand."""
    x = keras.Input((num_inputs,))
    model = keras.Model(x, keras.layers.Dense(1, kernel_initializer="zeros", use_bias=False)(x))
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    return model


def first_loss(model: keras.Model, ds: k5.H5Dataset, **options: Any) -> float:
    return float(model.fit(ds, verbose=0, **options).history["loss"][0])


# The stored order.


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    ("kind", "shuffle"),
    [("contiguous", "rows"), ("resident", "chunks"), ("windowed", "chunks"), ("windowed", False)],
)
def test_predict_answers_every_row_in_the_stored_order(
    kind: str, shuffle: Any, drop_last: bool, tmp_path: Path
) -> None:
    ds = open_rows(tmp_path, kind, shuffle=shuffle, drop_last=drop_last)
    ledger = Ledger(len(ds))
    assert np.unique(ledger.model.predict(ds, verbose=0)).tolist() == [0]
    ledger.fit(ds, epochs=2)
    assert ledger.served == ledger.expect(planned(ds, 0, 1))
    answers = np.asarray(ledger.model.predict(ds, verbose=0))
    assert (-answers[:, 0]).tolist() == ledger.served  # each row has a weight of its own


@pytest.mark.parametrize("batch_size", [BATCH_SIZE, 60, 200])
def test_predict_equals_predict_on_the_array(batch_size: int, table: str) -> None:
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Softmax()])
    ds = k5.H5Dataset(table, x="a", batch_size=batch_size)
    assert_allclose(model.predict(ds, verbose=0), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


def test_predict_of_selected_rows_keeps_the_order_given(tmp_path: Path) -> None:
    ds = open_rows(tmp_path, "resident", rows=[50, 3, 99, 3], batch_size=3)
    ledger = Ledger()
    ledger.fit(open_rows(tmp_path))
    answers = np.asarray(ledger.model.predict(ds, verbose=0))
    assert (-answers[:, 0]).tolist() == [ledger.served[row] for row in (50, 3, 99, 3)]


@pytest.mark.parametrize("drop_last", [False, True])
def test_evaluate_sees_every_row_in_the_stored_order(drop_last: bool, tmp_path: Path) -> None:
    recorder = Recorder()
    ds = open_rows(tmp_path, drop_last=drop_last, transform=recorder, threads=0)
    Ledger().model.evaluate(ds, verbose=0)
    assert recorder.rows(11) == list(range(NUM_ROWS))


def test_evaluate_returns_the_loss_of_the_array(table: str) -> None:
    ds = k5.H5Dataset(table, x="a", y="y", sample_weight="w", batch_size=BATCH_SIZE)
    loss = make_silent().evaluate(ds, verbose=0)
    assert loss == pytest.approx(np.mean(WEIGHTS * LABELS**2), rel=1e-5)


# Validation.


@pytest.mark.parametrize("kind", KINDS)
def test_validation_on_the_training_data_disturbs_neither(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is refused; one object in two loops at once is what matters here.
    monkeypatch.setattr("kerash5.feeds._keras_loops.check_no_overlap", lambda *_, **__: None)
    recorder = Recorder()
    ds = open_rows(tmp_path, kind, transform=recorder, threads=0)
    ledger = Ledger()
    ledger.fit(ds, epochs=3, validation_data=ds)
    assert ledger.served == ledger.expect(planned(ds, 0, 1, 2))
    assert recorder.rows(11) == list(range(NUM_ROWS))


@pytest.mark.parametrize("drop_last", [False, True])
def test_validation_on_another_data_set(drop_last: bool, tmp_path: Path) -> None:
    recorder = Recorder()
    ds = open_rows(tmp_path, "windowed")
    held_out = open_rows(
        tmp_path, rows=slice(0, 25), drop_last=drop_last, transform=recorder, threads=0
    )
    ledger = Ledger()
    ledger.fit(ds, epochs=3, validation_data=held_out)
    assert ledger.served == ledger.expect(planned(ds, 0, 1, 2))
    assert recorder.rows(9) == [*range(25)] * 3


def test_validation_loss_is_that_of_the_array(table: str) -> None:
    ds = k5.H5Dataset(table, x="a", y="y", batch_size=BATCH_SIZE)
    copy = shutil.copy(table, Path(table).with_name("copy.h5"))
    held = k5.H5Dataset(copy, x="a", y="y", batch_size=BATCH_SIZE)
    history = make_silent().fit(ds, validation_data=held, epochs=2, verbose=0).history
    assert history["val_loss"] == pytest.approx([np.mean(LABELS**2)] * 2, rel=1e-5)


# Weights.


@pytest.mark.parametrize("y", ["y", "label", k5.Column("label", shape=(1,))], ids=repr)
def test_class_weight_reaches_the_loss(y: Any, table: str) -> None:
    ds = k5.H5Dataset(table, x="a", y=y, batch_size=BATCH_SIZE)
    weights = np.array([CLASS_WEIGHT[label] for label in LABELS.tolist()])
    loss = first_loss(make_silent(), ds, class_weight=CLASS_WEIGHT)
    assert loss == pytest.approx(np.mean(weights * LABELS**2), rel=1e-5)


def test_sample_weight_reaches_the_loss(table: str) -> None:
    ds = k5.H5Dataset(table, x="a", y="y", sample_weight="w", batch_size=BATCH_SIZE)
    loss = first_loss(make_silent(), ds)
    assert loss == pytest.approx(np.mean(WEIGHTS * LABELS**2), rel=1e-5)


def test_weights_without_y_are_not_taken_for_y(table: str) -> None:
    with pytest.raises(k5.ColumnError, match="sample_weight without y; name y too"):
        k5.H5Dataset(table, x="a", sample_weight="w")


def test_both_weights_at_once_are_refused_by_keras(table: str) -> None:
    ds = k5.H5Dataset(table, x="a", y="y", sample_weight="w", batch_size=BATCH_SIZE)
    with pytest.raises(ValueError, match="cannot specify `class_weight` and `sample_weight`"):
        make_silent().fit(ds, class_weight=CLASS_WEIGHT, verbose=0)


def test_one_hot_labels_for_categorical_crossentropy(table: str) -> None:
    ds = k5.H5Dataset(table, x="a", y=k5.Column("label", one_hot=3), batch_size=BATCH_SIZE)
    model = keras.Sequential([keras.layers.Dense(3, "softmax", kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", metrics=["accuracy"])
    assert first_loss(model, ds) == pytest.approx(np.log(3), rel=1e-5)
    accuracy = model.evaluate(ds, verbose=0, return_dict=True)["accuracy"]
    assert accuracy == pytest.approx(np.mean(LABELS == 0))


# Several inputs and outputs.


@pytest.mark.parametrize("as_dict", [True, False])
def test_several_inputs_and_outputs(as_dict: bool, table: str) -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    outputs = {name: keras.layers.Dense(1, name=name) for name in ("p", "q")}
    p, q = outputs["p"](a), outputs["q"](keras.layers.Concatenate()([a, b]))
    x: Any = {"a": "a", "b": "b"} if as_dict else ("a", "b")
    y: Any = {"p": "y", "q": "z"} if as_dict else ("y", "z")
    form: Any = ({"a": a, "b": b}, {"p": p, "q": q}) if as_dict else ([a, b], [p, q])
    model = keras.Model(*form)
    losses: Any = {"p": "mse", "q": "mae"} if as_dict else ["mse", "mae"]
    model.compile(keras.optimizers.SGD(0.0), loss=losses)
    ds = k5.H5Dataset(table, x=x, y=y, batch_size=BATCH_SIZE)
    inputs: Any = {"a": X, "b": X[:, :2] * 2} if as_dict else [X, X[:, :2] * 2]

    wanted = model.predict(inputs, verbose=0)
    found = model.predict(ds, verbose=0)
    p_values, q_values = (np.asarray(wanted[key]) for key in (("p", "q") if as_dict else (0, 1)))
    assert_allclose(found["p" if as_dict else 0], p_values, rtol=1e-5, atol=1e-6)
    assert_allclose(found["q" if as_dict else 1], q_values, rtol=1e-5, atol=1e-6)
    loss = np.mean((p_values[:, 0] - LABELS) ** 2) + np.mean(np.abs(q_values[:, 0] - WEIGHTS))
    assert first_loss(model, ds) == pytest.approx(loss, rel=1e-4)


def test_columns_of_foreign_byte_order_train(tmp_path: Path) -> None:
    x, y = X.astype(">f4"), LABELS[:, None].astype(">i8")
    path = k5.write(tmp_path / "swapped.h5", compression=None, x=x, y=y)
    ds = k5.H5Dataset(path, x="x", y="y", batch_size=BATCH_SIZE)
    assert first_loss(make_silent(), ds) == pytest.approx(np.mean(LABELS**2), rel=1e-5)
    assert all(array.dtype.isnative for array in ds[0])
    ds = k5.H5Dataset(path, x="x", shuffle=False, batch_size=NUM_ROWS)
    assert_array_equal(ds[0][0], X)


# What goes wrong while reading.


@pytest.mark.usefixtures("earlier_data_sets_gone")
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("task", ["fit", "evaluate"])
def test_an_error_in_the_transform_surfaces_and_is_kept(
    task: str, threads: int, tmp_path: Path
) -> None:
    def refuse_row_77(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        if 77 in x:
            raise ValueError("boom")
        return x, y

    ds = open_rows(tmp_path, transform=refuse_row_77, threads=threads)
    assert served_by(ds).loop_error is None
    # TensorFlow puts an error of its own in the place of ours, and quotes it.
    with pytest.raises(Exception, match="boom"):
        getattr(Ledger().model, task)(ds, verbose=0)
    assert isinstance(served_by(ds).loop_error, ValueError)
    assert str(served_by(ds).loop_error) == "boom"
    assert not reading_threads()
