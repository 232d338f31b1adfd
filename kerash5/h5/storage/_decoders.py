"""Decode single HDF5 filters: shuffle, fletcher32, gzip, lzf, lz4, zstd, blosc and others.

Each `decode_*` takes the filter's values, the encoded bytes and an output buffer. It returns the
decoded bytes: a view of `out` or, where no byte moves, of the data. All of them release the GIL,
never write past `out`, and raise one of `CODEC_ERRORS` where the bytes are damaged. `_filters`
defines the order of filters and checks whether a codec library is installed.

The codec library is imagecodecs, the extra `fast`: libdeflate, lzf, lz4, zstd, blosc and bitshuffle
in one wheel. Each decodes into a given buffer and releases the GIL. Its libdeflate is the fastest
of seven gzip decoders on large chunks: 3 times zlib on 50 kB, 7 times on 600 kB. It is slower than
zlib below 1 kB (benchmarks/results/codecs.md). The package `deflate` is libdeflate too, but it
copies and has no other codec. numcodecs is as fast on zstd and blosc, but it lacks lzf, bitshuffle
and HDF5's framing of lz4. Without imagecodecs, zlib decodes gzip, a function inside h5py decodes
lzf, bz2 decodes bzip2, and h5py reads all others. Shuffle and fletcher32 use NumPy, which is almost
as fast as compiled loops and releases the GIL.
"""

from __future__ import annotations

import ctypes
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol, cast

import h5py
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Values = tuple[int, ...]
Decode = Callable[[Values, Bytes, Bytes], Bytes]

_PIECE_BYTES: Final = 8 << 20  # decoded at a time by zlib and bz2

CODEC_ERRORS: Final = (EOFError, OSError, RuntimeError, ValueError, zlib.error)


class CodecError(ValueError):
    """Why the stored bytes of a chunk do not decode; the reader adds the chunk."""


@cache
def imagecodecs() -> Any:  # noqa: ANN401 - the module or None; the module is untyped
    """Return the codec library; None if it is not installed."""
    with suppress(ImportError):
        return import_module("imagecodecs")
    return None


@cache
def _codec(name: str) -> Callable[..., Any]:
    """Return a function of the codec library; cached, because the library looks it up each time."""
    function: Callable[..., Any] = getattr(imagecodecs(), name)
    return function


# Filters of HDF5 itself


def decode_shuffle(values: Values, data: Bytes, out: Bytes) -> Bytes:
    """Join the bytes of each element again; bytes after the last whole element were not moved."""
    if len(data) > len(out):
        raise CodecError(f"{len(data)} bytes are more than {len(out)}")
    itemsize, found = values[0], _front(out, len(data))
    count = len(data) // itemsize
    moved = count * itemsize
    planes = data[:moved].reshape(itemsize, count)
    items = found[:moved].reshape(count, itemsize)
    if itemsize < 16:  # from 16 bytes on one transpose is faster
        for position in range(itemsize):
            items[:, position] = planes[position]
    else:
        items[...] = planes.T
    found[moved:] = data[moved:]
    return found


def decode_fletcher32(_values: Values, data: Bytes, _out: Bytes) -> Bytes:
    """Verify the checksum at the end, and return the bytes before it."""
    if len(data) < 4:
        raise CodecError(f"{len(data)} bytes hold no checksum")
    found = data[:-4]
    (stored,) = struct.unpack("<I", data[-4:].data)
    actual = fletcher32(found)
    # HDF5 before 1.6.3 swapped the bytes of both halves, and every later one accepts that.
    swapped = (actual & 0x00FF00FF) << 8 | (actual & 0xFF00FF00) >> 8
    if stored not in (actual, swapped):
        raise CodecError(f"the checksum is {stored:#010x}, and the bytes give {actual:#010x}")
    return found


def fletcher32(data: Bytes) -> int:
    """Return HDF5's Fletcher-32 of some bytes, shape (n,), as H5_checksum_fletcher32 does.

    The checksum consists of two sums modulo 65535 over big-endian words: the sum of the words, and
    the sum of all partial sums. Here the second sum is computed with weights: word i of n counts
    n - i times. The words are read as little-endian, because swapping the bytes of a word is the
    same as multiplying it by 256 modulo 65535.
    """
    num_words = len(data) // 2
    words = data[: 2 * num_words].view("<u2")
    table = words[: num_words // 256 * 256].reshape(-1, 256)
    tail = words[table.size :].astype(np.int64)
    if len(data) % 2:
        num_words += 1
        tail = np.append(tail, data[-1])
    by_row = table.sum(axis=1, dtype=np.uint32).astype(np.int64)
    # Sums of 32 bits are faster; they do not overflow below 65,536 rows of 512 bytes.
    by_column = table.sum(axis=0, dtype=np.uint32 if len(table) < 65536 else np.int64)
    first = int(by_row.sum()) + int(tail.sum())
    # Reduced before the multiplication, which would overflow for a chunk of 4 GiB.
    weights = (num_words - 256 * np.arange(len(table))) % 65535
    second = (
        int(weights @ (by_row % 65535))
        - int(np.arange(256) @ by_column.astype(np.int64))
        + int(np.arange(len(tail), 0, -1) @ tail)
    )
    return _fold(second, of=first) << 16 | _fold(first, of=first)


def _fold(total: int, *, of: int) -> int:
    # HDF5 adds the carry back in; such a sum is 0 only if all bytes are 0.
    return (total * 256 % 65535 or 65535) if of else 0


def decode_gzip(values: Values, data: Bytes, out: Bytes) -> Bytes:
    if len(out) < 1024:  # the setup of libdeflate takes longer than zlib
        return decode_gzip_slowly(values, data, out)
    found: Bytes = _codec("deflate_decode")(data, out=out)  # compares the checksum
    return found


def decode_gzip_slowly(_values: Values, data: Bytes, out: Bytes) -> Bytes:
    return _decode_stream(zlib.decompressobj(), data, out)


def decode_bzip2(_values: Values, data: Bytes, out: Bytes) -> Bytes:
    return _decode_stream(import_module("bz2").BZ2Decompressor(), data, out)


class _Decompressor(Protocol):
    """The common interface of the decompressors of zlib and bz2."""

    @property
    def eof(self) -> bool: ...
    def decompress(self, data: memoryview | bytes, max_length: int, /) -> bytes: ...


def _decode_stream(decompressor: _Decompressor, data: Bytes, out: Bytes) -> Bytes:
    # One byte more than `out` has is requested, to detect a stream that is too long. Bytes behind
    # the end of the stream are ignored, as in HDF5's own filters; its checksum has been compared.
    # The stream is decoded in pieces, so that a large chunk is not in memory twice.
    size = 0
    waiting: memoryview | bytes = data.data
    while not decompressor.eof:
        found = decompressor.decompress(waiting, min(len(out) + 1 - size, _PIECE_BYTES))
        if size + len(found) > len(out):
            raise CodecError(f"more than {len(out)} bytes came out")
        out[size : size + len(found)] = np.frombuffer(found, np.uint8)
        size += len(found)
        if not found and not decompressor.eof:
            raise CodecError(f"the stream is cut short after {size} bytes")
        waiting = getattr(decompressor, "unconsumed_tail", b"")  # bz2 buffers it internally
    return _front(out, size)


# Filters registered with The HDF Group: https://github.com/HDFGroup/hdf5_plugins


def decode_lzf(_values: Values, data: Bytes, out: Bytes) -> Bytes:
    library = imagecodecs()
    if library is not None and library.LZF.available:
        found: Bytes = _codec("lzf_decode")(data, out=out)
        return found
    decode = _h5py_lzf()
    if decode is None:
        return decode_lzf_slowly(data, out)
    packed = np.ascontiguousarray(data)
    size = decode(packed.ctypes.data, len(packed), out.ctypes.data, len(out))
    if size == 0:
        raise CodecError(f"the stream is cut short, broken, or longer than {len(out)} bytes")
    return _front(out, size)


@cache
def _h5py_lzf() -> Callable[[int, int, int, int], int] | None:
    """Return the decoder of h5py's own filter, called without the GIL; None if not exported.

    The decoder is correct and checks its bounds. The filter around it is not: it ignores the number
    of decoded bytes, so that a short chunk ends in uninitialised memory.
    """
    with suppress(AttributeError, OSError):
        decode = ctypes.CDLL(h5py.h5z.__file__).lzf_decompress
        decode.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint]
        decode.restype = ctypes.c_uint
        return cast("Callable[[int, int, int, int], int]", decode)
    return None


def decode_lzf_slowly(data: Bytes, out: Bytes) -> Bytes:
    """Decode LZF in Python, at about 5 MB/s.

    The format is that of liblzf, lzf_d.c. A control byte c below 32 is followed by c + 1 literals.
    Other control bytes begin a back reference: 3 bits of length and 13 bits of distance, with one
    more byte of length where the 3 bits are 7.
    """
    packed, found = data.tobytes(), bytearray()
    place, end, most = 0, len(packed), len(out)
    try:
        while place < end:
            control = packed[place]
            if control < 32:
                place += control + 2
                found += packed[place - control - 1 : place]
                continue
            length, place = control >> 5, place + 1
            if length == 7:
                length, place = 7 + packed[place], place + 1
            start = len(found) - ((control & 31) << 8) - packed[place] - 1
            length, place = length + 2, place + 1
            if start < 0:
                raise CodecError(f"it refers to bytes before the first, after {len(found)}")
            again = found[start : start + length]
            # A reference that overlaps its own output repeats it.
            found += again if len(again) == length else (again * length)[:length]
            if len(found) > most:
                break
    except IndexError:
        place = end + 1
    if place > end:
        raise CodecError(f"the stream is cut short after {len(found)} bytes")
    if len(found) > most:
        raise CodecError(f"more than {most} bytes came out")
    out[: len(found)] = np.frombuffer(found, np.uint8)
    return _front(out, len(found))


def decode_zstd(_values: Values, data: Bytes, out: Bytes) -> Bytes:
    found: Bytes = _codec("zstd_decode")(data, out=out)
    return found


def decode_blosc(_values: Values, data: Bytes, out: Bytes) -> Bytes:
    # blosc_decompress_ctx does not get the number of stored bytes: it trusts the header.
    if len(data) < 16:
        raise CodecError(f"{len(data)} bytes hold no header")
    num_bytes, _, num_stored = struct.unpack("<III", data[4:16].data)
    if num_stored != len(data):
        raise CodecError(f"{len(data)} bytes are stored, and the header states {num_stored}")
    place = _front(out, _fitting(num_bytes, out))
    found: Bytes = _codec("blosc_decode")(data, numthreads=1, out=place)
    return found


def decode_lz4(_values: Values, data: Bytes, out: Bytes) -> Bytes:
    """Decode LZ4 blocks, each preceded by its size; a block of its decoded size is not encoded."""
    size, block = _read_header(data, out)
    place = _front(out, size)
    blocks = _Blocks(data)
    for part in _parts(place, block):
        packed = blocks.read()
        if len(packed) == len(part):
            part[...] = packed
        else:
            blocks.decode(_codec("lz4_decode"), packed, part)
    blocks.finish()
    return place


def decode_packed_bitshuffle(values: Values, data: Bytes, out: Bytes) -> Bytes:
    """Decode LZ4 or Zstandard blocks, then unshuffle each; up to 7 last elements are plain."""
    itemsize = values[2]
    size, block = _read_header(data, out)
    block = block // itemsize or _default_block(itemsize)
    if size % itemsize or block % 8:
        raise CodecError(f"{size} bytes in blocks of {block} elements of {itemsize} are no chunk")
    shuffled = np.empty(size, np.uint8)
    num_packed = size // itemsize // 8 * 8 * itemsize
    decode = _codec("lz4_decode") if values[4] == 2 else _codec("zstd_decode")
    blocks = _Blocks(data)
    for part in _parts(shuffled[:num_packed], block * itemsize):
        blocks.decode(decode, blocks.read(), part)
    shuffled[num_packed:] = blocks.read_plain(size - num_packed)
    blocks.finish()
    return _unshuffle_bits(shuffled, itemsize, block, _front(out, size))


def decode_plain_bitshuffle(values: Values, data: Bytes, out: Bytes) -> Bytes:
    itemsize, block = values[2], values[3] if len(values) > 3 else 0
    if len(data) % itemsize:
        raise CodecError(f"{len(data)} bytes are not elements of {itemsize}")
    place = _front(out, _fitting(len(data), out))
    return _unshuffle_bits(data, itemsize, block or _default_block(itemsize), place)


def _unshuffle_bits(data: Bytes, itemsize: int, block: int, place: Bytes) -> Bytes:
    # A memoryview, because the item size of an array would override `itemsize`.
    _codec("bitshuffle_decode")(data.data, itemsize=itemsize, blocksize=block, out=place)
    return place


def _default_block(itemsize: int) -> int:
    return max(8192 // itemsize // 8 * 8, 128)  # bshuf_default_block_size


class _Blocks:
    """Reads the blocks of a chunk in order, and checks that no bytes follow the last one."""

    def __init__(self, data: Bytes) -> None:
        self._data = data
        self._start = 12

    def read(self) -> Bytes:
        """Read the next block, which is preceded by its size (4 bytes, big-endian)."""
        return self.read_plain(struct.unpack(">I", self.read_plain(4).data)[0])

    def read_plain(self, size: int) -> Bytes:
        """Read the next `size` bytes."""
        stop = self._start + size
        if stop > len(self._data):
            raise CodecError(f"the blocks are cut short after {len(self._data)} bytes")
        found = self._data[self._start : stop]
        self._start = stop
        return found

    def decode(self, function: Callable[..., Bytes], packed: Bytes, part: Bytes) -> None:
        """Decode one block into `part`, which it must fill."""
        if len(packed) == 0 or len(function(packed, out=part)) != len(part):
            raise CodecError(f"a block holds less than {len(part)} bytes")

    def finish(self) -> None:
        """Raise `CodecError` if bytes are left."""
        if self._start != len(self._data):
            raise CodecError(f"{len(self._data) - self._start} bytes follow the last block")


def _read_header(data: Bytes, out: Bytes) -> tuple[int, int]:
    """Read the header before the blocks: decoded bytes in total, and per block."""
    if len(data) < 12:
        raise CodecError(f"{len(data)} bytes hold no header")
    size, block = struct.unpack(">QI", data[:12].data)
    return _fitting(size, out), block


def _parts(place: Bytes, block: int) -> Iterator[Bytes]:
    if block == 0 and len(place):
        raise CodecError("the blocks have no size")
    for start in range(0, len(place), block or 1):
        yield place[start : start + block]


def _fitting(size: int, out: Bytes) -> int:
    if size > len(out):
        raise CodecError(f"the header states {size} bytes, and the chunk has {len(out)}")
    return size


def _front(out: Bytes, size: int) -> Bytes:
    return out if size == len(out) else out[:size]
