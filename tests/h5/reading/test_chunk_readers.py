import pickle
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import DamagedFileError, FileChangedError
from kerash5.h5 import Source
from kerash5.h5.reading._chunk_readers import DirectReader, MappedReader, _Group
from kerash5.h5.reading._select_reader import Reader, open_part
from kerash5.h5.storage._file import find_file
from kerash5.h5.storage._filters import Pipeline

VALUES = np.random.default_rng(5).integers(0, 255, (70, 6, 9), "u1")
LAYOUTS = {
    "whole-rows": {"chunks": (16, 6, 9)},
    "tiles": {"chunks": (16, 4, 5)},
    "one-row": {"chunks": (1, 6, 9)},
    "larger-than-the-data": {"chunks": (100, 6, 9), "maxshape": (None, 6, 9)},
}


def make(path: Path, **how: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, compression="gzip", shuffle=True, **how)
    return path


@pytest.mark.parametrize("reader", ["auto", "direct"])
@pytest.mark.parametrize("how", LAYOUTS.values(), ids=LAYOUTS)
def test_rows_and_ranges_come_from_chunks_of_any_shape(
    how: dict[str, Any], reader: Reader, tmp_path: Path
) -> None:
    source = Source(make(tmp_path / "a.h5", **how), reader=reader, x="x")
    rows = np.array([69, 0, 16, 15, 0, 33])
    assert_array_equal(source.read(rows)["x"], VALUES[rows])
    out = source.allocate(41)
    source.load_range(15, 56, out)
    assert_array_equal(out["x"], VALUES[15:56])
    assert source.read([])["x"].shape == (0, 6, 9)


def test_the_choice_is_by_what_may_be_trusted(tmp_path: Path) -> None:
    plain = find_file(make(tmp_path / "a.h5", chunks=(16, 6, 9)))
    assert isinstance(open_part("x", plain)[1], MappedReader)
    assert isinstance(open_part("x", plain, reader="direct")[1], DirectReader)
    # Exactly one axis may grow for ever, and it is not the first: HDF5 may report wrong offsets.
    odd = find_file(make(tmp_path / "b.h5", chunks=(16, 6, 9), maxshape=(70, None, 9)))
    reader = open_part("x", odd)[1]
    assert isinstance(reader, DirectReader)
    assert "HDF5 reports wrong offsets" in reader.describe()


@pytest.mark.parametrize("kind", [MappedReader, DirectReader])
@pytest.mark.parametrize("how", LAYOUTS.values(), ids=LAYOUTS)
def test_threads_fetch_small_chunks_side_by_side(
    how: dict[str, Any],
    kind: type[MappedReader | DirectReader],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mode: Reader = "auto" if kind is MappedReader else "direct"
    source = Source(make(tmp_path / "a.h5", **how), reader=mode, x="x")
    fetch, all_fetch = kind._fetch, threading.Barrier(4)

    def slow(self: Any, chunks: Sequence[int]) -> Iterator[Any]:
        for fetched in fetch(self, chunks):
            all_fetch.wait(timeout=10)  # none goes on before four threads have come here
            yield fetched

    monkeypatch.setattr(kind, "_fetch", slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: source.read([3, 20, 40])["x"], range(4)))
    for rows in found:
        assert_array_equal(rows, VALUES[[3, 20, 40]])


def test_whole_chunks_are_decoded_into_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(make(tmp_path / "a.h5", chunks=(16, 6, 9)), x="x")
    out = source.allocate(48)
    inside: list[bool] = []
    decode = Pipeline.decode

    def noted(self: Pipeline, stored: Any, mask: int, place: Any) -> None:
        inside.append(np.shares_memory(place, out["x"]))
        decode(self, stored, mask, place)

    monkeypatch.setattr(Pipeline, "decode", noted)
    source.load_range(16, 64, out)
    assert inside == [True, True, True]


def test_each_chunk_is_decoded_once_for_rows_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(make(tmp_path / "a.h5", chunks=(16, 6, 9)), x="x")
    decoded: list[int] = []
    decode = Pipeline.decode

    def noted(self: Pipeline, stored: Any, mask: int, place: Any) -> None:
        decoded.append(len(stored))
        decode(self, stored, mask, place)

    monkeypatch.setattr(Pipeline, "decode", noted)
    source.read([60, 1, 0, 61, 2, 60])
    assert len(decoded) == 2


def test_what_was_never_written_reads_as_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", (40, 3), "<i4", chunks=(8, 2), fillvalue=-7)
        dataset[10:12] = 5
        expected = dataset[()]
    reader = open_part("x", find_file(tmp_path / "a.h5"))[1]
    assert isinstance(reader, MappedReader)
    out = np.empty((40, 3), "<i4")
    reader.read_range(0, 40, out)
    assert_array_equal(out, expected)


@pytest.mark.parametrize("reader", ["auto", "direct"])
def test_packed_chunks_whose_filter_is_lost_are_an_error(reader: Reader, tmp_path: Path) -> None:
    # HDF5 would take the packed bytes for values, and those behind them, past the end of the file.
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(16, 6, 9), compression="gzip")
    raw = (tmp_path / "a.h5").read_bytes()
    # The filter message of an old object header: version 1, one filter, and then deflate.
    message = b"\x01\x01" + bytes(6) + b"\x01\x00\x08\x00"
    place = raw.index(message)
    (tmp_path / "a.h5").write_bytes(raw[: place + 1] + b"\x00" + raw[place + 2 :])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["x"].compression is None
    with pytest.raises(DamagedFileError, match=r"take \d+ bytes instead of 4320, and no filter"):
        Source(tmp_path / "a.h5", reader=reader, x="x")


def test_an_index_that_finds_less_than_it_lists_is_not_trusted(tmp_path: Path) -> None:
    # Of a tree of chunks HDF5 reads the keys to find a chunk, and skips some to list them all.
    path = make(tmp_path / "a.h5", chunks=(16, 6, 9))
    raw = bytearray(path.read_bytes())
    tree = raw.index(b"TREE")  # node of chunks: 24 bytes, then keys with children between
    (count,) = struct.unpack_from("<H", raw, tree + 6)
    key_bytes = 4 + 4 + 8 * 4  # size, mask, the first element and a zero
    struct.pack_into("<Q", raw, tree + 24 + count * (key_bytes + 8) + 8, 0)  # of the key after all
    path.write_bytes(raw)
    with h5py.File(path) as file:
        assert file["x"].id.get_num_chunks() == 5
        assert not file["x"][64:].any()  # HDF5 finds no chunk there
    with pytest.warns(UserWarning, match="HDF5 reports wrong offsets for the chunks of 'x'"):
        source = Source(path, x="x")
    assert_array_equal(source.read([0, 15])["x"], VALUES[[0, 15]])
    with pytest.raises(DamagedFileError, match=r"chunk \(64, 0, 0\) cannot be read"):
        source.read([64])


@pytest.mark.parametrize("reader", ["auto", "direct"])
def test_a_chunk_that_does_not_decode_is_an_error_with_its_place(
    reader: Reader, tmp_path: Path
) -> None:
    path = make(tmp_path / "a.h5", chunks=(16, 6, 9))
    with h5py.File(path) as file:
        info = file["x"].id.get_chunk_info(2)
    raw = bytearray(path.read_bytes())
    raw[info.byte_offset : info.byte_offset + 40] = b"\xff" * 40
    path.write_bytes(raw)
    source = Source(path, reader=reader, x="x")
    assert_array_equal(source.read([0, 31])["x"], VALUES[[0, 31]])
    with pytest.raises(DamagedFileError, match=r"'x' in .* chunk \(32, 0, 0\) .* does not decode"):
        source.read([33])


def test_a_file_cut_short_after_opening_is_an_error(tmp_path: Path) -> None:
    path = make(tmp_path / "a.h5", chunks=(16, 6, 9))
    source = Source(path, x="x")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FileChangedError, match=r"had .* bytes and has 3000"):
        source.read([0])


@pytest.mark.parametrize("reader", ["auto", "direct"])
def test_readers_pickle(reader: Reader, tmp_path: Path) -> None:
    source = Source(make(tmp_path / "a.h5", chunks=(16, 4, 5)), reader=reader, x="x")
    again = pickle.loads(pickle.dumps(source))
    assert_array_equal(again.read([5, 69])["x"], VALUES[[5, 69]])


def test_neighbouring_chunks_are_read_with_one_call() -> None:
    group = _Group()
    offsets = [100, 150, 205, 90_000, -1, -1, 90_100, 90_050]
    for offset, size in zip(offsets, [50, 50, 10, 100, 0, 0, 10, 10], strict=True):
        assert group.takes(offset, size, 0)
    # What was never written stands between its neighbours, and not in the file.
    assert group.offsets == [100, 90_000, 90_050]
    assert group.sizes == [115, 110, 10]
    assert group.positions == [0, 115, 225]
    positions = [0, 50, 105, 115, None, None, 215, 225]
    assert [place for place, *_ in group.chunks] == positions
    assert group.num_bytes == 235


def test_a_bounded_number_of_bytes_is_read_at_a_time() -> None:
    group = _Group()
    for offset in (0, 400_000):
        assert group.takes(offset, 400_000, 0)
    assert not group.takes(800_000, 400_000, 0)
    assert group.num_bytes == 800_000
    assert group.takes(-1, 0, 0)
    assert _Group().takes(0, 1 << 30, 0)
