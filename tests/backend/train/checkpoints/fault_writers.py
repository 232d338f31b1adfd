"""What training writes, for `tests.faults`: weights, a checkpoint, and all of a fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import keras
import numpy as np

import kerash5 as k5
from kerash5.train.checkpoints._checkpoint import Checkpoint, Checkpoints
from kerash5.train.checkpoints._run_dir import RunDir


def build() -> keras.Model:
    """Return a small model, the same each time."""
    keras.utils.set_random_seed(1)
    layers = [keras.Input((8,)), keras.layers.Dense(32), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers, name="small")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def save_weights(folder: Path) -> None:
    model = build()
    model.layers[-1].bias.assign([1.0, 2.0, 3.0])
    RunDir(folder).save_weights(model, "last.weights.h5")


def old_weights(folder: Path) -> None:
    RunDir(folder).save_weights(build(), "last.weights.h5")


def save_checkpoint(folder: Path) -> None:
    arrays: dict[str, np.ndarray] = {"x": np.arange(1000), "deep/y": np.ones((3, 4), np.float32)}
    file = folder / "best.weights.h5"
    Checkpoints(folder / "checkpoints").save(Checkpoint(arrays, {"seven": 7}, {file.name: file}), 7)


def old_checkpoint(folder: Path) -> None:
    (folder / "best.weights.h5").write_bytes(b"the best")
    save_checkpoint(folder)


def make_data(folder: Path) -> None:
    x = np.random.default_rng(0).random((60, 8), np.float32)
    k5.write(folder / "train.h5", x=x, y=np.arange(60) % 3)


def fit(folder: Path) -> None:
    trainer = k5.Trainer(
        max_epochs=2,
        run_dir=folder / "run",
        every_n_train_steps=4,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = k5.H5DataModule(folder / "train.h5", x="x", y="y", batch_size=10, validation_split=0.2)
    trainer.fit(build(), data)


Step = Callable[[Path], None]
WRITERS: Final[dict[str, tuple[Step, Step]]] = {
    "weights": (old_weights, save_weights),
    "checkpoint": (old_checkpoint, save_checkpoint),
    "fit": (make_data, fit),
}
