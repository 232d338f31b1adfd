"""Batches handed to other processes in mid-epoch, by every way of starting one."""

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5.batches._batches import Batches, open_batches
from kerash5.batches._options import BatchOptions
from kerash5.h5 import write

ROWS: Final = 400
X: Final = np.arange(ROWS * 8, dtype=np.int32).reshape(ROWS, 8)
WAYS: Final[dict[str, dict[str, Any]]] = {
    "in memory": {"cache": 10**7},
    "windows": {"cache": 2500, "shuffle": "chunks"},
    "from the file": {"cache": 0, "shuffle": "rows"},
}


def rest_of_epoch(batches: Batches, start: int) -> list[Any]:
    """Read on where another process stopped."""
    assert not [thread for thread in threading.enumerate() if "kerash5" in thread.name]
    return [x for (x,) in batches.epoch(0, start)]


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_an_epoch_begun_here_goes_on_elsewhere_and_here(
    method: str, way: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.h5", x=X, chunk_rows=8)
    options = BatchOptions(batch_size=16, threads=2, seed=3, **WAYS[way])
    batches = open_batches(tmp_path / "a.h5", "x", None, None, options)
    found = batches.epoch(0)
    first = [next(found)[0] for _ in range(7)]
    # Reading threads are at work here while the other process starts.
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        there = pool.submit(rest_of_epoch, batches, 7).result(timeout=60)
    here = [x for (x,) in found]
    for one, other in zip(there, here, strict=True):
        assert_array_equal(one, other)
    assert_array_equal(np.sort(np.concatenate([*first, *here])[:, 0]), X[:, 0])
    assert not [thread for thread in threading.enumerate() if "kerash5" in thread.name]


def fail(*_arguments: Any, **_options: Any) -> None:
    raise OSError(5, "the disk is on fire")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", WAYS)
def test_an_error_on_a_reading_thread_arrives_within_one_batch_with_its_cause(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.h5", x=X, chunk_rows=8)
    options = BatchOptions(batch_size=16, threads=2, **WAYS[way])
    batches = open_batches(tmp_path / "a.h5", "x", None, None, options)
    found = batches.epoch(0)
    next(found)
    monkeypatch.setattr("kerash5.h5.reading._chunk_readers.read_byte_ranges", fail)
    served: list[Any] = []
    with pytest.raises(OSError, match="the disk is on fire") as caught:
        served.extend(found)
    # What was read before the disk failed: batches in flight, and two windows of 39 rows.
    assert len(served) <= 3 + (5 if way == "windows" else 0)
    assert any("_chunk_readers.py" in str(entry.path) for entry in caught.traceback)
    assert not [thread for thread in threading.enumerate() if "kerash5" in thread.name]
    monkeypatch.undo()
    assert len(list(batches.epoch(0))) == 25
