"""Keras' own callbacks do in `Trainer.fit` what they do in `model.fit`, on the same batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from keras import callbacks as stock

import kerash5 as k5
from kerash5._errors import OptionError

NUM_EPOCHS: Final = 4
Make = Callable[[Path], keras.callbacks.Callback]


class Journal(keras.callbacks.Callback):
    """Notes each hook with what it is told, and what the model is then."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, int, tuple[str, ...]]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self._note("train begin", 0, logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._note("epoch begin", epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._note("batch begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._note("batch end", batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        self._note("test begin", 0, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._note("test batch end", batch, logs)

    def on_test_end(self, logs: Any = None) -> None:
        self._note("test end", 0, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._note("epoch end", epoch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._note("train end", 0, logs)

    def _note(self, hook: str, number: int, logs: Any) -> None:
        self.said.append((hook, number, tuple(sorted(logs or {}))))


@pytest.fixture
def data(tmp_path: Path) -> k5.H5DataModule:
    random = np.random.default_rng(6)
    x = random.standard_normal((44, 5)).astype(np.float32)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"] = x, (x.sum(axis=1) > 0).astype(np.int64)
    return k5.H5DataModule(tmp_path / "rows.h5", x="x", y="y", batch_size=8, validation_split=12)


def build(learning_rate: float = 0.5) -> keras.Model:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(learning_rate), loss, metrics=["accuracy"])
    return model


def rate_of(model: keras.Model) -> float:
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def fit_ours(
    model: keras.Model, data: k5.H5DataModule, folder: Path, callbacks: list[Any]
) -> dict[str, list[float]]:
    trainer = k5.Trainer(
        max_epochs=NUM_EPOCHS,
        run_dir=folder / "run",
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return trainer.fit(model, data).history


def fit_keras(
    model: keras.Model, data: k5.H5DataModule, callbacks: list[Any]
) -> dict[str, list[float]]:
    history: dict[str, list[float]] = model.fit(
        data.train,
        validation_data=data.validation,
        epochs=NUM_EPOCHS,
        callbacks=callbacks,
        verbose=0,
    ).history
    return history


CALLBACKS: Final[dict[str, Make]] = {
    "EarlyStopping": lambda _: stock.EarlyStopping(
        "val_loss", min_delta=10.0, patience=1, restore_best_weights=True
    ),
    "ReduceLROnPlateau": lambda _: stock.ReduceLROnPlateau(
        "loss", factor=0.1, patience=1, min_delta=10.0
    ),
    "LearningRateScheduler": lambda _: stock.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)),
    "CSVLogger": lambda folder: stock.CSVLogger(folder / "log.csv"),
    "ModelCheckpoint": lambda folder: stock.ModelCheckpoint(
        folder / "best.weights.h5", save_best_only=True, save_weights_only=True
    ),
    "ModelCheckpoint of steps": lambda folder: stock.ModelCheckpoint(
        folder / "step.weights.h5", save_freq=3, save_weights_only=True
    ),
    "TerminateOnNaN": lambda _: stock.TerminateOnNaN(),
    "LambdaCallback": lambda _: stock.LambdaCallback(on_epoch_end=lambda *_: None),
    "BackupAndRestore": lambda folder: stock.BackupAndRestore(folder / "backup"),
}


@pytest.mark.parametrize("make", CALLBACKS.values(), ids=CALLBACKS)
def test_a_stock_callback_does_what_it_does_in_fit(
    data: k5.H5DataModule, tmp_path: Path, make: Make
) -> None:
    ours, theirs = build(), build()
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    found = fit_ours(ours, data, tmp_path / "ours", [make(tmp_path / "ours")])
    expected = fit_keras(theirs, data, [make(tmp_path / "theirs")])
    # `model.fit` adds the rate of those that change it to the logs of the epoch.
    for name in expected.keys() - {"learning_rate"}:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, err_msg=name)
    for weight, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-6)
    rates = [
        float(keras.ops.convert_to_numpy(each.optimizer.learning_rate)) for each in (ours, theirs)
    ]
    assert rates[0] == pytest.approx(rates[1])
    written = [
        sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*"))
        for name in ("ours", "theirs")
    ]
    assert [path for path in written[0] if not path.startswith("run")] == written[1]


def test_swapped_averages_are_validated(data: k5.H5DataModule, tmp_path: Path) -> None:
    histories, ended = [], []
    for is_ours in (True, False):
        model = build()
        rate = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5)
        model.compile(rate, model.loss, metrics=["accuracy"])
        swap = [stock.SwapEMAWeights(swap_on_epoch=True)]
        found = fit_ours(model, data, tmp_path, swap) if is_ours else fit_keras(model, data, swap)
        histories.append(found)
        ended.append(model.get_weights())
    np.testing.assert_allclose(histories[0]["val_loss"], histories[1]["val_loss"], rtol=1e-4)
    for weight, other in zip(*ended, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-6)


def test_hooks_are_called_in_the_order_of_fit(data: k5.H5DataModule, tmp_path: Path) -> None:
    ours, theirs = Journal(), Journal()
    fit_ours(build(), data, tmp_path, [ours])
    fit_keras(build(), data, [theirs])
    assert ours.said == theirs.said


@pytest.mark.parametrize("given", [stock.EarlyStopping(), "EarlyStopping", 3])
def test_callbacks_that_are_no_list_are_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="give a list of Keras callbacks"):
        k5.Trainer(callbacks=given)
