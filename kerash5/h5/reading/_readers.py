"""Readers: row numbers in, rows out, for one data set of one file.

`H5pyReader` is the truth: it asks h5py for everything. The faster readers live in `_contiguous` and
must return the same bytes. Nothing here knows about columns or batches: see `h5/_source`.
"""

from __future__ import annotations

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

# Read at a time; and through the gaps of a chunk only while the rows between cost less than this.
_SLAB_BYTES: Final = 32 << 20


# Which object holds the rows, whatever its name: the file's device and inode, the object's address.
Origin: TypeAlias = tuple[int, int, int]


class AbstractReader(ABC):
    """Reads rows of one data set.

    A reader has no state but its description: it pickles, and any thread of any process may use it.
    """

    num_rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype
    block_rows: int  # rows that are stored, and so best read, together
    is_direct: bool  # single rows cost no more than their own bytes
    num_shares: int = 1  # that the bytes of a block can be read in, side by side
    other_files: tuple[H5File, ...] = ()  # that the rows come from, besides the reader's own
    origin: Origin | None = None  # None: of no data set

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded row."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize

    @abstractmethod
    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their places in `out`, shape (n, *row_shape), C-contiguous."""

    def read_range(self, start: int, stop: int, out: np.ndarray) -> None:
        """Read rows [start, stop) into `out`, shape (stop - start, *row_shape), C-contiguous."""
        self.read_runs(Runs.one(start, stop), out)

    @abstractmethod
    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        places: NDArray[np.int64] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the order asked for, repeats allowed.

        Args:
            rows: Their numbers, shape (n,).
            out: Where they go, shape (m, *row_shape), C-contiguous.
            places: Row i goes to out[places[i]], no two to the same; None: one after another.
            share: Do the how manyeth part of how many. Where rows are cut into several chunks,
                threads can do them side by side; elsewhere the first share is everything.
        """

    @abstractmethod
    def describe(self) -> str:
        """Say in words how the rows are reached."""


def as_copied(rows: np.ndarray) -> np.ndarray:
    """Return a view that is copied byte by byte: NumPy skips what lies between fields."""
    return rows if rows.dtype.names is None else rows.view(f"V{rows.dtype.itemsize}")


@final
class H5pyReader(AbstractReader):
    """Reads through h5py: slow when shuffled, and right by definition."""

    def __init__(self, file: H5File, path: str, layout: Layout, *, reason: str) -> None:
        self._file = file
        self._path = path
        self._reason = reason
        self._foreign_filters = layout.foreign_filters
        self.num_rows = layout.num_rows
        self.row_shape = layout.row_shape
        self.dtype = layout.dtype
        self.block_rows = layout.chunk_rows
        self.is_direct = False

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their places."""
        if not len(runs):
            return
        with self._file.open() as file:
            # Walked and checked by find_dataset when the reader was made.
            dataset = file[self._path]
            most = max(1, _SLAB_BYTES // max(1, self.row_bytes))
            for start, stop, place in runs.joined():
                for low in range(start, stop, most):
                    high, shift = min(low + most, stop), place - start
                    self._read_slab(dataset, low, high, out[low + shift : high + shift])

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        places: NDArray[np.int64] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the order asked for, each chunk at most once."""
        if share[0]:
            return
        ordered, back = np.unique(rows, return_inverse=True)
        is_ordered = len(ordered) == len(rows) and bool((ordered == rows).all())
        direct = is_ordered and places is None
        found = out if direct else np.empty((len(ordered), *self.row_shape), self.dtype)
        with self._file.open() as file:
            dataset = file[self._path]
            for first, last in self._slabs(ordered):
                self._read_part(dataset, ordered[first:last], found[first:last])
        if places is not None:
            as_copied(out)[places] = as_copied(found)[back]
        elif not direct:
            np.take(found, back, axis=0, out=out)

    def describe(self) -> str:
        """Say in words how the rows are reached, and why not faster."""
        return f"h5py ({self._reason})"

    def _slabs(self, ordered: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Cut sorted rows where the chunk changes.

        If a chunk is too large to read whole, cut them at every gap.
        """
        if self.block_rows > 1 and self.block_rows * self.row_bytes <= _SLAB_BYTES:
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
            load_filters(self._foreign_filters)  # again: this may be another process
            # Reading by slice, then copying, serves every type; read_direct refuses strings and
            # sub-arrays.
            as_copied(out)[...] = as_copied(dataset[start:stop])
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
    """Gives every row the same value: the label of a group of rows."""

    def __init__(self, value: np.ndarray, num_rows: int) -> None:
        self._value = value
        self.num_rows = num_rows
        self.row_shape = value.shape
        self.dtype = value.dtype
        self.block_rows = 1
        self.is_direct = True

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Fill the places of the runs with the value."""
        for start, stop, place in runs:
            out[place : place + stop - start] = self._value

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        places: NDArray[np.int64] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Fill the places of the rows with the value."""
        if share[0] == 0:
            out[slice(None) if places is None else places] = self._value

    def describe(self) -> str:
        """Say what the value is."""
        return f"the constant {self._value!s}"
