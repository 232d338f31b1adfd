"""Reading ahead: how far, by which threads, and what is noticed when a file changes meanwhile."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import (
    DamagedFileError,
    FileChangedError,
)
from kerash5.batches._batches import Batch, BatchOptions, open_batches
from kerash5.h5 import write
from tests.batches.made import (
    CHUNK_ROWS,
    KINDS,
    Kind,
    W,
    X,
    Y,
    assert_batches,
    assert_rows,
    every_kind,
    make_file,
    open_kind,
    open_plain,
    reading_threads,
)


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    yield
    assert reading_threads() == []


# Look-ahead


def wait_until(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.001)


@pytest.mark.timeout(60)
def test_a_few_batches_are_read_ahead_and_no_more(tmp_path: Path) -> None:
    read: list[int] = []

    def note(x: Any, y: Any) -> Any:
        read.append(int(y[0]))
        return x, y

    found = open_plain(tmp_path, transform=note, threads=2).epoch(0)
    assert read == []  # nothing before the first is asked for
    next(found)
    wait_until(lambda: len(read) == 3)
    time.sleep(0.05)
    assert len(read) == 3  # threads + 1
    for _ in range(4):
        next(found)
    wait_until(lambda: len(read) == 7)


def test_large_batches_are_read_ahead_within_a_budget(tmp_path: Path) -> None:
    write(tmp_path / "wide.h5", compression=None, x=np.zeros((8, 6 << 20), np.uint8))
    options = BatchOptions(batch_size=2, threads=4)  # 12 MiB a batch, of 32
    assert open_batches(tmp_path / "wide.h5", "x", None, None, options)._depth == 2


def test_rows_in_memory_need_no_threads(tmp_path: Path) -> None:
    batches = open_plain(tmp_path, threads=3)
    list(batches.epoch(0))
    found = batches.epoch(1)
    next(found)
    assert reading_threads() == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["finished", "closed", "dropped", "left in mid-loop"])
@every_kind
def test_no_thread_outlives_the_iterator(tmp_path: Path, kind: Kind, how: str) -> None:
    batches = open_kind(tmp_path, kind, threads=3)
    found: Any = batches.epoch(0)
    next(found)
    assert reading_threads()
    if how == "finished":
        list(found)
    elif how == "closed":
        found.close()
    elif how == "left in mid-loop":
        for number, _ in enumerate(found):
            if number == 5:
                break
    del found
    assert reading_threads() == []
    # What was under way when the iterator went does no harm.
    assert_batches(batches.epoch(0), batches, range(21))


def test_an_iterator_never_started_starts_no_thread(tmp_path: Path) -> None:
    found = open_plain(tmp_path, threads=3).epoch(0)
    assert reading_threads() == []
    del found


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["contiguous", "resident", "windows", "no cache"])
def test_two_iterators_at_once_do_not_disturb_each_other(tmp_path: Path, name: str) -> None:
    batches = open_kind(tmp_path, KINDS[name], threads=2)
    for step, (one, other) in enumerate(zip(batches.epoch(0), batches.epoch(3), strict=True)):
        assert_rows(one, batches.plan.rows(step))
        assert_rows(other, batches.plan.rows(63 + step))


# Bad luck


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_changes_in_mid_epoch_is_noticed_with_the_next_batch(
    tmp_path: Path, name: str
) -> None:
    batches = open_kind(tmp_path, KINDS[name], threads=0)
    found = batches.epoch(0)
    next(found)
    os.utime(tmp_path / "data.h5", ns=(1, 1))
    with pytest.raises(FileChangedError, match=r"data\.h5' was written to or replaced"):
        next(found)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [0, 2])
@every_kind
def test_a_file_that_is_gone_is_noticed_once_the_batches_read_before_are_served(
    tmp_path: Path, kind: Kind, threads: int
) -> None:
    batches = open_kind(tmp_path, kind, threads=threads)
    found = batches.epoch(0)
    next(found)
    (tmp_path / "data.h5").unlink()
    served: list[Batch] = []
    with pytest.raises(FileChangedError, match="is gone now"):
        served.extend(found)
    assert len(served) <= threads + 1


@pytest.mark.parametrize("name", ["resident", "resident in order"])
def test_a_file_that_changes_when_all_is_in_memory_is_noticed_too(
    tmp_path: Path, name: str
) -> None:
    batches = open_kind(tmp_path, KINDS[name])
    list(batches.epoch(0))
    write(tmp_path / "data.h5", overwrite=True, x=X[:10], y=Y[:10], w=W[:10])
    with pytest.raises(FileChangedError, match=r"had .* bytes and has"):
        batches.read(0)


def damage_chunk(path: Path, column: str, number: int) -> None:
    """Overwrite a stored chunk with bytes that do not inflate."""
    with h5py.File(path) as file:
        chunk = file[column].id.get_chunk_info(number)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize("name", ["resident in order", "windows in order", "no cache in order"])
def test_a_damaged_chunk_stops_the_epoch_where_it_lies(
    tmp_path: Path, name: str, threads: int
) -> None:
    kind = KINDS[name]
    path = make_file(tmp_path)
    damage_chunk(path, "y", 12)  # rows 96 to 103
    options = BatchOptions(batch_size=8, cache=kind.cache, shuffle=False, threads=threads)
    batches = open_batches(path, "x", "y", "w", options)
    assert type(batches._store) is kind.store
    for _ in range(2):  # it is there the second time, too
        served: list[Batch] = []
        with pytest.raises(DamagedFileError, match=r"'y' in .*data\.h5' is damaged: chunk \(96"):
            served.extend(batches.epoch(0))
        # Its window, at the most, is lost with it.
        assert 96 - 4 * CHUNK_ROWS <= 8 * len(served) <= 96
        assert_array_equal(np.concatenate([y for _, y, _ in served]), Y[: 8 * len(served)])
    assert_rows(batches.read(25), np.array([200, 201, 202]))
