"""Where the numbers of a run go: what each logger writes, and what a failing one does."""

from __future__ import annotations

import csv
import errno
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
import yaml

import kerash5 as k5
from kerash5._errors import BackendError, OptionError
from kerash5._run import Epoch, Metrics, Run
from kerash5.train import AbstractLogger
from kerash5.train.monitors._loggers import CSVLogger, MLflowLogger, TensorBoardLogger, WandbLogger
from kerash5.train.monitors._logging import parse_loggers

pytestmark = pytest.mark.one_backend

STEPS_PER_EPOCH: Final = 3


class Notebook(AbstractLogger):
    """Keeps what it is told."""

    def __init__(self, *, fails_at: str = "") -> None:
        self.said: list[tuple[Any, ...]] = []
        self._fails_at = fails_at

    def begin(self, run: Run, step: int) -> None:
        self._note("begin", step)

    def log_steps(self, metrics: Metrics, *, step: int, epoch: int) -> None:
        self._note("steps", step, epoch, metrics)

    def log_epoch(self, epoch: Epoch, run: Run, *, step: int) -> None:
        assert run.epochs[-1] == epoch
        self._note("epoch", step, epoch)

    def finish(self, run: Run) -> None:
        self._note("finish", run.status)

    def _note(self, what: str, *values: Any) -> None:
        self.said.append((what, *values))
        if what == self._fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def data(tmp_path: Path) -> k5.H5Dataset:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"] = np.ones((24, 4), np.float32), np.arange(24) % 2
    return k5.H5Dataset(tmp_path / "rows.h5", x="x", y="y", batch_size=8)


def build(learning_rate: Any = 0.01) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(learning_rate), loss)
    return model


def fit(data: k5.H5Dataset, folder: Path, model: keras.Model | None = None, **options: Any) -> Run:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = k5.Trainer(**{"max_epochs": 2, "run_dir": folder, **quiet, **options})
    return trainer.fit(model or build(), data)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_logger_hears_of_steps_and_epochs_in_order(data: k5.H5Dataset, tmp_path: Path) -> None:
    notebook = Notebook()
    run = fit(data, tmp_path / "run", logger=notebook, log_every_n_steps=2)
    assert [entry[:2] for entry in notebook.said] == [
        *(("begin", 0), ("steps", 2), ("epoch", 3), ("steps", 4), ("steps", 6), ("epoch", 6)),
        ("finish", "running"),
    ]
    epochs = [entry[2] for entry in notebook.said if entry[0] == "epoch"]
    assert epochs == list(run.epochs)
    last = next(entry for entry in notebook.said if entry[:2] == ("steps", 6))
    assert last[3]["loss"] == pytest.approx(run.epochs[1].metrics["loss"])


def test_the_learning_rate_is_that_of_the_schedule(data: k5.H5Dataset, tmp_path: Path) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    notebook = Notebook()
    run = fit(data, tmp_path / "run", build(schedule), logger=notebook, log_every_n_steps=1)
    steps = [
        (entry[1], entry[3]["learning_rate"]) for entry in notebook.said if entry[0] == "steps"
    ]
    assert [step for step, _ in steps] == list(range(1, 7))
    np.testing.assert_allclose([rate for _, rate in steps], [0.1 * 0.5**n for n in range(1, 7)])
    assert run.epochs[1].learning_rate == pytest.approx(0.1 * 0.5**6)
    assert k5.Run.load(tmp_path / "run").epochs == run.epochs


def test_logging_steps_changes_no_number(data: k5.H5Dataset, tmp_path: Path) -> None:
    quiet, logged = build(), build()
    fit(data, tmp_path / "a", quiet, logger=False)
    fit(data, tmp_path / "b", logged, logger="csv", log_every_n_steps=1)
    for ours, theirs in zip(quiet.get_weights(), logged.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_csv_has_a_line_per_epoch_and_per_logged_step(data: k5.H5Dataset, tmp_path: Path) -> None:
    run = fit(data, tmp_path / "run", logger="csv", log_every_n_steps=3)
    rows = read_csv(tmp_path / "run" / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [float(row["loss"]) for row in rows] == run.history["loss"]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([0.01, 0.01])
    steps = read_csv(tmp_path / "run" / "steps.csv")
    assert [(row["step"], row["epoch"]) for row in steps] == [("3", "0"), ("6", "1")]
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_csv_forgets_the_steps_that_are_run_again(tmp_path: Path) -> None:
    run, logger = Run("m", "jax", 1, str(tmp_path)), CSVLogger()
    logger.begin(run, 0)
    for step in (2, 4, 6):
        logger.log_steps({"loss": 1.0}, step=step, epoch=0)
    logger.finish(run)
    with (tmp_path / "steps.csv").open("a", encoding="utf-8") as stream:
        stream.write("8,0")  # killed in the middle of a line
    logger.begin(run, 4)
    logger.log_steps({"loss": 2.0, "extra": 1.0}, step=6, epoch=0)
    logger.finish(run)
    assert [(row["step"], row["loss"]) for row in read_csv(tmp_path / "steps.csv")] == [
        *(("2", "1.0"), ("4", "1.0")),
        ("6", "2.0"),
    ]


def test_no_logger_writes_nothing_but_the_run(data: k5.H5Dataset, tmp_path: Path) -> None:
    run = fit(data, tmp_path / "run", logger=False)
    assert len(run.epochs) == 2
    assert not {"metrics.csv", "tensorboard", "steps.csv"} & {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_a_full_disk_ends_the_logging_and_not_the_training(
    data: k5.H5Dataset, tmp_path: Path
) -> None:
    failing, other = Notebook(fails_at="epoch"), Notebook()
    with pytest.warns(UserWarning, match=r"Notebook cannot write .*No space left.*continues"):
        run = fit(data, tmp_path / "run", logger=[failing, other])
    assert run.status == "done"
    assert [entry[0] for entry in failing.said] == ["begin", "epoch"]
    assert [entry[0] for entry in other.said] == ["begin", "epoch", "epoch", "finish"]


def test_a_failed_run_tells_its_loggers(data: k5.H5Dataset, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise ValueError("mine")

    notebook = Notebook()
    callback = keras.callbacks.LambdaCallback(on_epoch_end=fail)
    with pytest.raises(ValueError, match="mine"):
        fit(data, tmp_path / "run", logger=notebook, callbacks=[callback])
    assert notebook.said[-1] == ("finish", "failed")


def test_tensorboard_has_epochs_and_steps_apart(data: k5.H5Dataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    fit(data, tmp_path / "run", log_every_n_steps=1)
    folder = tmp_path / "run" / "tensorboard"
    for events in (folder, folder / "steps"):
        (file,) = [path for path in events.iterdir() if path.is_file()]
        assert b"learning_rate" in file.read_bytes()


class FakeTracker(SimpleNamespace):
    """Stands for mlflow or wandb: notes what is called."""

    def __init__(self) -> None:
        super().__init__(said=[], run=None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.said.append((name, args, kwargs))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_trackers_get_their_metrics_through_their_own_package(
    data: k5.H5Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tracker = FakeTracker()
    monkeypatch.setitem(sys.modules, name, tracker)
    run = fit(data, tmp_path / "run", logger=name, log_every_n_steps=3)
    names = [called for called, _, _ in tracker.said]
    logged = [
        (args[0], kwargs["step"])
        for called, args, kwargs in tracker.said
        if "log" in called and args and "step" in kwargs
    ]
    assert names[-1] in ("end_run", "finish")
    assert len(logged) == 4
    assert logged[0][0]["step/loss"] == pytest.approx(run.history["loss"][0])
    assert logged[1][0]["loss"] == run.history["loss"][0]
    assert [step for _, step in logged] == ([3, 0, 6, 1] if name == "mlflow" else [3, 3, 6, 6])


@pytest.mark.parametrize(
    ("logger", "kinds"),
    [
        (False, ()),
        (None, ()),
        ([], ()),
        ("csv", (CSVLogger,)),
        (["csv", "tensorboard"], (CSVLogger, TensorBoardLogger)),
        (True, (CSVLogger, TensorBoardLogger)),
    ],
)
def test_loggers_are_chosen_by_name(logger: Any, kinds: tuple[type, ...]) -> None:
    pytest.importorskip("tensorboardX")
    assert tuple(type(each) for each in parse_loggers(logger)) == kinds


@pytest.mark.parametrize("logger", ["cvs", 3, ["csv", 1], {"csv": 1}])
def test_a_logger_that_is_unknown_is_refused(logger: Any) -> None:
    with pytest.raises(OptionError, match=r"choose 'csv', 'tensorboard', 'mlflow', 'wandb'"):
        k5.Trainer(logger=logger)


@pytest.mark.parametrize("every", [0, -1, True, 2.0])
def test_a_period_that_makes_no_sense_is_refused(every: Any) -> None:
    with pytest.raises(OptionError, match="log_every_n_steps"):
        k5.Trainer(log_every_n_steps=every)


@pytest.mark.parametrize(
    ("kind", "module", "cure"),
    [
        (TensorBoardLogger, "tensorboardX", r"pip install 'kerash5\[keras\]'"),
        (MLflowLogger, "mlflow", "pip install mlflow"),
        (WandbLogger, "wandb", "pip install wandb"),
    ],
)
def test_what_is_not_installed_is_named_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, kind: type[AbstractLogger], module: str, cure: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=cure):
        kind()
    assert CSVLogger in {type(each) for each in parse_loggers(True)}


def test_the_config_names_the_loggers(data: k5.H5Dataset, tmp_path: Path) -> None:
    fit(data, tmp_path / "run", logger=["csv", Notebook()])
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert kept["trainer"]["logger"] == ["csv", {"described": "Notebook"}]


def test_the_rate_of_an_older_run_is_unknown() -> None:
    epoch = Epoch(0, 1.0, 8, {"loss": 1.0})
    run = replace(Run("m", "jax", 1, ""), epochs=(epoch,))
    assert Run.from_json(run.to_json()).epochs[0].learning_rate is None
