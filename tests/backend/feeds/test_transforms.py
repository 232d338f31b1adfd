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
from kerash5._errors import ColumnError
from kerash5.feeds._served import served_by

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


def test_shapes_and_classes_are_those_that_come_out_of_a_transform(tmp_path: Path) -> None:
    ids = np.arange(20) % 4
    k5.write(tmp_path / "a.h5", x=np.zeros((20, 6), "f4"), y=ids)
    calls: list[int] = []

    def change(x: np.ndarray, y: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        calls.append(len(x))
        return {"a": x[:, :2], "b": x.reshape(-1, 3, 2)}, np.eye(5)[y]

    data = k5.H5Dataset(tmp_path / "a.h5", "x", "y", batch_size=8, transform=change)
    assert data.input_shape == {"a": (2,), "b": (3, 2)}
    assert data.num_classes == 5
    assert calls == [8]  # once, whatever is asked for
    module = k5.H5DataModule(tmp_path / "a.h5", x="x", y="y", transform=change)
    assert (module.input_shape, module.num_classes) == (data.input_shape, 5)


@pytest.mark.parametrize(
    ("change", "classes"),
    [
        (lambda x, y: (x, y), 4),
        (lambda x, y: (x, y[:, None].astype("i4")), 4),
        (lambda x, _: (x, x * 0.5), None),
        (lambda x, y: (x, {"a": y}), None),
    ],
    ids=["ids", "a last axis", "y from x", "several"],
)
def test_classes_are_those_of_the_file_where_a_transform_returns_ids(
    tmp_path: Path, change: Any, classes: int | None
) -> None:
    k5.write(tmp_path / "a.h5", x=np.ones((20, 6), "f4"), y=np.arange(20) % 4)
    data = k5.H5Dataset(tmp_path / "a.h5", "x", "y", batch_size=8, transform=change)
    assert data.num_classes == classes


def test_a_transform_gets_the_table_of_which_it_picks_fields(tmp_path: Path) -> None:
    table = np.zeros(20, [("energy", "f4"), ("hits", "f4", (6,)), ("kind", "i4")])
    table["hits"] = np.arange(120).reshape(20, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events"] = table
    data = k5.H5Dataset(
        tmp_path / "a.h5",
        "events",
        "events",
        shuffle=False,
        transform=lambda x, y: (x["hits"], y["kind"]),
    )
    np.testing.assert_array_equal(data.read(0)[0], table["hits"])
    assert data.input_shape == (6,)
    with pytest.raises(ColumnError, match=r"has the fields .* or make numbers of them in a trans"):
        k5.H5Dataset(tmp_path / "a.h5", "events")


def test_an_axis_as_long_as_the_other_column_is_suggested(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = np.ones((20, 6), "f4"), np.arange(20)[None]
    with pytest.raises(ColumnError, match=r"rows of 'y', pass Column\('y', axis=1\)"):
        k5.H5Dataset(tmp_path / "a.h5", "x", "y")
    other = k5.H5Dataset(tmp_path / "a.h5", "x", k5.Column("y", axis=1))
    found = served_by(other).read_column("y")
    np.testing.assert_array_equal(found, np.arange(20)[:, None])
