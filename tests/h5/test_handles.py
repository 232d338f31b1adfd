"""Open h5py objects in place of paths and names: read where they can be, else refused."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, OptionError
from kerash5.batches._batches import open_batches
from kerash5.batches._options import BatchOptions
from kerash5.h5 import Column, Source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train/image"] = np.arange(12.0).reshape(6, 2)
        file["label"] = np.arange(6)
        file["link"] = h5py.SoftLink("/train/image")
    return tmp_path / "a.h5"


def test_columns_that_are_open_data_sets_need_no_path(path: Path) -> None:
    with h5py.File(path, "r") as file:
        source = Source(x=file["train/image"], y=Column(file["label"], dtype="float32"))
    assert source.paths == (str(path),)
    assert source.columns["x"].column.path == "train/image"
    found = source.read([4, 0])
    assert_array_equal(found["x"], [[8, 9], [0, 1]])
    assert_array_equal(found["y"], np.array([4, 0], np.float32), strict=True)


def test_their_file_may_be_given_too(path: Path) -> None:
    with h5py.File(path, "r") as file:
        for given in (file, path, path.parent / "*.h5", file.filename):
            assert len(Source(given, x=file["link"], y="label")) == 6


def test_batches_take_trees_of_them(path: Path) -> None:
    with h5py.File(path, "r") as file:
        x: Any = {"a": file["train/image"], "b": (file["label"],)}
        batches = open_batches(None, x, file["label"], None, BatchOptions(shuffle=False))
    (x_read, y_read) = batches.read(0)
    assert_array_equal(x_read["a"][:, 0], [0, 2, 4, 6, 8, 10])
    assert_array_equal(x_read["b"][0], y_read)


def test_data_sets_of_two_files_are_refused(path: Path) -> None:
    other = path.with_name("b.h5")
    other.write_bytes(path.read_bytes())
    with h5py.File(path, "r") as one, h5py.File(other, "r") as two:
        with pytest.raises(
            OptionError, match=r"x is a data set of '.*a\.h5' and y one of '.*b\.h5'"
        ):
            Source(x=one["train/image"], y=two["label"])
        with pytest.raises(OptionError, match=r"not among the files.*x='train/image'"):
            Source(other, x=one["train/image"], y="label")
        with pytest.raises(OptionError, match="not among the files"):
            Source(other, x="train/image", y=Column(one["label"]))
        assert len(Source([path, other], x=one["train/image"], y="label")) == 12


def test_closed_objects_are_refused(path: Path) -> None:
    with h5py.File(path, "r") as file:
        dataset = file["label"]
    with pytest.raises(OptionError, match=r"column x= is a data set of a file that is closed"):
        Source(x=dataset)
    with pytest.raises(OptionError, match=r"path= of a column is a data set of a file .* closed"):
        Column(dataset)
    with pytest.raises(OptionError, match=r"is an h5py.File that is closed"):
        Source(file, x="label")


def test_files_open_for_writing_are_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for columns in ({"x": file["label"]}, {"path": file, "x": "label"}):
            with pytest.raises(OptionError, match=r"a\.h5', which is open for writing.*close the"):
                Source(**columns)
    assert len(Source(path, x="label")) == 6


@pytest.mark.parametrize("kind", ["core", "fileobj"])
def test_files_in_memory_are_refused(tmp_path: Path, kind: str) -> None:
    where: Any = io.BytesIO() if kind == "fileobj" else tmp_path / "memory.h5"
    options: dict[str, Any] = (
        {} if kind == "fileobj" else {"driver": "core", "backing_store": False}
    )
    with h5py.File(where, "w", **options) as file:
        file["x"] = np.zeros(3)
        with pytest.raises(OptionError, match=r"lies in a file .*give the path"):
            Source(x=file["x"])
        with pytest.raises(OptionError, match=r"lies in a file .*give the path"):
            Source(file, x="x")


def test_a_file_on_disk_that_was_read_into_memory_is_read_from_disk(path: Path) -> None:
    with h5py.File(path, "r", driver="core") as file:
        assert len(Source(x=file["label"])) == 6


def test_groups_and_nameless_data_sets_are_refused(path: Path) -> None:
    with h5py.File(path, "r") as file:
        with pytest.raises(OptionError, match=r"x=.* is a group; name a data set in it"):
            Source(path, x=file["train"])
        with pytest.raises(OptionError, match=r"path=.* is a group; .* x='train/NAME'"):
            Source(file["train"], x="image")
        with pytest.raises(OptionError, match=r"is a data set; .*H5Dataset\(x=dataset\)"):
            Source(file["label"])
    with h5py.File(path.with_name("c.h5"), "w") as file:
        nameless = file.create_dataset(None, data=np.zeros(3))
        with pytest.raises(OptionError, match="without a name"):
            Source(x=nameless)


def test_columns_of_a_source_stay_names(path: Path) -> None:
    with h5py.File(path, "r") as file, pytest.raises(ColumnError, match="named by strings"):
        open_batches(Source(file, x="label"), file["label"], None, None, BatchOptions())


def test_without_open_data_sets_a_path_is_wanted() -> None:
    with pytest.raises(OptionError, match="leave it out only where columns are open data sets"):
        Source(x="label")
