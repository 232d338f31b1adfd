"""Hyperparameters that a callback changes mean in `Trainer.fit` what they mean in `fit`.

On JAX and TensorFlow a compiled step has those of its trace; on PyTorch each step sees them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

import kerash5 as k5

CHANGES: Final[dict[str, tuple[Callable[[], Any], dict[str, Any]]]] = {
    "beta_1": (lambda: keras.optimizers.Adam(0.05), {"beta_1": 0.1}),
    "beta_2": (lambda: keras.optimizers.Adam(0.05), {"beta_2": 0.5}),
    "epsilon": (lambda: keras.optimizers.Adam(0.05), {"epsilon": 1.0}),
    "clipnorm": (lambda: keras.optimizers.Adam(0.05, clipnorm=1.0), {"clipnorm": 1e-3}),
    "clipping that was off": (lambda: keras.optimizers.SGD(0.05), {"clipvalue": 1e-3}),
    "weight_decay": (
        lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1),
        {"weight_decay": 0.9},
    ),
    "momentum": (lambda: keras.optimizers.SGD(0.05, momentum=0.9), {"momentum": 0.1}),
    "ema_momentum": (
        lambda: keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9),
        {"ema_momentum": 0.1},
    ),
    "the learning rate": (lambda: keras.optimizers.Adam(0.05), {"learning_rate": 0.5}),
}


class Change(keras.callbacks.Callback):
    """Sets attributes of the optimizer in one hook, once."""

    def __init__(self, hook: str, number: int, values: dict[str, Any]) -> None:
        super().__init__()
        self._number, self._values = number, values
        setattr(self, hook, self._set)

    def _set(self, number: int, logs: Any = None) -> None:
        if number == self._number:
            for name, value in self._values.items():
                setattr(self.model.optimizer, name, value)


@pytest.fixture
def data(tmp_path: Path) -> k5.H5Dataset:
    random = np.random.default_rng(6)
    x = random.standard_normal((44, 5)).astype(np.float32)  # the last batch is short
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"], file["y"] = x, (x.sum(axis=1) > 0).astype(np.int64)
    return k5.H5Dataset(tmp_path / "rows.h5", x="x", y="y", batch_size=8)


def build(optimizer: Any) -> keras.Model:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("hook", "number"),
    [("on_epoch_begin", 0), ("on_epoch_end", 0), ("on_train_batch_begin", 3)],
    ids=["before the first step", "after an epoch", "before a later step"],
)
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_hyperparameter_is_seen_where_fit_sees_it(
    data: k5.H5Dataset, tmp_path: Path, name: str, hook: str, number: int
) -> None:
    make, values = CHANGES[name]
    ours, theirs = build(make()), build(make())
    k5.Trainer(
        max_epochs=3,
        run_dir=tmp_path / "run",
        callbacks=[Change(hook, number, values)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(ours, data)
    theirs.fit(data, epochs=3, callbacks=[Change(hook, number, values)], verbose=0)
    for weight, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert_allclose(weight, other, rtol=1e-5, atol=1e-6)
