import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import DamagedFileError
from kerash5.h5 import Source
from kerash5.h5.reading import _batched_pread, _descriptors, _readers
from kerash5.h5.reading._contiguous import ContiguousReader
from kerash5.h5.reading._readers import AbstractReader, ConstantReader, H5pyReader
from kerash5.h5.reading._select_reader import READERS, Reader, open_part
from kerash5.h5.storage._file import find_file
from tests.strategies import (
    DTYPES,
    ODD_TYPES,
    TEXT_TYPES,
    StoredArray,
    assert_same_bytes,
    expected_rows,
    random_values,
    stored_arrays,
    written,
)


def reader_of(path: Path, name: str = "x") -> AbstractReader:
    return open_part(name, find_file(path))[1]


@given(case=stored_arrays())
def test_the_default_reader_equals_h5py(case: StoredArray) -> None:
    with written(case) as path:
        found = Source(path, x="x").read(case.rows)["x"]
        assert_same_bytes(found, expected_rows(path, "x", case.rows))


@given(case=stored_arrays())
def test_the_h5py_reader_equals_h5py_and_the_default_reader(case: StoredArray) -> None:
    with written(case) as path:
        slow = Source(path, reader="h5py", x="x").read(case.rows)["x"]
        assert_same_bytes(slow, expected_rows(path, "x", case.rows))
        assert_same_bytes(slow, Source(path, x="x").read(case.rows)["x"])


@given(case=stored_arrays())
def test_chunks_had_one_by_one_through_hdf5_equal_h5py(case: StoredArray) -> None:
    with written(case) as path:
        found = Source(path, reader="direct", x="x").read(case.rows)["x"]
        assert_same_bytes(found, expected_rows(path, "x", case.rows))


@given(case=stored_arrays(dtype_names=tuple(ODD_TYPES)), reader=st.sampled_from(READERS))
def test_types_that_h5py_converts_equal_h5py(case: StoredArray, reader: Reader) -> None:
    with written(case) as path:
        source = Source(path, reader=reader, x="x")
        found = source.read(case.rows)["x"]
        expected = expected_rows(path, "x", case.rows)
        if case.dtype_name not in TEXT_TYPES:
            assert_same_bytes(found, expected)
            return
        # Text becomes class ids; their names are what h5py reads.
        names = np.array(source.class_names, object)
        assert [as_bytes(name) for name in names[found].flat] == [*map(bytes, expected.flat)]


def as_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


@given(case=stored_arrays(), reader=st.sampled_from(["auto", "direct"]), data=st.data())
def test_a_range_equals_the_same_rows_of_h5py(
    case: StoredArray, reader: Reader, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, case.shape[0] - 1))
    stop = data.draw(st.integers(start, case.shape[0]))
    with written(case) as path:
        source = Source(path, reader=reader, x="x")
        out = source.allocate(stop - start)
        source.load_range(start, stop, out)
        assert_same_bytes(out["x"], expected_rows(path, "x", range(start, stop)))


@pytest.mark.parametrize("name", DTYPES)
def test_every_type_is_read_as_stored_contiguous_and_packed(name: str, tmp_path: Path) -> None:
    values = random_values(DTYPES[name], (7, 3), np.random.default_rng(0))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("plain", (7, 3), DTYPES[name])[...] = values
        file.create_dataset("packed", (7, 3), DTYPES[name], compression="gzip")[...] = values
    rows = [6, 0, 0, 3]
    source = Source(tmp_path / "a.h5", plain="plain", packed="packed")
    for column, found in source.read(rows).items():
        assert_same_bytes(found, expected_rows(tmp_path / "a.h5", column, rows))


@pytest.mark.parametrize("name", [name for name in DTYPES if "compound" not in name])
def test_plain_contiguous_data_are_read_straight_from_the_file(name: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", (4,), DTYPES[name])
        dataset[...] = random_values(DTYPES[name], (4,), np.random.default_rng(0))
    assert isinstance(reader_of(tmp_path / "a.h5"), ContiguousReader)


def test_rows_with_no_bytes_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.empty((4, 0, 3), "f4")
    assert Source(tmp_path / "a.h5", x="x").read([3, 0])["x"].shape == (2, 0, 3)


def test_no_rows_give_arrays_of_no_rows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((4, 2), ">f4")
        file.create_dataset("z", data=np.zeros((4, 2), "i2"), chunks=(3, 1))
    found = Source(tmp_path / "a.h5", x="x", z="z").read([])
    assert found["x"].shape == found["z"].shape == (0, 2)
    assert (found["x"].dtype, found["z"].dtype) == (np.dtype(">f4"), np.dtype("i2"))


def test_chunks_whose_filters_were_skipped_are_read(tmp_path: Path) -> None:
    values = np.arange(12, dtype="<i4").reshape(4, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset(
            "x", data=values, chunks=(2, 3), compression="gzip", shuffle=True
        )
        dataset.id.write_direct_chunk((2, 0), (values[2:] * 10).tobytes(), filter_mask=0b11)
    rows = [3, 0, 2]
    found = Source(tmp_path / "a.h5", x="x").read(rows)["x"]
    assert_array_equal(found, [[90, 100, 110], [0, 1, 2], [60, 70, 80]])


@pytest.mark.parametrize(
    ("reader", "complaint"),
    [
        ("auto", r"chunk \(2, 0\) at byte \d+ \(20 bytes\) does not decode \(.*checksum"),
        ("direct", r"chunk \(2, 0\) \(number 1\) does not decode \(.*checksum"),
        ("h5py", "cannot be read at rows 2 to 3"),
    ],
)
def test_a_chunk_with_a_wrong_checksum_is_an_error_that_names_its_place(
    reader: Reader, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "x", data=np.zeros((4, 8), "u1"), chunks=(2, 8), fletcher32=True
        )
        offset = dataset.id.get_chunk_info(1).byte_offset
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)
    source = Source(path, reader=reader, x="x")
    assert source.read([0, 1])["x"].shape == (2, 8)
    with pytest.raises(DamagedFileError, match=f"'x' in .* {complaint}"):
        source.read([0, 2, 3])


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(60, dtype="<i4").reshape(10, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = values
    monkeypatch.setattr(_descriptors, "_MAX_PREAD", 5)
    monkeypatch.setattr(_batched_pread, "gather", lambda _, offsets, *__: np.arange(len(offsets)))
    source = Source(tmp_path / "a.h5", x="x")
    assert_array_equal(source.read([9, 3, 4, 5, 0])["x"], values[[9, 3, 4, 5, 0]])


def test_rows_far_apart_in_a_huge_chunk_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(40).reshape(20, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(20, 2))
    monkeypatch.setattr(_readers, "_SLAB_BYTES", 64)
    rows = [19, 2, 3, 3, 0]
    assert_array_equal(Source(tmp_path / "a.h5", x="x").read(rows)["x"], values[rows])


def test_h5py_reads_each_chunk_once_for_rows_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(12), chunks=(4,))
    slabs: list[tuple[int, int]] = []
    read_slab = H5pyReader._read_slab

    def noted(self: H5pyReader, dataset: Any, start: int, stop: int, out: Any) -> None:
        slabs.append((start, stop))
        read_slab(self, dataset, start, stop, out)

    monkeypatch.setattr(H5pyReader, "_read_slab", noted)
    rows = [11, 0, 8, 3, 0, 9]
    assert_array_equal(Source(tmp_path / "a.h5", reader="h5py", x="x").read(rows)["x"], rows)
    assert slabs == [(0, 4), (8, 12)]


def never_written(file: Any) -> None:
    file.create_dataset("x", (4,), "f4")


def compact(file: Any) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    file.create_dataset("x", data=np.arange(4), dcpl=creation)


def odd_precision(file: Any) -> None:
    stored = h5py.h5t.STD_I32LE.copy()
    stored.set_precision(20)
    space = h5py.h5s.create_simple((4,))
    dataset = h5py.Dataset(h5py.h5d.create(file.id, b"x", stored, space))
    dataset[...] = np.arange(4)


def space_padded_text(file: Any) -> None:
    stored = h5py.h5t.C_S1.copy()
    stored.set_size(5)
    stored.set_strpad(h5py.h5t.STR_SPACEPAD)
    h5py.h5d.create(file.id, b"x", stored, h5py.h5s.create_simple((4,))).write(
        h5py.h5s.ALL, h5py.h5s.ALL, np.array([b"a", b"b", b"a", b"c"], "S5")
    )


def scaled(file: Any) -> None:
    file.create_dataset("x", data=np.arange(4), chunks=(2,), scaleoffset=0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (scaled, "scaleoffset"),
        (never_written, r"no place in the file \(compact, or never written\)"),
        (compact, r"no place in the file \(compact, or never written\)"),
        (odd_precision, "stored type is converted on reading to int32"),
        (space_padded_text, "stored type is converted on reading"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_goes_through_h5py_says_why_and_equals_h5py(
    make: Callable[[Any], None], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        make(file)
    reader = reader_of(path)
    assert isinstance(reader, H5pyReader)
    assert re.search(reason, reader.describe())
    out = np.empty((3, *reader.row_shape), reader.dtype)
    reader.read_rows(np.array([3, 0, 3]), out)
    assert_same_bytes(out, expected_rows(path, "x", [3, 0, 3]))


def test_a_file_open_for_writing_in_this_process_is_read_through_h5py(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(4)
        file.flush()
        reader = reader_of(path)
        assert reader.describe().startswith("h5py (the file is open for writing")


def test_the_readers_describe_themselves(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(4)
    file_found = find_file(tmp_path / "a.h5")
    assert open_part("x", file_found)[1].describe() == "straight from the file (contiguous)"
    assert open_part("x", file_found, reader="h5py")[1].describe() == "h5py (asked for)"


def test_a_constant_fills_every_row() -> None:
    reader = ConstantReader(np.array(7, np.int64), 3)
    out = np.zeros(3, np.int64)
    reader.read_range(0, 2, out[:2])
    assert out.tolist() == [7, 7, 0]
    reader.read_rows(np.array([2, 2, 0]), out)
    assert out.tolist() == [7, 7, 7]
    assert reader.describe() == "the constant 7"
