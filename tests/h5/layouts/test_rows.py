"""Rows in groups and files of their own, beside what h5py gives for each."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import kerash5 as k5
from kerash5._errors import (
    ColumnError,
    ExternalDataError,
    FileChangedError,
    FileMissingError,
    OptionError,
    UnknownColumnError,
)
from kerash5.h5.layouts._dataset_readers import ContiguousDatasetReader, DatasetReader
from kerash5.h5.reading._chunk_readers import MappedReader
from kerash5.h5.storage._pool import POOL
from tests.served import STORED, Serving, assert_serves, servings, store


@dataclass(frozen=True)
class Case:
    """Rows, how many in each file, and how each is stored."""

    counts: tuple[int, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: str
    layouts: tuple[str, ...]
    label: str  # where it is

    def x(self) -> list[NDArray[Any]]:
        rng = np.random.default_rng(0)
        return [rng.integers(0, 100, (n, *self.shape)).astype(self.dtype) for n in self.counts]


def cases(labels: list[str]) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        st.lists(st.integers(1, 14), min_size=1, max_size=3).map(tuple),
        st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
        st.lists(st.integers(1, 5), max_size=3).map(tuple),
        st.sampled_from(["<f4", "u1", ">i2"]),
        st.lists(st.sampled_from(list(STORED)), min_size=1, max_size=2).map(tuple),
        st.sampled_from(labels),
    )


LABELS = {
    "attribute": "deep/s_{row}@id",
    "of the data set": "deep/s_{row}/image@id",
    "scalar": "deep/s_{row}/id",
    "data set": "deep/s_{row}/id",
}


@given(
    case=cases(list(LABELS)),
    rows=st.lists(st.integers(0, 1000), max_size=20),
    serving=servings(),
    reader=st.sampled_from(["auto", "direct", "h5py"]),
)
def test_groups_are_rows_in_natural_order(
    case: Case, rows: list[int], serving: Serving, reader: Any
) -> None:
    rng, x = np.random.default_rng(0), case.x()
    y = [rng.integers(0, 10, count) for count in case.counts]
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        for part, count in enumerate(case.counts):
            path = Path(folder) / f"{part}.h5"
            for number in rng.permutation(count).tolist():
                name, value = f"deep/s_{number}/image", y[part][number]
                layout = case.layouts[number % len(case.layouts)]
                store(path, {name: x[part][number]}, layout, case.chunk)
                with h5py.File(path, "a") as file:
                    if case.label == "attribute":
                        file[f"deep/s_{number}"].attrs["id"] = value
                    elif case.label == "of the data set":
                        file[name].attrs["id"] = value
                    else:
                        file[f"deep/s_{number}/id"] = value if case.label == "scalar" else [value]
        source = k5.rows_from_groups(
            f"{folder}/*.h5", x="deep/s_{row}/image", y=LABELS[case.label], reader=reader
        )
        labels = np.concatenate(y)
        expected = {
            "x": np.concatenate(x).astype(case.dtype),
            "y": labels[:, None] if case.label == "data set" else labels,
        }
        assert_serves(source, expected, rows, serving)


@given(
    case=cases(["mask", "@id", "img@id", "id"]),
    rows=st.lists(st.integers(0, 1000), max_size=20),
    serving=servings(),
)
def test_files_are_rows_in_natural_order(case: Case, rows: list[int], serving: Serving) -> None:
    x = case.x()[0]
    mask = (x > 50).astype("u1")
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        for number in range(len(x)):
            path = Path(folder) / f"scan_{number}.h5"
            layout = case.layouts[number % len(case.layouts)]
            store(path, {"img": x[number], "mask": mask[number]}, layout, case.chunk)
            with h5py.File(path, "a") as file:
                file["id"] = file.attrs["id"] = file["img"].attrs["id"] = number
        source = k5.rows_from_files(f"{folder}/scan_*.h5", x="img", y=case.label)
        expected = {"x": x, "y": mask if case.label == "mask" else np.arange(len(x))}
        assert_serves(source, expected, rows, serving)
        assert [Path(one).name for one in source.paths] == [f"scan_{i}.h5" for i in range(len(x))]


# How they are read


def write_samples(path: Path, count: int = 12, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for number in range(count):
            data = np.full((4, 3), number, "u1")
            file.create_dataset(f"sample_{number}/image", data=data, **options)
            file[f"sample_{number}"].attrs["label"] = "cat" if number % 2 else "dog"
    return path


def test_data_sets_stored_alike_have_one_reader(tmp_path: Path) -> None:
    kinds: dict[type, dict[str, Any]] = {
        ContiguousDatasetReader: {},
        MappedReader: {"chunks": (2, 2), "compression": "gzip"},
        DatasetReader: {
            "dtype": "f2",
            "scaleoffset": None,
            "chunks": (2, 2),
            "maxshape": (4, None),
        },
    }
    for kind, options in kinds.items():
        path = write_samples(tmp_path / f"{kind.__name__}.h5", **options)
        source = k5.rows_from_groups(path, x="sample_{row}/image", y="sample_{row}@label")
        assert type(source.columns["x"].parts[0]) is kind
        assert source.read([11, 3, 11])["x"][:, 0, 0].tolist() == [11, 3, 11]
        assert source.class_names == ("cat", "dog")
        assert source.read([10, 11])["y"].tolist() == [1, 0]


def test_large_rows_are_read_in_shards(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((3, 64, 8, 512))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, each in enumerate(values):
            # chunks of which HDF5 alone knows the places
            options = {"chunks": (8, 8, 512), "maxshape": (64, None, 512)}
            file.create_dataset(f"{number}/v", data=each, **options)
    source = k5.rows_from_groups(tmp_path / "a.h5", x="{row}/v")
    assert type(source.columns["x"].parts[0]) is DatasetReader
    assert source.num_shards == 8
    out = {"x": np.zeros((4, *values.shape[1:]))}
    for shard in range(5):
        source.load_rows_to(np.array([2, 0, 2]), out, np.array([3, 1, 0]), (shard, 5))
    assert_array_equal(
        out["x"], np.stack([values[2], values[0], np.zeros_like(values[0]), values[2]])
    )


def test_many_files_need_few_handles(tmp_path: Path) -> None:
    count = 300
    for number in range(count):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["x"] = np.array([number])
    source = k5.rows_from_files(tmp_path / "*.h5", x="x")
    assert source.read(np.arange(count))["x"].ravel().tolist() == list(range(count))
    assert len(POOL._handles) <= 128


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    for number in range(3):
        write_samples(tmp_path / f"{number}.h5", 1)
    source = k5.rows_from_files(tmp_path / "*.h5", x="sample_0/image", y="sample_0@label")
    source.close()
    write_samples(tmp_path / "1.h5", 2)
    source.read([0, 2])
    with pytest.raises(FileChangedError, match=r"1\.h5"):
        source.read([1])


# Words


def test_rows_describe_themselves(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.h5")
    text = k5.rows_from_groups(path, x="sample_{row}/image", y="sample_{row}@label").describe()
    assert "each row is a data set: 'sample_{row}/image', in natural order" in text
    assert "read when the source was made (attributes)" in text
    text = k5.rows_from_files(path, x="sample_0/image").describe()
    assert "each row is a file: its 'sample_0/image'" in text


def test_a_row_that_holds_a_wrong_value_is_named(tmp_path: Path) -> None:
    for number in range(3):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["x"] = np.array([0, 300 if number == 2 else 3])
    source = k5.rows_from_files(tmp_path / "*.h5", x=k5.Column("x", dtype="uint8"))
    with pytest.raises(ColumnError, match=r"row 0 of '.*2\.h5'"):
        source.read([0, 2])


def test_a_column_says_what_rows_become(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.h5")
    x, y = k5.Column("sample_{row}/image", shape=(12,)), k5.Column("sample_{row}@label", one_hot=2)
    found = k5.rows_from_groups(path, x=x, y=y).read([1, 2])
    assert found["x"].shape == (2, 12)
    assert found["y"].tolist() == [[1, 0], [0, 1]]


# What makes no sense


def test_rows_that_differ_are_named(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["sample_77/image"] = np.zeros((5, 3), "u1")
        file["sample_77"].attrs["label"] = "cat"
    with pytest.raises(
        ColumnError,
        match=r"differ: 'sample_0/image' of '.*a\.h5' is of shape \(4, 3\) uint8, and 1 of 13 are "
        r"not, such as 'sample_77/image' of .*, of shape \(5, 3\) uint8",
    ):
        k5.rows_from_groups(path, x="sample_{row}/image", y="sample_{row}@label")


def test_rows_that_lack_something_are_named(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["sample_info/text"] = 1
        del file["sample_7"].attrs["label"]
    words = r"1 of 13 rows have no 'sample_\{row\}/image': 'sample_info/image' of '.*a\.h5'"
    with pytest.raises(ColumnError, match=words):
        k5.rows_from_groups(path, x="sample_{row}/image")
    assert len(k5.rows_from_groups(path, x="sample_{row:d}/image")) == 12
    words = r"1 of 12 rows have no 'sample_\{row:d\}@label': 'sample_7@label'"
    with pytest.raises(ColumnError, match=words):
        k5.rows_from_groups(path, x="sample_{row:d}/image", y="sample_{row:d}@label")


def test_columns_with_other_rows_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(4):
            file[f"image_{number}"] = np.zeros(3)
            file[f"label_{number}"] = number
        del file["label_2"]
    with pytest.raises(ColumnError, match=r"there is 'image_2' and no 'label_2'"):
        k5.rows_from_groups(tmp_path / "a.h5", x="image_{row}", y="label_{row}")


def test_scalars_that_are_not_all_scalars_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["0/y"], file["1/y"], file["2/z"] = 3, [4, 5], 1
    with pytest.raises(ColumnError, match="1 of 3 rows have no"):
        k5.rows_from_groups(tmp_path / "a.h5", x="{row}/y")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["2"]
    with pytest.raises(
        ColumnError, match=r"differ: '0/y' .* shape \(\) .*'1/y'.*, of shape \(2,\)"
    ):
        k5.rows_from_groups(tmp_path / "a.h5", x="{row}/y")


def test_what_cannot_be_rows_is_refused(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.h5")
    with pytest.raises(OptionError, match=r"'sample_0/image' has no \{row\}"):
        k5.rows_from_groups(path, x="sample_0/image")
    with pytest.raises(UnknownColumnError, match="'nowhere'"):
        k5.rows_from_groups(path, x="nowhere/{row}/image")
    with pytest.raises(ColumnError, match=r"nothing in .*a\.h5' fits 'row_\{row\}'"):
        k5.rows_from_groups(path, x="row_{row}/image")
    with pytest.raises(FileMissingError, match="no file matches"):
        k5.rows_from_files(tmp_path / "*.hdf5", x="x")
    with pytest.raises(ColumnError, match=r"1 of 1 rows have no 'nothing'"):
        k5.rows_from_files(path, x="nothing")
    with pytest.raises(OptionError, match="x= has select, which are for rows of axis 0"):
        k5.rows_from_files(path, x=k5.Column("sample_0/image", select=slice(2)))
    with h5py.File(path) as file, pytest.raises(OptionError, match="is an open data set"):
        k5.rows_from_files(path, x=file["sample_0/image"])
    with h5py.File(path) as file, pytest.raises(OptionError, match="is an open data set"):
        k5.rows_from_files(path, x=k5.Column(file["sample_0/image"]))


def test_rows_outside_the_folder_need_a_yes(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    write_samples(tmp_path / "far.h5")
    path = tmp_path / "inside" / "a.h5"
    with h5py.File(path, "w") as file:
        for number in range(3):
            file[f"s{number}"] = h5py.ExternalLink("../far.h5", f"/sample_{number}")
    for y in (None, "s{row}@label"):
        with pytest.raises(ExternalDataError, match="outside the folder"):
            k5.rows_from_groups(path, x="s{row}/image", y=y)
    source = k5.rows_from_groups(path, x="s{row}/image", y="s{row}@label", allow_external=True)
    assert source.read([2])["x"][0, 0, 0] == 2
    source.close()
    write_samples(tmp_path / "far.h5", 13)
    with pytest.raises(FileChangedError):
        source.read([2])


def test_the_same_rows_are_the_same_origin(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.h5")
    first = k5.rows_from_groups(path, x="sample_{row}/image")
    second = k5.rows_from_groups(path, x="sample_{row:d}/image")
    other = k5.rows_from_groups(path, x="sample_1{row}/image")
    origins = [each.columns["x"].parts[0].origin for each in (first, second, other)]
    assert origins[0] == origins[1] != origins[2]
    assert origins[0] is not None
