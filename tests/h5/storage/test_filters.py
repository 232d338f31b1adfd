import hashlib
import itertools
import json
import pickle
import re
import struct
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError
from kerash5.h5 import Source
from kerash5.h5.storage import _decoders, _filters
from kerash5.h5.storage._decoders import fletcher32
from kerash5.h5.storage._filters import (
    CodecError,
    Filter,
    Pipeline,
    codec_advice,
    why_not_decodable,
)
from tests.stored_filters import file_in_memory
from tests.strategies import DTYPES, random_values

GZIP, SHUFFLE, FLETCHER32, BZIP2, LZF, BLOSC, LZ4, BITSHUFFLE, ZSTD = (
    *(1, 2, 3, 307, 32000),
    *(32001, 32004, 32008, 32015),
)
HAS_CODECS: Final = _decoders.imagecodecs() is not None
needs_codecs = pytest.mark.skipif(not HAS_CODECS, reason="imagecodecs is not installed")


@pytest.fixture(params=["with the codec library", "without it"])
def codecs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a test both ways; the value says which."""
    if request.param == "without it":
        monkeypatch.setattr(_decoders, "imagecodecs", lambda: None)
        monkeypatch.setattr(_filters, "imagecodecs", lambda: None)
        return False
    if not HAS_CODECS:
        pytest.skip("imagecodecs is not installed")
    return True


def gzip_filter(level: int = 4) -> Filter:
    return Filter(GZIP, 1, (level,), "deflate")


def shuffle_filter(itemsize: int) -> Filter:
    return Filter(SHUFFLE, 0, (itemsize,), "shuffle")


CHECKSUM: Final = Filter(FLETCHER32, 0, (), "fletcher32")


def filters_of(dataset: h5py.Dataset) -> tuple[Filter, ...]:
    creation = dataset.id.get_create_plist()
    found = (creation.get_filter(position) for position in range(creation.get_nfilters()))
    return tuple(
        Filter(code, flags, tuple(values), name.decode()) for code, flags, values, name in found
    )


def pipeline_of(dataset: h5py.Dataset, filters: Sequence[Filter] | None = None) -> Pipeline:
    itemsize = dataset.id.get_type().get_size()
    filters = filters_of(dataset) if filters is None else filters
    assert why_not_decodable(filters, itemsize) is None
    return Pipeline(filters, int(np.prod(dataset.chunks)) * itemsize, itemsize)


def decode(pipeline: Pipeline, stored: bytes, num_bytes: int, mask: int = 0) -> NDArray[np.uint8]:
    """Decode into the middle of a larger array, and see that nothing around it was written."""
    around = np.full(num_bytes + 128, 0xA5, np.uint8)
    out = around[64:-64]
    try:
        pipeline.decode(stored, mask, out)
    finally:
        assert (around[:64] == 0xA5).all()
        assert (around[-64:] == 0xA5).all()
    return out


def decoded_chunks(dataset: h5py.Dataset, *, edges_are_plain: bool = False) -> NDArray[Any]:
    """Read a whole data set through its pipeline, chunk by chunk."""
    pipeline, chunks = pipeline_of(dataset), dataset.chunks
    raw = np.dtype(f"V{dataset.id.get_type().get_size()}")
    whole = np.empty(dataset.shape, raw)
    axes = (range(0, length, size) for length, size in zip(whole.shape, chunks, strict=True))
    for start in itertools.product(*axes):
        mask, stored = dataset.id.read_direct_chunk(start)
        place = tuple(slice(low, low + size) for low, size in zip(start, chunks, strict=True))
        part = whole[place]
        if edges_are_plain and part.shape != chunks:
            mask = 0xFFFFFFFF
        out = np.empty(int(np.prod(chunks)) * raw.itemsize, np.uint8)
        pipeline.decode(stored, mask, out)
        part[...] = out.view(raw).reshape(chunks)[tuple(map(slice, part.shape))]
    return whole


def assert_decodes_as_h5py_reads(dataset: h5py.Dataset) -> None:
    assert decoded_chunks(dataset).tobytes() == np.asarray(dataset[()]).tobytes()


def create(
    file: h5py.File,
    name: str,
    values: NDArray[Any],
    filters: Sequence[Filter],
    *,
    write: bool = True,
) -> Any:
    """Make a data set of one chunk with filters in the order given."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk(values.shape)
    for entry in filters:
        creation.set_filter(entry.code, entry.flags, entry.values)
    kind, space = h5py.h5t.py_create(values.dtype), h5py.h5s.create_simple(values.shape)
    dataset = h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=creation))
    if write:
        dataset[...] = values
    return dataset


# What h5py writes


KINDS_OF_DATA: Final = {
    "noise": lambda rng, n: rng.integers(0, 256, n, np.uint8),
    "few values": lambda rng, n: rng.integers(0, 3, n, np.uint8),
    "zeros": lambda _, n: np.zeros(n, np.uint8),
    "steps": lambda _, n: np.arange(n, dtype="<u4").view(np.uint8)[:n],
}


@st.composite
def chunks_of_values(draw: st.DrawFn) -> NDArray[Any]:
    """Draw the values of one chunk, of any type that HDF5 keeps as it is."""
    dtype = DTYPES[draw(st.sampled_from([name for name in DTYPES if "sub-array" not in name]))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.one_of(st.integers(1, 40), st.integers(1, 3000)))
    kind = draw(st.sampled_from(["any bits", *KINDS_OF_DATA]))
    if kind == "any bits" or dtype.kind in "bM" or dtype.names or h5py.check_enum_dtype(dtype):
        return random_values(dtype, (count,), rng)
    return KINDS_OF_DATA[kind](rng, count * dtype.itemsize).view(dtype)  # type: ignore[no-any-return, no-untyped-call]


def built_in_filters(itemsize: int, *, with_lzf: bool) -> st.SearchStrategy[list[Filter]]:
    """Draw filters in any order, the same one twice too.

    HDF5 gives the first shuffle the size of the type, whatever was asked for.
    """
    sizes = st.sampled_from(sorted({1, 2, 3, 4, 7, 8, 16, 33, itemsize}))
    kinds = [st.integers(0, 9).map(gzip_filter), sizes.map(shuffle_filter), st.just(CHECKSUM)]
    if with_lzf:
        kinds.append(st.just(Filter(LZF, 1, (), "lzf")))
    return st.lists(st.one_of(kinds), max_size=5)


@given(values=chunks_of_values(), data=st.data())
def test_any_filters_in_any_order_decode_as_h5py_reads(
    values: NDArray[Any], data: st.DataObject
) -> None:
    filters = data.draw(built_in_filters(values.dtype.itemsize, with_lzf=True))
    with file_in_memory() as file:
        assert_decodes_as_h5py_reads(create(file, "x", values, filters))


@given(values=chunks_of_values(), data=st.data())
def test_without_the_codec_library_hdf5s_own_filters_decode_all_the_same(
    values: NDArray[Any], data: st.DataObject
) -> None:
    filters = data.draw(built_in_filters(values.dtype.itemsize, with_lzf=True))
    with file_in_memory() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_filters, "imagecodecs", lambda: None)
        patch.setattr(_decoders, "imagecodecs", lambda: None)
        assert_decodes_as_h5py_reads(create(file, "x", values, filters))


@given(values=chunks_of_values(), data=st.data())
def test_filters_that_the_mask_names_were_skipped(
    values: NDArray[Any], data: st.DataObject
) -> None:
    itemsize = values.dtype.itemsize
    # Each at most once, or the second shuffle would be the first where that was skipped.
    drawn = data.draw(built_in_filters(itemsize, with_lzf=False))
    filters = list({entry.code: entry for entry in drawn}.values())
    mask = data.draw(st.integers(0, 2 ** len(filters) - 1))
    kept = [entry for position, entry in enumerate(filters) if not mask >> position & 1]
    with file_in_memory() as file:
        short = create(file, "short", values, kept)
        already, stored = short.id.read_direct_chunk((0,))
        assume(already == 0)  # gzip may have given up on noise
        # Never written before and opened again: HDF5 keeps the old mask of a chunk whose stored
        # size is the same, and forgets the new one while the data set stays open.
        full = create(file, "full", values, filters, write=False)
        full.id.write_direct_chunk((0,), stored, filter_mask=mask)
        del full
        full = file["full"]
        assert_decodes_as_h5py_reads(full)
        pipeline = pipeline_of(full)
        assert decode(pipeline, stored, values.nbytes, mask).tobytes() == values.tobytes()
        assert pipeline.is_plain(mask) == (not kept)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<f4", ">c16"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="no filter"),
        pytest.param({"fletcher32": True}, id="fletcher32"),
        pytest.param({"shuffle": True}, id="shuffle"),
        pytest.param({"compression": "gzip", "compression_opts": 0}, id="gzip of level 0"),
        pytest.param(
            {"compression": "gzip", "shuffle": True, "fletcher32": True}, id="all but lzf"
        ),
        pytest.param({"compression": "lzf", "shuffle": True}, id="lzf"),
    ],
)
def test_what_create_dataset_packs_is_decoded(options: dict[str, Any], dtype: str) -> None:
    values = np.arange(7 * 5 * 6, dtype=dtype).reshape(7, 5, 6)
    with file_in_memory() as file:
        dataset = file.create_dataset("x", data=values, chunks=(3, 5, 4), **options)
        assert_decodes_as_h5py_reads(dataset)


def test_gzip_decodes_with_and_without_the_codec_library(codecs: bool) -> None:
    values = np.arange(50_000, dtype="<u4")
    stored = zlib.compress(values.tobytes(), 4)
    out = decode(Pipeline([gzip_filter()], values.nbytes, 4), stored, values.nbytes)
    assert_array_equal(out.view("<u4"), values)
    assert (codec_advice([gzip_filter()]) is None) == codecs


PLUGIN_FILTERS: Final[dict[str, Callable[[Any], Any]]] = {
    "lz4": lambda plugin: plugin.LZ4(),
    "lz4 in small blocks": lambda plugin: plugin.LZ4(nbytes=1000),
    "zstd": lambda plugin: plugin.Zstd(),
    "zstd of level 22": lambda plugin: plugin.Zstd(clevel=22),
    "bzip2": lambda plugin: plugin.BZip2(),
    "bitshuffle": lambda plugin: plugin.Bitshuffle(cname="none"),
    "bitshuffle in small blocks": lambda plugin: plugin.Bitshuffle(nelems=64, cname="none"),
    "bitshuffle lz4": lambda plugin: plugin.Bitshuffle(cname="lz4"),
    "bitshuffle lz4 in small blocks": lambda plugin: plugin.Bitshuffle(nelems=64, cname="lz4"),
    "bitshuffle zstd": lambda plugin: plugin.Bitshuffle(cname="zstd"),
    **{
        f"blosc {name}, shuffle {shuffle}": lambda plugin, name=name, shuffle=shuffle: (  # type: ignore[misc]
            plugin.Blosc(cname=name, shuffle=shuffle)
        )
        for name in ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
        for shuffle in (0, 1, 2)
    },
}


@needs_codecs
@pytest.mark.parametrize("name", PLUGIN_FILTERS)
@pytest.mark.parametrize("kind", KINDS_OF_DATA)
def test_what_hdf5plugin_packs_is_decoded(kind: str, name: str) -> None:
    plugin = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    rng = np.random.default_rng(0)
    options = PLUGIN_FILTERS[name](plugin)
    with file_in_memory() as file:
        for dtype, count in itertools.product(("u1", ">i2", "<f4", "<f8"), (1, 13, 5000)):
            packed = KINDS_OF_DATA[kind](rng, count * np.dtype(dtype).itemsize)  # type: ignore[no-untyped-call]
            dataset = file.create_dataset(
                f"{dtype} {count}", data=packed.view(dtype), chunks=(count,), **options
            )
            assert_decodes_as_h5py_reads(dataset)


# The checksum


def fletcher32_by_the_book(data: bytes) -> int:
    """H5_checksum_fletcher32 of HDF5's H5checksum.c, word by word."""
    first = second = 0
    words = [data[i] << 8 | data[i + 1] for i in range(0, len(data) - 1, 2)]
    for start in range(0, len(words), 360):
        for word in words[start : start + 360]:
            first += word
            second += first
        first = (first & 0xFFFF) + (first >> 16)
        second = (second & 0xFFFF) + (second >> 16)
    if len(data) % 2:
        first += data[-1] << 8
        second += first
        first = (first & 0xFFFF) + (first >> 16)
        second = (second & 0xFFFF) + (second >> 16)
    first = (first & 0xFFFF) + (first >> 16)
    second = (second & 0xFFFF) + (second >> 16)
    return second << 16 | first


@given(
    data=st.one_of(
        st.binary(max_size=2000),
        st.builds(
            lambda byte, count: bytes([byte]) * count,
            st.sampled_from([0, 1, 254, 255]),
            st.integers(0, 5000),
        ),
    )
)
def test_fletcher32_is_hdf5s(data: bytes) -> None:
    assert fletcher32(np.frombuffer(bytearray(data), np.uint8)) == fletcher32_by_the_book(data)


@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x5A])
def test_fletcher32_of_a_large_chunk_is_hdf5s(fill: int) -> None:
    with file_in_memory() as file:
        values = np.full(40_000_003, fill, np.uint8)
        stored = create(file, "x", values, [CHECKSUM]).id.read_direct_chunk((0,))[1]
    assert fletcher32(values) == struct.unpack("<I", stored[-4:])[0]


def test_a_checksum_in_the_byte_order_of_old_hdf5_is_accepted() -> None:
    data = bytes(range(100))
    whole = struct.pack("<I", fletcher32_by_the_book(data))
    swapped = bytes([whole[1], whole[0], whole[3], whole[2]])
    pipeline = Pipeline([CHECKSUM], 100, 1)
    for stored in (data + whole, data + swapped):
        assert decode(pipeline, stored, 100).tobytes() == data
    with file_in_memory() as file:
        dataset = create(file, "x", np.zeros(100, "u1"), [CHECKSUM], write=False)
        dataset.id.write_direct_chunk((0,), data + swapped)
        assert dataset[()].tobytes() == data


# Damage


def packed_chunks() -> Iterator[tuple[str, list[Filter], bytes]]:
    """Give the same 4,000 bytes packed in every way that can be made here."""
    values = sample()
    with file_in_memory() as file:
        for filters in (
            [gzip_filter()],
            [gzip_filter(), CHECKSUM],
            [CHECKSUM, gzip_filter()],
            [shuffle_filter(4), gzip_filter(), CHECKSUM],
            [shuffle_filter(4)],
            [CHECKSUM],
            [Filter(LZF, 1, (), "lzf"), CHECKSUM],
        ):
            name = " ".join(entry.name for entry in filters)
            dataset = create(file, name, values, filters)
            yield name, list(filters_of(dataset)), dataset.id.read_direct_chunk((0,))[1]
    yield from (foreign_chunks() if HAS_CODECS else ())


def foreign_chunks() -> Iterator[tuple[str, list[Filter], bytes]]:
    """Give what filters write that h5py does not bring, made with the codec library."""
    library, raw = _decoders.imagecodecs(), sample().tobytes()
    yield "lz4", [Filter(LZ4, 1, (0,), "lz4")], library.lz4h5_encode(raw, blocksize=1000)
    yield "zstd", [Filter(ZSTD, 1, (3,), "zstd")], library.zstd_encode(raw)
    for codec, shuffle in itertools.product(("blosclz", "lz4", "zstd"), (0, 1, 2)):
        stored = library.blosc_encode(raw, compressor=codec, shuffle=shuffle, typesize=4)
        yield f"blosc {codec} {shuffle}", [Filter(BLOSC, 1, (2, 2, 4, 4000), "blosc")], stored
    shuffled = library.bitshuffle_encode(raw, itemsize=4, blocksize=64)
    yield "bitshuffle", [Filter(BITSHUFFLE, 1, (0, 4, 4, 64, 0), "bitshuffle")], shuffled
    # 1,000 elements: 15 blocks of 64, one of 40, and none left over.
    for number, encode in ((2, library.lz4_encode), (3, library.zstd_encode)):
        blocks = [encode(shuffled[start : start + 256]) for start in range(0, 4000, 256)]
        stored = struct.pack(">QI", 4000, 256) + b"".join(
            struct.pack(">I", len(block)) + block for block in blocks
        )
        yield f"bitshuffle {number}", [Filter(BITSHUFFLE, 1, (0, 4, 4, 64, number), "b")], stored


def sample() -> NDArray[np.uint32]:
    return np.random.default_rng(0).integers(0, 300, 1000).astype("<u4")


PACKED: Final = {name: (filters, stored) for name, filters, stored in packed_chunks()}
# A changed byte anywhere changes the sum of the bytes it stands for.
CHECKED: Final = [name for name in PACKED if "deflate" in name or "fletcher32" in name]


@pytest.mark.parametrize("name", PACKED)
def test_every_packed_chunk_of_these_tests_is_sound(name: str) -> None:
    filters, stored = PACKED[name]
    assert why_not_decodable(filters, 4) is None
    assert decode(Pipeline(filters, 4000, 4), stored, 4000).tobytes() == sample().tobytes()


@pytest.mark.parametrize("name", CHECKED)
def test_a_changed_byte_under_a_checksum_is_an_error_or_changes_nothing(name: str) -> None:
    filters, stored = PACKED[name]
    pipeline = Pipeline(filters, 4000, 4)
    for position in range(len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 1 << position % 8
        try:
            out = decode(pipeline, bytes(damaged), 4000)
        except CodecError:
            continue
        assert out.tobytes() == sample().tobytes()


@pytest.mark.parametrize("name", PACKED)
def test_a_chunk_that_is_cut_short_is_an_error(name: str) -> None:
    filters, stored = PACKED[name]
    pipeline = Pipeline(filters, 4000, 4)
    for length in {0, 1, 3, 4, 11, 12, 15, 16, 17, len(stored) // 2, len(stored) - 1}:
        with pytest.raises(CodecError):
            decode(pipeline, stored[:length], 4000)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("tail", [b"\0", b"\0" * 4, b"\xff" * 100], ids=["1", "4", "100"])
def test_bytes_behind_the_end_are_an_error_or_as_hdf5_does_ignored(name: str, tail: bytes) -> None:
    filters, stored = PACKED[name]
    pipeline = Pipeline(filters, 4000, 4)
    if filters[-1].code != GZIP:
        with pytest.raises(CodecError):
            decode(pipeline, stored + tail, 4000)
        return
    assert decode(pipeline, stored + tail, 4000).tobytes() == sample().tobytes()
    with file_in_memory() as file:
        dataset = create(file, "x", sample(), filters, write=False)
        dataset.id.write_direct_chunk((0,), stored + tail)
        assert dataset[()].tobytes() == sample().tobytes()


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("num_bytes", [4, 3996, 4004, 40_000])
def test_a_chunk_that_decodes_to_another_size_is_an_error(name: str, num_bytes: int) -> None:
    filters, stored = PACKED[name]
    with pytest.raises(CodecError):
        decode(Pipeline(filters, num_bytes, 4), stored, num_bytes)


@pytest.mark.parametrize("name", PACKED)
@given(data=st.data())
def test_no_bytes_make_a_codec_write_past_its_room(name: str, data: st.DataObject) -> None:
    filters, stored = PACKED[name]
    damaged = bytearray(stored)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(stored)))])
    for broken in (bytes(damaged), cut, data.draw(st.binary(max_size=64))):
        try:
            decode(Pipeline(filters, 4000, 4), broken, 4000)
        except CodecError:
            continue


def test_a_bomb_is_an_error_and_costs_no_more_than_the_chunk(codecs: bool) -> None:
    packer, zeros = zlib.compressobj(9), bytes(1 << 20)
    bomb = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    bombs = [([gzip_filter()], bomb), ([gzip_filter(), gzip_filter()], zlib.compress(bomb))]
    if codecs:
        for code, name in ((ZSTD, "zstd"), (LZF, "lzf"), (LZ4, "lz4h5"), (BLOSC, "blosc")):
            stored = getattr(_decoders.imagecodecs(), f"{name}_encode")(zeros)
            bombs.append(([Filter(code, 0, (0, 0, 1), name)], stored))
    out = np.empty(50_000, np.uint8)
    for filters, stored in bombs:
        pipeline = Pipeline(filters, len(out), 1)
        tracemalloc.start()
        try:
            with pytest.raises(CodecError):
                pipeline.decode(stored, 0, out)
            assert tracemalloc.get_traced_memory()[1] < 500_000
        finally:
            tracemalloc.stop()


def test_an_error_says_which_filter_and_what(codecs: bool) -> None:  # noqa: ARG001
    whole = zlib.compress(bytes(100))
    for stored, filters, words in (
        (whole[:-5], [gzip_filter()], "gzip: "),
        (zlib.compress(bytes(99)), [gzip_filter()], "gzip: 99 bytes came out instead of 100"),
        (bytes(103) + b"\1", [CHECKSUM], "fletcher32: the checksum is 0x01000000, and the bytes "),
        (bytes(50), [CHECKSUM], "fletcher32: 46 bytes came out instead of 100"),
        (b"", [gzip_filter()], "gzip: there are no bytes"),
        (bytes(99), [], "99 bytes are stored instead of 100"),
    ):
        with pytest.raises(CodecError, match=f"^{words}"):
            decode(Pipeline(filters, 100, 1), stored, 100)


# lzf, by three decoders


LZF_DECODERS: Final = {
    "h5py's function": lambda data, out: _decoders.decode_lzf((), data, out),
    "Python": _decoders.decode_lzf_slowly,
}


@pytest.fixture(params=LZF_DECODERS)
def lzf_decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(_decoders, "imagecodecs", lambda: None)
    return LZF_DECODERS[request.param]


def pack_lzf(raw: bytes) -> bytes:
    """Return what h5py's lzf filter makes of some bytes."""
    with file_in_memory() as file:
        values = np.frombuffer(raw, np.uint8)
        dataset = create(file, "x", values, [Filter(LZF, 1, (), "lzf")])
        mask, stored = dataset.id.read_direct_chunk((0,))
        return b"" if mask else bytes(stored)  # it may have given up on noise


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=chunks_of_values())
def test_lzf_is_decoded_without_the_codec_library(lzf_decoder: Any, values: NDArray[Any]) -> None:
    stored = np.frombuffer(pack_lzf(values.tobytes()), np.uint8)
    assume(len(stored))
    assert lzf_decoder(stored, np.empty(values.nbytes, np.uint8)).tobytes() == values.tobytes()
    # More room than bytes: the caller sees that a chunk is short.
    assert len(lzf_decoder(stored, np.empty(values.nbytes + 9, np.uint8))) == values.nbytes
    with pytest.raises(CodecError):
        lzf_decoder(stored, np.empty(values.nbytes - 1, np.uint8))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=st.binary(min_size=1, max_size=80), size=st.integers(1, 400))
def test_lzf_decoders_agree_on_bytes_that_are_no_stream(
    monkeypatch: pytest.MonkeyPatch, stored: bytes, size: int
) -> None:
    monkeypatch.setattr(_decoders, "imagecodecs", lambda: None)
    answers: list[bytes | None] = []
    for decode_lzf in LZF_DECODERS.values():
        room = np.full(size + 64, 7, np.uint8)
        try:
            found = decode_lzf(np.frombuffer(stored, np.uint8), room[:size])
            answers.append(found.tobytes())
        except CodecError:
            answers.append(None)
        assert_array_equal(room[size:], 7)
    assert answers[0] == answers[1]


def test_a_short_lzf_chunk_is_an_error_without_the_codec_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_decoders, _filters):
        monkeypatch.setattr(module, "imagecodecs", lambda: None)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        x = file.create_dataset("x", (4, 1000), "u1", chunks=(2, 1000), compression="lzf")
        x[...] = 5
        x.id.write_direct_chunk((2, 0), pack_lzf(bytes(1500)))
    source = Source(tmp_path / "a.h5", x="x")
    assert_array_equal(source.read([0, 1])["x"], 5)
    with pytest.raises(DamagedFileError, match=r"lzf: 1500 bytes came out instead of 2000"):
        source.read([2])


def test_large_gzip_chunks_are_not_in_memory_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_filters, "imagecodecs", lambda: None)
    raw = (np.arange(12 << 20, dtype="<u4") // 1000).tobytes()
    stored, out = zlib.compress(raw, 1), np.empty(len(raw), np.uint8)
    pipeline = Pipeline([gzip_filter()], len(raw), 4)
    tracemalloc.start()
    try:
        pipeline.decode(stored, 0, out)
        assert tracemalloc.get_traced_memory()[1] < len(raw)
    finally:
        tracemalloc.stop()
    assert out.tobytes() == raw


# What is refused, and what is advised


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Filter(4, 0, (141, 4, 32, 5), "szip"), "only HDF5 itself undoes szip (filter 4)"),
        (Filter(5, 0, (8,), "nbit"), "only HDF5 itself undoes nbit"),
        (Filter(6, 0, (2,), "scaleoffset"), "only HDF5 itself undoes scaleoffset"),
        (Filter(32026, 0, (1, 0, 4), "blosc2"), "only HDF5 itself undoes blosc2"),
        (Filter(405, 0, (), "odd; see http://x"), "only HDF5 itself undoes odd (filter 405)"),
        (Filter(405, 0, (), ""), "only HDF5 itself undoes a nameless filter (filter 405)"),
        (Filter(SHUFFLE, 0, (), "shuffle"), "no element size (())"),
        (Filter(SHUFFLE, 0, (0,), "shuffle"), "no element size ((0,))"),
        (Filter(SHUFFLE, 0, (4, 4), "shuffle"), "no element size ((4, 4))"),
        (Filter(BITSHUFFLE, 0, (0, 4), "bitshuffle"), "make no sense here ((0, 4))"),
        (Filter(BITSHUFFLE, 0, (0, 4, 3), "bitshuffle"), "make no sense here"),
        (Filter(BITSHUFFLE, 0, (0, 4, 4, 9), "bitshuffle"), "make no sense here"),
        (Filter(BITSHUFFLE, 0, (0, 4, 4, 0, 1), "bitshuffle"), "make no sense here"),
    ],
    ids=str,
)
def test_filters_that_are_not_decoded_are_refused_in_words(entry: Filter, words: str) -> None:
    found = why_not_decodable([gzip_filter(), entry], 4)
    assert found is not None
    assert words in found
    with pytest.raises(ValueError, match=re.escape(found)):
        Pipeline([gzip_filter(), entry], 400, 4)


def test_without_the_codec_library_the_reason_names_the_pip_install(codecs: bool) -> None:
    for code, name in ((BLOSC, "blosc"), (ZSTD, "zstd"), (BITSHUFFLE, "bitshuffle")):
        entry = Filter(code, 1, (0, 4, 4), name)
        reason = f"{name} needs a codec library: pip install 'kerash5[fast]'"
        assert why_not_decodable([shuffle_filter(4), entry], 4) == (None if codecs else reason)
        advice = f"pip install 'kerash5[fast]' decodes {name} on all cores, without h5py's lock"
        assert codec_advice([shuffle_filter(4), entry]) == (None if codecs else advice)


def test_advice_says_how_much_faster_gzip_becomes(codecs: bool) -> None:
    found = codec_advice([shuffle_filter(4), gzip_filter()])
    advice = "pip install 'kerash5[fast]' decodes gzip 2 to 7 times as fast"
    assert found == (None if codecs else advice)
    assert codec_advice([]) is codec_advice([CHECKSUM]) is None
    assert codec_advice([Filter(4, 0, (), "szip")]) is None


# Threads and processes


def test_a_pipeline_pickles(codecs: bool) -> None:  # noqa: ARG001
    pipeline = Pipeline([shuffle_filter(4), gzip_filter(), CHECKSUM], 4000, 4)
    again = pickle.loads(pickle.dumps(pipeline))
    stored = PACKED["shuffle deflate fletcher32"][1]
    assert decode(again, stored, 4000).tobytes() == sample().tobytes()


def test_threads_share_a_pipeline() -> None:
    name = "shuffle deflate fletcher32"
    pipeline = Pipeline(PACKED[name][0], 4000, 4)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: decode(pipeline, PACKED[name][1], 4000).tobytes(), range(400))
        assert set(found) == {sample().tobytes()}


@pytest.mark.parametrize("name", ["gzip", "shuffle", "fletcher32"])
def test_other_threads_run_while_one_decodes(name: str, codecs: bool) -> None:  # noqa: ARG001
    raw = np.random.default_rng(0).integers(0, 4, 1 << 25, np.uint8).tobytes()
    filters, stored = {
        "gzip": lambda: ([gzip_filter()], zlib.compress(raw, 1)),
        "shuffle": lambda: ([shuffle_filter(16)], raw),
        "fletcher32": lambda: ([CHECKSUM], raw + bytes(4)),
    }[name]()
    pipeline, out = Pipeline(filters, len(raw), 1), np.empty(len(raw), np.uint8)
    ticks, stop = [time.perf_counter()], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    before = sys.getswitchinterval()
    thread = threading.Thread(target=tick)
    thread.start()
    try:
        sys.setswitchinterval(1.0)  # who holds the GIL keeps it, unless it is let go on purpose
        for _ in range(10):
            start = time.perf_counter()
            try:
                pipeline.decode(stored, 0, out)
            except CodecError:
                assert name == "fletcher32"  # four zeros are not the sum
            inside = sum(start < at < time.perf_counter() for at in ticks)
            if inside > 3:
                break
        assert inside > 3
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)


# Real files

REAL_FILES: Final = (
    "brtnfld+hdf5/test/testfiles/be_data.h5",
    "brtnfld+hdf5/tools/test/h5dump/testfiles/tfilters.h5",
    "brtnfld+hdf5/tools/test/h5format_convert/testfiles/h5fc_edge_v3.h5",
    "brtnfld+hdf5/tools/test/h5format_convert/testfiles/h5fc_ext_none.h5",
    "HDFGroup+hdf5-json/data/hdf5/h5ex_d_checksum.h5",
    "jamesmudd+jhdf/jhdf/src/test/resources/hdf5/isssue-523.hdf5",
    "BVLC+caffe/src/caffe/test/test_data/sample_data_2_gzip.h5",
    "brtnfld+hdf5/HDF5Examples/C/H5FLT/tfiles/h5ex_d_bzip2.h5",
)
REAL_FILES_FOR_CODECS: Final = (
    "PyTables+PyTables/tables/tests/blosc_bigendian.h5",
    "fsspec+kerchunk/tests/hdf5_compression_bitshuffle.h5",
    "fsspec+kerchunk/tests/hdf5_mini_lz4.h5",
    "HDFGroup+hdf5_plugins/testfiles/h5ex_d_nplzf.h5",
    "fsspec+kerchunk/tests/hdf5_mini_zstd.h5",
    "scverse+anndata/tests/data/archives/v0.7.0/adata.h5ad",
    "fsspec+kerchunk/tests/hdf5_mali_chunk.h5",
    "fsspec+kerchunk/tests/hdf5_mali_chunk2.h5",
    "fsspec+kerchunk/tests/hdf5_mini_blosc.h5",
    "fsspec+kerchunk/tests/hdf5_mini_shuffle_blosc.h5",
    "fsspec+kerchunk/tests/hdf5_mini_shuffle_zstd.h5",
)


@pytest.mark.parametrize(
    "name",
    [
        *REAL_FILES,
        *(pytest.param(name, marks=needs_codecs) for name in REAL_FILES_FOR_CODECS),
    ],
    ids=lambda name: Path(name).name,
)
def test_real_files_decode_to_what_they_hold(name: str, corpus_dir: Path) -> None:
    records = map(json.loads, (corpus_dir / "golden.jsonl").read_text().splitlines())
    record = next(record for record in records if record["file"] == f"files/{name}")
    checked = 0
    with h5py.File(corpus_dir / record["file"]) as file:
        for known in record["datasets"]:
            if known["layout"] != "chunked" or "sha" not in known or not known["masks"]:
                continue
            if known["p"] == "/DSET_EA":  # HDF5 looks for its chunks in the wrong places
                continue
            dataset = file[known["p"]]
            itemsize = dataset.id.get_type().get_size()
            if why_not_decodable(filters_of(dataset), itemsize) is not None:
                continue
            # 2 is H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS, and such chunks have a mask of 0.
            found = decoded_chunks(dataset, edges_are_plain=known["chunk_opts"] == 2).tobytes()
            assert hashlib.sha256(found).hexdigest()[:32] == known["sha"], known["p"]
            checked += 1
    assert checked > 0
