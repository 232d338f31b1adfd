"""Keras' own callbacks, with validation and averaged weights, and stopping early."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import keras

from tests.backend.differential.kind import Kind
from tests.backend.differential.kinds.optimizers import ADAM, trained_by
from tests.backend.differential.models import (
    optimizers,
)
from tests.backend.differential.rows import COLUMNS, scratch_folder

Change = Callable[[keras.Model, int], object]


class AtEpochBegin(keras.callbacks.Callback):
    """Calls a function with the model and the number of the epoch that begins."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self._change = change

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._change(self.model, epoch)


class AtEpochEnd(AtEpochBegin):
    """Calls a function with the model and the number of the epoch that ends."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        pass

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._change(self.model, epoch)


class AtBatchBegin(AtEpochBegin):
    """Calls a function with the model and the number of the batch that comes."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        pass

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._change(self.model, batch)


class AtBatchEnd(AtEpochEnd):
    """Calls a function with the model and the number of the batch that is done."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._change(self.model, batch)


class StopIn(keras.callbacks.Callback):
    """Stops training in the middle of the second epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._epoch == 1 and batch == 2:
            self.model.stop_training = True


class StopAtBegin(keras.callbacks.Callback):
    """Stops training at the begin of the second epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            self.model.stop_training = True


class Evaluates(keras.callbacks.Callback):
    """Evaluates and predicts at the end of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        x, y = COLUMNS["vector"][:12], COLUMNS["label"][:12]
        self.model.evaluate(x, y, verbose=0)
        self.model.predict(x, verbose=0)


def begins(change: Change) -> Callable[[], Sequence[keras.callbacks.Callback]]:
    """Return a function that makes a callback of `change` for the begin of each epoch."""
    return lambda: [AtEpochBegin(change)]


def made(make: Callable[[], keras.callbacks.Callback]) -> Callable[[], Sequence[Any]]:
    """Return a function that makes a list of one callback."""
    return lambda: [make()]


def checkpoint(**options: Any) -> keras.callbacks.Callback:
    """Make a callback that saves weights."""
    path = scratch_folder() / "checkpoint.weights.h5"
    return keras.callbacks.ModelCheckpoint(path, save_weights_only=True, **options)


FAST: Final = trained_by(optimizers.SGD(0.5))
AVERAGED: Final = trained_by(optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9))

STOCK: Final = (
    Kind(
        "LearningRateScheduler",
        FAST,
        is_default=True,
        callbacks=made(
            lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1))
        ),
    ),
    Kind(
        "LearningRateScheduler from the last rate",
        FAST,
        callbacks=made(
            lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: float(rate) * 0.5)
        ),
    ),
    Kind(
        "ReduceLROnPlateau",
        FAST,
        epochs=5,
        callbacks=made(
            lambda: keras.callbacks.ReduceLROnPlateau("loss", patience=1, factor=0.3, min_delta=1.0)
        ),
    ),
    Kind(
        "EarlyStopping",
        FAST,
        epochs=6,
        callbacks=made(lambda: keras.callbacks.EarlyStopping("loss", patience=1, min_delta=0.5)),
    ),
    Kind(
        "EarlyStopping with the best weights",
        FAST,
        epochs=6,
        is_validated=True,
        callbacks=made(
            lambda: keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
        ),
    ),
    Kind("TerminateOnNaN", FAST, callbacks=made(keras.callbacks.TerminateOnNaN)),
    Kind(
        "ModelCheckpoint of the best",
        FAST,
        is_validated=True,
        callbacks=made(lambda: checkpoint(save_best_only=True)),
    ),
    Kind("ModelCheckpoint by steps", FAST, callbacks=made(lambda: checkpoint(save_freq=4))),
    Kind(
        "BackupAndRestore",
        FAST,
        callbacks=made(lambda: keras.callbacks.BackupAndRestore(scratch_folder() / "backup")),
        why_not_resumed="BackupAndRestore resumes by itself",
    ),
    Kind(
        "SwapEMAWeights",
        AVERAGED,
        is_validated=True,
        callbacks=made(keras.callbacks.SwapEMAWeights),
        **ADAM,
    ),
    Kind(
        "SwapEMAWeights by epoch",
        AVERAGED,
        callbacks=made(lambda: keras.callbacks.SwapEMAWeights(swap_on_epoch=True)),
        **ADAM,
    ),
    Kind(
        "CSVLogger",
        FAST,
        callbacks=made(lambda: keras.callbacks.CSVLogger(scratch_folder() / "log.csv")),
    ),
    Kind(
        "LambdaCallback",
        FAST,
        callbacks=made(
            lambda: keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
        ),
    ),
    Kind("validation", FAST, is_validated=True, is_default=True),
    Kind(
        "validation of averaged weights",
        AVERAGED,
        is_validated=True,
        fault="a user's own use_ema is validated with averages where fit takes raw weights",
        is_default=True,
        **ADAM,
    ),
    Kind(
        "averaged weights and EarlyStopping",
        AVERAGED,
        is_validated=True,
        epochs=5,
        callbacks=made(
            lambda: keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
        ),
        **ADAM,
    ),
    Kind(
        "averages that overwrite, validated",
        trained_by(
            optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=5)
        ),
        is_validated=True,
        **ADAM,
    ),
)
STOPS: Final = (
    Kind("stop in the middle of an epoch", FAST, callbacks=made(StopIn)),
    Kind("stop in the middle, validated", FAST, callbacks=made(StopIn), is_validated=True),
    Kind(
        "stop at the begin of an epoch",
        FAST,
        callbacks=made(StopAtBegin),
        fault="stop_training in on_epoch_begin runs a measured number of steps",
    ),
    Kind("evaluate and predict between epochs", FAST, callbacks=made(Evaluates)),
)
KINDS: Final = (*STOCK, *STOPS)
