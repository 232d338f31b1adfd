import gc
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import (
    DamagedFileError,
    FileChangedError,
    FileError,
    FileMissingError,
    KerasH5Error,
    NotHDF5Error,
    OptionError,
)
from kerash5.h5 import Source, close_files
from kerash5.h5.reading import _descriptors
from kerash5.h5.storage import _pool
from kerash5.h5.storage._file import find_file, find_files


def write_numbers(path: Path, start: int = 0, count: int = 6, *, packed: bool = False) -> Path:
    with h5py.File(path, "w") as file:
        numbers = np.arange(start, start + count)
        file.create_dataset("x", data=numbers, compression="gzip" if packed else None)
    return path


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def replace_by(path: Path, other: Path) -> None:
    """Put new bytes into the same file, as `cp other path` does: same inode, no HDF5 lock."""
    path.write_bytes(other.read_bytes())


# What is no HDF5 file


def test_a_missing_file_names_its_nearest_neighbours(tmp_path: Path) -> None:
    write_numbers(tmp_path / "train.h5")
    with pytest.raises(FileMissingError, match=r"no such file.*trian\.h5.*did you mean.*train\.h5"):
        find_file(tmp_path / "trian.h5")


def test_a_missing_file_is_also_the_builtin(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Source(tmp_path / "nothing.h5", x="x")
    assert isinstance(caught.value, KerasH5Error)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"its folder '.*nowhere' does not exist"):
        find_file(tmp_path / "nowhere" / "a.h5")


def test_a_dangling_symbolic_link_names_its_target_and_not_itself(tmp_path: Path) -> None:
    (tmp_path / "a.h5").symlink_to(tmp_path / "gone.h5")
    with pytest.raises(FileMissingError, match=r"symbolic link to '.*gone\.h5'") as caught:
        find_file(tmp_path / "a.h5")
    assert "did you mean" not in str(caught.value)


def test_a_folder_says_how_to_read_its_files(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"is a folder, not a file; .*\*\.h5"):
        find_file(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(NotHDF5Error, match="is not a regular file"):
        find_file(tmp_path / "pipe.h5")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "a web page"),
        (b"\n  <html lang='en'><head></head></html>", "a web page"),
        (b"\xef\xbb\xbf<!doctype html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run 'git lfs pull'"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "an XML document"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "a gzip archive"),
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00", "a zip archive"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "numpy.load"),
        (b"CDF\x01\x00\x00\x00\x00", "netCDF-3"),
        (b"\x0e\x03\x13\x01\x00\x00\x00\x00", "h4toh5"),
        (b"PAR1\x15\x04\x15\x00", "a Parquet file"),
        (b"\x80\x04\x95\x00\x00\x00", "a Python pickle"),
        (b"\x80\x05\x95\x00\x00\x00", "a Python pickle"),
        (b"hello, world", r"begins with b'hello, w' instead of b'\\x89HDF"),
        (b"\x89HDF", "begins with"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_stranger_is_called_by_its_name(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(NotHDF5Error, match=words):
        find_file(tmp_path / "a.h5")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_says_so(libver: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("x", data=np.arange(5000), chunks=(100,))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DamagedFileError, match=r"cut short.*copy or download it again"):
        find_file(path)


def test_a_file_damaged_at_its_start_is_an_error(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "a.h5")
    raw = bytearray(path.read_bytes())
    raw[8:64] = b"\xff" * 56
    path.write_bytes(raw)
    with pytest.raises(DamagedFileError, match="is damaged: HDF5 cannot open it"):
        find_file(path)


def test_an_unreadable_file_says_chmod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbers(tmp_path / "a.h5")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # as h5py does; root never meets it

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(FileError, match=r"may not be read by this user.*chmod"):
        find_file(path)


def test_a_file_open_for_writing_elsewhere_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_numbers(tmp_path / "a.h5")

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Unable to synchronously open file (unable to lock file)")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(FileError, match=r"open for writing elsewhere; close it there first"):
        find_file(path)


# Many files


def test_a_pattern_that_matches_nothing_names_the_folder_it_starts_from(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"no file matches '.*\*\.h5'.*relative to"):
        find_files(tmp_path / "*.h5")


def test_an_empty_list_is_an_error() -> None:
    with pytest.raises(OptionError, match="empty list"):
        find_files([])


@pytest.mark.parametrize("path", [None, 3, b"a.h5", ["a.h5", 3]], ids=repr)
def test_what_is_no_path_is_an_error_of_ours(path: object) -> None:
    with pytest.raises(OptionError, match="a path, a glob pattern or a list of them"):
        find_files(path)  # type: ignore[arg-type]  # that is the point


def test_lists_and_patterns_give_the_sorted_order_whatever_order_they_had(tmp_path: Path) -> None:
    paths = [write_numbers(tmp_path / f"{name}.h5") for name in "cab"]
    wanted = sorted(str(path) for path in paths)
    assert [file.path for file in find_files(paths)] == wanted
    assert [file.path for file in find_files(tmp_path / "*.h5")] == wanted
    assert [file.path for file in find_files([tmp_path / "c.h5", str(tmp_path / "[ab].h5")])] == (
        wanted
    )


def test_a_name_with_brackets_that_exists_is_a_name_and_no_pattern(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "data[1].h5")
    assert [file.path for file in find_files(path)] == [str(path)]


# Handles


def test_more_files_than_the_pools_hold_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_files()
    for number in range(10):
        write_numbers(tmp_path / f"{number}.h5", number * 6, packed=number % 2 == 0)
    monkeypatch.setattr(_pool, "_MAX_OPEN", 3)
    monkeypatch.setattr(_descriptors, "_MAX_DESCRIPTORS", 2)
    rows = np.random.default_rng(0).permutation(60)
    assert_array_equal(Source(tmp_path / "*.h5", x="x").read(rows)["x"], rows)
    assert len(_pool.POOL._handles) == 0
    assert len(_descriptors._DESCRIPTORS._open) == 2
    source = Source(tmp_path / "*.h5", reader="h5py", x="x")
    assert_array_equal(source.read(rows)["x"], rows)
    assert len(_pool.POOL._handles) == 3


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc to count descriptors in")
def test_descriptors_stay_bounded_and_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_files()
    for number in range(12):
        write_numbers(tmp_path / f"{number:02}.h5", number * 6)
    monkeypatch.setattr(_pool, "_MAX_OPEN", 3)
    monkeypatch.setattr(_descriptors, "_MAX_DESCRIPTORS", 2)
    gc.collect()
    before = count_descriptors()
    source = Source(tmp_path / "*.h5", x="x")
    assert_array_equal(source.read(np.arange(72))["x"], np.arange(72))
    assert count_descriptors() <= before + 5


def test_close_files_lets_go_and_reading_goes_on(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "a.h5", packed=True)
    source = Source(path, x="x")
    close_files()
    with h5py.File(path, "r+") as file:  # refused by HDF5 while the same process reads it
        assert file["x"].shape == (6,)
    os.utime(path, ns=(0, source._files[0].identity.modified_ns))
    assert_array_equal(source.read([5, 0])["x"], [5, 0])


def test_a_handle_closed_behind_our_back_is_opened_again(tmp_path: Path) -> None:
    source = Source(write_numbers(tmp_path / "a.h5", packed=True), x="x")
    with source._files[0].open() as handle:
        handle.close()
    assert_array_equal(source.read([5, 0])["x"], [5, 0])


# Change


@pytest.mark.parametrize("packed", [False, True], ids=["contiguous", "packed"])
@pytest.mark.parametrize("change", ["touched", "replaced", "truncated", "overwritten", "removed"])
def test_a_file_changed_after_opening_is_an_error(
    change: str, packed: bool, tmp_path: Path
) -> None:
    path = write_numbers(tmp_path / "a.h5", packed=packed)
    other = write_numbers(tmp_path / "b.h5", start=100, packed=packed)
    source = Source(path, x="x")
    assert_array_equal(source.read([2])["x"], [2])
    if change == "touched":
        os.utime(path, ns=(1, 1))
    elif change == "replaced":
        other.replace(path)
    elif change == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif change == "overwritten":
        replace_by(path, other)
    else:
        path.unlink()
    words = {"truncated": r"had \d+ bytes and has \d+", "removed": "is gone now"}
    with pytest.raises(FileChangedError, match=words.get(change, "was written to or replaced")):
        source.read([2])
    with pytest.raises(FileChangedError):
        source.check_unchanged()


@pytest.mark.parametrize("packed", [False, True], ids=["contiguous", "packed"])
def test_a_file_overwritten_in_place_is_read_anew_by_a_new_source(
    packed: bool, tmp_path: Path
) -> None:
    path = write_numbers(tmp_path / "a.h5", packed=packed)
    longer = write_numbers(tmp_path / "b.h5", start=100, count=500, packed=packed)
    old = Source(path, x="x")
    assert_array_equal(old.read([2])["x"], [2])
    replace_by(path, longer)  # the old handle still holds what HDF5 remembers of the old file
    new = Source(path, x="x")
    assert_array_equal(new.read(np.arange(500))["x"], np.arange(100, 600))
    with pytest.raises(FileChangedError):
        old.read([2])


def test_a_change_between_the_check_and_the_read_is_no_silent_zero(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "a.h5", count=2000)
    source = Source(path, x="x")
    reader = source.columns["x"].parts[0]
    out = np.empty(2000, np.int64)
    reader.read_range(0, 2000, out)
    os.truncate(path, 9000)
    with pytest.raises(FileChangedError, match=r"had .* bytes and has 9000"):
        reader.read_range(0, 2000, out)


def test_a_file_pickles_as_its_path_and_identity(tmp_path: Path) -> None:
    file = find_file(write_numbers(tmp_path / "a.h5"))
    again = pickle.loads(pickle.dumps(file))
    assert again == file
    shutil.copy(file.path, tmp_path / "b.h5")
    assert find_file(tmp_path / "b.h5") != file


def test_a_relative_path_means_the_same_file_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_numbers(tmp_path / "a.h5", packed=True)
    write_numbers(tmp_path / "b.h5")
    monkeypatch.chdir(tmp_path)
    packed, plain = Source("a.h5", x="x"), Source("b.h5", x="x")
    close_files()
    monkeypatch.chdir(tmp_path.parent)
    assert_array_equal(packed.read([5, 0])["x"], [5, 0])
    assert_array_equal(plain.read([5, 0])["x"], [5, 0])
    assert packed.paths == ("a.h5",)
