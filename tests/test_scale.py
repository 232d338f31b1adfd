"""Ten thousand files, and a billion rows: what grows with them, and what must not."""

import os
import time
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import psutil
import pytest
from numpy.testing import assert_array_equal

from kerash5._batch_options import BatchOptions
from kerash5._batches import open_batches
from kerash5.h5 import Source, _file

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
    open_hdf5 = _file._open_hdf5

    def noted(place: str, name: str) -> h5py.File:
        opened.append(name)
        return open_hdf5(place, name)

    monkeypatch.setattr(_file, "_open_hdf5", noted)
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
    of = _file.FileIdentity.of

    def noted(path: str) -> _file.FileIdentity:
        asked.append(path)
        return of(path)

    monkeypatch.setattr(_file.FileIdentity, "of", noted)
    batches.read(5)
    rows = batches.plan.rows(5)
    assert sorted(asked) == sorted({batches.source.paths[row // ROWS] for row in rows})
