"""What is said of files that cannot be read: damage is called damage, and nothing else is."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import escape_controls, explain_system_error
from kerash5.h5._verify import _read_dataset
from kerash5.h5.storage._layout import _filter_name
from kerash5.h5.storage._pool import close_files


def write_rows(path: Path, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(40.0).reshape(10, 4), **options)
    return path


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EMFILE, "too many files open.*ulimit -n"),
        (errno.EIO, "input/output error.*copied"),
        (errno.ESTALE, "stale file handle.*mount it again"),
        (errno.ENOMEM, "no memory left"),
    ],
    ids=str,
)
def test_what_the_system_refused_is_named(number: int, words: str) -> None:
    for error in (OSError(number, "x"), OSError(f"Can't read data (errno = {number}, error ...)")):
        found = explain_system_error(error, "'a.h5'")
        assert found is not None
        assert not isinstance(found, k5.DamagedFileError)
        with pytest.raises(k5.FileError, match=f"'a.h5' cannot be read: .*{words}"):
            raise found
    assert explain_system_error(OSError("bad object header"), "'a.h5'") is None


def test_too_many_open_files_are_no_damage(tmp_path: Path) -> None:
    for number in range(60):
        write_rows(tmp_path / f"{number:02}.h5")
    close_files()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, hard)
    )
    try:
        with pytest.raises(k5.FileError, match="too many files open") as caught:
            k5.Source(tmp_path / "*.h5", x="x").read(np.arange(600))
        assert not isinstance(caught.value, k5.DamagedFileError)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        close_files()


@pytest.mark.parametrize("reader", ["auto", "h5py"])
def test_an_input_output_error_while_reading_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Any
) -> None:
    source = k5.Source(write_rows(tmp_path / "a.h5"), x="x", reader=reader)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(k5.FileError, match=r"'x' in .*input/output error") as caught:
        source.read([3])
    assert not isinstance(caught.value, k5.DamagedFileError)


@pytest.mark.parametrize(
    "where",
    ["h5py.h5o.visit", "kerash5.h5.reading._select_reader.read_layout", "h5py.h5o.open"],
)
def test_memory_that_hdf5_does_not_get_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = write_rows(tmp_path / "a.h5")

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        column = "y" if where == "h5py.h5o.visit" else "x"  # whose absence has all names listed
        with pytest.raises(k5.FileError, match=r"asks for more memory.*free some") as caught:
            k5.Source(path, x=column)
        assert not isinstance(caught.value, k5.DamagedFileError)


def test_a_file_that_takes_too_much_memory_to_open_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "a.h5")

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("h5py.h5f.open", fail)
    with pytest.raises(k5.FileError, match="asks for more memory") as caught:
        k5.Source(path, x="x")
    assert not isinstance(caught.value, k5.DamagedFileError)


def test_verify_does_not_call_an_input_output_error_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = k5.Source(write_rows(tmp_path / "a.h5"), x="x")._files[0]

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("kerash5.h5._verify._read_all", fail)
    assert _read_dataset(file, "x", allow_external=False)["state"] == "not read"


def test_a_file_that_its_killed_writer_left_open_says_how_to_close_it(tmp_path: Path) -> None:
    path = tmp_path / "it's.h5"
    code = (
        "import h5py, os, sys; f = h5py.File(sys.argv[1], 'w', libver='latest'); f['x'] = [1, 2];"
        "f.flush(); f.swmr_mode = True; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with pytest.raises(k5.FileError, match=r"wait until .* h5clear -s '.*it'\"'\"'s.h5'") as caught:
        k5.Source(path, x="x")
    assert not isinstance(caught.value, k5.DamagedFileError)


def test_control_characters_of_a_file_are_spelled_out(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x\x1b]52;c;cm0=\x07"] = np.zeros(3)
        file["b\n  label: 5 rows of int64"] = np.zeros(2)
        file.attrs["a"] = "\x1b[2J"
    lines = k5.describe(path).splitlines()
    assert len(lines) == 1 + 2 + 1 + 1  # the file, data sets, how they are read, an attribute
    assert all(line.isprintable() for line in lines)
    done = subprocess.run(
        [sys.executable, "-m", "kerash5", "verify", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 2
    assert escape_controls("a\x1b\té") == "a\\x1b\\té"


@pytest.mark.parametrize("address", ["s3://bucket/a.h5", "https://host/*.h5", "gs://b/a.h5"])
def test_an_address_is_said_to_be_one(address: str) -> None:
    with pytest.raises(k5.FileError, match=r"is an address \(\w+\).*download it first, or mount"):
        k5.Source(address, x="x")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_rows(tmp_path / "a.h5")
    assert k5.Source("~/a.h5", x="x").paths == (str(tmp_path / "a.h5"),)
    assert len(k5.Source(["~/*.h5"], x="x")) == 10


def test_an_open_file_stands_for_its_path_and_a_data_set_names_the_line_to_write(
    tmp_path: Path,
) -> None:
    path = write_rows(tmp_path / "a.h5")
    with h5py.File(path) as file:
        assert k5.Source(file, x="x").paths == (str(path),)
        with pytest.raises(k5.OptionError, match=r"its file first: H5Dataset\('.*a.h5', x='x'\)"):
            k5.H5Dataset(file["x"])
    with pytest.raises(k5.OptionError, match=r"h5py.File that is closed"):
        k5.Source(file, x="x")


EVIL = "\x1b[31mred\n  y: 9 rows"


def test_a_source_spells_out_control_characters_too(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file[EVIL] = np.zeros(2)
        file["y"] = [EVIL, "plain"]
        file["y"].attrs["units"] = EVIL
        file[EVIL].attrs["scale_factor"] = EVIL
    with pytest.warns(UserWarning, match="read as it is stored") as warned:
        source = k5.Source(path, x=EVIL, y="y")
    texts = [source.describe(), repr(source), k5.describe(path), str(warned[0].message)]
    assert source.class_names == (EVIL, "plain")  # as stored: only what is shown is escaped
    assert "2 classes: \\x1b[31mred\\n  y: 9 rows, plain" in texts[0]
    for text in texts:
        assert "\x1b" not in text
        assert "\n  y: 9 rows" not in text


def test_class_names_of_groups_are_spelled_out(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in (EVIL, "plain"):
            file[f"{name}/image"] = np.zeros((3, 2))
    text = k5.classes_from_groups(path).describe()
    assert "\x1b" not in text
    assert "2 classes: \\x1b[31mred\\n  y: 9 rows, plain" in text


def test_errors_repeat_no_control_characters_of_a_file() -> None:
    assert str(k5.FileError("'x' is damaged (no \x1b[2J in it)")) == (
        "'x' is damaged (no \\x1b[2J in it)"
    )
    assert str(k5.FileError("two\nlines")) == "two\nlines"


def test_the_name_of_a_filter_is_spelled_out() -> None:
    assert _filter_name(40000, b"\x1b[31mpack; see\0") == "\\x1b[31mpack"


def test_verify_and_assets_are_public(tmp_path: Path) -> None:
    code = "import kerash5 as k5; print(k5.assets.digits_train().name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "digits-train.hdf5\n"
    assert [v.state for v in k5.verify(write_rows(tmp_path / "a.h5"))] == ["sound"]
