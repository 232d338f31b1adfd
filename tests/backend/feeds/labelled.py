"""Files with labels of every kind, and small models that take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np

import kerash5 as k5

ROWS: Final = 48
IDS: Final = np.arange(ROWS) % 3
RANDOM: Final = np.random.default_rng(4)
MASKS: Final = RANDOM.integers(0, 3, (ROWS, 4, 4))
SOFT: Final = RANDOM.dirichlet(np.ones(3), ROWS)
LOSSES: Final = keras.losses
SPARSE: Final = "sparse_categorical_crossentropy"
CATEGORICAL: Final = "categorical_crossentropy"
BINARY: Final = "binary_crossentropy"

Loss = Any
Y = Any


def put(value: float, place: int = 7, ids: np.ndarray = IDS) -> np.ndarray:
    changed = ids.astype(np.float64)
    changed.flat[place] = value
    return changed


def classifier(loss: Loss, width: int = 3, activation: str = "softmax") -> keras.Model:
    layers = [keras.Input((5,)), keras.layers.Dense(width, activation=activation)]
    model = keras.Sequential(layers, name="net")
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


def segmenter(loss: Loss, width: int = 3) -> keras.Model:
    activation = "softmax" if width > 1 else "sigmoid"
    layers = [
        keras.Input((5,)),
        keras.layers.Dense(16),
        keras.layers.Reshape((4, 4, 1)),
        keras.layers.Conv2D(width, 3, padding="same", activation=activation),
    ]
    model = keras.Sequential(layers, name="net")
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


def two_outputs(loss: Loss, *, keyed: bool = False) -> keras.Model:
    x = keras.Input((5,))
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(x)
    flag = keras.layers.Dense(1, activation="sigmoid", name="flag")(x)
    model = keras.Model(x, {"kind": kind, "flag": flag} if keyed else [kind, flag], name="net")
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


def open_rows(tmp_path: Path, y: Y = IDS, **options: Any) -> k5.H5Dataset:
    """Write x and y (an array, or a dict of some) to a file; y=None writes none."""
    path = tmp_path / "rows.h5"
    columns = y if isinstance(y, dict) else {"y": y}
    with h5py.File(path, "w") as file:
        file["x"] = RANDOM.random((ROWS, 5), dtype=np.float32)
        for name, values in columns.items():
            if values is not None:
                file[name] = values
    spec = {name: name for name in y} if isinstance(y, dict) else "y" if y is not None else None
    return k5.H5Dataset(path, **{"x": "x", "y": spec, "batch_size": 16, **options})
