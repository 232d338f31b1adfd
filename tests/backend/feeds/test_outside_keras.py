"""Loops outside Keras: each pass is the next epoch, and every row comes once."""

import copy
import pickle
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5

NUM_ROWS = 50


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = np.arange(NUM_ROWS, dtype="f4")[:, None]
        file["y"] = np.arange(NUM_ROWS, dtype="i8")
    return tmp_path / "rows.h5"


def open_rows(path: Path, **options: Any) -> k5.H5Dataset:
    return k5.H5Dataset(path, x="x", y="y", **{"batch_size": 8, "shuffle": "rows", **options})


def order(batches: Iterable[Any]) -> list[int]:
    return [int(row) for batch in batches for row in batch[1]]


def planned(ds: k5.H5Dataset, epoch: int) -> list[int]:
    return order(ds.batches(epoch))


def test_each_loop_is_the_next_epoch(path: Path) -> None:
    ds = open_rows(path)
    first, second = order(ds), order(ds)
    assert (first, second) == (planned(ds, 0), planned(ds, 1))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(NUM_ROWS))


def test_set_epoch_says_which_epoch_comes_next(path: Path) -> None:
    ds = open_rows(path)
    ds.set_epoch(5)
    assert order(ds[index] for index in range(len(ds))) == planned(ds, 5)
    assert [order(ds), order(ds)] == [planned(ds, 5), planned(ds, 6)]
    with pytest.raises(
        k5.OptionError, match=r"epoch=-1; it is counted from 0: a whole number, at least 0"
    ):
        ds.set_epoch(-1)


def test_indexing_begins_no_epoch(path: Path) -> None:
    ds = open_rows(path)
    assert order([ds[0]]) == order([ds[0]]) == planned(ds, 0)[:8]
    assert order(ds) == planned(ds, 0)


def test_copies_and_selections_count_for_themselves(path: Path) -> None:
    ds = open_rows(path)
    order(ds)
    assert order(pickle.loads(pickle.dumps(ds))) == planned(ds, 1)
    assert order(copy.copy(ds)) == planned(ds, 1)
    assert order(ds.select_rows(None)) == planned(ds, 0)


def test_fit_is_not_disturbed_by_loops_and_disturbs_none(path: Path) -> None:
    ds = open_rows(path)
    served: list[list[int]] = []

    def note(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        served.append(y.tolist())
        return x, y

    noted = open_rows(path, transform=note, threads=0)
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.train_on_batch(np.zeros((8, 1)), np.zeros(8))
    order(noted)
    order(noted)
    served.clear()
    model.fit(noted, epochs=2, verbose=0)
    assert [*chain(*served[-2 * len(ds) :])] == planned(ds, 0) + planned(ds, 1)
    served.clear()
    model.evaluate(noted, verbose=0)
    assert [*chain(*served[-len(ds) :])] == list(range(NUM_ROWS))
    assert order(noted) == planned(ds, 2)


LOADERS: dict[str, dict[str, Any]] = {
    "in the process": {},
    "two at once": {"num_workers": 2, "multiprocessing_context": "fork"},
    "spawned": {"num_workers": 1, "multiprocessing_context": "spawn"},
    "persistent": {
        "num_workers": 1,
        "multiprocessing_context": "fork",
        "persistent_workers": True,
    },
}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("options", LOADERS.values(), ids=LOADERS)
def test_each_pass_of_a_data_loader_is_the_next_epoch(path: Path, options: dict[str, Any]) -> None:
    data = pytest.importorskip("torch").utils.data
    ds = open_rows(path)
    loader = data.DataLoader(ds, batch_size=None, **options)
    assert [order(loader) for _ in range(3)] == [planned(ds, epoch) for epoch in range(3)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_data_loader_that_shuffles_batches_reads_each_row_once(path: Path) -> None:
    data = pytest.importorskip("torch").utils.data
    ds = open_rows(path)
    loader = data.DataLoader(
        ds, batch_size=None, shuffle=True, num_workers=1, multiprocessing_context="fork"
    )
    for epoch in range(2):
        batches = [order([batch]) for batch in loader]
        assert sorted(chain(*batches)) == list(range(NUM_ROWS))
        assert sorted(batches) == sorted(order([batch]) for batch in ds.batches(epoch))


def test_two_passes_at_once_keep_their_own_epochs(path: Path) -> None:
    data = pytest.importorskip("torch").utils.data
    ds = open_rows(path)
    loader = data.DataLoader(ds, batch_size=None)
    first, second = zip(*zip(loader, loader, strict=True), strict=True)
    assert (order(first), order(second)) == (planned(ds, 0), planned(ds, 1))


@pytest.mark.parametrize("options", [{}, {"batch_size": 16}], ids=["as it comes", "16"])
def test_a_data_loader_that_stacks_batches_is_refused(path: Path, options: dict[str, Any]) -> None:
    data = pytest.importorskip("torch").utils.data
    with pytest.raises(k5.OptionError, match=r"write DataLoader\(ds, batch_size=None\)"):
        next(iter(data.DataLoader(open_rows(path), **options)))


def test_a_data_loader_with_a_way_of_its_own_to_collate_is_served(path: Path) -> None:
    data = pytest.importorskip("torch").utils.data
    loader = data.DataLoader(open_rows(path), batch_size=1, collate_fn=lambda batches: batches[0])
    assert sorted(order(loader)) == list(range(NUM_ROWS))
