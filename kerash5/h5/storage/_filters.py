"""Which filters are decoded without HDF5 (`_CODECS`), and the decoding of one chunk.

A `Filter` is one entry of the filter list of a data set, as stored in the file. A `Pipeline`
decodes all filters of one chunk, in place and without the GIL. `_decoders` decodes single filters.
Nothing here opens a file or locates chunks: see `_layout` and `_chunk_map`.

Damage raises an error: too few bytes, too many, a wrong checksum, bytes behind the end. The buffer
of each stage is limited to what a valid chunk can need, so a chunk that claims a larger size
allocates no more memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final, final

import numpy as np

from kerash5.h5.storage._decoders import (
    CODEC_ERRORS,
    Bytes,
    CodecError,
    Decode,
    Values,
    decode_blosc,
    decode_bzip2,
    decode_fletcher32,
    decode_gzip,
    decode_gzip_slowly,
    decode_lz4,
    decode_lzf,
    decode_packed_bitshuffle,
    decode_plain_bitshuffle,
    decode_shuffle,
    decode_zstd,
    imagecodecs,
)

__all__ = ["CodecError", "Filter", "Pipeline", "codec_advice", "why_not_decodable"]


@dataclass(frozen=True, slots=True)
class Filter:
    """One entry of a filter list, as `H5Pget_filter` returns it."""

    code: int  # as registered with The HDF Group
    flags: int  # bit 0: optional; HDF5 skips the filter for chunks where it fails
    values: tuple[int, ...]  # `cd_values`; their meaning depends on the filter
    name: str


@final
class Pipeline:
    """Decodes the filters of a data set, one chunk at a time.

    Created only where `why_not_decodable` returns None. It is immutable: it can be pickled, and any
    number of threads can use it at once.

    Args:
        filters: The filters in stored order, the order in which they were applied on writing.
        chunk_bytes: Bytes of a decoded chunk.
        itemsize: Bytes of one element.

    Raises:
        ValueError: A filter cannot be decoded, for instance in another process that lacks the codec
            library; the message is that of `why_not_decodable`.
    """

    __slots__ = ("_chunk_bytes", "_filters", "_itemsize", "_steps")

    def __init__(self, filters: Sequence[Filter], chunk_bytes: int, itemsize: int) -> None:
        if (reason := why_not_decodable(filters, itemsize)) is not None:
            raise ValueError(reason)
        self._filters = tuple(filters)
        self._chunk_bytes = chunk_bytes
        self._itemsize = itemsize
        self._steps = self._plan(0)

    def __reduce__(self) -> tuple[type[Pipeline], tuple[tuple[Filter, ...], int, int]]:
        return Pipeline, (self._filters, self._chunk_bytes, self._itemsize)

    def is_plain(self, mask: int) -> bool:
        """Return whether a chunk with this mask went through no filter: its bytes are its array."""
        return all(mask >> position & 1 for position in range(len(self._filters)))

    def decode(self, stored: bytes | Bytes, mask: int, out: Bytes) -> None:
        """Decode one chunk into `out`.

        Args:
            stored: The stored bytes of the chunk.
            mask: The filter mask of the chunk; bit i is set if filter i was skipped on writing.
            out: Output buffer, shape (chunk_bytes,), C-contiguous.

        Raises:
            CodecError: The bytes are damaged. The content of `out` is then undefined.
        """
        data: Bytes = np.frombuffer(stored, np.uint8)
        steps = self._plan(mask) if mask else self._steps
        for step in steps:
            data = step.decode(
                data, out if step is steps[-1] else np.empty(step.max_bytes, np.uint8)
            )
        if len(data) != len(out):  # no step has checked the size
            raise CodecError(f"{len(data)} bytes are stored instead of {len(out)}")
        if data is not out:
            out[...] = data

    def _plan(self, mask: int) -> tuple[_Step, ...]:
        steps = []
        size, is_exact = self._chunk_bytes, True
        for position, entry in enumerate(self._filters):
            if mask >> position & 1:
                continue
            codec = _CODECS[_key(entry)]
            decode = codec.slow if codec.slow is not None and not codec.is_fast else codec.decode
            steps.append(_Step(codec.name, decode, entry.values, size, is_exact))
            if codec.num_added is None:
                # An upper bound of what any compressor makes of it.
                size, is_exact = 2 * size + 4096, False
            else:
                size += codec.num_added
        return tuple(reversed(steps))


def why_not_decodable(filters: Sequence[Filter], itemsize: int) -> str | None:
    """Return why chunks with these filters cannot be decoded here; None if they can.

    Args:
        filters: The filters in stored order.
        itemsize: Bytes of one element.
    """
    reasons = (_why_not(entry, itemsize) for entry in filters)
    return next((reason for reason in reasons if reason is not None), None)


def codec_advice(filters: Sequence[Filter]) -> str | None:
    """Return what a pip install would speed up for these filters, as text; None if nothing."""
    codecs = [_CODECS[_key(entry)] for entry in filters if _key(entry) in _CODECS]
    lacking = [codec for codec in codecs if not codec.is_fast]
    if not lacking:
        return None
    if all(codec.slow is not None for codec in lacking):
        return "pip install 'kerash5[fast]' decodes gzip 2 to 7 times as fast"
    names = " + ".join(dict.fromkeys(codec.name for codec in lacking))
    return f"pip install 'kerash5[fast]' decodes {names} on all cores, without h5py's lock"


def _why_not(entry: Filter, itemsize: int) -> str | None:
    codec = _CODECS.get(_key(entry))
    if codec is None:
        # No library decodes szip, nbit and scaleoffset outside HDF5. Blosc2 stores its own frames,
        # which its Python package decodes with the GIL.
        name = entry.name.split(";")[0] or "a nameless filter"  # some names are a whole sentence
        return f"only HDF5 itself undoes {name} (filter {entry.code})"
    if (reason := codec.why_not(entry.values, itemsize)) is not None:
        return reason
    if codec.is_fast or codec.slow is not None:
        return None
    return f"{codec.name} needs a codec library: pip install 'kerash5[fast]'"


@dataclass(frozen=True, slots=True)
class _Step:
    """One filter of one data set, with the function that decodes it."""

    name: str
    function: Decode
    values: Values
    max_bytes: int  # upper bound of the size of its output
    is_exact: bool  # the output has exactly this size: no compressor precedes it in stored order

    def decode(self, data: Bytes, out: Bytes) -> Bytes:
        """Decode one filter; the result may be a view of `out` or of `data`."""
        if len(data) == 0:
            raise CodecError(f"{self.name}: there are no bytes")
        try:
            found = self.function(self.values, data, out)
        except CODEC_ERRORS as error:
            raise CodecError(f"{self.name}: {error}") from error
        if self.is_exact and len(found) != self.max_bytes:
            raise CodecError(
                f"{self.name}: {len(found)} bytes came out instead of {self.max_bytes}"
            )
        return found


def _never(_values: Values, _itemsize: int) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Codec:
    """How one filter is decoded, and what that needs."""

    name: str
    decode: Decode
    num_added: int | None = None  # bytes that encoding adds; None: unknown, because it compresses
    codecs: tuple[str, ...] = ()  # codecs of imagecodecs that `decode` needs
    slow: Decode | None = None  # a decoder that needs no library
    why_not: Callable[[Values, int], str | None] = _never  # of its values and the item size

    @property
    def is_fast(self) -> bool:
        """Whether the codecs that `decode` needs are installed."""
        library = imagecodecs()
        return not self.codecs or (
            library is not None and all(getattr(library, name).available for name in self.codecs)
        )


def _key(entry: Filter) -> tuple[int, bool]:
    """Return the filter code, and whether it is bitshuffle without a compressor."""
    return entry.code, entry.code == 32008 and not any(entry.values[4:5])


def _why_not_shuffle(values: Values, _itemsize: int) -> str | None:
    if len(values) == 1 and values[0] > 0:  # required by H5Z__filter_shuffle
        return None
    return f"its shuffle filter states no element size ({values!r})"


def _why_not_bzip2(_values: Values, _itemsize: int) -> str | None:
    try:
        import_module("bz2")
    except ImportError:
        return "bzip2 needs a Python that was built with bz2"
    return None


def _why_not_bitshuffle(values: Values, itemsize: int) -> str | None:
    # major, minor, element size, elements of a block or 0, compressor or 0 (bshuf_h5filter.c)
    _, _, element, block, compressor, *_ = (*values, 0, 0, 0, 0, 0)
    if element == 0 or itemsize % element or block % 8 or compressor not in (0, 2, 3):
        return f"its bitshuffle filter has parameters that make no sense here ({values!r})"
    return None


_CODECS: Final = {
    (1, False): Codec("gzip", decode_gzip, codecs=("DEFLATE",), slow=decode_gzip_slowly),
    (2, False): Codec("shuffle", decode_shuffle, num_added=0, why_not=_why_not_shuffle),
    (3, False): Codec("fletcher32", decode_fletcher32, num_added=4),
    (307, False): Codec("bzip2", decode_bzip2, why_not=_why_not_bzip2),
    (32000, False): Codec("lzf", decode_lzf),
    (32001, False): Codec("blosc", decode_blosc, codecs=("BLOSC",)),
    (32004, False): Codec("lz4", decode_lz4, codecs=("LZ4",)),
    (32008, False): Codec(
        "bitshuffle",
        decode_packed_bitshuffle,
        codecs=("BITSHUFFLE", "LZ4", "ZSTD"),
        why_not=_why_not_bitshuffle,
    ),
    (32008, True): Codec(
        "bitshuffle",
        decode_plain_bitshuffle,
        num_added=0,
        codecs=("BITSHUFFLE",),
        why_not=_why_not_bitshuffle,
    ),
    (32015, False): Codec("zstd", decode_zstd, codecs=("ZSTD",)),
}
