"""Whole data sets as rows: readers that wrap those of data sets that are all alike.

`join_datasets` chooses. Where each data set is read straight from the file, so are all of them
together, by one reader; else each has its own. `ValueReader` is for values that are so small that
they were read when the source was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5.h5.reading._chunk_readers import MappedReader
from kerash5.h5.reading._contiguous import ContiguousReader
from kerash5.h5.reading._descriptors import read_byte_ranges
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._runs import Runs
from kerash5.h5.storage._chunk_map import ChunkMap
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._layout import Layout

_MAX_SHARDS: Final = 8
_LARGE_BYTES: Final = 1 << 20  # of a row that several threads read together

Opened = tuple[Layout, AbstractReader]


def join_datasets(file: H5File, path: str, opened: Sequence[Opened]) -> AbstractReader:
    """Return a reader whose row i is the whole data set i.

    Args:
        file: The file of all data sets.
        path: Path of all data sets, for messages.
        opened: The data sets, of one shape and type.
    """
    layouts, readers = zip(*opened, strict=True)
    found = _join_mapped(file, path, layouts, readers) or _join_contiguous(file, path, readers)
    if found is None:
        return DatasetReader(readers)
    found.other_files = tuple(dict.fromkeys(f for one in readers for f in one.other_files))
    return found


def _join_mapped(
    file: H5File, path: str, layouts: Sequence[Layout], readers: Sequence[AbstractReader]
) -> AbstractReader | None:
    """Return one reader of the chunks of all data sets, if they are stored alike.

    It reads them as if they were one data set with an axis more, whose chunks have one row each.
    """
    mapped = [one for one in readers if isinstance(one, MappedReader)]
    first = layouts[0]
    if len(mapped) < len(readers) or any(_stored_as(one) != _stored_as(first) for one in layouts):
        return None
    maps = [one.chunk_map for one in mapped]
    joined = replace(
        first,
        shape=(len(layouts), *first.shape),
        maxshape=(len(layouts), *first.maxshape),
        rank=first.rank + 1,
        chunks=(1, *(first.chunks or ())),
        num_written_chunks=sum(one.num_written_chunks for one in layouts),
        num_stored_bytes=sum(one.num_stored_bytes for one in layouts),
    )
    chunk_map = ChunkMap(
        joined.grid,
        np.concatenate([one.offsets for one in maps]),
        np.concatenate([one.sizes for one in maps]),
        np.concatenate([one.masks for one in maps]),
    )
    return MappedReader(file, path, joined, chunk_map)


def _stored_as(layout: Layout) -> tuple[object, ...]:
    return (
        layout.shape,
        layout.rank,
        layout.dtype,
        layout.chunks,
        layout.filters,
        layout.edges_skip_filters,
        layout.fill_bytes,
        layout.first_byte,
    )


def _join_contiguous(
    file: H5File, path: str, readers: Sequence[AbstractReader]
) -> AbstractReader | None:
    contiguous = [one for one in readers if isinstance(one, ContiguousReader)]
    if len(contiguous) < len(readers):
        return None
    offsets = np.array([one.offset for one in contiguous], np.int64)
    return ContiguousDatasetReader(file, path, offsets, contiguous[0])


@final
class ContiguousDatasetReader(AbstractReader):
    """Reads contiguous data sets of one file, each a row, straight from the file."""

    def __init__(
        self, file: H5File, path: str, offsets: NDArray[np.int64], like: AbstractReader
    ) -> None:
        self._file = file
        self._path = path
        self._offsets = offsets
        self.num_rows = len(offsets)
        self.row_shape = (like.num_rows, *like.row_shape)
        self.dtype = like.dtype
        self.block_rows = 1
        self.is_direct = True

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their positions in `out`."""
        for start, stop, place in runs:
            count = np.arange(stop - start)
            self.read_rows(start + count, out, place + count)

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the requested order with one system call."""
        size = self.row_bytes
        if not len(rows) or shard[0] or not size:
            return
        goes = np.arange(len(rows)) if positions is None else positions
        read_byte_ranges(
            self._file,
            self._path,
            offsets=self._offsets[rows],
            sizes=np.full(len(rows), size),
            out=out.reshape(-1).view(np.uint8),
            positions=goes * size,
        )

    def describe(self) -> str:
        """Describe how the rows are read."""
        return "straight from the file (contiguous)"


@final
class DatasetReader(AbstractReader):
    """Reads data sets, each a row, by the reader of each.

    Args:
        datasets: The readers, whose rows agree in number, shape and type.
    """

    def __init__(self, datasets: Sequence[AbstractReader]) -> None:
        self._datasets = tuple(datasets)
        first = self._datasets[0]
        self.num_rows = len(self._datasets)
        self.row_shape = (first.num_rows, *first.row_shape)
        self.dtype = first.dtype
        self.block_rows = 1
        self.is_direct = all(one.is_direct for one in self._datasets)
        num_bands = -(-first.num_rows // max(1, first.block_rows))
        is_large = self.row_bytes >= _LARGE_BYTES and first.block_rows > 1
        self.num_shards = max(1, min(_MAX_SHARDS, num_bands)) if is_large else 1
        self.other_files = tuple(
            dict.fromkeys(f for one in self._datasets for f in one.other_files)
        )

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their positions in `out`."""
        for start, stop, place in runs:
            for row in range(start, stop):
                self._datasets[row].read_range(0, self.row_shape[0], out[place + row - start])

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the requested order, each once."""
        low, high = self._slice(shard)
        goes = range(len(rows)) if positions is None else positions.tolist()
        done: dict[int, int] = {}
        for row, place in zip(rows.tolist(), goes, strict=True):
            if low >= high:
                return
            if row in done:
                out[place, low:high] = out[done[row], low:high]
                continue
            done[row] = place
            self._datasets[row].read_range(low, high, out[place, low:high])

    def describe(self) -> str:
        """Describe how the first data set is read."""
        return self._datasets[0].describe()

    def _slice(self, shard: tuple[int, int]) -> tuple[int, int]:
        """Return the bounds [low, high) of a shard along axis 0 of each data set."""
        length, band = self.row_shape[0], max(1, self._datasets[0].block_rows)
        if self.num_shards == 1:
            return (0, 0) if shard[0] else (0, length)
        bands = -(-length // band)
        low, high = (bands * number // shard[1] * band for number in (shard[0], shard[0] + 1))
        return min(low, length), min(high, length)


@final
class ValueReader(AbstractReader):
    """Returns values that were read when the source was created: attributes and single numbers.

    Args:
        values: One value for each row, shape (num_rows, *row_shape).
        where: Where the values are from, as text.
    """

    def __init__(self, values: np.ndarray, where: str) -> None:
        self._values = values
        self._where = where
        self.num_rows = len(values)
        self.row_shape = values.shape[1:]
        self.dtype = values.dtype
        self.block_rows = 1
        self.is_direct = True

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Copy runs of values to their positions in `out`."""
        for start, stop, place in runs:
            out[place : place + stop - start] = self._values[start:stop]

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Copy values in the requested order."""
        if shard[0] == 0:
            out[slice(None) if positions is None else positions] = self._values[rows]

    def describe(self) -> str:
        """Describe where the values are from."""
        return f"when the source was made ({self._where})"
