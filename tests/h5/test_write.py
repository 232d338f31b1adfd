import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, FileError, KerasH5Error, OptionError
from kerash5.h5 import Source, _write, write
from tests.strategies import DTYPES, assert_same_bytes, expected_rows, random_values

NUMBERS = tuple(name for name in DTYPES if "sub-array" not in name and "datetime" not in name)


def no_files(folder: Path) -> bool:
    return not list(folder.iterdir())


def run_child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python that can import what we can."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


# Round trips


@given(
    name=st.sampled_from(NUMBERS),
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    compression=st.sampled_from(["gzip", "lzf", None]),
    chunk_rows=st.sampled_from([None, 1, 3, 100]),
)
def test_what_is_written_is_read_back(
    *,
    name: str,
    shape: list[int],
    compression: Any,
    chunk_rows: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("written") / "a.h5"
    values = random_values(DTYPES[name], tuple(shape), np.random.default_rng(len(shape)))
    written = write(path, compression=compression, chunk_rows=chunk_rows, x=values)
    assert written == str(path)
    assert_same_bytes(expected_rows(path, "x", range(shape[0])), values)
    if shape[0]:
        assert_same_bytes(Source(path, x="x").read(range(shape[0]))["x"], values)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.h5"]
    path.unlink()


def test_lists_and_nested_names_are_written(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"train/image": [[1, 2], [3, 4]], "train/label": [0, 1]}
    write(tmp_path / "a.h5", **columns)
    source = Source(tmp_path / "a.h5", x="train/image", y="train/label")
    assert source.read([1])["x"].tolist() == [[3, 4]]
    assert source.read([1])["y"].tolist() == [1]


@pytest.mark.parametrize(
    "texts",
    [
        ["cat", "dög", "", "a much longer word"],
        np.array(["cat", "dög", "", "a much longer word"]),
        np.array(["cat", "dög".encode(), "", "a much longer word"], object),
        np.array([text.encode() for text in ("cat", "dög", "", "a much longer word")]),
    ],
    ids=["list", "array", "objects", "bytes"],
)
@pytest.mark.parametrize("compression", ["gzip", None])
def test_text_is_written_as_utf_8_and_read_as_classes(
    texts: Any, compression: Any, tmp_path: Path
) -> None:
    write(tmp_path / "a.h5", compression=compression, y=texts)
    source = Source(tmp_path / "a.h5", y="y")
    assert source.class_names == ("", "a much longer word", "cat", "dög")
    assert source.read([0, 1, 2, 3])["y"].tolist() == [2, 3, 0, 1]


def test_attributes_are_written(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", attributes={"origin": "hier", "seed": 7, "share": 0.5}, x=[1])
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert dict(file.attrs) == {"origin": "hier", "seed": 7, "share": 0.5}


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, x=np.arange(1000), y=["a", "b"] * 500)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_chunks_are_whole_rows_of_about_a_quarter_mebibyte(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", image=np.zeros((2000, 28, 28), "u1"), label=np.zeros(2000, "u1"))
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["image"].chunks == (334, 28, 28)
        assert file["label"].chunks == (2000,)
        assert (file["image"].compression, file["image"].shuffle) == ("gzip", False)


def test_numbers_wider_than_a_byte_are_shuffled_before_packing(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", x=np.arange(10, dtype="i4"))
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file["x"].shuffle


def test_without_compression_data_are_contiguous_unless_chunks_are_asked_for(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.h5", compression=None, x=np.arange(10))
    write(tmp_path / "b.h5", compression=None, chunk_rows=4, x=np.arange(10))
    assert Source(tmp_path / "a.h5", x="x").is_direct
    with h5py.File(tmp_path / "b.h5", "r") as file:
        assert (file["x"].chunks, file["x"].compression, file["x"].shuffle) == ((4,), None, False)


def test_a_written_file_may_be_opened_for_writing_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", x=[1, 2])
    with h5py.File(tmp_path / "a.h5", "r+") as file:  # HDF5 refuses while a reader has it open
        file["y"] = [3, 4]
    write(tmp_path / "a.h5", overwrite=True, x=[5, 6])
    assert Source(tmp_path / "a.h5", x="x").read([0, 1])["x"].tolist() == [5, 6]


# Refusals


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "nothing to write"),
        ({"x": [[1, 2], [3]]}, r"column 'x' is ragged .*pad its rows"),
        ({"x": np.array([[1, 2], [3]], object)}, "column 'x' holds Python objects"),
        ({"x": [None, 1]}, "column 'x' holds Python objects"),
        ({"x": 3}, "column 'x' is a single value"),
        ({"x": [1, 2], "y": [1]}, "'x' has 2 rows, 'y' has 1 rows"),
        ({"x": np.array(["2020-01-01"], "M8[D]")}, "'x' of type datetime64.* cannot be stored"),
        ({"x": ["a\0b"]}, "'x' of type object cannot be stored"),
        ({"x": [1], "x/y": [1]}, "cannot be stored.*name that no other"),
        ({"": [1]}, "cannot be stored"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_columns_that_cannot_be_written_leave_nothing_behind(
    columns: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ColumnError, match=words):
        write(tmp_path / "a.h5", **columns)
    assert no_files(tmp_path)


def test_an_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", x=[1])
    with pytest.raises(FileError, match=r"a\.h5' exists; pass overwrite=True"):
        write(tmp_path / "a.h5", x=[2])
    assert Source(tmp_path / "a.h5", x="x").read([0])["x"].tolist() == [1]


def test_a_folder_that_is_missing_or_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"there is no folder '.*nowhere'; make it first"):
        write(tmp_path / "nowhere" / "a.h5", x=[1])
    (tmp_path / "a.h5").mkdir()
    with pytest.raises(FileError, match="is a folder; name a file in it"):
        write(tmp_path / "a.h5", overwrite=True, x=[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compression": "zip"}, "compression='zip'; choose 'gzip', 'lzf' or None"),
        ({"chunk_rows": 0}, "chunk_rows=0; a chunk has at least one row"),
        ({"attributes": {"a": object()}}, "attribute 'a'=<object .* cannot be stored"),
    ],
    ids=["compression", "chunk_rows", "attributes"],
)
def test_options_that_make_no_sense_leave_nothing_behind(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=words):
        write(tmp_path / "a.h5", x=[1], **options)
    assert no_files(tmp_path)


def test_data_larger_than_the_free_space_are_refused_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_write, "_LARGE_BYTES", 100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(FileError, match="0 MB free; free space first"):
        write(tmp_path / "a.h5", x=np.zeros(1000))
    assert no_files(tmp_path)


# Accidents


# Where accidents happen: the making of a column, and what forces the bytes to the disk.
STAGES = {"columns": "kerash5.h5._write._create", "disk": "os.fsync"}
every_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)


@every_stage
@pytest.mark.parametrize(
    "accident", [RuntimeError("oh"), OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()]
)
def test_an_accident_while_writing_leaves_neither_file_nor_temporary(
    accident: BaseException,
    stage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise accident

    monkeypatch.setattr(stage, fail)
    is_ours = not isinstance(accident, KeyboardInterrupt)
    with pytest.raises(FileError if is_ours else KeyboardInterrupt) as caught:
        write(tmp_path / "a.h5", x=[1])
    if is_ours:
        assert str(accident) in str(caught.value)
        assert isinstance(caught.value, KerasH5Error)
    assert no_files(tmp_path)


@every_stage
def test_an_accident_while_overwriting_keeps_the_old_file(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.h5", x=[1])
    old = (tmp_path / "a.h5").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stage, fail)
    with pytest.raises(FileError, match=r"No space left on device.*free space"):
        write(tmp_path / "a.h5", overwrite=True, x=[2])
    assert (tmp_path / "a.h5").read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]


KILLED = """
import os, sys, time
import numpy as np
from kerash5.h5 import _write

path, stage = sys.argv[1:]
place = os if stage == "os.fsync" else _write
name = stage.rpartition(".")[2]
original = getattr(place, name)

def stop_there(*arguments):
    original(*arguments)
    print("there", flush=True)
    time.sleep(60)

setattr(place, name, stop_there)
_write.write(path, overwrite=True, x=np.zeros(100_000))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@every_stage
def test_a_process_killed_while_writing_leaves_the_old_file(stage: str, tmp_path: Path) -> None:
    write(tmp_path / "a.h5", x=[1, 2, 3])
    old = (tmp_path / "a.h5").read_bytes()
    with run_child(KILLED, tmp_path / "a.h5", stage) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "there\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert (tmp_path / "a.h5").read_bytes() == old
    assert Source(tmp_path / "a.h5", x="x").read([2])["x"].tolist() == [3]


FULL = """
import resource, sys
import numpy as np
from kerash5 import KerasH5Error
from kerash5.h5 import _write

path = sys.argv[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # as a full disk: write() fails
try:
    _write.write(path, overwrite=True, compression=None, x=np.random.default_rng(0).random(100_000))
except KerasH5Error as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
def test_a_disk_that_fills_up_is_one_clean_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", x=[1, 2, 3])
    old = (tmp_path / "a.h5").read_bytes()
    with run_child(FULL, tmp_path / "a.h5") as child:
        output, errors = child.communicate(timeout=60)
    assert output.startswith("FileError "), errors
    assert "could not be written" in output
    assert (child.returncode, errors) == (0, "")  # HDF5 likes to crash when it exits after this
    assert (tmp_path / "a.h5").read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]


def test_arrays_come_back_as_they_went(tmp_path: Path) -> None:
    values = np.arange(12).reshape(3, 4)[:, ::2]  # neither contiguous nor owned
    write(tmp_path / "a.h5", x=values)
    assert_array_equal(Source(tmp_path / "a.h5", x="x").read([2, 0])["x"], values[[2, 0]])
