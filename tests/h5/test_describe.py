import json
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest

from kerash5._errors import DamagedFileError, FileMissingError
from kerash5.h5 import _inventory, _inventory_text, describe, write
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
    assert command.strip().startswith(f"kerash5 fit {tmp_path / 'a.h5'} --data.x packed")
    assert lines[0] == "  group/plain: 4 rows of (2,) >f4, contiguous"
    assert lines[1].startswith(
        "  packed: 1000 rows of (8,) float64, chunks (100, 8), shuffle + gzip, packed "
    )
    assert lines[2].startswith("  word: 2 rows of text, contiguous")
    assert lines[3] == "  read straight from the file (contiguous): group/plain"
    assert lines[4] == "  read straight from the file (chunk map), decoded on threads: packed"
    assert lines[5].startswith("  read through h5py (its stored type is converted on reading")
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
    assert "  scalar: a scalar, int64: 3" in text
    assert "  ragged: cannot be a column: its rows differ in length" in text


def test_the_files_of_a_pattern_are_described_one_after_another(tmp_path: Path) -> None:
    for name in "ba":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = np.zeros(3)
    lines = describe(tmp_path / "*.h5").splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == ["a.h5", "b.h5"]


def test_a_file_with_nothing_in_it_is_described(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    assert describe(tmp_path / "a.h5") == "a.h5: 0 data sets, 0.8 kB"


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
    write(tmp_path / "a.h5", x=np.zeros((4, 3)), y=np.zeros((4, 3)))
    monkeypatch.setattr(_inventory, "codec_advice", lambda _: "pip install something")
    entries = [_inventory.read_entry(find_file(tmp_path / "a.h5"), name)[0] for name in "xy"]
    assert _inventory_text.describe_entries(entries)[2:] == [
        "  read straight from the file (chunk map), decoded on threads: all",
        "  pip install something",
    ]


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


def test_data_sets_that_differ_in_a_number_share_a_line(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(12):
            file[f"sample_{number}/image"] = np.zeros((number + 1, 4, 4), "u1")
            file[f"sample_{number}/id"] = number
        file["other/1"], file["other/2"] = np.zeros(3), np.zeros(3)
    lines = describe(tmp_path / "a.h5").splitlines()
    assert lines[0].startswith("a.h5: 26 data sets, ")
    assert [line for line in lines if "sample_{" in line and "read" not in line] == [
        "  sample_{0 to 11}/id (12 data sets): a scalar, int64",
        "  sample_{0 to 11}/image (12 data sets): 1 to 12 rows of (4, 4) uint8, contiguous",
    ]
    assert "  other/1: 3 rows of float64, contiguous" in lines  # two are told apart
    assert sum("read straight" in line for line in lines) == 1


def test_units_categories_fields_and_groups_are_told(tmp_path: Path) -> None:
    colors = h5py.enum_dtype({"red": 0, "green": 1}, basetype="u1")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t"] = np.zeros(3)
        file["t"].attrs["units"] = np.bytes_(b"K")
        file.create_dataset("color", data=[0, 1, 1], dtype=colors)
        file["table"] = np.zeros(3, [("a", "i4"), ("name", "S3"), ("v", "f4", (2,))])
        file["X/data"], file["X/indices"] = np.ones(2), np.array([0, 4])
        file["X/indptr"] = np.array([0, 1, 2, 2])
        file["X"].attrs["encoding-type"], file["X"].attrs["shape"] = "csr_matrix", [3, 5]
        file["kind/codes"] = np.array([0, 1, 0], "i1")
        file["kind"].create_dataset("categories", data=["cat", "dog"])
    text = describe(tmp_path / "a.h5")
    assert "  t: 3 rows of float64, contiguous, units K" in text
    assert "  color: 3 rows of uint8, contiguous\n    2 classes: red, green" in text
    assert "    fields: a int32, name text, v float32 (2,)" in text
    assert "  X: 3 rows of (5,) float64, CSR, values in contiguous" in text
    assert "X/indptr:" not in text
    assert "    2 classes: cat, dog" in text
    assert "can be trained on: x = X, rows of (5,) float64; y = color" in text


def test_json_has_every_data_set_by_itself_under_stable_keys(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(5):
            file.create_dataset(f"fold{number}/x", data=np.zeros((4, 3)), chunks=(2, 3))
        file.attrs["origin"] = "here"
    (found,) = json.loads(describe(tmp_path / "a.h5", as_json=True))["files"]
    assert list(found) == ["path", "num_bytes", "can_be_trained_on", "data_sets", "attributes"]
    assert found["attributes"] == {"origin": "here"}
    assert [each["path"] for each in found["data_sets"]] == [f"fold{n}/x" for n in range(5)]
    assert list(found["data_sets"][0]) == [field.name for field in fields(_inventory.Entry)]
    first = found["data_sets"][0]
    assert (first["num_rows"], first["row_shape"], first["dtype"]) == (4, [3], "float64")
    assert (first["chunks"], first["filters"]) == ([2, 3], [])


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["a0", "a1", "a2"], "a{0 to 2}"),
        (["a10/b1", "a9/b1", "a8/b1"], "a{8 to 10}/b1"),
        (["r1/x", "r4/x", "r16/x"], "r{1, 4, 16}/x"),
        (["s001", "s002", "s003"], "s{001 to 003}"),
        (["only"], "only"),
    ],
    ids=str,
)
def test_names_that_differ_in_numbers_are_one_name(paths: list[str], name: str) -> None:
    assert _inventory_text.fold_name(paths) == name
