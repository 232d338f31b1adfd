"""The trainer on the backend that is set: what a run keeps, what it answers, how it fails."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose, assert_array_equal
from rich.console import Console

import kerash5 as k5
from kerash5 import zoo
from kerash5._errors import (
    FileError,
    KerasH5Error,
    LabelError,
    OptionError,
    RunError,
    ShapeError,
)
from kerash5._run import Epoch
from kerash5.files import replacing
from kerash5.train._build import load_model
from kerash5.train._fit import Session
from kerash5.train._monitored import MonitoredMetric
from kerash5.train.checkpoints import _run_dir
from kerash5.train.engines import make_engine

NUM_ROWS: Final = 24
NUM_CLASSES: Final = 3
BATCH_SIZE: Final = 8
STORED: Final = np.random.default_rng(1).integers(0, 256, (NUM_ROWS, 4, 4), dtype=np.uint8)
LABELS: Final = np.arange(NUM_ROWS) % NUM_CLASSES


def write_rows(path: Path, labels: Any = LABELS, images: np.ndarray = STORED) -> str:
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = images, labels
    return str(path)


@pytest.fixture
def train(tmp_path: Path) -> str:
    return write_rows(tmp_path / "train.h5")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "one"


def copy_of(path: str) -> str:
    """Return a file with the same rows beside it: to test on the file itself is refused."""
    return str(shutil.copy(path, Path(path).with_name("copy.h5")))


def open_module(train: str, test: str | None = None, **options: Any) -> k5.H5DataModule:
    defaults = {"x": "image", "y": "label", "batch_size": BATCH_SIZE}
    return k5.H5DataModule(train, test, **{**defaults, **options})


def build(
    input_shape: tuple[int, ...] = (4, 4),
    num_classes: int = NUM_CLASSES,
    *,
    is_compiled: bool = False,
) -> keras.Model:
    """Return a small model, with weights that are the same in each run.

    Where it does not matter to a test, its steps are not compiled: that is most of the time.
    """
    keras.utils.set_random_seed(5)
    model = zoo.build("mlp", input_shape=input_shape, num_classes=num_classes, hidden=(4,))
    model.run_eagerly = not is_compiled
    return model


def make_trainer(run_dir: Path | None, **options: Any) -> k5.Trainer:
    """Return a quiet trainer of one epoch."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return k5.Trainer(**{"max_epochs": 1, "run_dir": run_dir, **quiet, **options})


class AtEpochEnd(keras.callbacks.Callback):
    """Calls a function with the model when an epoch has ended."""

    def __init__(self, function: Callable[[int, keras.Model], None]) -> None:
        super().__init__()
        self._function = function

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._function(epoch, self.model)


def raising(error: BaseException, *, at: int = 0) -> AtEpochEnd:
    """Return a callback that raises at the end of an epoch."""

    def fail(epoch: int, _model: keras.Model) -> None:
        if epoch == at:
            raise error

    return AtEpochEnd(fail)


def leftovers(folder: Path) -> list[str]:
    """Return the names of files that stand for something half-written."""
    return [path.name for path in folder.rglob("*partial*")]


# What a run keeps.

FILES: Final = {
    *("config.yaml", "env.json", "metrics.csv", "model.json", "run.json"),
    *("last.weights.h5", "best.weights.h5"),
}


def test_a_run_keeps_everything_in_its_folder(train: str, run_dir: Path) -> None:
    trainer = make_trainer(run_dir, max_epochs=2)
    run = trainer.fit(build(is_compiled=True), open_module(train, validation_split=8))
    assert {path.name for path in run_dir.iterdir() if path.is_file()} == FILES
    assert run.status == "done"
    assert run.backend == keras.backend.backend()
    assert run.num_parameters == build().count_params()
    assert run.run_dir == str(run_dir)
    assert [epoch.num_rows for epoch in run.epochs] == [16, 16]
    assert set(run.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(0 < epoch.seconds < run.seconds for epoch in run.epochs)
    assert all(0 < epoch.validation_seconds < run.seconds for epoch in run.epochs)
    assert all(0 <= epoch.input_wait_seconds <= epoch.seconds for epoch in run.epochs)
    assert k5.Run.load(run_dir) == trainer.run == run


def test_a_run_says_which_engine_ran_it(train: str, run_dir: Path) -> None:
    model = build()
    run = make_trainer(run_dir).fit(model, open_module(train))
    assert run.engine == make_engine(model).describe()
    assert "run_eagerly=True" in run.engine
    assert k5.Run.load(run_dir).engine == run.engine


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that cannot be written down: it has no get_config."""

    def __call__(self, step: Any) -> Any:
        return 0.1 / (1.0 + keras.ops.cast(step, "float32"))


def test_a_schedule_without_get_config_is_trained_and_resumed(train: str, run_dir: Path) -> None:
    def make() -> keras.Model:
        model = build(is_compiled=True)
        model.compile(keras.optimizers.SGD(Halving()), "sparse_categorical_crossentropy")
        return model

    data = open_module(train)
    whole = make()
    make_trainer(run_dir / "whole", max_epochs=2).fit(whole, data)
    make_trainer(run_dir / "cut", max_epochs=2, max_steps=4).fit(make(), data)
    resumed = make()
    make_trainer(run_dir / "cut", max_epochs=2).fit(resumed, data, resume="auto")
    for mine, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        assert_array_equal(mine, other)


class Freezing(keras.callbacks.Callback):
    """Freezes the first dense layer in the second epoch, the usual way to fine-tune."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        dense = [layer for layer in self.model.layers if isinstance(layer, keras.layers.Dense)]
        dense[0].trainable = epoch != 1


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="traced steps never see it")
def test_a_fit_in_which_a_layer_was_frozen_is_resumed(train: str, run_dir: Path) -> None:
    def fit(name: str, **options: Any) -> keras.Model:
        model = build(is_compiled=True)
        resume = options.pop("resume", None)
        trainer = make_trainer(run_dir / name, max_epochs=3, callbacks=[Freezing()], **options)
        trainer.fit(model, open_module(train), resume=resume)
        return model

    whole = fit("whole")
    fit("cut", max_steps=4)
    resumed = fit("cut", resume="auto")
    for mine, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        assert_array_equal(mine, other)


def test_what_keeps_steps_from_being_faster_is_said_once_at_the_start(
    train: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_trainer(run_dir, max_epochs=2).fit(build(), open_module(train))
    assert capsys.readouterr().err.count("compiled with run_eagerly=True") == 1
    make_trainer(run_dir, max_epochs=2).fit(build(is_compiled=True), open_module(train))
    assert "steps:" not in capsys.readouterr().err


def test_a_run_that_failed_says_which_engine_ran_it(train: str, run_dir: Path) -> None:
    with pytest.raises(OSError, match="hail"):
        make_trainer(run_dir, callbacks=[raising(OSError("hail"))]).fit(build(), open_module(train))
    assert "run_eagerly=True" in k5.Run.load(run_dir).engine


def test_the_files_of_a_run_say_what_was_asked_for_and_what_happened(
    train: str, run_dir: Path
) -> None:
    trainer = make_trainer(run_dir, max_epochs=2)
    trainer.notes = {"backend": "any", "shape": (4, 4), "count": np.int64(3)}
    run = trainer.fit(build(), open_module(train))
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert list(config) == ["backend", "shape", "count", "data", "trainer"]
    assert (config["shape"], config["count"]) == ([4, 4], 3)
    assert (config["data"]["train"], config["data"]["batch_size"]) == (train, BATCH_SIZE)
    assert (config["trainer"]["max_epochs"], config["trainer"]["run_dir"]) == (2, str(run_dir))
    assert json.loads((run_dir / "env.json").read_text())["versions"]["keras"] == keras.__version__
    lines = list(csv.DictReader(io.StringIO((run_dir / "metrics.csv").read_text())))
    assert [line["epoch"] for line in lines] == ["0", "1"]
    for line, epoch in zip(lines, run.epochs, strict=True):
        assert {name: float(line[name]) for name in epoch.metrics} == epoch.metrics


def test_tensorboard_finds_the_metrics_of_every_epoch(train: str, run_dir: Path) -> None:
    pytest.importorskip("tensorboardX")
    make_trainer(run_dir, max_epochs=2).fit(build(), open_module(train, validation_split=8))
    (events,) = (run_dir / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents")
    written = events.read_bytes()
    for name in (b"loss", b"accuracy", b"val_loss", b"val_accuracy", b"rows_per_second"):
        assert written.count(b"\n" + bytes([len(name)]) + name) == 2  # a protobuf string each


def test_a_single_data_set_can_be_trained_on(train: str, run_dir: Path) -> None:
    ds = k5.H5Dataset(train, x="image", y="label", batch_size=7, drop_last=True)
    run = make_trainer(run_dir).fit(build(), ds)
    assert (run.status, run.monitor, run.epochs[0].num_rows) == ("done", "loss", 21)
    assert "H5Dataset" not in run.config["data"]["described"]
    assert "label" in run.config["data"]["described"]


def test_the_folder_says_while_training_how_far_it_came(train: str, run_dir: Path) -> None:
    seen: list[tuple[str, int]] = []

    def look(_epoch: int, _model: keras.Model) -> None:
        run = k5.Run.load(run_dir)
        seen.append((run.status, len(run.epochs)))

    callback = AtEpochEnd(look)
    make_trainer(run_dir, max_epochs=2, callbacks=[callback]).fit(build(), open_module(train))
    assert seen == [("running", 1), ("running", 2)]


def test_a_second_fit_leaves_the_first_run_alone(train: str, run_dir: Path) -> None:
    trainer, data = make_trainer(run_dir), open_module(train)
    trainer.fit(build(), data)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    second, third = trainer.fit(build(), data), trainer.fit(build(), data)
    assert second.run_dir == str(run_dir) + "-2"
    assert third.run_dir == str(run_dir) + "-3"
    assert {path: path.read_bytes() for path in before} == before
    assert trainer.run == third


def test_unasked_the_folder_is_named_after_the_model(
    train: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_trainer(None).fit(build(), open_module(train)).run_dir == "runs/mlp"


def test_the_folder_one_stands_in_can_hold_a_run_and_gets_a_numbered_neighbour(
    train: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    trainer = make_trainer(Path())
    assert trainer.fit(build(), open_module(train)).run_dir == str(here)
    assert trainer.fit(build(), open_module(train)).run_dir == str(tmp_path / "here-2")


def test_a_folder_that_cannot_be_made_is_refused(train: str) -> None:
    with pytest.raises(FileError, match=r"run_dir .*cannot be made.*choose another folder"):
        make_trainer(Path(train) / "run").fit(build(), open_module(train))


# Which weights are the best.

NAN: Final = math.nan
MONITORS: Final[dict[str, tuple[str, list[float], int]]] = {
    "a loss is best when smallest": ("val_loss", [3, 1, 2], 1),
    "of equals the first": ("val_loss", [2, 1, 1], 1),
    "NaN is never better": ("val_loss", [2, NAN, 1], 2),
    "any number is better than NaN": ("val_loss", [NAN, 5, NAN], 1),
    "NaN alone is the first": ("val_loss", [NAN, NAN], 0),
    "an accuracy is best when largest": ("val_accuracy", [0.1, 0.9, 0.5], 1),
    "under its short name too": ("val_acc", [0.1, 0.9, 0.5], 1),
    "a loss of an accurate head is a loss": ("val_accurate_loss", [3, 1, 2], 1),
    "an IoU is best when largest": ("val_mean_io_u", [0.1, 0.2, 0.0], 1),
}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("case", MONITORS.values(), ids=MONITORS)
def test_best_weights_are_those_of_the_best_epoch_by_the_monitor(
    train: str,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, Sequence[float], int],
) -> None:
    monitor, values, best = case
    end = Session.end_epoch

    def end_crafted(session: Any, epoch: Epoch) -> None:
        end(session, replace(epoch, metrics={monitor: values[epoch.epoch]}))

    monkeypatch.setattr(Session, "end_epoch", end_crafted)
    monkeypatch.setattr(Session, "record_epoch", lambda *_: None)  # it has the real ones
    # It knows the real names.
    monkeypatch.setattr(MonitoredMetric, "check", lambda metric, *_, **__: metric.name)
    weights: list[list[np.ndarray]] = []
    keep = AtEpochEnd(lambda _, model: weights.append(model.get_weights()))
    trainer = make_trainer(run_dir, max_epochs=len(values), monitor=monitor, callbacks=[keep])
    run = trainer.fit(build(), open_module(train, validation_split=8))
    assert run.best_epoch == best
    for name, epoch in (("best", best), ("last", len(values) - 1)):
        loaded = load_model(run_dir, name)
        for found, kept in zip(loaded.get_weights(), weights[epoch], strict=True):
            assert_array_equal(found, kept)


def test_unasked_the_loss_decides_that_of_validation_if_there_is_one(
    train: str, run_dir: Path
) -> None:
    trainer = make_trainer(run_dir)
    assert trainer.fit(build(), open_module(train)).monitor == "loss"
    assert trainer.fit(build(), open_module(train, validation_split=8)).monitor == "val_loss"


def test_a_monitor_that_is_no_metric_is_refused_with_those_there_are(
    train: str, run_dir: Path
) -> None:
    with pytest.raises(RunError, match=r"monitor='acuracy' is no metric.*'accuracy', 'loss'"):
        make_trainer(run_dir, monitor="acuracy").fit(build(), open_module(train))
    assert k5.Run.load(run_dir).status == "failed"


def test_a_monitor_of_validation_without_any_is_refused_before_the_first_step(
    train: str, run_dir: Path
) -> None:
    with pytest.raises(RunError, match=r"'val_loss' needs validation data.*monitor 'loss'"):
        make_trainer(run_dir, monitor="val_loss").fit(build(), open_module(train))
    assert not run_dir.exists()


# Evaluation and prediction.


def test_validate_test_and_predict_answer_for_the_stored_rows_in_their_order(
    train: str, tmp_path: Path, run_dir: Path
) -> None:
    test = write_rows(tmp_path / "test.h5", LABELS[::-1].copy(), STORED[::-1].copy())
    data, trainer = open_module(train, test, validation_split=8), make_trainer(run_dir)
    model = build(is_compiled=True)
    trainer.fit(model, data)
    assert data.validation is not None
    assert data.validation.plan.rows_to_serve is not None
    held_out = np.asarray(data.validation.plan.rows_to_serve)

    def expected(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        found = model.evaluate(x, y, batch_size=BATCH_SIZE, verbose=0, return_dict=True)
        return {name: pytest.approx(value, abs=1e-5) for name, value in found.items()}

    assert trainer.validate(model, data) == expected(STORED[held_out], LABELS[held_out])
    assert trainer.test(model, data) == expected(STORED[::-1], LABELS[::-1])
    answers = model.predict(STORED, batch_size=BATCH_SIZE, verbose=0)
    assert_allclose(trainer.predict(model, data), answers[::-1], atol=1e-6)
    # Training shuffles these; predicting does not.
    assert list(data.train.plan.rows(0)) != sorted(data.train.plan.rows(0))
    trained = np.setdiff1d(np.arange(NUM_ROWS), held_out)
    assert_allclose(trainer.predict(model, data.train), answers[trained], atol=1e-6)


def test_test_metrics_are_kept_in_the_run(train: str, run_dir: Path) -> None:
    data, model, trainer = open_module(train, copy_of(train)), build(), make_trainer(run_dir)
    run = trainer.fit(model, data)
    assert run.test == {}
    metrics = trainer.test(model, data)
    assert set(metrics) == {"loss", "accuracy"}
    assert trainer.run == replace(run, test=metrics) == k5.Run.load(run_dir)


def test_the_metrics_of_another_model_are_not_kept_in_the_run(train: str, run_dir: Path) -> None:
    data, trainer = open_module(train, copy_of(train)), make_trainer(run_dir)
    run = trainer.fit(build(), data)
    assert trainer.test(build(), data)
    assert trainer.run == k5.Run.load(run_dir) == run


def test_a_trainer_that_never_fitted_tests_and_keeps_nothing(train: str, run_dir: Path) -> None:
    trainer = make_trainer(run_dir)
    assert trainer.test(build(), open_module(train, copy_of(train)))["loss"] > 0
    assert trainer.run is None
    assert not run_dir.exists()


@pytest.mark.parametrize(("task", "role"), [("validate", "validation"), ("test", "test")])
def test_what_the_module_lacks_is_named(train: str, run_dir: Path, task: str, role: str) -> None:
    with pytest.raises(RunError, match=f"no {role} data; give H5DataModule {role}"):
        getattr(make_trainer(run_dir), task)(build(), open_module(train))


# How a run ends that does not end well.


class WeatherError(Exception):
    """An error that is neither ours nor Keras'."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(WeatherError("rain"), "failed", id="error"),
        pytest.param(KeyboardInterrupt("^C"), "stopped", id="Ctrl-C"),
        pytest.param(SystemExit(143), "stopped", id="SIGTERM"),
    ],
)
def test_a_run_says_how_it_ended_and_keeps_what_it_had(
    train: str, run_dir: Path, error: BaseException, status: str
) -> None:
    trainer = make_trainer(run_dir, max_epochs=3, callbacks=[raising(error, at=1)])
    with pytest.raises(type(error)):
        trainer.fit(build(is_compiled=True), open_module(train))
    run = k5.Run.load(run_dir)
    assert (run.status, len(run.epochs)) == (status, 2)
    assert run.error == f"{type(error).__name__}: {error}"
    assert run == trainer.run
    assert leftovers(run_dir) == []
    assert load_model(run_dir, "last").count_params() == run.num_parameters


@pytest.mark.parametrize("role", ["train", "validation"])
def test_the_error_of_a_data_set_is_raised_as_it_was_on_every_backend(
    train: str, run_dir: Path, role: str
) -> None:
    def spoil(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if x[0, 0, 0] == 7:
            raise WeatherError("hail")
        return x, y

    images = STORED.copy()
    images[:, 0, 0] = 0
    images[20 if role == "validation" else 12, 0, 0] = 7
    path = write_rows(Path(train), images=images)
    data = open_module(
        path, validation_split=[20, 21], transform=spoil, batch_size=1, shuffle=False
    )
    with pytest.raises(WeatherError, match=r"^hail$"):
        make_trainer(run_dir).fit(build(is_compiled=True), data)
    run = k5.Run.load(run_dir)
    assert (run.status, run.error) == ("failed", "WeatherError: hail")
    assert leftovers(run_dir) == []


@pytest.mark.parametrize("task", ["test", "predict"])
def test_evaluation_raises_the_data_sets_own_error_too(
    train: str, run_dir: Path, task: str
) -> None:
    def spoil(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise WeatherError(f"{len(x)} of {len(y)}")

    model = build(is_compiled=True)
    with pytest.raises(WeatherError):
        getattr(make_trainer(run_dir), task)(
            model, open_module(train, copy_of(train), transform=spoil)
        )


def test_weights_that_cannot_be_written_leave_the_earlier_ones(
    train: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(_epoch: int, _model: keras.Model) -> None:
        @contextmanager
        def fail(path: Path) -> Iterator[Any]:
            with replacing(path) as stream:
                stream.write(b"too few")
                raise OSError(28, "No space left on device")
                yield

        monkeypatch.setattr(_run_dir, "replacing", fail)

    trainer = make_trainer(run_dir, max_epochs=2, callbacks=[AtEpochEnd(fill_the_disk)])
    with pytest.warns(
        UserWarning, match=r"cannot be written to \(.*No space left.*training goes on"
    ):
        trainer.fit(build(), open_module(train))
    assert leftovers(run_dir) == []
    assert (k5.Run.load(run_dir).status, len(k5.Run.load(run_dir).epochs)) == ("done", 2)
    monkeypatch.undo()
    load_model(run_dir, "best")


def test_a_callback_can_end_the_training_early(train: str, run_dir: Path) -> None:
    def stop(epoch: int, model: keras.Model) -> None:
        model.stop_training = epoch == 1

    run = make_trainer(run_dir, max_epochs=5, callbacks=[AtEpochEnd(stop)]).fit(
        build(), open_module(train)
    )
    assert (run.status, len(run.epochs)) == ("done", 2)


# What can be known to be wrong before the first step.


def uncompiled() -> keras.Model:
    return keras.Sequential([keras.Input((4, 4)), keras.layers.Flatten(), keras.layers.Dense(3)])


BAD: Final[dict[str, tuple[Callable[[], keras.Model], dict[str, Any], type[Exception], str]]] = {
    "not compiled": (uncompiled, {}, RunError, r"is not compiled; call model\.compile"),
    "label too large": (
        lambda: build(num_classes=2),
        {},
        LabelError,
        r"train\.h5' has label 2, outside the 2 classes.*num_classes=3.*labels=",
    ),
    "negative label": (
        build,
        {"labels": LABELS - 1},
        LabelError,
        r"has label -1, but class ids start at 0.*labels=",
    ),
    "label too large in validation": (
        build,
        {"labels": np.r_[LABELS[:-1], 9], "validation_split": [NUM_ROWS - 1]},
        LabelError,
        "has label 9, outside the 3 classes",
    ),
    "same values in another shape": (
        lambda: build((2, 8)),
        {},
        ShapeError,
        r"rows of shape \(2, 8\).*rows of shape \(4, 4\).*"
        r"x=Column\('image', shape=\(2, 8\)\) would fit",
    ),
    "no channel axis": (
        lambda: build((4, 4, 1)),
        {},
        ShapeError,
        r"\(4, 4, 1\).*\(4, 4\).*Column\('image', shape=\(4, 4, 1\)\) would fit",
    ),
    "an axis of any length": (
        lambda: recurrent(8),
        {},
        ShapeError,
        r"\(None, 8\).*\(4, 4\).*Column\('image', shape=\(2, 8\)\) would fit",
    ),
    "other values": (
        lambda: build((5, 5)),
        {},
        ShapeError,
        r"\(5, 5\).*\(4, 4\); build the model with input_shape=\(4, 4\)",
    ),
}


def recurrent(width: int) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((None, width)),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(NUM_CLASSES, activation="softmax"),
        ]
    )
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy())
    return model


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_what_can_be_known_to_be_wrong_is_refused_before_the_first_step(
    run_dir: Path,
    tmp_path: Path,
    case: tuple[Callable[[], keras.Model], dict[str, Any], type[Exception], str],
) -> None:
    make, asked, kind, words = case
    options = dict(asked)
    path = write_rows(tmp_path / "train.h5", options.pop("labels", LABELS))
    with pytest.raises(kind, match=words) as caught:
        make_trainer(run_dir).fit(make(), open_module(path, **options))
    assert isinstance(caught.value, KerasH5Error)
    assert "\n" not in str(caught.value)
    assert not run_dir.exists()


@pytest.mark.parametrize("what", ["labels", "shapes"])
def test_the_test_file_is_checked_before_training_begins(
    train: str, tmp_path: Path, run_dir: Path, what: str
) -> None:
    labels = LABELS + 1 if what == "labels" else LABELS
    images = STORED if what == "labels" else STORED[:, :3]
    test = write_rows(tmp_path / "test.h5", labels, images)
    with pytest.raises(LabelError if what == "labels" else ShapeError):
        make_trainer(run_dir).fit(build(), open_module(train, test))
    assert not run_dir.exists()


@pytest.mark.parametrize("task", ["test", "validate", "predict"])
def test_evaluation_checks_shapes_too(train: str, run_dir: Path, task: str) -> None:
    data = open_module(train, copy_of(train), validation_split=8)
    with pytest.raises(ShapeError, match="would fit"):
        getattr(make_trainer(run_dir), task)(build((2, 8)), data)


def test_what_a_transform_makes_of_rows_is_its_own_affair(tmp_path: Path, run_dir: Path) -> None:
    path = write_rows(tmp_path / "train.h5", LABELS + 10)
    data = open_module(path, transform=lambda x, y: (x.reshape(len(x), 2, 8), y - 10))
    assert make_trainer(run_dir).fit(build((2, 8)), data).status == "done"


def test_labels_are_only_checked_against_classes(tmp_path: Path, run_dir: Path) -> None:
    path = write_rows(tmp_path / "train.h5", LABELS - 7)
    model = keras.Sequential(
        [keras.Input((4, 4)), keras.layers.Flatten(), keras.layers.Dense(1, name="number")]
    )
    model.compile(optimizer="sgd", loss="mse")
    assert make_trainer(run_dir).fit(model, open_module(path)).status == "done"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_epochs": 0}, "max_epochs=0; .*at least 1"),
        ({"max_epochs": True}, "max_epochs=True"),
        ({"max_epochs": "3"}, "max_epochs='3'"),
        ({"precision": "float64"}, "precision='float64'; choose 'float32', 'bf16-mixed'"),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_refused_at_once(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        k5.Trainer(**options)


def test_a_model_of_another_precision_is_refused_with_the_cure(train: str, run_dir: Path) -> None:
    trainer = make_trainer(run_dir, precision="bf16-mixed")
    with pytest.raises(RunError, match=r"set_dtype_policy\('mixed_bfloat16'\).*as float32"):
        trainer.fit(build(), open_module(train))
    assert not run_dir.exists()


# Models of other kinds.


def test_several_inputs_and_outputs_train_and_predict(train: str, run_dir: Path) -> None:
    left, right = keras.Input((4, 4), name="left"), keras.Input((4, 4), name="right")
    flat = keras.layers.Concatenate()([keras.layers.Flatten()(part) for part in (left, right)])
    outputs = {
        "one": keras.layers.Dense(NUM_CLASSES, activation="softmax", name="one")(flat),
        "two": keras.layers.Dense(1, name="two")(flat),
    }
    model = keras.Model({"left": left, "right": right}, outputs)
    model.compile(optimizer="sgd", loss={"one": "sparse_categorical_crossentropy", "two": "mae"})
    data = open_module(
        train,
        copy_of(train),
        x={"left": "image", "right": "image"},
        y={"one": "label", "two": "label"},
    )
    trainer = make_trainer(run_dir)
    assert trainer.fit(model, data).status == "done"
    answers = trainer.predict(model, data)
    assert {name: part.shape for name, part in answers.items()} == {
        "one": (NUM_ROWS, NUM_CLASSES),
        "two": (NUM_ROWS, 1),
    }


def test_a_model_that_learns_its_shape_from_the_data_can_be_loaded_afterwards(
    train: str, run_dir: Path
) -> None:
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES, "softmax")])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    run = make_trainer(run_dir).fit(model, open_module(train))
    assert run.num_parameters == 16 * NUM_CLASSES + NUM_CLASSES
    assert_allclose(
        load_model(run_dir, "best").predict(STORED, verbose=0), model.predict(STORED, verbose=0)
    )


class Closed(keras.Model):
    """A subclassed model that cannot say how it was made."""

    def __init__(self, units: Any) -> None:
        super().__init__()
        self._layers_in_turn = [keras.layers.Flatten(), keras.layers.Dense(len(units), "softmax")]

    def call(self, x: Any) -> Any:
        for layer in self._layers_in_turn:
            x = layer(x)
        return x


def test_a_model_that_cannot_be_saved_is_trained_all_the_same(train: str, run_dir: Path) -> None:
    model = Closed(object.__subclasses__()[:NUM_CLASSES])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    assert make_trainer(run_dir).fit(model, open_module(train)).status == "done"
    assert {path.name for path in run_dir.iterdir() if path.is_file()} == FILES - {"model.json"}
    with pytest.raises(FileError, match=r"model\.json'; .*its model cannot be saved"):
        load_model(run_dir, "best")


# Progress.


def test_elsewhere_than_on_a_terminal_an_epoch_is_a_plain_line(
    train: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(run_dir, max_epochs=2, enable_progress_bar=True)
    trainer.fit(build(is_compiled=True), open_module(train))
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line[:11] for line in lines] == ["epoch 1/2  ", "epoch 2/2  "]
    for word in ("loss ", "accuracy ", " rows/s  ", "input wait "):
        assert word in lines[0]
    assert "\x1b" not in err


def test_nothing_is_printed_when_nothing_is_wanted(
    train: str, run_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer, data = make_trainer(run_dir), open_module(train, copy_of(train))
    model = build(is_compiled=True)
    capfd.readouterr()
    trainer.fit(model, data)
    trainer.test(model, data)
    trainer.predict(model, data)
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch" not in err
    assert "━" not in err


def test_the_summary_goes_to_stderr_as_it_is(
    train: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_trainer(run_dir, enable_model_summary=True).fit(build(), open_module(train))
    out, err = capsys.readouterr()
    assert out == ""
    assert 'Model: "mlp"' in err
    assert f"Total params: {build().count_params():,}" in err


def test_on_a_terminal_a_bar_runs_and_the_line_of_the_epoch_stays(
    train: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerash5.train.monitors._progress._REFRESH_SECONDS", 0.0)
    trainer = make_trainer(run_dir, enable_progress_bar=True)
    terminal = io.StringIO()
    trainer.console = Console(file=terminal, force_terminal=True, width=120)
    trainer.fit(build(), open_module(train))
    shown = terminal.getvalue()
    assert "0/3" in shown
    assert "rows/s" in shown.splitlines()[-1]


def test_callbacks_are_called_beside_those_of_the_trainer(train: str, run_dir: Path) -> None:
    called: list[str] = []

    class Notes(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            called.append("train")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            called.append(f"epoch {epoch} with {', '.join(sorted(logs))}")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            called.append(f"batch {batch}")

    make_trainer(run_dir, callbacks=[Notes()]).fit(build(), open_module(train))
    batches = [f"batch {number}" for number in range(3)]
    assert called == ["train", *batches, "epoch 0 with accuracy, loss"]


def test_decoded_rows_that_fit_no_memory_go_beside_the_run(train: str, run_dir: Path) -> None:
    with h5py.File(train, "w") as file:
        file.create_dataset("image", data=STORED, chunks=(NUM_ROWS, 4, 4), compression="gzip")
        file["label"] = LABELS
    data = k5.H5Dataset(train, "image", "label", batch_size=8, shuffle="rows", cache=100)
    assert "scratch file" not in data.describe()
    make_trainer(run_dir).fit(build(), data)
    assert f"a scratch file in {str(run_dir)!r}" in data.describe()
    assert not list(run_dir.glob(".kerash5-scratch-*"))
