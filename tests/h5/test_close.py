"""Handles: closed when the last source of a file goes, by close(), and at the end of `with`."""

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import kerash5 as k5
from kerash5.h5.storage._file import find_file
from kerash5.h5.storage._pool import POOL, close_files

STORED: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "gzip": {"chunks": (10, 4), "compression": "gzip"},
    "through h5py": {"chunks": (10, 4), "scaleoffset": 0},
    "a second axis grows": {"chunks": (10, 2), "maxshape": (100, None)},
}


def write_rows(path: Path, **options: Any) -> Path:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("x", data=np.arange(400).reshape(100, 4), **options)
    return path


def can_be_written(path: Path) -> bool:
    try:
        with h5py.File(path, "r+") as file:
            return bool(len(file["x"]))
    except OSError:
        return False


@pytest.mark.parametrize("options", STORED.values(), ids=STORED)
def test_a_file_can_be_written_when_its_last_source_is_gone(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = write_rows(tmp_path / "a.h5", **options)
    source = k5.Source(path, x="x")
    other = source.select(y="x")
    source.read(np.arange(100))
    del source
    gc.collect()
    other.read(np.arange(100))
    del other
    gc.collect()
    assert can_be_written(path)


def test_text_is_read_without_keeping_the_file_open(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = ["a", "b"] * 50
    source = k5.Source(path, x="x")
    source.read(np.arange(100))
    assert not can_be_written(path)
    del source
    gc.collect()
    assert can_be_written(path)


@pytest.mark.parametrize("again", [copy.copy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_keep_a_file_open_as_long_as_they_live(tmp_path: Path, again: Any) -> None:
    path = write_rows(tmp_path / "a.h5", **STORED["through h5py"])
    source = k5.Source(path, x="x")
    other = again(source)
    other.read([1])
    del source
    gc.collect()
    assert not can_be_written(path)
    del other
    gc.collect()
    assert can_be_written(path)


def test_close_and_with_close_and_reading_opens_again(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.h5", **STORED["through h5py"])
    with k5.Source(path, x="x") as source:
        source.read([1])
        assert not can_be_written(path)
    assert can_be_written(path)
    fresh = k5.Source(path, x="x")
    assert fresh.read([3])["x"].tolist() == [[12, 13, 14, 15]]
    fresh.close()
    assert fresh.read([3])["x"].tolist() == [[12, 13, 14, 15]]
    fresh.close()
    assert can_be_written(path)


def test_a_source_that_goes_while_a_handle_is_lent_is_closed_afterwards(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.h5", **STORED["through h5py"])
    source = k5.Source(path, x="x")
    file = source._files[0]
    with k5.Source(write_rows(tmp_path / "b.h5"), x="x")._files[0].open():
        source.read([1])
        del source
        gc.collect()
    assert file not in POOL._handles
    assert can_be_written(path)


def test_a_source_that_goes_does_not_close_the_file_under_another_that_is_being_made(
    tmp_path: Path,
) -> None:
    source = k5.Source(write_rows(tmp_path / "a.h5"), x="x")
    with source._files[0].open() as handle:  # as another source of the file has it, not yet made
        del source
        gc.collect()
        assert "x" in handle
        assert len(handle["x"]) == 100
    assert can_be_written(tmp_path / "a.h5")


def test_a_damaged_file_that_does_not_close_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)
    found = find_file(tmp_path / "a.h5")
    close = h5py.File.close

    def fail(file: h5py.File) -> None:
        close(file)
        raise RuntimeError("Can't decrement id ref count (Pinned entry count not decreasing)")

    monkeypatch.setattr(h5py.File, "close", fail)
    close_files([found])
    assert found not in POOL._handles
