"""The process that `test_kill.py` kills: trains a small model in a folder, and resumes there.

Usage: python -m tests.backend.train.checkpoints.kill_child TRAIN RUN_DIR LOG SECONDS DEVICE_CACHE.
After so many seconds from its first step the process kills itself with SIGKILL, wherever it is; 0
lets it end. LOG gets a line for each batch handed to the engine, and at the end a digest of every
variable.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import kerash5 as k5
from kerash5.train import _fit_parts
from kerash5.train.state._state import variables_of
from tests.backend.train.handed import engines_that_tell


def main(train: str, run_dir: str, log: str, seconds: float, device_cache: str) -> None:
    watch(Path(log), seconds)
    data = k5.H5DataModule(
        open_source(train), batch_size=8, validation_split=0.2, seed=1, shuffle="rows"
    )
    model = build()
    trainer = k5.Trainer(
        max_epochs=4,
        run_dir=run_dir,
        callbacks=[
            keras.callbacks.EarlyStopping(patience=9),
            keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5, min_delta=1.0),
        ],
        every_n_train_steps=3,
        device_cache=device_cache,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    run = trainer.fit(model, data, resume="auto")
    write_line(Path(log), f"losses {[epoch.metrics for epoch in run.epochs]}")
    write_line(Path(log), f"variables {digest(model)}")


def open_source(train: str) -> k5.Source:
    """Return the images as they are, from a sparse matrix, or as windows of a series."""
    if Path(train).stem == "series":
        return k5.windows_from_series(train, x="image", y="label", length=28, stride=28)
    return k5.Source(train, x=k5.Column("image", shape=(28, 28)), y="label")


def build() -> keras.Model:
    """Return a model with all that has a state."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def watch(log: Path, seconds: float) -> None:
    """Note every batch, and set the clock at the first."""
    begun = threading.Event()
    if seconds:
        threading.Thread(target=kill_later, args=(begun, seconds), daemon=True).start()

    def note(x: NDArray[Any]) -> None:
        begun.set()
        write_line(log, f"batch {hashlib.sha256(x.tobytes()).hexdigest()[:12]}")

    setattr(_fit_parts, "make_engine", engines_that_tell(note))  # noqa: B010  to look on


def kill_later(begun: threading.Event, seconds: float) -> None:
    begun.wait()
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def digest(model: keras.Model) -> str:
    """Return a digest of the bytes of every variable but the averages."""
    found = hashlib.sha256()
    for group, variables in variables_of(model).items():
        for variable in variables if group != "metrics" else ():
            found.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    return found.hexdigest()


def write_line(log: Path, line: str) -> None:
    with log.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5])
