"""The file offsets of all chunks of a data set, and the reasons not to read it by chunks.

`read_chunk_map` calls h5py once; a `ChunkMap` after that consists of plain arrays and can be sent
to other processes. `why_not_mapped` and `why_not_direct` derive their reasons from a `Layout`.
Nothing here decodes: see `_filters`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import h5py
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError, explain_system_error
from kerash5.h5.storage._filters import why_not_decodable
from kerash5.h5.storage._layout import MAX_CHUNK_BYTES, Layout
from kerash5.h5.storage._opening import HDF5_ERRORS, words_of

ALL_SKIPPED: Final = 0xFFFFFFFF  # the mask of a chunk that went through no filter at all

_MAX_CHUNKS: Final = 10_000_000  # 20 bytes each in the map
_BLOCK: Final = 8192  # chunks checked at a time; one StoreInfo of h5py takes 300 bytes
_SUPERBLOCK_BYTES: Final = 48  # the smallest (version 2 and 3, file format specification, II.A)
_MAX_INT64: Final = np.iinfo(np.int64).max

Reasons = Iterator[tuple[bool, str]]


@dataclass(frozen=True, slots=True, eq=False)
class ChunkMap:
    """The file offset of every chunk of one data set. Created by `read_chunk_map`; picklable.

    Chunks are numbered in C order over the grid; the arrays have shape (num_chunks,) and are
    read-only.
    """

    grid: tuple[int, ...]  # chunks along each axis, as `Layout.grid`
    offsets: NDArray[np.int64]  # bytes from the start of the file; -1: never written
    sizes: NDArray[np.int64]  # stored bytes; 0: never written
    masks: NDArray[np.uint32]  # bit i is set where filter i was skipped

    def __post_init__(self) -> None:
        for array in (self.offsets, self.sizes, self.masks):
            array.setflags(write=False)

    def __reduce__(self) -> tuple[type[ChunkMap], tuple[object, ...]]:
        # A pickled NumPy array loses its read-only flag.
        return type(self), (self.grid, self.offsets, self.sizes, self.masks)

    @property
    def num_chunks(self) -> int:
        """The number of chunks of the grid, written or not."""
        return len(self.offsets)

    def find_misplaced(self, first_byte: int, file_bytes: int) -> NDArray[np.int64]:
        """Return the chunks whose stored offsets or sizes cannot be right.

        Such a chunk raises an error only when it is read: the other chunks are sound, and h5py
        reads them, too.

        Args:
            first_byte: Offset of the HDF5 part of the file (`Layout.first_byte`).
            file_bytes: The size of the file.

        Returns:
            Numbers of the written chunks that overlap the superblock or reach past the end of the
            file, ascending, shape (n,); a sound file has none.
        """
        is_written = self.offsets >= 0
        is_low = self.offsets < first_byte + _SUPERBLOCK_BYTES
        # Not offset + size > file_bytes: the sum of two damaged numbers may wrap around.
        is_high = self.sizes > file_bytes - self.offsets
        return np.flatnonzero(is_written & (is_low | is_high))


def why_not_mapped(layout: Layout) -> str | None:
    """Return why the chunks cannot be read straight from the file; None if they can."""
    return _first(_why_not_unpacked(layout), _why_no_map(layout))


def why_not_direct(layout: Layout) -> str | None:
    """Return why HDF5 cannot read the stored chunks one by one; None if it can."""
    return _first(_why_not_unpacked(layout), _why_not_one_by_one(layout))


def _first(*rules: Reasons) -> str | None:
    return next((reason for rule in rules for is_so, reason in rule if is_so), None)


def _why_not_unpacked(layout: Layout) -> Reasons:
    """Yield the reasons not to decode the chunks here, however their bytes are read."""
    yield layout.is_virtual, "it is virtual: other data sets hold its bytes"
    yield layout.has_external_bytes, "its bytes lie in other files"
    yield layout.chunks is None, "it is not stored in chunks"
    yield layout.num_rows * layout.row_bytes == 0, "it holds no values"
    yield (
        not layout.dtype_is_exact,
        f"its stored type is converted on reading to {layout.dtype}",
    )
    undecodable = why_not_decodable(layout.filters, layout.element_bytes)
    yield undecodable is not None, undecodable or ""
    yield (
        layout.chunk_bytes > MAX_CHUNK_BYTES,
        f"each of its chunks holds {layout.chunk_bytes:,} bytes, more than the "
        f"{MAX_CHUNK_BYTES:,} that are decoded at once",
    )
    yield (
        (layout.has_holes or layout.may_be_extensible_array) and layout.fill_bytes is None,
        "chunks of it may never have been written, and it has no fill value to read there",
    )
    yield (
        layout.edges_skip_filters is None,
        "chunks at its edges may have been stored without its filters, and HDF5 does not tell",
    )


def _why_no_map(layout: Layout) -> Reasons:
    """Yield the reasons why the offsets that HDF5 reports are wrong or cannot be used."""
    yield not hasattr(os, "preadv"), "this operating system has no preadv"
    yield not hasattr(h5py.h5d.DatasetID, "chunk_iter"), "this h5py cannot list chunks at once"
    yield not layout.is_plain_file, layout.why_not_plain or ""
    yield (
        layout.may_be_extensible_array,
        "only its axis "
        f"{layout.maxshape.index(None) if None in layout.maxshape else 0} may grow for ever, and "
        "HDF5 reports wrong offsets for such chunks",
    )
    yield (
        layout.num_chunks > _MAX_CHUNKS,
        f"it has {layout.num_chunks:,} chunks, more than the {_MAX_CHUNKS:,} of a map",
    )


def _why_not_one_by_one(layout: Layout) -> Reasons:
    """Yield the reasons why HDF5 cannot describe single chunks."""
    # get_chunk_info_by_coord has the same errors as chunk_iter (see _why_no_map).
    yield layout.has_holes, "some of its chunks were never written, and HDF5 mistakes which"
    yield (
        bool(layout.edges_skip_filters),
        "chunks at its edges were stored without its filters, which HDF5 tells of no single chunk",
    )


def read_chunk_map(dataset: h5py.Dataset, layout: Layout) -> ChunkMap:
    """Read the offsets, sizes and masks of all chunks, in one pass over the index.

    Takes 2 to 3 microseconds a chunk (benchmarks/map_chunks.py), and 20 bytes.

    Args:
        dataset: The data set.
        layout: Its layout, for which `why_not_mapped` is None.

    Raises:
        DamagedFileError: The index cannot be read, or lists a chunk twice, out of order or off
            the grid, which no sound file does.
    """
    collector = _Collector(dataset, layout)
    try:
        dataset.id.chunk_iter(collector.visit)
    except HDF5_ERRORS as error:
        what = f"{dataset.name!r} in {dataset.file.filename!r}"
        raise explain_system_error(error, what) or _damaged(
            dataset, f"cannot be read ({words_of(error)})"
        ) from error
    return collector.finish()


def cross_check(
    dataset: h5py.Dataset, chunk_map: ChunkMap, count: int = 3, num_sought: int = 4096
) -> bool:
    """Return whether chunks read at their mapped offsets equal those that HDF5 returns.

    Compares the first written chunk, the last and `count` - 2 between. A chunk that lies past the
    end of the file is skipped: it raises an error of its own when it is read. HDF5 iterates over
    its index for a map, and searches the index for a single chunk. In a damaged file the iteration
    may find chunks that the search does not. So `num_sought` chunks, or all, are searched for too,
    at 5 microseconds each.

    Args:
        dataset: The data set, of a file that HDF5 reads with its default driver.
        chunk_map: Its map.
        count: How many chunks to compare.
        num_sought: How many chunks to search for.
    """
    descriptor = dataset.file.id.get_vfd_handle()
    misplaced = chunk_map.find_misplaced(dataset.file.userblock_size, os.fstat(descriptor).st_size)
    sound = np.setdiff1d(np.flatnonzero(chunk_map.offsets >= 0), misplaced, assume_unique=True)
    if not len(sound):
        return True
    return all(
        _agrees(dataset, chunk_map, number, first, descriptor)
        for number, first in _spread(dataset, chunk_map, sound, count)
    ) and all(
        _is_found(dataset, first) for _, first in _spread(dataset, chunk_map, sound, num_sought)
    )


def _spread(
    dataset: h5py.Dataset, chunk_map: ChunkMap, chunks: NDArray[np.int64], count: int
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the number and the first element of `count` evenly spaced chunks, or of all."""
    chosen = chunks[np.unique(np.linspace(0, len(chunks) - 1, count).astype(np.int64))]
    indices = np.unravel_index(chosen, chunk_map.grid)
    firsts = [at * size for at, size in zip(indices, dataset.chunks, strict=False)]
    yield from zip(chosen.tolist(), map(tuple, np.stack(firsts, axis=1).tolist()), strict=True)


def _is_found(dataset: h5py.Dataset, first: tuple[int, ...]) -> bool:
    """Return whether HDF5 finds a chunk that was written; its bytes are not read."""
    try:
        dataset.id.read_direct_chunk(first, out=bytearray())
    except ValueError:  # the chunk was found, and the buffer is too small for it
        return True
    except (OSError, RuntimeError):
        return False
    return False


def _agrees(
    dataset: h5py.Dataset,
    chunk_map: ChunkMap,
    number: int,
    first: tuple[int, ...],
    descriptor: int,
) -> bool:
    try:
        told = dataset.id.read_direct_chunk(first)[1]
    except HDF5_ERRORS:
        return False
    size, offset = int(chunk_map.sizes[number]), int(chunk_map.offsets[number])
    return len(told) == size and os.pread(descriptor, size, offset) == told


class _Collector:
    """Collects h5py's descriptions of chunks, and checks them a block at a time."""

    def __init__(self, dataset: h5py.Dataset, layout: Layout) -> None:
        self._dataset = dataset
        self._layout = layout
        self._chunks = np.array(dataset.chunks, np.uint64)
        self._shape = np.array(dataset.shape, np.uint64)
        self._offsets = np.full(layout.num_chunks, -1, np.int64)
        self._sizes = np.zeros(layout.num_chunks, np.int64)
        self._masks = np.zeros(layout.num_chunks, np.uint32)
        self._last = -1
        self._block: list[h5py.h5d.StoreInfo] = []
        self._complaint: str | None = None

    def visit(self, info: h5py.h5d.StoreInfo) -> bool | None:
        """Add one description; a result other than None ends the iteration of HDF5."""
        self._block.append(info)
        if len(self._block) < _BLOCK:
            return None
        self._take_block()
        return None if self._complaint is None else True

    def finish(self) -> ChunkMap:
        """Return the map of all chunks that were added.

        Raises:
            DamagedFileError: A chunk was listed that no sound file lists.
        """
        if self._block and self._complaint is None:
            self._take_block()
        if self._complaint is not None:
            raise _damaged(self._dataset, self._complaint)
        if self._layout.edges_skip_filters:
            self._masks[_find_edges(self._layout)] = ALL_SKIPPED
        return ChunkMap(self._layout.grid, self._offsets, self._sizes, self._masks)

    def _take_block(self) -> None:
        origins, masks, offsets, sizes = zip(*self._block, strict=True)
        self._block.clear()
        firsts = np.array(origins, np.uint64)
        is_off = ((firsts % self._chunks != 0) | (firsts >= self._shape)).any(axis=1)
        if is_off.any():
            self._complaint = f"lists chunk {origins[is_off.argmax()]}, which is not on the grid"
            return
        axes = tuple((firsts // self._chunks).astype(np.int64).T)
        numbers = np.ravel_multi_index(axes, self._layout.grid[: self._layout.rank])
        goes_back = np.diff(numbers, prepend=self._last) <= 0
        if goes_back.any():
            self._complaint = f"lists chunk {origins[goes_back.argmax()]} twice or out of order"
            return
        self._last = int(numbers[-1])
        if None in offsets:  # no address: never written
            offsets = tuple(-1 if offset is None else offset for offset in offsets)
        self._offsets[numbers] = _as_int64(offsets)
        self._sizes[numbers] = _as_int64(sizes)
        self._masks[numbers] = masks


def _as_int64(values: Sequence[int]) -> NDArray[np.int64]:
    # Damaged files may have larger numbers. The largest int64 is also past the end of every file.
    if max(values) > _MAX_INT64:
        values = [min(value, _MAX_INT64) for value in values]
    return np.array(values, np.int64)


def _find_edges(layout: Layout) -> NDArray[np.int64]:
    """Return the numbers of the chunks that extend beyond the shape."""
    is_edge = np.zeros(layout.grid, np.bool_)
    for axis, (length, size) in enumerate(zip(layout.shape, layout.chunks or (), strict=True)):
        if length % size:
            np.moveaxis(is_edge, axis, 0)[-1] = True
    return np.flatnonzero(is_edge)


def _damaged(dataset: h5py.Dataset, complaint: str) -> DamagedFileError:
    return DamagedFileError(
        f"{dataset.name!r} in {dataset.file.filename!r} is damaged: the index of its chunks "
        f"{complaint}; copy or download the file again"
    )
