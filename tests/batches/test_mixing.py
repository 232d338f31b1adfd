"""How well batches mix the labels: the sentence is true, cheap, and a warning where it is bad."""

import itertools
import math
import os
import re
import warnings
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kerash5.batches import _mixing
from kerash5.batches._batches import Batches, open_batches
from kerash5.batches._mixing import expected_labels, measure_mixing
from kerash5.batches._options import BatchOptions
from kerash5.h5 import Column, Source, close_files

NUM_ROWS: Final = 4000
CHUNK_ROWS: Final = 20
SORTED: Final = np.repeat(np.arange(10), NUM_ROWS // 10)
MIXED: Final = np.random.default_rng(0).permutation(SORTED)
ROW_BYTES: Final = 32 * 32 + 8
SMALL_CACHE: Final = 10 * CHUNK_ROWS * ROW_BYTES  # windows of a few chunks


def make_file(folder: Path, labels: NDArray[Any] = SORTED, **how: Any) -> Path:
    close_files()  # or it could not be written again
    with h5py.File(folder / "a.h5", "w") as file:
        images = np.zeros((NUM_ROWS, 32, 32), "u1")
        file.create_dataset("x", data=images, chunks=(CHUNK_ROWS, 32, 32), compression=1)
        file["plain"] = images
        file.create_dataset("y", data=labels, **how)
    return folder / "a.h5"


def open_small(path: Path, y: Any = "y", **options: Any) -> Batches:
    options = {"batch_size": 50, "cache": SMALL_CACHE, **options}
    return open_batches(path, "x", y, None, BatchOptions(**options))


def mixing_of(batches: Batches) -> _mixing.Mixing:
    found = measure_mixing(batches.source, "y", batches.plan)
    assert found is not None
    return found


@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any), size=st.integers(1, 9)
)
def test_the_expected_labels_are_the_mean_over_all_draws(counts: list[int], size: int) -> None:
    rows = np.repeat(np.arange(len(counts)), counts).tolist()
    size = min(size, len(rows))
    draws = [len(set(draw)) for draw in itertools.combinations(rows, size)]
    mean = sum(draws) / len(draws)
    assert math.isclose(expected_labels([(np.array(counts), size)]), mean, rel_tol=1e-9)


def test_a_batch_drawn_from_two_windows_holds_labels_of_both() -> None:
    one, other = np.array([2, 1, 0]), np.array([0, 1, 1])
    draws = [
        len({*left, *right})
        for left in itertools.combinations([0, 0, 1], 2)
        for right in itertools.combinations([1, 2], 1)
    ]
    mean = sum(draws) / len(draws)
    assert math.isclose(expected_labels([(one, 2), (other, 1)]), mean, rel_tol=1e-9)


@pytest.mark.parametrize("batch_size", [7, 50, 150], ids=str)
@pytest.mark.parametrize("rows", [None, np.arange(0, NUM_ROWS, 3)], ids=["all", "a third"])
@pytest.mark.parametrize("labels", [SORTED, MIXED], ids=["sorted", "mixed"])
def test_what_is_said_is_what_the_batches_hold(
    labels: NDArray[Any], rows: Any, batch_size: int, tmp_path: Path
) -> None:
    path = make_file(tmp_path, labels)
    batches = open_small(path, rows=rows, batch_size=batch_size, seed=3)
    plan, mixing = batches.plan, mixing_of(batches)
    assert plan.shuffle == "chunks"
    steps = range(plan.steps_per_epoch - 1)  # the last batch is short
    real = np.mean([len(np.unique(labels[plan.rows(step)])) for step in steps])
    assert mixing.found == pytest.approx(real, rel=0.05)
    served = labels if rows is None else labels[rows]
    rng = np.random.default_rng(1)
    exact = [len(np.unique(rng.choice(served, batch_size, replace=False))) for _ in range(200)]
    assert mixing.exact == pytest.approx(np.mean(exact), rel=0.03)
    assert mixing.starves == (real < 0.7 * np.mean(exact))
    assert (labels is SORTED) or not mixing.starves


def test_the_plan_says_how_well_it_mixes(tmp_path: Path) -> None:
    batches = open_small(make_file(tmp_path, MIXED))
    mixing = mixing_of(batches)
    assert mixing.share > 0.99
    line = rf"a batch of 50 has {mixing.found:.1f} of 10 labels on average, but 1?\d\.\d after an"
    assert re.search(line, batches.plan.describe())
    assert re.search(line, batches.describe())
    assert "labels on average" not in batches.in_given_order().plan.describe()


def test_starving_batches_are_warned_of_once_when_training_begins(tmp_path: Path) -> None:
    batches = open_small(make_file(tmp_path), threads=0)
    list(batches.in_given_order().epoch(0))
    batches.read(0)
    words = r"a batch of 50 has \d\.\d of 10 labels .* after .*; raise cache= \(with 4.1 MB"
    with pytest.warns(UserWarning, match=words):
        list(batches.with_threads(0).epoch(0))
    with pytest.warns(UserWarning, match=words):
        list(batches.epoch(0))
    list(batches.epoch(1))


def test_where_rows_are_cheap_the_cure_costs_nothing(tmp_path: Path) -> None:
    options = BatchOptions(batch_size=5, cache=20 * ROW_BYTES, shuffle="chunks")
    batches = open_batches(make_file(tmp_path), "plain", "y", None, options)
    with pytest.warns(UserWarning, match="shuffle='rows' is as fast here and mixes all rows"):
        batches.epoch(0)


def test_a_file_in_random_order_is_no_reason_for_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(open_small(make_file(tmp_path, MIXED)).epoch(0))


def test_only_labels_are_read_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, ...]] = []
    load = Source.load_rows

    def noted(self: Source, rows: Any) -> Any:
        read.append(tuple(self.columns))
        return load(self, rows)

    monkeypatch.setattr(Source, "load_rows", noted)
    open_small(make_file(tmp_path))
    assert read == [("y",)]
    open_small(tmp_path / "a.h5", shuffle="rows")
    open_small(tmp_path / "a.h5", shuffle=False)
    assert read == [("y",)]


def test_text_labels_are_classes_and_one_hot_ones_too(tmp_path: Path) -> None:
    words = np.array([f"class {number}" for number in SORTED], object)
    text = open_small(make_file(tmp_path, words, dtype=h5py.string_dtype()), threads=0)
    assert mixing_of(text).num_labels == 10
    make_file(tmp_path)
    assert mixing_of(open_small(tmp_path / "a.h5", Column("y", one_hot=10))).starves


NOT_MEASURED: Final[dict[str, tuple[Any, Any]]] = {
    "real numbers": (SORTED.astype("f4"), "y"),
    "several columns": (SORTED, ("y", "y")),
    "rows of several": (np.stack([SORTED, SORTED], axis=1), "y"),
    "one label": (np.zeros(NUM_ROWS, int), "y"),
    "no labels": (SORTED, None),
}


@pytest.mark.parametrize("case", NOT_MEASURED)
def test_what_is_no_class_is_not_measured(case: str, tmp_path: Path) -> None:
    labels, y = NOT_MEASURED[case]
    plan = open_small(make_file(tmp_path, labels), y).plan
    assert plan.shuffle == "chunks"
    assert plan.mixing == ""


@pytest.mark.parametrize("bound", ["_MAX_ROWS", "_MAX_LABELS", "_MAX_FILES", "_MAX_CHUNKS"])
def test_what_takes_long_to_read_is_not_measured(
    bound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_file(tmp_path, chunks=(CHUNK_ROWS,))
    assert open_small(path).plan.mixing
    monkeypatch.setattr(_mixing, bound, 0)
    assert open_small(path).plan.mixing == ""


def test_few_of_many_windows_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = open_small(make_file(tmp_path))
    monkeypatch.setattr(_mixing, "_MAX_WINDOW_ROWS", 0)
    assert len(list(_mixing._draws(batches.plan, SORTED, 10))) == 1
    assert mixing_of(batches).found < 5


def test_damaged_labels_are_an_error_when_they_are_read_and_not_before(tmp_path: Path) -> None:
    path = make_file(tmp_path, compression=1, chunks=(CHUNK_ROWS,))
    with h5py.File(path) as file:
        chunk = file["y"].id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(raw)
    assert open_small(path).plan.mixing == ""


def test_mnist_is_measured_in_a_moment(mnist_dir: Path, tmp_path: Path) -> None:
    with h5py.File(mnist_dir / "train.hdf5") as file:
        images, labels = file["image"][()], file["label"][()]
    order = np.argsort(labels, kind="stable")
    with h5py.File(tmp_path / "sorted.h5", "w") as file:
        file.create_dataset("x", data=images[order], chunks=(64, 28, 28), compression=1)
        file.create_dataset("y", data=labels[order], chunks=(64,), compression=1)
    batches = open_small(tmp_path / "sorted.h5", cache="1MB")
    began = os.times()
    mixing = mixing_of(batches)
    seconds = os.times().user - began.user
    assert mixing.found < 0.7 * mixing.exact
    assert seconds < 0.5  # 0.05 s where nothing else runs
