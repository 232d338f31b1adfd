"""Files on which HDF5 hangs or crashes: a child process meets them first, and this one survives."""

import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kerash5._errors import ColumnError, DamagedFileError, FileError, UnknownColumnError
from kerash5.h5 import Source, _child, describe, verify

SECONDS = 8.0  # of silence; a child needs less to start, on a loaded machine too


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose text HDF5 reads for ever: the heap that holds it begins with an empty object."""
    monkeypatch.setattr(_child, "SECONDS", SECONDS)
    path = tmp_path / "hanging.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros((3, 2))
        file.create_dataset("word", data=["cat", "dog", "cow"], dtype=h5py.string_dtype())
        file.attrs["origin"] = np.array(["a laboratory"], dtype=h5py.string_dtype())
    raw = bytearray(path.read_bytes())
    first_object = raw.index(b"GCOL") + 16  # HDF5 file format specification, section III.E
    raw[first_object : first_object + 16] = bytes(16)
    path.write_bytes(raw)
    return path


def count_children(monkeypatch: pytest.MonkeyPatch, crash: str = "pass") -> list[Any]:
    """Count the children that start, and let them do something odd first."""
    started: list[Any] = []
    start = subprocess.Popen

    def noted(command: list[str], **options: Any) -> Any:
        started.append(command)
        return start([*command[:-1], f"import os, signal; {crash}; {command[-1]}"], **options)

    monkeypatch.setattr(subprocess, "Popen", noted)
    return started


def test_a_text_that_hangs_hdf5_is_refused_where_a_file_is_not_trusted(hanging: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"hanging\.h5' is damaged: HDF5 hangs on it"):
        Source(hanging, untrusted=True, x="x", y="word")


def test_other_columns_of_such_a_file_are_read(hanging: Path) -> None:
    assert len(Source(hanging, untrusted=True, x="x")) == 3


def test_describe_says_which_attribute_hangs_and_describes_the_rest(hanging: Path) -> None:
    lines = describe(hanging).splitlines()
    assert f"  @origin: HDF5 hangs on it (nothing for {SECONDS:.0f} s)" in lines
    assert "  x: 3 rows of (2,) float64, contiguous" in lines


def test_verify_says_the_same_of_the_data_set(hanging: Path) -> None:
    found = {one.path: one.state for one in verify(hanging, most_seconds=SECONDS)}
    assert found == {"x": "sound", "word": "damaged"}


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGABRT"])
def test_a_crash_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)
    count_children(monkeypatch, f"os.kill(os.getpid(), signal.{signal})")
    with pytest.raises(DamagedFileError, match=rf"HDF5 crashes on it \({signal}\)"):
        Source(tmp_path / "a.h5", untrusted=True, x="x")
    with pytest.raises(DamagedFileError, match=rf"HDF5 crashes on it \({signal}\)"):
        describe(tmp_path / "a.h5")


def test_a_child_that_the_system_killed_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)
    count_children(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(FileError, match=r"was not looked at.*free some memory") as caught:
        Source(tmp_path / "a.h5", untrusted=True, x="x")
    assert not isinstance(caught.value, DamagedFileError)
    (verdict,) = verify(tmp_path / "a.h5")
    assert verdict.state == "not read"


def test_one_child_looks_at_many_files_and_at_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["x"] = np.zeros(3)
    started = count_children(monkeypatch)
    for _ in range(3):
        assert len(Source(tmp_path / "*.h5", untrusted=True, x="x")) == 60
    assert len(started) == 1
    Source(tmp_path / "*.h5", x="x")
    assert len(started) == 1
    describe(tmp_path / "*.h5")
    assert len(started) == 2


def test_what_is_wrong_otherwise_is_said_as_ever(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["short"] = np.zeros(3), np.zeros(2)
    with pytest.raises(UnknownColumnError, match="did you mean 'short'"):
        Source(tmp_path / "a.h5", untrusted=True, x="shart")
    with pytest.raises(ColumnError, match="differ in length"):
        Source(tmp_path / "a.h5", untrusted=True, x="x", y="short")


def test_no_process_to_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)

    def refuse(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(FileError, match="no process can be started"):
        describe(tmp_path / "a.h5")
