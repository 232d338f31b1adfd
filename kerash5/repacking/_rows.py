"""The rows of one data set, block by block, in their order or in another; bounded in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import h5py
import numpy as np
import psutil
from numpy.typing import NDArray

_BLOCK_BYTES: Final = 32 << 20  # read and written at a time
_MAX_MEMORY: Final = 2 << 30  # for one column that is put in another order
_OBJECT_BYTES: Final = 64  # roughly, of a value of any length


@dataclass(frozen=True, slots=True)
class RowSet:
    """A data set whose rows are written again.

    Args:
        path: Path in both files.
        shape: Its shape.
        item_bytes: Bytes of one value in the file; of text of any length those of its place.
        is_raw: Whether its values are copied as the bytes they are.
        is_shuffled: Whether its rows get a new order.
        chunk_rows: Rows of a chunk of the source.
    """

    path: str
    shape: tuple[int, ...]
    item_bytes: int
    is_raw: bool
    is_shuffled: bool
    chunk_rows: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return max(1, int(np.prod(self.shape[1:], dtype=np.int64)) * self.item_bytes)

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        return self.shape[0] * self.row_bytes

    def blocks(self, chunk_rows: int, start: int = 0) -> Iterator[tuple[int, int]]:
        """Yield ranges of rows that are read and written at once.

        Args:
            chunk_rows: Rows of a chunk of the new file: each is written once.
            start: The first row.
        """
        rows = max(1, _BLOCK_BYTES // self.row_bytes)
        if self.chunk_rows > rows and self.chunk_rows * self.row_bytes <= memory_limit():
            rows = self.chunk_rows  # else each chunk would be decoded for several blocks
        rows -= rows % self.chunk_rows if rows > self.chunk_rows else 0
        rows = max(chunk_rows, rows - rows % chunk_rows)
        for first in range(start, self.shape[0], rows):
            yield first, min(first + rows, self.shape[0])


def memory_limit() -> int:
    """Return the bytes that one column may take."""
    return min(_MAX_MEMORY, int(psutil.virtual_memory().available) // 4)


@final
class RowReader:
    """Reads rows of a data set in the order in which they are to be written.

    Args:
        dataset: The open data set.
        rows: What is known about it.
        order: The row of the source for each row, if it is shuffled.
        folder: A folder with space for a column that does not fit in memory.
    """

    def __init__(
        self, dataset: h5py.Dataset, rows: RowSet, order: NDArray[np.int64] | None, folder: str
    ) -> None:
        self._dataset = dataset
        self.rows = rows
        self._order = order if rows.is_shuffled else None
        self._folder = folder
        self._whole: np.ndarray | None = None
        self._spilled: int | None = None  # descriptor of a file of decoded rows, one after another

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the rows that go to [start, stop) of the new data set."""
        if self._order is None:
            return self._read_range(start, stop)
        numbers = self._order[start:stop]
        if not self.rows.is_raw and not self._fits():
            wanted, where = np.unique(numbers, return_inverse=True)  # h5py wants them ascending
            found: np.ndarray = self._dataset[wanted]
            return found[where]
        if self._fits():
            if self._whole is None:
                self._whole = self._read_range(0, self.rows.shape[0])
            return self._whole[numbers]
        return self._read_spilled(numbers)

    def close(self) -> None:
        """Free the memory or the disk space of a column."""
        self._whole = None
        if self._spilled is not None:
            os.close(self._spilled)
            self._spilled = None

    def _fits(self) -> bool:
        rows = self.rows
        size = rows.num_bytes * (1 if rows.is_raw else max(1, _OBJECT_BYTES // rows.item_bytes))
        return size <= memory_limit()

    def _read_range(self, start: int, stop: int) -> np.ndarray:
        if not self.rows.is_raw:
            found: np.ndarray = self._dataset[start:stop]
            return found
        return read_raw(self._dataset, start, stop)

    def _read_spilled(self, numbers: NDArray[np.int64]) -> np.ndarray:
        row_bytes = self.rows.row_bytes
        if self._spilled is None:
            self._spilled = self._spill()
        found = np.empty((len(numbers), row_bytes), np.uint8)
        for position in np.argsort(numbers, kind="stable"):  # ascending, for the disk
            piece = os.pread(self._spilled, row_bytes, int(numbers[position]) * row_bytes)
            found[position] = np.frombuffer(piece, np.uint8)
        return (
            found.reshape(-1)
            .view(f"V{self.rows.item_bytes}")
            .reshape(len(numbers), *self.rows.shape[1:])
        )

    def _spill(self) -> int:
        """Decode the rows once, to a file that has no name."""
        with tempfile.TemporaryFile(dir=self._folder) as stream:
            for start, stop in self.rows.blocks(1):
                stream.write(self._read_range(start, stop).data)
            stream.flush()
            return os.dup(stream.fileno())


def read_raw(dataset: h5py.Dataset, start: int, stop: int) -> np.ndarray:
    """Return the bytes of rows as they are stored, whatever their type, as values of dtype V."""
    kind = dataset.id.get_type()
    found = np.empty((stop - start, *dataset.shape[1:]), f"V{kind.get_size()}")
    memory, file = _spaces(dataset, start, stop)
    dataset.id.read(memory, file, found, mtype=kind)
    return found


def write_rows(dataset: h5py.Dataset, start: int, values: np.ndarray, *, is_raw: bool) -> None:
    """Write rows; raw ones as `read_raw` has read them."""
    stop = start + len(values)
    if not is_raw:
        dataset[start:stop] = values
        return
    memory, file = _spaces(dataset, start, stop)
    dataset.id.write(memory, file, np.ascontiguousarray(values), mtype=dataset.id.get_type())


def _spaces(dataset: h5py.Dataset, start: int, stop: int) -> tuple[Any, Any]:
    """Return the data spaces of some rows, in memory and in the file."""
    shape = (stop - start, *dataset.shape[1:])
    file = dataset.id.get_space()
    file.select_hyperslab((start, *(0 for _ in shape[1:])), shape)
    return h5py.h5s.create_simple(shape), file


def are_equal(one: np.ndarray, other: np.ndarray) -> NDArray[np.bool_]:
    """Return which rows have the same bytes, or the same objects, shape (n,)."""
    if one.dtype.hasobject:
        return np.array([_is_same(a, b) for a, b in zip(one, other, strict=True)], bool)
    flat = [np.ascontiguousarray(each).reshape(len(each), -1).view("u1") for each in (one, other)]
    return np.asarray((flat[0] == flat[1]).all(axis=1))


def _is_same(one: Any, other: Any) -> bool:  # noqa: ANN401  whatever h5py reads
    if isinstance(one, np.void) and one.dtype.names is not None:
        return all(_is_same(one[name], other[name]) for name in one.dtype.names)
    if isinstance(one, np.ndarray) and (one.dtype.hasobject or one.dtype.names is not None):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, np.ndarray | np.generic):
        return bool(one.dtype == other.dtype) and one.tobytes() == other.tobytes()
    return bool(one == other)
