"""Metrics that are arrays, and logs that are nested: what `fit` records, the trainer records."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

import kerash5 as k5
from kerash5._errors import RunError
from kerash5._run import Run, describe_metrics, to_scalars
from kerash5.report import draw_curves
from kerash5.train.engines.common._logs import flatten_logs, read_metrics, to_arrays
from tests.backend.train.engines.cases import Nested, confused, dense

ROWS: Final = 44  # five batches of eight, and a short one
X: Final = np.random.default_rng(3).integers(0, 256, (ROWS, 4, 4), dtype=np.uint8)
Y: Final = np.arange(ROWS) % 3
ONE_HOT: Final = np.eye(3, dtype=np.float32)[Y]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"], file["one_hot"] = X, Y, ONE_HOT
    return tmp_path / "rows.h5"


def one_hot(*metrics: Callable[[], Any]) -> Callable[[], keras.Model]:
    """Return what builds a model that takes labels as vectors."""

    def build() -> keras.Model:
        return dense(
            loss="categorical_crossentropy",
            metrics=[make() for make in metrics],
            optimizer=lambda: keras.optimizers.SGD(0.1),
        )()

    return build


def f1() -> Any:
    return keras.metrics.F1Score()


def misses() -> Any:
    return keras.metrics.FalseNegatives(thresholds=[0.2, 0.5], name="misses")


KINDS: Final[dict[str, tuple[str, Callable[[], keras.Model]]]] = {
    "F1Score()": ("one_hot", one_hot(f1)),
    "thresholds": ("one_hot", one_hot(misses, f1)),
    "a matrix, and a dict": ("y", confused),
    "nested logs": ("y", dense(kind=Nested)),
}


def open_rows(rows: Path, y: str) -> k5.H5Dataset:
    return k5.H5Dataset(rows, x="x", y=y, batch_size=8, shuffle=False)


def make_trainer(folder: Path, **options: Any) -> k5.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return k5.Trainer(**{**quiet, "max_epochs": 2, "run_dir": folder, "monitor": None, **options})


def data_module(rows: Path, y: str) -> k5.H5DataModule:
    return k5.H5DataModule(rows, x="x", y=y, batch_size=8, validation_split=12, shuffle=False)


class Heard(keras.callbacks.Callback):
    """Keeps what it is told at the end of epochs, and changes it."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.logs.append(dict(logs))
        logs["mine"] = "text"


@pytest.mark.thinned(3)
@pytest.mark.filterwarnings("ignore:a callback has set logs")  # `Heard` sets text
@pytest.mark.parametrize(
    "options",
    [{"steps_per_dispatch": 1}, {"steps_per_dispatch": 8, "device_cache": 0}, {}],
    ids=["one step", "eight steps from the host", "as it is"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_records_what_model_fit_records(
    rows: Path, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    y, build = KINDS[kind]
    labels = ONE_HOT if y == "one_hot" else Y
    monitor = {"monitor": "half"} if kind == "nested logs" else {}
    expected = build().fit(X, labels, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    heard = Heard()
    trainer = make_trainer(tmp_path / "run", callbacks=[heard], **monitor, **options)
    run = trainer.fit(build(), open_rows(rows, y))
    assert set(run.history) == set(expected)
    for name, values in expected.items():
        assert_allclose(run.history[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
        # Callbacks get arrays, as in `fit`.
        assert [type(logs[name]) for logs in heard.logs] == list(map(type, values))
    assert Run.load(tmp_path / "run").epochs == run.epochs


@pytest.mark.parametrize("kind", list(KINDS)[:3])
def test_validation_and_test_return_arrays_as_lists(rows: Path, tmp_path: Path, kind: str) -> None:
    y, build = KINDS[kind]
    model, data = build(), open_rows(rows, y)
    expected = model.evaluate(data, verbose=0, return_dict=True)
    trainer = make_trainer(tmp_path / "run")
    for found in (trainer.validate(model, data), trainer.test(model, data)):
        assert list(found) == list(expected)
        json.dumps(found)
        for name, value in expected.items():
            assert_allclose(found[name], value)


def test_validation_within_an_epoch_leaves_the_arrays_of_training(
    rows: Path, tmp_path: Path
) -> None:
    y, build = KINDS["thresholds"]
    often = make_trainer(tmp_path / "a", val_check_interval=2).fit(build(), data_module(rows, y))
    once = make_trainer(tmp_path / "b").fit(build(), data_module(rows, y))
    assert [epoch.metrics for epoch in often.epochs] == [epoch.metrics for epoch in once.epochs]
    assert {"misses", "val_misses"} <= set(once.history)
    assert np.array(once.history["val_misses"]).shape == (2, 2)


def test_csv_and_tensorboard_have_a_column_for_each_element(rows: Path, tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path / "run", logger=["csv", "tensorboard"], log_every_n_steps=3, max_epochs=1
    )
    run = trainer.fit(KINDS["thresholds"][1](), open_rows(rows, "one_hot"))
    with (tmp_path / "run" / "metrics.csv").open(encoding="utf-8") as stream:
        line = next(csv.DictReader(stream))
    numbers = to_scalars(run.epochs[0].metrics)
    assert list(numbers) == ["loss", "misses_0", "misses_1", *FSCORES]
    assert {name: float(line[name]) for name in numbers} == numbers
    with (tmp_path / "run" / "steps.csv").open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 2
    assert all(set(numbers) <= set(line) for line in lines)
    (events,) = (tmp_path / "run" / "tensorboard").glob("events*")
    assert b"misses_1" in events.read_bytes()


FSCORES: Final = tuple(f"f1_score_{n}" for n in range(3))


def test_the_line_of_an_epoch_shows_short_arrays_whole(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(tmp_path / "run", enable_progress_bar=True, max_epochs=1)
    run = trainer.fit(KINDS["a matrix, and a dict"][1](), open_rows(rows, "y"))
    said = capsys.readouterr().err
    assert "confusion (3 x 3 values)" in said
    assert describe_metrics({"of_class": run.epochs[0].metrics["of_class"]}) in said


@pytest.mark.one_backend
def test_curves_are_drawn_for_each_element(rows: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trainer = make_trainer(tmp_path / "run")
    model, data = KINDS["F1Score()"][1](), data_module(rows, "one_hot")
    trainer.fit(model, data)
    trainer.test(model, open_rows(rows, "one_hot"))
    assert trainer.run is not None
    assert Path(draw_curves(trainer.run, tmp_path / "curves.png")).stat().st_size > 0


@pytest.mark.parametrize("monitor", ["f1_score", "val_f1_score"])
def test_an_array_to_monitor_is_refused_before_the_first_step(
    rows: Path, tmp_path: Path, monitor: str
) -> None:
    class Steps(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            raise AssertionError("training has begun")

    trainer = make_trainer(tmp_path / "run", monitor=monitor, callbacks=[Steps()])
    with pytest.raises(RunError, match=rf"monitor='{monitor}' is an array.*average='macro'"):
        trainer.fit(KINDS["F1Score()"][1](), data_module(rows, "one_hot"))


def test_an_array_of_a_step_of_ones_own_is_refused_when_it_is_known(
    rows: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path / "run", monitor="pair")
    with pytest.raises(RunError, match="monitor='pair' is an array"):
        trainer.fit(dense(kind=Nested)(), open_rows(rows, "y"))


def test_one_number_of_an_array_metric_can_be_monitored(rows: Path, tmp_path: Path) -> None:
    build = one_hot(lambda: keras.metrics.F1Score(average="macro", name="f1"))
    trainer = make_trainer(tmp_path / "run", monitor="val_f1", early_stopping=5)
    run = trainer.fit(build(), data_module(rows, "one_hot"))
    assert run.best_epoch == int(np.argmax(run.history["val_f1"]))


class Halt(keras.callbacks.Callback):
    """Fails in the validation of the second epoch, which is then to be made again."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def on_test_begin(self, logs: Any = None) -> None:
        self._count += 1
        if self._count == 2:
            raise OSError("halt")


@pytest.mark.parametrize("kind", ["thresholds", "nested logs"])
def test_a_resumed_fit_records_the_same(rows: Path, tmp_path: Path, kind: str) -> None:
    y, build = KINDS[kind]
    data, monitor = data_module(rows, y), "half" if kind == "nested logs" else "loss"
    options: dict[str, Any] = {"max_epochs": 3, "every_n_train_steps": 1, "monitor": monitor}
    whole = make_trainer(tmp_path / "whole", **options).fit(build(), data)
    with pytest.raises(OSError, match="halt"):
        make_trainer(tmp_path / "run", callbacks=[Halt()], **options).fit(build(), data)
    run = make_trainer(tmp_path / "run", **options).fit(build(), data, resume="auto")
    assert [epoch.metrics for epoch in run.epochs] == [epoch.metrics for epoch in whole.epochs]


def test_later_names_win_in_nested_logs_as_in_fit() -> None:
    logs = {"loss": 1.0, "b": {"accuracy": 2.0, "c": {"deep": 3.0}}, "accuracy": 4.0}
    assert flatten_logs(logs) == {"accuracy": 2.0, "deep": 3.0, "loss": 1.0}


@pytest.mark.parametrize("value", [None, "text", {"inner": 1j}], ids=str)
def test_logs_that_are_no_numbers_are_refused_by_name(value: object) -> None:
    with pytest.raises(
        RunError, match=r"under '(log|inner)', but a metric must be a number or an array"
    ):
        read_metrics({"log": value})


def test_an_array_of_one_element_is_a_number() -> None:
    found = read_metrics(
        {"one": np.ones((1, 1)), "none": np.ones(0), "flag": True, "nan": math.nan}
    )
    assert repr(found) == "{'one': 1.0, 'none': [], 'flag': 1.0, 'nan': nan}"
    assert isinstance(to_arrays({"two": [1.0, 2.0]})["two"], np.ndarray)
