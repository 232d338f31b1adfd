from pathlib import Path

import h5py
import numpy as np
import pytest

from kerash5._errors import DamagedFileError, FileMissingError
from kerash5.h5 import _describe, describe, write
from kerash5.h5.storage._file import find_file


def test_every_data_set_is_described_with_shape_type_storage_and_reader(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/plain"] = np.zeros((4, 2), ">f4")
        file.create_dataset(
            "packed", data=np.zeros((1000, 8)), chunks=(100, 8), compression="gzip", shuffle=True
        )
        file.create_dataset("word", data=["a", "b"])
        file.attrs["origin"] = "two\n lines " + "long " * 50
    first, said, command, *lines = describe(tmp_path / "a.h5").splitlines()
    assert first.startswith("a.h5: 3 data sets, ")
    assert "can be trained on: x = packed" in said
    assert command.strip().startswith("kerash5 fit a.h5 --data.x packed")
    assert lines[0] == "  group/plain: 4 rows of (2,) >f4, contiguous"
    assert lines[1] == "    read straight from the file (contiguous)"
    assert lines[2].startswith(
        "  packed: 1000 rows of (8,) float64, chunks (100, 8), shuffle + gzip, packed "
    )
    assert lines[3] == "    read straight from the file (chunk map), decoded on threads"
    assert lines[4].startswith("  word: 2 rows of object, contiguous")
    assert lines[6].startswith("  @origin: two lines long long")
    assert lines[6].endswith("...")
    assert len(lines) == 7


def test_what_cannot_be_a_column_says_why(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scalar"] = 3
        file.create_dataset("ragged", (3,), h5py.vlen_dtype(np.int32))
        file["far"] = h5py.ExternalLink("/etc/far.h5", "/x")
    text = describe(tmp_path / "a.h5")
    assert "2 data sets" in text
    assert "is a scalar and has no rows" in text
    assert "rows differ in length" in text


def test_the_files_of_a_pattern_are_described_one_after_another(tmp_path: Path) -> None:
    for name in "ba":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = np.zeros(3)
    lines = describe(tmp_path / "*.h5").splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == ["a.h5", "b.h5"]


def test_a_file_with_nothing_in_it_is_described(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    assert describe(tmp_path / "a.h5") == "a.h5: 0 data sets, 0.0 MB"


def test_attributes_that_cannot_be_read_do_not_stop_the_description(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)
        file.attrs["good"] = "word"
        space = h5py.h5s.create_simple((1,))
        h5py.h5a.create(file.id, b"odd", h5py.h5t.UNIX_D32LE, space)
    text = describe(tmp_path / "a.h5")
    assert "  @good: word" in text
    assert "  @odd: cannot be read (" in text


def test_an_object_that_hdf5_refuses_does_not_stop_the_description(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["bad"], file["good"] = np.arange(3, dtype="<f8"), np.arange(3)
        header = h5py.h5o.get_info(file["bad"].id).addr
    raw = bytearray(path.read_bytes())
    place = raw.index(b"\x11\x20\x3f\0\x08\0\0\0", header)  # version 1, class 1 (float), 8 bytes
    raw[place] = 0xF1  # a version of type messages that there never was
    path.write_bytes(raw)
    text = describe(path)
    assert "bad: 'bad' in " in text
    assert "good: 3 rows of int64" in text


def test_a_file_that_cannot_be_walked_through_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["group/x"] = np.arange(3)
        header = h5py.h5o.get_info(file["group"].id).addr
    raw = bytearray(path.read_bytes())
    raw[header] = 77  # a version of object headers that there never was
    path.write_bytes(raw)
    with pytest.raises(DamagedFileError, match="its data sets cannot be listed"):
        describe(path)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        describe(tmp_path / "a.h5")


def test_what_a_pip_install_would_gain_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.h5", x=np.zeros((4, 3)))
    monkeypatch.setattr(_describe, "codec_advice", lambda _: "pip install something")
    lines = _describe._describe_dataset(find_file(tmp_path / "a.h5"), "x", [])
    assert lines[2] == "    pip install something"


def test_attributes_of_a_data_set_that_cannot_be_read_are_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["bad"], file["good"] = np.arange(3), np.arange(3)
        file["bad"].attrs["units"] = 2.5
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"units\0") - 8] = 77  # a version of attribute messages that there never was
    path.write_bytes(raw)
    text = describe(path)
    assert "  bad: 'bad' in " in text
    assert "is damaged (" in text
    assert "attribute" in text
    assert "  good: 3 rows of int64" in text
