"""What a transform returns reaches the model as it was returned, however training reads it."""

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

ROWS: Final = 76  # the last batch of 8 is short
Function = Callable[[Any, Any], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    random = np.random.default_rng(4)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = random.standard_normal((ROWS, 5)).astype(np.float32)
        file["y"] = random.integers(0, 2, ROWS)
    return tmp_path / "rows.h5"


def build() -> keras.Model:
    keras.utils.set_random_seed(2)
    left, right = keras.Input((5,), name="left"), keras.Input((5,), name="right")
    both = keras.layers.Subtract()([keras.layers.Dense(3)(left), keras.layers.Dense(3)(right)])
    model = keras.Model({"left": left, "right": right}, keras.layers.Dense(2)(both))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def split(x: Any, y: Any) -> Any:
    """Return new arrays for each batch."""
    return {"left": x, "right": 3 * x}, y


def split_in_turns(x: Any, y: Any) -> Any:
    """As `split`, with the keys in another order for some batches."""
    found, y = split(x, y)
    return (found if x[0, 0] > 0 else dict(reversed(found.items()))), y


def split_into_buffers() -> Function:
    """As `split`, in memory that is written to again for each batch."""
    buffers = {"left": np.empty((8, 5), np.float32), "right": np.empty((8, 5), np.float32)}

    def fill(x: Any, y: Any) -> Any:
        found = {}
        for name, factor in (("left", 1), ("right", 3)):
            np.multiply(x, factor, out=buffers[name][: len(x)])
            found[name] = buffers[name][: len(x)]
        return found, y

    return fill


MAKERS: Final[dict[str, Callable[[], Function]]] = {
    "keys in another order": lambda: split_in_turns,
    "buffers": split_into_buffers,
}


def fit_keras(path: Path, transform: Function, **options: Any) -> list[float]:
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8, transform=transform, **options)
    history: list[float] = build().fit(data, epochs=2, verbose=0).history["loss"]
    return history


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_fit_trains_on_what_a_transform_returned(
    path: Path, make: Callable[[], Function], threads: int
) -> None:
    expected = fit_keras(path, split)
    assert_allclose(fit_keras(path, make(), threads=threads), expected, rtol=1e-5)


@pytest.mark.thinned(3)
@pytest.mark.parametrize("steps", [1, 4, 8])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_trainer_trains_on_what_a_transform_returned(
    path: Path, tmp_path: Path, make: Callable[[], Function], steps: int
) -> None:
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8, transform=make())
    run = k5.Trainer(
        max_epochs=2,
        steps_per_dispatch=steps,
        run_dir=tmp_path / "run",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(build(), data)
    assert_allclose(run.history["loss"], fit_keras(path, split), rtol=1e-5)
