"""Files that keep each class in a group of its own."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from kerash5 import classes_from_groups
from kerash5._errors import ColumnError, ExternalDataError, FileMissingError, OptionError
from kerash5.h5 import Source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = np.arange(100 * 6, dtype="i4").reshape(100, 6)
    return tmp_path / "a.h5"


def write_classes(path: Path, prefix: str = "", data: str | None = "image") -> Path:
    with h5py.File(path, "w") as file:
        for number, name in enumerate(["dog", "cat", "ant"]):
            inner = data or f"whatever-{number}"
            values = np.arange(number + 1, dtype="u1")[:, None] + 10 * number
            compression = {"compression": "gzip"} if name == "cat" else {}
            file.create_dataset(f"{prefix}{name}/{inner}", data=values, **compression)
    return path


@pytest.mark.parametrize("data", ["image", None, "deep/image"], ids=["named", "only one", "nested"])
def test_groups_are_classes_in_sorted_order(data: str | None, tmp_path: Path) -> None:
    path = write_classes(tmp_path / "a.h5", data=data)
    source = classes_from_groups(path, data or "image")
    assert source.class_names == ("ant", "cat", "dog")
    found = source.read([0, 1, 2, 3, 4, 5, 5, 0])
    assert found["x"].ravel().tolist() == [20, 21, 22, 10, 11, 0, 0, 20]
    assert found["y"].tolist() == [0, 0, 0, 1, 1, 2, 2, 0]
    assert found["y"].dtype == np.int64


def test_classes_may_lie_in_a_group(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "a.h5", prefix="data/train/")
    for group in ("data/train", "/data/train/"):
        source = classes_from_groups(path, group=group)
        assert source.class_names == ("ant", "cat", "dog")
        assert source.read([5])["y"].tolist() == [2]


def test_a_source_of_classes_describes_itself_and_pickles(tmp_path: Path) -> None:
    source = classes_from_groups(write_classes(tmp_path / "a.h5"))
    assert "3 classes: ant, cat, dog" in source.describe()
    assert "the constant 0" in source.describe()
    again: Source = pickle.loads(pickle.dumps(source))
    assert again.read([3])["y"].tolist() == [1]
    out = again.allocate(2)
    again.load_range(3, 5, out)
    assert (out["x"].ravel().tolist(), out["y"].tolist()) == ([10, 11], [1, 1])


def test_a_file_without_groups_has_no_classes(path: Path) -> None:
    with pytest.raises(ColumnError, match=r"'/' of .* holds no groups.*'image'"):
        classes_from_groups(path)


@pytest.mark.parametrize("group", ["nowhere", "image"], ids=["missing", "a data set"])
def test_a_group_that_is_none_has_no_classes(group: str, path: Path) -> None:
    with pytest.raises(ColumnError, match=f"'{group}' of .* holds no groups, so no classes"):
        classes_from_groups(path, group=group)


def test_a_class_without_the_data_set_is_named_with_what_it_has(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["emu/picture"], file["emu/mask"] = np.zeros((2, 1), "u1"), np.zeros((2, 1), "u1")
    with pytest.raises(ColumnError, match=r"class group 'emu' of .*'mask', 'picture'.*data="):
        classes_from_groups(path)


def test_an_empty_class_group_is_an_error(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file.create_group("emu")
    with pytest.raises(ColumnError, match=r"class group 'emu' of .* has no data set 'image'"):
        classes_from_groups(path)


@pytest.mark.parametrize(
    "other", [np.zeros((2, 3), "u1"), np.zeros((2, 1), "f4")], ids=["shape", "type"]
)
def test_classes_that_differ_are_both_named(other: np.ndarray, tmp_path: Path) -> None:
    path = write_classes(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["emu/image"] = other
    with pytest.raises(ColumnError, match=r"rows of shape \(1,\) uint8 in 'ant', of shape .*'emu'"):
        classes_from_groups(path)


def test_classes_without_any_rows_are_an_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cat/image"], file["dog/image"] = np.zeros((0, 2)), np.zeros((0, 2))
    with pytest.raises(ColumnError, match="has no rows"):
        classes_from_groups(tmp_path / "a.h5")


def test_classes_come_from_one_file(tmp_path: Path) -> None:
    for name in "ab":
        write_classes(tmp_path / f"{name}.h5")
    with pytest.raises(OptionError, match=r"takes one file, and .* are 2"):
        classes_from_groups(tmp_path / "*.h5")
    with pytest.raises(FileMissingError):
        classes_from_groups(tmp_path / "c.h5")


def test_classes_outside_the_folder_need_a_yes(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    write_classes(tmp_path / "far.h5")
    with h5py.File(tmp_path / "inside" / "a.h5", "w") as file:
        file["cat"] = h5py.ExternalLink("../far.h5", "/cat")
        file["all"] = h5py.ExternalLink("../far.h5", "/")
    for group in ("/", "all"):
        with pytest.raises(ExternalDataError, match="outside the folder"):
            classes_from_groups(tmp_path / "inside" / "a.h5", group=group)
    source = classes_from_groups(tmp_path / "inside" / "a.h5", group="all", allow_external=True)
    assert source.read([0, 5])["x"].ravel().tolist() == [20, 0]
