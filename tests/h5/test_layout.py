from pathlib import Path

import h5py
import numpy as np
import pytest

from kerash5._errors import BackendError
from kerash5.h5 import Source, _layout
from kerash5.h5._choice import open_part
from kerash5.h5._file import find_file
from kerash5.h5._filters import Filter
from kerash5.h5._layout import Layout


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
