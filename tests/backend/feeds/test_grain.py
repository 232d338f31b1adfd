"""grain_dataset: the element at index i is the batch of global step i."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kerash5 as k5
from tests.backend.feeds.served import BATCH_SIZE, STEPS, STORES, Ledger, open_rows, planned

grain = pytest.importorskip("grain", reason="Grain is an optional package")

KINDS = list(STORES)


def bounded() -> Any:
    """Return options under which Grain reads four batches ahead, not five hundred."""
    return grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)


def assert_same(found: Any, wanted: Any) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert_array_equal(a, b)


# The order.


@pytest.mark.parametrize("kind", KINDS)
def test_element_i_is_the_batch_of_step_i(kind: str, tmp_path: Path) -> None:
    ds = open_rows(tmp_path, kind)
    steps = k5.grain_dataset(ds)
    assert isinstance(steps, grain.MapDataset)
    assert len(steps) == len(ds)
    for step in (0, 5, STEPS - 1, STEPS, 2 * STEPS + 4, 7):
        assert_same(steps[step], ds.read(step))


def test_repetition_gives_each_epoch_its_own_order(tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    repeated = k5.grain_dataset(ds).repeat(2)
    assert len(repeated) == 2 * STEPS
    found = [batch[0].tolist() for batch in repeated.to_iter_dataset(bounded())]
    assert found == [rows.tolist() for rows in planned(ds, 0, 1)]
    assert sorted(found[:STEPS]) != sorted(found[STEPS:])


@pytest.mark.parametrize("kind", KINDS)
def test_iteration_is_one_epoch(kind: str, tmp_path: Path) -> None:
    ds = open_rows(tmp_path, kind)
    found = list(k5.grain_dataset(ds).to_iter_dataset(bounded()))
    for batch, step in zip(found, range(STEPS), strict=True):
        assert_same(batch, ds.read(step))


def test_slices_and_maps_are_grains_own(tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    steps = k5.grain_dataset(ds)
    part = steps[3:9:2]
    assert len(part) == 3
    assert_same(part[1], ds.read(5))
    assert len(steps[8:]) == 3
    sums = steps.map(lambda batch: int(batch[0].sum()))
    assert [sums[step] for step in range(STEPS)] == [int(rows.sum()) for rows in planned(ds, 0)]


def test_a_restored_iterator_goes_on_with_the_next_batch(tmp_path: Path) -> None:
    ds = open_rows(tmp_path, "windowed")
    repeated = k5.grain_dataset(ds).repeat(3).to_iter_dataset(bounded())
    first = iter(repeated)
    for _ in range(STEPS + 2):
        next(first)
    state = first.get_state()
    second = iter(repeated)
    second.set_state(state)
    wanted = ds.read(STEPS + 2)
    assert_same(next(second), wanted)
    assert_same(next(first), wanted)


def test_it_pickles_and_its_name_is_stable(tmp_path: Path) -> None:
    ds = open_rows(tmp_path, "resident")
    steps = k5.grain_dataset(ds)
    copy = pickle.loads(pickle.dumps(steps))
    assert_same(copy[STEPS + 1], ds.read(STEPS + 1))
    assert repr(copy) == str(copy) == repr(steps) == f"grain_dataset({ds!r})"


# In training.


def test_fit_on_repeated_steps_follows_the_plan(tmp_path: Path) -> None:
    ds = open_rows(tmp_path, "windowed")
    ledger = Ledger()
    steps = k5.grain_dataset(ds).repeat().to_iter_dataset(bounded())
    ledger.fit(steps, epochs=3, steps_per_epoch=len(ds), shuffle=False)
    assert ledger.served == ledger.expect(planned(ds, 0, 1, 2))


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize("form", ["map", "iter"])
def test_fit_on_one_epoch_of_steps(form: str, tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    steps = k5.grain_dataset(ds)
    ledger = Ledger(kind="sequential")
    # Keras does not know the length of a Grain data set, and says so when it ends.
    ledger.fit(steps if form == "map" else steps.to_iter_dataset(bounded()), shuffle=False)
    assert ledger.served == ledger.expect(planned(ds, 0))


# What bad input gets.


def test_a_negative_step_is_an_error(tmp_path: Path) -> None:
    steps = k5.grain_dataset(open_rows(tmp_path))
    with pytest.raises(k5.RowError, match="step -1; steps are counted from 0") as caught:
        steps[-1]
    assert isinstance(caught.value, IndexError)


def test_something_else_than_an_h5dataset_is_refused() -> None:
    path: Any = "digits.h5"
    with pytest.raises(k5.OptionError, match=r"grain_dataset\('digits.h5'\); it takes an H5Data"):
        k5.grain_dataset(path)


@pytest.mark.one_backend
def test_without_grain_the_error_names_the_package_to_install() -> None:
    code = "import sys; sys.modules['grain'] = None; from kerash5 import grain_dataset"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 1
    assert child.stderr.rstrip().endswith(
        "BackendError: grain_dataset needs Grain: pip install 'kerash5[grain]'"
    )


def test_batches_that_grain_reads_ahead_outlive_the_buffer_of_a_transform(tmp_path: Path) -> None:
    buffer = np.empty((BATCH_SIZE, 1), np.int64)

    def fill(x: Any, y: Any) -> Any:
        buffer[: len(x)] = y
        return buffer[: len(x)], y

    ds = open_rows(tmp_path, transform=fill)
    for found, labels in list(k5.grain_dataset(ds).to_iter_dataset(bounded())):
        assert_array_equal(found, labels)
