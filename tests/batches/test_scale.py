"""Ten thousand files, and a billion rows: what grows with them, and what must not."""

import itertools
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import psutil
import pytest
from numpy.testing import assert_array_equal

from kerash5.batches._batches import open_batches
from kerash5.batches._options import BatchOptions
from kerash5.h5 import Source
from kerash5.h5.storage import _file, _pool
from kerash5.h5.storage._opening import open_hdf5

IS_DEEP: Final = os.environ.get("KERASH5_HYPOTHESIS_PROFILE") == "deep"
NUM_FILES: Final = 10_000 if IS_DEEP else 300
ROWS: Final = 6  # of a file


@pytest.fixture(scope="module")
def many_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files, of six rows each; x holds the number of the row over all files."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(NUM_FILES):
        with h5py.File(folder / f"{number:05d}.h5", "w") as file:
            values = np.arange(ROWS, dtype="<i4") + ROWS * number
            file.create_dataset("x", data=values, chunks=(4,), compression="gzip")
            file["y"] = np.full(ROWS, number % 10)
    return folder / "*.h5"


@pytest.mark.deep
def test_each_of_many_files_is_opened_once(
    many_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def noted(place: str, name: str) -> h5py.File:
        opened.append(name)
        return open_hdf5(place, name)

    monkeypatch.setattr(_pool, "open_hdf5", noted)
    began = time.process_time()
    source = Source(many_files, x="x", y="y")
    seconds = time.process_time() - began
    assert len(source) == ROWS * NUM_FILES
    assert sorted(opened) == sorted(source.paths)
    print(f"{NUM_FILES} files in {seconds:.1f} s of this process")  # noqa: T201
    assert seconds / NUM_FILES < 0.02  # 2 ms, and a wide margin


@pytest.mark.deep
@pytest.mark.parametrize("cache", ["auto", 0], ids=["in memory", "from the files"])
def test_many_files_are_read_with_few_descriptors(many_files: Path, cache: Any) -> None:
    before = psutil.Process().num_fds()
    options = BatchOptions(batch_size=64, cache=cache, threads=2)
    batches = open_batches(many_files, "x", "y", None, options)
    assert psutil.Process().num_fds() - before < 10  # none is kept for a reader that needs none
    most, served = 0, []
    for x, y in batches.epoch(0):
        most = max(most, psutil.Process().num_fds() - before)
        assert_array_equal(y, x // ROWS % 10)
        served.append(x)
    assert_array_equal(np.sort(np.concatenate(served)), np.arange(ROWS * NUM_FILES))
    assert most < 250


def test_a_batch_asks_only_for_the_files_of_its_rows(
    many_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = open_batches(many_files, "x", "y", None, BatchOptions(batch_size=8, threads=0))
    for _ in batches.epoch(0):
        pass  # all is in memory now
    asked: list[str] = []
    check = _file.H5File.check_unchanged

    def noted(file: _file.H5File) -> None:
        asked.append(file.path)
        check(file)

    monkeypatch.setattr(_file.H5File, "check_unchanged", noted)
    batches.read(5)
    rows = batches.plan.rows(5)
    assert sorted(asked) == sorted({batches.source.paths[row // ROWS] for row in rows})


BILLION: Final = 10**9
_MUCH: Final = 100 << 20  # bytes; the smallest array of all rows takes ten times that


@pytest.fixture(scope="module")
def billion_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A billion rows, nearly none of them written: a file with holes, and chunks of fill value."""
    path = tmp_path_factory.mktemp("billion") / "a.h5"
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("plain", (BILLION,), "u1", dcpl=creation)[-1] = 5
        file.create_dataset(
            "packed", (BILLION,), "u1", chunks=(1 << 16,), compression=1, fillvalue=7
        )[-1] = 5
    assert path.stat().st_blocks * 512 < 10 << 20
    return path


@pytest.mark.deep
@pytest.mark.parametrize("shuffle", ["auto", "rows", "chunks", False], ids=str)
@pytest.mark.parametrize("name", ["plain", "packed"])
def test_a_billion_rows_need_no_array_of_that_length(
    billion_rows: Path, name: str, shuffle: Any
) -> None:
    options = BatchOptions(batch_size=256, shuffle=shuffle, cache="8MB", threads=2)
    tracemalloc.start()
    try:
        batches = open_batches(billion_rows, name, "plain", None, options)
        first = list(itertools.islice(batches.epoch(1), 20_000 if IS_DEEP else 20))
        last = batches.read(len(batches) - 1)
        ordered = batches.in_given_order().read(len(batches) - 1)
        batches.release()
        assert tracemalloc.get_traced_memory()[1] < _MUCH
    finally:
        tracemalloc.stop()
    assert len(batches) == -(-BILLION // 256)
    assert {len(x) for x, _ in first} == {256}
    assert len(last[0]) == (BILLION - 1) % 256 + 1
    assert ordered[0][-1] == ordered[1][-1] == 5
    assert set(ordered[0][:-1].tolist()) == {7 if name == "packed" else 0}


def test_rows_of_a_billion_are_selected_and_shared_without_all_of_them(billion_rows: Path) -> None:
    options = BatchOptions(batch_size=10, rows=slice(-30, None), shard=(1, 3), threads=0)
    (x, y), *_ = open_batches(billion_rows, "packed", "plain", None, options).epoch(0)
    assert len(x) == len(y) == 10
    halves = [
        open_batches(
            billion_rows, "plain", None, None, BatchOptions(shard=(index, 2), shuffle="rows")
        ).plan
        for index in range(2)
    ]
    assert [plan.shard_bounds for plan in halves] == [(0, BILLION // 2), (BILLION // 2, BILLION)]
    rows = [set(plan.rows(step).tolist()) for plan in halves for step in range(50)]
    assert len(set.union(*rows)) == sum(map(len, rows))
