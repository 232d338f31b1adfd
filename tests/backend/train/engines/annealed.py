"""A loss whose values in Python a callback changes, and a fit with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np

import kerash5 as k5

ROWS: Final = 60  # seven batches of eight, and a short one
X: Final = np.random.default_rng(3).normal(size=(ROWS, 4)).astype(np.float32)
Y: Final = np.random.default_rng(4).normal(size=(ROWS, 1)).astype(np.float32)


class Annealed:
    """A loss with state in Python, and in a variable that no model knows."""

    def __init__(self) -> None:
        self.factor = 1.0
        self.offset = keras.Variable(0.5, trainable=False)

    def __call__(self, y: Any, answers: Any) -> Any:
        return self.factor * keras.ops.mean((y - answers) ** 2) + self.offset


class Anneal(keras.callbacks.Callback):
    """Changes that loss at the end, or at the beginning, of each epoch."""

    def __init__(self, loss: Annealed, *, at_begin: bool = False, has_offset: bool = True) -> None:
        super().__init__()
        self._loss, self._at_begin, self._has_offset = loss, at_begin, has_offset

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._at_begin:
            self._loss.factor = 0.3**epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._at_begin:
            self._loss.factor *= 0.3
            if self._has_offset:
                self._loss.offset.assign(self._loss.offset * 0.3)


def build(seed: int = 1) -> tuple[keras.Model, Annealed]:
    keras.utils.set_random_seed(seed)
    loss = Annealed()
    layers = [keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.05), loss)
    return model, loss


def open_rows(folder: Path) -> k5.H5Dataset:
    path = folder / "rows.h5"
    if not path.exists():
        with h5py.File(path, "w") as file:
            file["x"], file["y"] = X, Y
    return k5.H5Dataset(path, x="x", y="y", batch_size=8, shuffle=False)


def make_trainer(folder: Path, **options: Any) -> k5.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return k5.Trainer(**{**quiet, "run_dir": folder, "max_epochs": 6, **options})
