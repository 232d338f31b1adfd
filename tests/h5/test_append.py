"""Rows that come batch by batch: a whole file at the end, or none."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, FileError
from kerash5.h5._append import open_writer


def write_batches(
    path: Path, batches: list[dict[str, np.ndarray]], error: BaseException | None = None
) -> None:
    with open_writer(path, 3) as writer:
        for batch in batches:
            writer.append(batch)
        if error is not None:
            raise error


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "partial" in path.name]


@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=6), width=st.integers(0, 3))
def test_rows_appended_are_rows_read(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], width: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "out.h5"
    total = sum(lengths)
    x, y = np.arange(total * width, dtype=np.float32).reshape(total, width), np.arange(total)
    start = 0
    with open_writer(path, total) as writer:
        for length in lengths:
            stop = start + length
            writer.append({"a/x": x[start:stop], "y": y[start:stop]})
            start = stop
    with h5py.File(path) as file:
        assert_array_equal(file["a/x"][:], x, strict=True)
        assert_array_equal(file["y"][:], y, strict=True)


def test_the_file_is_not_there_before_its_last_row(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    with open_writer(path, 2) as writer:
        writer.append({"x": np.zeros(2)})
        assert not path.exists()
    assert path.exists()
    assert not leftovers(tmp_path)


def test_an_existing_file_stays_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    path.write_bytes(b"mine")
    with pytest.raises(FileError, match="overwrite=True"), open_writer(path, 1):
        pass
    assert path.read_bytes() == b"mine"
    with open_writer(path, 1, overwrite=True, attributes={"model": "mlp"}) as writer:
        writer.append({"x": np.zeros(1)})
    with h5py.File(path) as file:
        assert file.attrs["model"] == "mlp"


@pytest.mark.parametrize(
    ("batches", "match"),
    [
        ([{"x": np.zeros(2)}], "takes 3 rows and got 2"),
        ([{"x": np.zeros(2)}, {"x": np.zeros(2)}], "takes 3 rows of x"),
        ([{"x": np.zeros(2)}, {"y": np.zeros(1)}], "got y"),
        ([{"x": np.zeros(3), "y": np.zeros(2)}], "the same number of each"),
        ([{"x": np.zeros((2, 2))}, {"x": np.zeros((1, 3))}], r"shape \(2,\) and now have \(3,\)"),
        ([{"x": np.zeros(3), "x/y": np.zeros(3)}], "choose another name"),
        ([{"x": np.array(["a", "b", "c"])}], "cannot be columns"),
        ([{"x": np.zeros(2, "i4")}, {"x": np.ones(1)}], "of type int32 and now are float64"),
    ],
    ids=["missing", "too many", "renamed", "lengths", "shape", "name clash", "dtype", "cast"],
)
def test_rows_that_do_not_fit_leave_nothing_behind(
    tmp_path: Path, batches: list[dict[str, np.ndarray]], match: str
) -> None:
    path = tmp_path / "out.h5"
    with pytest.raises(ColumnError, match=match):
        write_batches(path, batches)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [RuntimeError("mine"), OSError("mine"), KeyboardInterrupt()], ids=repr
)
def test_an_error_between_batches_stays_what_it_is(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        write_batches(tmp_path / "out.h5", [{"x": np.zeros(1)}], error)
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_said_before_the_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with (
        pytest.raises(FileError, match=r"may take .* free space first"),
        open_writer(tmp_path / "out.h5", 1 << 30) as writer,
    ):
        writer.append({"x": np.zeros(8)})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(FileError, match=r"could not be written .*No space left"),
        open_writer(tmp_path / "out.h5", 1) as writer,
    ):
        writer.append({"x": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_said_before_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no folder"), open_writer(tmp_path / "a/b.h5", 1):
        pytest.fail("the block must not begin")


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    with open_writer(path, 1) as writer:
        writer.append({"x": np.array([7])})
    code = (
        "import os, sys, signal, numpy as np\n"
        "from kerash5.h5._append import open_writer\n"
        "with open_writer(sys.argv[1], 9, overwrite=True) as writer:\n"
        "    writer.append({'x': np.zeros(3)})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    with h5py.File(path) as file:
        assert_array_equal(file["x"][:], [7])
    with open_writer(path, 1, overwrite=True) as writer:
        writer.append({"x": np.array([8])})
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.h5"]
