"""Readers: row numbers in, rows out, for one data set of one file.

`H5pyReader` is the reference reader: it reads everything with h5py. The faster readers, in
`_contiguous` and `_chunk_readers`, return the same bytes. Nothing here knows about columns or
batches: see `h5/_source`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Final, TypeAlias, final

import h5py
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import BackendError, DamagedFileError, explain_system_error
from kerash5.h5.reading._cancel import check_stop
from kerash5.h5.reading._runs import Runs
from kerash5.h5.reading._timers import clocked
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._layout import Layout, load_filters
from kerash5.h5.storage._opening import HDF5_ERRORS, words_of

# Bytes read at a time. Rows in the gaps of a chunk are read only if the chunk is not larger.
_SLAB_BYTES: Final = 32 << 20
_BAND_BYTES: Final = 256 << 20  # the same, if another axis than the first counts rows
# Bytes read per range of a contiguous data set if another axis counts rows: one page of memory,
# because reading less takes a disk as long.
_PIECE_BYTES: Final = 4 << 10


# Identity of the object of the rows, independent of names: device and inode of the file, address.
Origin: TypeAlias = tuple[int, int, int]


class AbstractReader(ABC):
    """Reads rows of one data set.

    A reader is immutable: it can be pickled and used by any thread of any process.
    """

    num_rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype
    block_rows: int  # rows that are stored together, and best read together
    is_direct: bool  # whether reading a single row reads no more than its bytes
    num_shards: int = 1  # into how many shards threads can split one block
    other_files: tuple[H5File, ...] = ()  # other files that contain the rows
    origin: Origin | None = None  # None: not from a data set
    named_by: str | None = None  # data set with the category names, from an attribute
    object_bytes: int = 0  # approximate bytes of the object of a value, if values are objects
    categories: tuple[str, ...] | None = None  # names of the class ids, if rows are class ids

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded row."""
        return math.prod(self.row_shape) * (self.dtype.itemsize + self.object_bytes)

    @abstractmethod
    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their positions in `out`, shape (n, *row_shape), C-contiguous."""

    def read_range(self, start: int, stop: int, out: np.ndarray) -> None:
        """Read rows [start, stop) into `out`, shape (stop - start, *row_shape), C-contiguous."""
        self.read_runs(Runs.one(start, stop), out)

    @abstractmethod
    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the requested order, repeats allowed.

        Args:
            rows: Row numbers, shape (n,).
            out: Output buffer, shape (m, *row_shape), C-contiguous.
            positions: Row i is read to out[positions[i]], shape (n,), without repeats; None: to
                out[i].
            shard: (index, count); read only the `index`-th of `count` slices of the chunks, so that
                threads can split one block. A reader that cannot split its rows reads all of them
                for index 0, and none for the others.
        """

    @abstractmethod
    def describe(self) -> str:
        """Describe how the rows are read."""


def block_rows_along(layout: Layout, axis: int) -> int:
    """Return how many rows along an axis are best read together."""
    if layout.chunks is not None:
        return layout.chunks[axis]
    if axis == 0:
        return 1
    inner = int(np.prod(layout.shape[axis + 1 :], dtype=np.int64)) * layout.dtype.itemsize
    return max(1, min(layout.shape[axis], _PIECE_BYTES // max(1, inner)))


def describe_axis(layout: Layout, axis: int) -> str:
    """Describe the cost of a single row if another axis than the first counts rows."""
    block = block_rows_along(layout, axis)
    if layout.chunks is None:
        count = math.prod(layout.shape[:axis])
        cost = f"{count} piece{'s' * (count != 1)} of the file"
    else:
        count = math.prod(layout.grid[:axis] + layout.grid[axis + 1 :])
        size = count * layout.chunk_bytes / 1e6
        cost = f"{count} chunk{'s' * (count != 1)} ({size:.1f} MB decoded)"
    return f"rows along axis {axis}: a single row costs {cost}, and {block} rows no more"


def as_copied(rows: np.ndarray) -> np.ndarray:
    """Return a view that is copied byte by byte, because NumPy skips the bytes between fields."""
    if rows.dtype.names is None or rows.dtype.hasobject:
        return rows
    return rows.view(f"V{rows.dtype.itemsize}")


@final
class H5pyReader(AbstractReader):
    """Reads with h5py: slow for shuffled rows, and correct by definition.

    Args:
        file: The file.
        path: Path of the data set in the file.
        layout: Layout of the data set.
        reason: Why no faster reader is used, as text.
        fields: Read only these fields of a compound; None: all fields.
        axis: Which axis of the data set counts rows, from 0.
    """

    def __init__(
        self,
        file: H5File,
        path: str,
        layout: Layout,
        *,
        reason: str,
        fields: tuple[str, ...] | None = None,
        axis: int = 0,
    ) -> None:
        self._file = file
        self._path = path
        self._reason = reason
        self._fields = fields
        self._foreign_filters = layout.foreign_filters
        self._axis = axis
        self.num_rows = layout.shape[axis]
        self.row_shape = layout.shape[:axis] + layout.shape[axis + 1 :]
        self.dtype = layout.dtype
        if fields is not None:
            self.dtype = np.dtype([(name, layout.dtype[name]) for name in fields])
        self.block_rows = block_rows_along(layout, axis)
        self.is_direct = False
        # Along another axis a block of rows is a band of chunks. Each chunk is decoded only once if
        # the band is read at once.
        self._slab_bytes = _SLAB_BYTES if axis == 0 else _BAND_BYTES

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their positions in `out`."""
        if not len(runs):
            return
        with self._file.open() as file:
            # `find_dataset` checked the links when the reader was created.
            dataset = file[self._path]
            for start, stop, place in runs.joined():
                low, shift = start, place - start
                while low < stop:
                    high = min(self._slab_end(low), stop)
                    self._read_slab(dataset, low, high, out[low + shift : high + shift])
                    low = high

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the requested order, each chunk at most once."""
        if shard[0]:
            return
        ordered, back = np.unique(rows, return_inverse=True)
        is_ordered = len(ordered) == len(rows) and bool((ordered == rows).all())
        direct = is_ordered and positions is None
        found = out if direct else np.empty((len(ordered), *self.row_shape), self.dtype)
        with self._file.open() as file:
            dataset = file[self._path]
            for first, last in self._slabs(ordered):
                self._read_part(dataset, ordered[first:last], found[first:last])
        if positions is not None:
            as_copied(out)[positions] = as_copied(found)[back]
        elif not direct:
            np.take(found, back, axis=0, out=out)

    def describe(self) -> str:
        """Describe how the rows are read, and why no faster reader is used."""
        return f"h5py ({self._reason})"

    def _slab_end(self, start: int) -> int:
        """Return the end of the slab that starts at a row: the end of a chunk, unless too large."""
        row_bytes = max(1, self.row_bytes)
        most = max(1, _SLAB_BYTES // row_bytes)
        if self.block_rows * row_bytes > self._slab_bytes:
            return start + most
        most = max(1, most // self.block_rows) * self.block_rows
        return start - start % self.block_rows + most

    def _slabs(self, ordered: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Split sorted rows where the chunk changes.

        If a chunk is too large to read whole, split them at every gap.
        """
        if self.block_rows > 1 and self.block_rows * self.row_bytes <= self._slab_bytes:
            breaks = np.flatnonzero(np.diff(ordered // self.block_rows)) + 1
        else:
            breaks = np.flatnonzero(np.diff(ordered) != 1) + 1
        edges = [0, *breaks.tolist(), len(ordered)]
        return list(pairwise(edges)) if len(ordered) else []

    def _read_part(self, dataset: h5py.Dataset, rows: NDArray[np.int64], out: np.ndarray) -> None:
        start, stop = int(rows[0]), int(rows[-1]) + 1
        if stop - start == len(rows):
            self._read_slab(dataset, start, stop, out)
            return
        slab = np.empty((stop - start, *self.row_shape), self.dtype)
        self._read_slab(dataset, start, stop, slab)
        np.take(slab, rows - start, axis=0, out=out)

    @clocked("h5py")
    def _read_slab(self, dataset: h5py.Dataset, start: int, stop: int, out: np.ndarray) -> None:
        check_stop()
        try:
            load_filters(self._foreign_filters)  # repeated, because this may be another process
            # Reading a slice and copying it works for every type; read_direct rejects strings and
            # sub-arrays.
            asked = dataset if self._fields is None else dataset.fields(list(self._fields))
            found = asked[(slice(None),) * self._axis + (slice(start, stop),)]
            as_copied(out)[...] = np.moveaxis(as_copied(found), self._axis, 0)
        except HDF5_ERRORS as error:
            for file in (self._file, *self.other_files):
                file.check_unchanged()
            if missing := load_filters(self._foreign_filters):
                raise BackendError(
                    f"{self._path!r} in {self._file.path!r} is packed with {' + '.join(missing)}, "
                    "which HDF5 cannot unpack by itself; pip install 'kerash5[filters]'"
                ) from error
            what = f"{self._path!r} in {self._file.path!r}"
            raise explain_system_error(error, what) or DamagedFileError(
                f"{what} cannot be read at rows {start} to "
                f"{stop - 1} ({words_of(error)}); the file is damaged: copy or download it again"
            ) from error


@final
class ConstantReader(AbstractReader):
    """Reads the same value for every row, such as the label of a group of rows."""

    def __init__(self, value: np.ndarray, num_rows: int) -> None:
        self._value = value
        self.num_rows = num_rows
        self.row_shape = value.shape
        self.dtype = value.dtype
        self.block_rows = 1
        self.is_direct = True

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Fill the positions of the runs with the value."""
        for start, stop, place in runs:
            out[place : place + stop - start] = self._value

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Fill the positions of the rows with the value."""
        if shard[0] == 0:
            out[slice(None) if positions is None else positions] = self._value

    def describe(self) -> str:
        """Describe the value."""
        return f"the constant {self._value!s}"
