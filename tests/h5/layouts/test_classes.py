"""Files that keep each class in a group of its own."""

import pickle
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import kerash5 as k5
from kerash5 import classes_from_groups
from kerash5._errors import ColumnError, ExternalDataError, FileMissingError, OptionError
from kerash5.h5 import Source
from tests.served import STORED, Serving, assert_serves, servings, store


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


# Groups that are rows


def write_groups(path: Path, names: Iterable[object], shape: tuple[int, ...]) -> Path:
    with h5py.File(path, "w") as file:
        for number, name in enumerate(names):
            file[f"{name}/image"] = np.full(shape, number)
    return path


def test_groups_that_may_be_a_row_each_are_warned_of(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "a.h5", "abcde", (8, 8))
    with pytest.warns(
        UserWarning,
        match=r"5 groups of 8 rows of shape \(8,\) .* as 5 classes; .*rows_from_groups\(.*image'\)",
    ):
        assert len(classes_from_groups(path)) == 40
    path = write_groups(tmp_path / "b.h5", range(30), (20, 7))
    with pytest.warns(UserWarning, match="30 groups of 20 rows .* as 30 classes"):
        classes_from_groups(path)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 7)], ids=str)
def test_numbered_groups_of_one_row_each_are_refused(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = write_groups(tmp_path / "a.h5", range(12), shape)
    with pytest.raises(ColumnError, match=r"numbered from 0.*rows_from_groups") as caught:
        classes_from_groups(path)
    assert "x='{row}/image')" in str(caught.value)
    assert len(k5.rows_from_groups(path, x="{row}/image")) == 12


def test_groups_of_classes_are_not(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "a.h5", range(5), (8, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(classes_from_groups(path)) == 40


@pytest.mark.parametrize("label", ["@label", "/label"])
def test_groups_with_a_label_of_their_own_are_no_classes(tmp_path: Path, label: str) -> None:
    path = write_groups(tmp_path / "a.h5", range(5), (8, 7))
    with h5py.File(path, "r+") as file:
        for number in range(5):
            if label == "@label":
                file[str(number)].attrs["label"] = 1
            else:
                file[f"{number}/label"] = 1
    with pytest.raises(ColumnError, match="each of the 5 is a row and no class; use") as caught:
        classes_from_groups(path)
    assert f"x='{{row}}/image', y='{{row}}{label}')" in str(caught.value)
    assert len(k5.rows_from_groups(path, x="{row}/image", y=f"{{row}}{label}")) == 5


# Classes that are data sets


def test_data_sets_are_classes_where_there_are_no_groups(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for prefix in ("", "deep/"):
            file[f"{prefix}dog"] = np.arange(6).reshape(3, 2)
            file.create_dataset(f"{prefix}cat", data=np.arange(6, 10).reshape(2, 2), chunks=(1, 2))
    source = classes_from_groups(tmp_path / "a.h5", group="deep")
    assert source.class_names == ("cat", "dog")
    assert source.read([0, 2, 4])["x"].tolist() == [[6, 7], [0, 1], [4, 5]]
    assert source.read([0, 2, 4])["y"].tolist() == [0, 1, 1]


def test_data_sets_that_are_columns_are_no_classes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"], file["label"] = np.zeros((3, 2)), np.zeros(3)
    with pytest.raises(ColumnError, match=r"holds no groups, and its data sets, read as classes"):
        classes_from_groups(tmp_path / "a.h5")


def test_numbered_data_sets_of_one_row_each_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(4):
            file[str(number)] = np.zeros((6, 6))
    with pytest.raises(ColumnError, match=r"4 data sets of 6 rows.*x='\{row\}'\)"):
        classes_from_groups(tmp_path / "a.h5")


# Classes that are files


@given(
    counts=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=4),
    layout=st.sampled_from(list(STORED)),
    rows=st.lists(st.integers(0, 1000), max_size=20),
    serving=servings(),
)
def test_the_files_of_a_class_have_its_id(
    counts: list[list[int]], layout: str, rows: list[int], serving: Serving
) -> None:
    x: list[NDArray[Any]] = []
    y: list[NDArray[Any]] = []
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        for number, lengths in enumerate(counts):
            for part, length in enumerate(lengths):
                x.append(np.random.default_rng(len(x)).integers(0, 99, (length, 3)).astype("f4"))
                y.append(np.full(length, number))
                store(Path(folder) / f"{number}-{part}.h5", {"image": x[-1]}, layout, [2])
        names = [f"class {number}" for number in range(len(counts))]
        paths = {name: f"{folder}/{number}-*.h5" for number, name in enumerate(names)}
        source = k5.classes_from_files(dict(reversed(paths.items())), x="image")
        assert_serves(source, {"x": np.concatenate(x), "y": np.concatenate(y)}, rows, serving)
        assert source.class_names == tuple(names)


def write_pets(folder: Path) -> dict[str, str]:
    for name in ("cat_1", "cat_2", "dog_1"):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["image"] = np.zeros((2, 3), "u1")
    return {"cat": f"{folder}/cat_*.h5", "dog": f"{folder}/dog_*.h5"}


def test_a_source_of_class_files_says_so(tmp_path: Path) -> None:
    paths = write_pets(tmp_path)
    source = k5.classes_from_files(paths, x=k5.Column("image", dtype="float32"))
    assert "each file is of one class: 2 of 'cat', 1 of 'dog'" in source.describe()
    assert source.read([0])["x"].dtype == np.float32
    other = k5.classes_from_files({"cat": paths["cat"], "eel": paths["dog"]}, x="image")
    assert source.fingerprint() != other.fingerprint()


def test_class_files_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    paths: Any = write_pets(tmp_path)
    with pytest.raises(
        OptionError, match=r"cat_1\.h5' is among the files of class 'all' and .*'cat'"
    ):
        k5.classes_from_files({**paths, "all": f"{tmp_path}/*.h5"})
    wrongs: list[Any] = [{}, f"{tmp_path}/*.h5", {1: paths["cat"]}]
    for wrong in wrongs:
        with pytest.raises(OptionError, match="takes a dict of class names and their files"):
            k5.classes_from_files(wrong)
    with pytest.raises(FileMissingError, match="no file matches"):
        k5.classes_from_files({**paths, "eel": f"{tmp_path}/eel/*.h5"})
    with h5py.File(tmp_path / "dog_2.h5", "w") as file:
        file["image"] = np.zeros((2, 4), "u1")
    with pytest.raises(ColumnError, match=r"differs between files.*dog_2"):
        k5.classes_from_files(paths)
