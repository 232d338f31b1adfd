from pathlib import Path

import h5py
import numpy as np
import pytest

from kerash5._errors import BackendError, ColumnError
from kerash5.h5 import Source, verify
from kerash5.h5.reading._select_reader import Reader, open_part
from kerash5.h5.storage import _layout
from kerash5.h5.storage._file import find_file
from kerash5.h5.storage._filters import Filter
from kerash5.h5.storage._layout import Layout


def layout_of(path: Path, name: str = "x") -> Layout:
    return open_part(name, find_file(path))[0]


def test_a_layout_tells_how_the_data_are_stored(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = np.zeros((4, 2), ">f4")
        packed = {"compression": "gzip", "shuffle": True, "fletcher32": True}
        file.create_dataset("packed", data=np.zeros((9, 2)), chunks=(4, 1), **packed)
        file.create_dataset("lzf", data=np.zeros((9, 2)), chunks=(4, 1), compression="lzf")
        file.create_dataset("bare", data=np.zeros((9, 2)), chunks=(4, 1))
        file.create_dataset("inner", (9,), np.dtype(("i2", (3,))))
    path = tmp_path / "a.h5"
    assert layout_of(path, "plain").describe() == "contiguous"
    assert layout_of(path, "packed").describe() == "chunks (4, 1), shuffle + gzip + fletcher32"
    assert [one.code for one in layout_of(path, "packed").filters] == [2, 1, 3]
    assert layout_of(path, "packed").filters[1] == Filter(1, 1, (4,), "gzip")
    assert layout_of(path, "lzf").describe() == "chunks (4, 1), lzf"
    assert layout_of(path, "bare").describe() == "chunks (4, 1), no filter"
    inner = layout_of(path, "inner")
    assert (inner.shape, inner.row_shape, inner.row_bytes) == ((9, 3), (3,), 6)
    assert (layout_of(path, "packed").chunk_rows, layout_of(path, "plain").chunk_rows) == (4, 1)


def test_a_missing_filter_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((2,))
        # An optional filter may be missing when the data set is made.
        creation.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((4,))
        raw = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT32, space, creation)
        raw.write_direct_chunk((0,), b"packed", filter_mask=0)
    source = Source(path, x="x")
    assert source.read([2, 3])["x"].tolist() == [0, 0]  # never written: needs no filter
    with pytest.raises(BackendError, match=r"filter 32999.*pip install 'kerash5\[filters\]'"):
        source.read([0])


def test_hdf5plugin_is_asked_for_missing_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(_layout, "import_module", asked.append)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((2,))
        creation.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT32, space, creation)
        file.create_dataset("y", data=np.zeros(4), compression="gzip")
    Source(tmp_path / "a.h5", y="y")
    assert asked == []
    Source(tmp_path / "a.h5", x="x")
    assert asked == ["hdf5plugin"]


def write_of_type(path: Path, name: str, type_id: h5py.h5t.TypeID, **options: object) -> None:
    """Write 24 numbers, or nothing, as four values of a type that h5py writes none of."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if options.get("is_packed"):
        creation.set_chunk((3,))
        creation.set_deflate(4)
    with h5py.File(path, "a") as file:
        space = h5py.h5s.create_simple((4,))
        made = h5py.h5d.create(file.id, name.encode(), type_id, space, creation)
        if options.get("is_written", True):
            numbers = np.arange(24, dtype="<i4").reshape(4, 3, 2)
            made.write(h5py.h5s.ALL, h5py.h5s.ALL, numbers, type_id)


@pytest.mark.parametrize("reader", ["auto", "direct", "h5py"])
@pytest.mark.parametrize("is_packed", [False, True], ids=["contiguous", "packed"])
def test_arrays_of_arrays_are_rows_of_all_their_axes(
    tmp_path: Path, reader: Reader, *, is_packed: bool
) -> None:
    inner = h5py.h5t.array_create(h5py.h5t.STD_I32LE, (2,))
    nested = h5py.h5t.array_create(inner, (3,))
    write_of_type(tmp_path / "a.h5", "x", nested, is_packed=is_packed)
    source = Source(tmp_path / "a.h5", x="x", reader=reader)
    assert (source.columns["x"].shape, source.columns["x"].dtype) == ((3, 2), np.dtype("<i4"))
    with h5py.File(tmp_path / "a.h5") as file:
        by_h5py = file["x"][()]
    np.testing.assert_array_equal(source.read([3, 0, 3])["x"], by_h5py[[3, 0, 3]])
    assert [(one.path, one.state) for one in verify(tmp_path / "a.h5")] == [("x", "sound")]


@pytest.mark.parametrize("kind", ["opaque", "arrays of text"])
def test_a_type_that_h5py_cannot_read_is_no_damage(tmp_path: Path, kind: str) -> None:
    if kind == "opaque":
        type_id = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
        type_id.set_tag(b"a thing")
    else:
        type_id = h5py.h5t.array_create(h5py.h5t.py_create(h5py.string_dtype()), (2,))
    write_of_type(tmp_path / "a.h5", "x", type_id, is_written=False)
    with pytest.raises(ColumnError, match="h5py cannot read values of its type"):
        Source(tmp_path / "a.h5", x="x")
    (verdict,) = verify(tmp_path / "a.h5")
    assert verdict.state == "not read"
    assert "h5py cannot read its type" in verdict.reason
