"""A fit that a callback stops, or begins elsewhere, does what `model.fit` does, to the step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from keras import callbacks as stock
from numpy.testing import assert_allclose, assert_array_equal

import kerash5 as k5
from kerash5.train.checkpoints._run_dir import LAST_WEIGHTS

NUM_EPOCHS: Final = 4
NUM_STEPS: Final = 9
HOOKS: Final[dict[str, tuple[str, int]]] = {
    "at the begin of the training": ("on_train_begin", 1),
    "at the begin of the first epoch": ("on_epoch_begin", 1),
    "at the begin of another": ("on_epoch_begin", 3),
    "before the first step": ("on_train_batch_begin", 1),
    "before a step": ("on_train_batch_begin", 14),
    "after the first step": ("on_train_batch_end", 1),
    "after the last of an epoch": ("on_train_batch_end", 2 * NUM_STEPS),
    "before validation": ("on_test_begin", 2),
    "in validation": ("on_test_batch_end", 3),
    "after validation": ("on_test_end", 2),
    "at the end of an epoch": ("on_epoch_end", 2),
}


@pytest.fixture
def data(tmp_path: Path) -> k5.H5DataModule:
    random = np.random.default_rng(6)
    x = random.standard_normal((84, 5)).astype(np.float32)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"] = x, (x.sum(axis=1) > 0).astype(np.int64)
    return k5.H5DataModule(tmp_path / "rows.h5", x="x", y="y", batch_size=8, validation_split=12)


def build() -> keras.Model:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.2, momentum=0.5), loss)
    return model


def make_trainer(run_dir: Path, **options: Any) -> k5.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return k5.Trainer(**{"max_epochs": NUM_EPOCHS, "run_dir": run_dir, **quiet, **options})


def fit_keras(
    data: k5.H5DataModule, *callbacks: keras.callbacks.Callback
) -> tuple[keras.Model, dict[str, list[float]]]:
    model = build()
    history: dict[str, list[float]] = model.fit(
        data.train,
        validation_data=data.validation,
        epochs=NUM_EPOCHS,
        callbacks=list(callbacks),
        verbose=0,
    ).history
    return model, history


def fit_ours(
    data: k5.H5DataModule, folder: Path, *callbacks: keras.callbacks.Callback, **options: Any
) -> tuple[keras.Model, dict[str, list[float]]]:
    model = build()
    run = make_trainer(folder / "run", callbacks=list(callbacks), **options).fit(model, data)
    return model, run.history


def assert_alike(
    found: tuple[keras.Model, dict[str, list[float]]],
    expected: tuple[keras.Model, dict[str, list[float]]],
) -> None:
    (model, history), (other, other_history) = found, expected
    assert int(model.optimizer.iterations.numpy()) == int(other.optimizer.iterations.numpy())
    for name in other_history:
        assert_allclose(history[name], other_history[name], rtol=1e-4, err_msg=name)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def stopper(hook: str, count: int) -> keras.callbacks.Callback:
    """Return a callback that has this hook alone, and stops the training when it is called."""

    def call(self: Any, *_: Any, **__: Any) -> None:
        self.count += 1
        if self.count == count:
            self.model.stop_training = True

    kind = type("Stopper", (keras.callbacks.Callback,), {hook: call, "count": 0})
    made: keras.callbacks.Callback = kind()
    return made


@pytest.mark.thinned(3)
@pytest.mark.parametrize("steps", [1, 4, "auto"])
@pytest.mark.parametrize("where", HOOKS)
def test_a_callback_stops_at_the_step_at_which_it_stops_fit(
    data: k5.H5DataModule, tmp_path: Path, where: str, steps: Any
) -> None:
    expected = fit_keras(data, stopper(*HOOKS[where]))
    found = fit_ours(data, tmp_path, stopper(*HOOKS[where]), steps_per_dispatch=steps)
    assert_alike(found, expected)


def test_a_callback_that_stops_in_mid_epoch_validation_has_no_further_step(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    called: list[str] = []
    noting = stock.LambdaCallback(on_epoch_end=lambda _, logs: called.append(str(sorted(logs))))
    model, history = fit_ours(
        data, tmp_path, stopper("on_test_end", 2), noting, val_check_interval=2
    )
    assert int(model.optimizer.iterations.numpy()) == 4
    assert called == ["['loss', 'val_loss']"]
    assert len(history["val_loss"]) == 1


class BreakError(Exception):
    """What switches the machine off."""


class Break(keras.callbacks.Callback):
    """Ends a fit with an error at the begin of an epoch, or in its validation."""

    def __init__(self, *, epoch: int = -1, check: int = -1) -> None:
        super().__init__()
        self._epoch, self._check, self._count = epoch, check, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self._epoch:
            raise BreakError

    def on_test_begin(self, logs: Any = None) -> None:
        self._count += 1
        if self._count == self._check:
            raise BreakError


@pytest.mark.parametrize("where", ["at the begin of another", "before a step"])
def test_an_epoch_that_was_stopped_is_ended_after_a_break(
    data: k5.H5DataModule, tmp_path: Path, where: str
) -> None:
    whole, history = fit_ours(data, tmp_path / "whole", stopper(*HOOKS[where]))
    with pytest.raises(BreakError):
        fit_ours(
            data, tmp_path / "cut", stopper(*HOOKS[where]), Break(check=len(history["val_loss"]))
        )
    model = build()
    trainer = make_trainer(
        tmp_path / "cut" / "run", callbacks=[stock.LambdaCallback(on_train_begin=print), Break()]
    )
    run = trainer.fit(model, data, resume="auto")
    assert run.history == history
    for one, two in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert_array_equal(one, two)


# BackupAndRestore


BACKUPS: Final[dict[str, tuple[Any, dict[str, int]]]] = {
    "of epochs": ("epoch", {"epoch": 2}),
    "of steps": (4, {"epoch": 2}),
    "of steps, in an epoch": (4, {"check": 2}),
}


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", BACKUPS)
def test_a_backup_is_gone_on_with_as_in_fit(
    data: k5.H5DataModule, tmp_path: Path, name: str
) -> None:
    found = []
    fits: dict[str, Callable[..., Any]] = {
        "ours": lambda *given: fit_ours(data, tmp_path, *given),
        "theirs": lambda *given: fit_keras(data, *given),
    }
    frequency, where = BACKUPS[name]
    for kind, fit in fits.items():
        with pytest.raises(BreakError):
            fit(stock.BackupAndRestore(tmp_path / kind, save_freq=frequency), Break(**where))
        found.append(fit(stock.BackupAndRestore(tmp_path / kind, save_freq=frequency)))
    assert_alike(*found)
    assert len(found[0][1]["loss"]) == (2 if name == "of epochs" else 3)


def test_a_backup_of_a_whole_fit_leaves_nothing_to_train(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    def backup() -> keras.callbacks.Callback:
        return stock.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)

    whole, _ = fit_ours(data, tmp_path / "first", backup())
    again, history = fit_ours(data, tmp_path / "second", backup())
    assert not history
    for one, two in zip(again.get_weights(), whole.get_weights(), strict=True):
        assert_array_equal(one, two)
    assert (tmp_path / "second" / "run" / LAST_WEIGHTS).exists()


def test_a_fit_begins_at_its_first_epoch_after_one_that_did_not(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    with pytest.raises(BreakError):
        fit_ours(data, tmp_path, stock.BackupAndRestore(tmp_path / "backup"), Break(epoch=2))
    model = build()
    for name, callbacks in {
        "again": [stock.BackupAndRestore(tmp_path / "backup")],
        "anew": [],
    }.items():
        run = make_trainer(tmp_path / name, callbacks=callbacks).fit(model, data)
    assert [epoch.epoch for epoch in run.epochs] == [0, 1, 2, 3]
    kept = model.fit(data.train, epochs=2, verbose=0).history["loss"]
    assert len(kept) == 2


def test_a_run_is_resumed_from_its_own_checkpoint_rather_than_a_backup(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    whole, _ = fit_ours(data, tmp_path / "whole")
    backup = stock.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(BreakError):
        fit_ours(data, tmp_path, backup, Break(check=2))
    model = build()
    trainer = make_trainer(
        tmp_path / "run", callbacks=[stock.BackupAndRestore(tmp_path / "backup"), Break()]
    )
    run = trainer.fit(model, data, resume="auto")
    assert [epoch.epoch for epoch in run.epochs] == [0, 1, 2, 3]
    for one, two in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert_array_equal(one, two)
