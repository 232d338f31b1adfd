"""Which data sets are sound: said of each, whatever HDF5 does with the file."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import FileMissingError, NotHDF5Error, OptionError
from kerash5.h5 import Source, Verdict, verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with data sets of many kinds, two of them in chunks that can be damaged."""
    rng = np.random.default_rng(0)
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        rows = rng.integers(0, 255, (64, 8, 8), np.uint8)
        file.create_dataset("checked", data=rows, chunks=(16, 8, 8), fletcher32=True)
        file.create_dataset("packed", data=rows, chunks=(16, 8, 8), compression="gzip")
        file["plain"] = rows
        file["group/scalar"] = 3.5
        file["words"] = ["one", "two"]
        file.create_dataset("nothing", data=h5py.Empty("f4"))
        file["none"] = np.empty((0, 3))
    return path


def states(verdicts: Iterable[Verdict]) -> dict[str, str]:
    return {verdict.path: verdict.state for verdict in verdicts}


def damage(path: Path, name: str) -> None:
    """Turn over the bytes in the middle of the second chunk of a data set."""
    with h5py.File(path) as file:
        info = file[name].id.get_chunk_info(1)
    with path.open("r+b") as file:
        file.seek(info.byte_offset + info.size // 2)
        file.write(b"\xa5\x5a\xa5\x5a")


def test_every_data_set_of_a_sound_file_is_sound(path: Path) -> None:
    names = {"checked", "packed", "plain", "group/scalar", "words", "nothing", "none"}
    assert states(verify(path)) == dict.fromkeys(names, "sound")


@pytest.mark.parametrize("name", ["checked", "packed"])
def test_a_damaged_chunk_is_found_and_the_others_are_sound(path: Path, name: str) -> None:
    damage(path, name)
    found = {verdict.path: verdict for verdict in verify(path)}
    assert found[name].state == "damaged"
    assert "(16, 0, 0)" in found[name].reason
    assert {verdict.state for verdict in found.values() if verdict.path != name} == {"sound"}


def test_a_file_cut_short_is_damaged(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)
    (verdict,) = verify(path)
    assert (verdict.path, verdict.state) == ("", "damaged")


def test_what_lies_outside_the_folder_is_not_read_unless_allowed(path: Path) -> None:
    inner = path.parent / "inner"
    inner.mkdir()
    with h5py.File(inner / "made.h5", "w") as file:
        layout = h5py.VirtualLayout((64, 8, 8), np.uint8)
        layout[...] = h5py.VirtualSource(str(path), "plain", (64, 8, 8))
        file.create_virtual_dataset("made", layout)
    (verdict,) = verify(inner / "made.h5")
    assert verdict.state == "not read"
    assert "allow_external" in verdict.reason
    assert states(verify(inner / "made.h5", allow_external=True)) == {"made": "sound"}


def test_a_part_that_is_missing_is_damage(path: Path) -> None:
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((2,), np.uint8)
        layout[...] = h5py.VirtualSource("gone.h5", "x", (2,))
        file.create_virtual_dataset("virtual", layout)
    assert states(verify(path))["virtual"] == "damaged"


def test_all_files_of_a_pattern_are_read(path: Path) -> None:
    path.with_name("more.h5").write_bytes(path.read_bytes())
    assert len(list(verify(path.parent / "*.h5"))) == 14


def die_at(monkeypatch: pytest.MonkeyPatch, name: str, how: str) -> None:
    """Let children do something odd when they come to a data set."""
    start = subprocess.Popen
    odd = (
        "from kerash5.h5 import _verify; import os, signal, time; read = _verify._read_all\n"
        "def _read_all(file, name, **more):\n"
        f"    if name == {name!r}: {how}\n"
        "    read(file, name, **more)\n"
        "_verify._read_all = _read_all; _verify.read_and_report()"
    )

    def started(command: list[str], **options: Any) -> Any:
        return start([*command[:-1], odd], **options)

    monkeypatch.setattr(subprocess, "Popen", started)


@pytest.mark.parametrize("name", ["checked", "words"])
def test_a_crash_is_blamed_on_its_data_set_and_the_rest_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    die_at(monkeypatch, name, "os.kill(os.getpid(), signal.SIGSEGV)")
    found = {verdict.path: verdict for verdict in verify(path)}
    assert len(found) == 7
    assert found[name] == Verdict(name, "damaged", "HDF5 crashes on it (SIGSEGV)")
    assert [verdict.state for verdict in found.values()].count("sound") == 6


def test_a_hang_is_ended_and_blamed_on_its_data_set(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_at(monkeypatch, "plain", "time.sleep(600)")
    found = {verdict.path: verdict for verdict in verify(path, most_seconds=3)}
    assert found["plain"] == Verdict("plain", "damaged", "HDF5 hangs on it (nothing for 3 s)")
    assert len(found) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="limits of addresses are Linux's")
def test_memory_is_limited(path: Path) -> None:
    with h5py.File(path, "a") as file:  # one chunk of 2 GiB, of which next to nothing is stored
        shape = (1 << 31,)
        huge = file.create_dataset("huge", shape, np.uint8, chunks=shape, compression="gzip")
        huge.id.write_direct_chunk((0,), b"x\x9c\x03\x00\x00\x00\x00\x01")
    found = states(verify(path, most_memory=1 << 30))
    assert found.pop("huge") in {"not read", "damaged"}
    assert set(found.values()) == {"sound"}


def test_a_child_that_dies_before_the_first_data_set_ends_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    (verdict,) = verify(path)
    assert verdict == Verdict("", "damaged", "the reading process ended with exit code 1")


def test_what_is_no_hdf5_file_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"PK\x03\x04")
    with pytest.raises(NotHDF5Error, match="a zip archive"):
        list(verify(tmp_path / "a.h5"))
    with pytest.raises(FileMissingError, match=r"b\.h5"):
        list(verify(tmp_path / "b.h5"))


@pytest.mark.parametrize("limits", [{"most_seconds": 0}, {"most_memory": 1000}])
def test_limits_that_make_no_sense_are_refused(path: Path, limits: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="at least 256 MiB"):
        list(verify(path, **limits))  # type: ignore[arg-type]  # of a dict


@pytest.mark.parametrize(
    "name",
    [
        "brtnfld+hdf5/test/testfiles/h5fc_ext_none.h5",
        "brtnfld+hdf5/tools/test/h5format_convert/testfiles/h5fc_ext1_f.h5",
        "brtnfld+hdf5/tools/test/h5format_convert/testfiles/h5fc_non_v3.h5",
    ],
)
def test_extensible_arrays_whose_chunks_hdf5_miscounts_are_sound(
    corpus_dir: Path, name: str
) -> None:
    path = corpus_dir / "files" / name
    assert set(states(verify(path)).values()) == {"sound"}
    column = next(name for name in states(verify(path)) if name.endswith("DSET_EA"))
    with h5py.File(path) as file:
        by_h5py = file[column][()]
    assert_array_equal(Source(path, x=column).read([3, 0, 1])["x"], by_h5py[[3, 0, 1]])
