"""Windows of a series as rows: values of axis 0 at equal distances, from any start.

`WindowReader` wraps the reader of the series. Values that several of the windows asked for have in
common are read and decoded once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5.h5.layouts._base import derive_origin
from kerash5.h5.reading._buffers import empty
from kerash5.h5.reading._readers import AbstractReader, as_copied
from kerash5.h5.reading._runs import Runs

_SLAB_BYTES: Final = 32 << 20  # of the series, read at a time
_BLOCK_BYTES: Final = 4 << 20  # of the windows that are best read together
_COPY_BYTES: Final = 1 << 20  # of windows that NumPy copies twice at a time
_TAIL_SHARE: Final = 8  # a block has so many times the chunks that it shares with the next one
_READ_THROUGH: Final = 4  # values read for each that is wanted; more, and each is asked for


@final
class WindowReader(AbstractReader):
    """Reads windows of a series.

    Args:
        series: The reader of the values.
        num_rows: Number of windows.
        first: Index of the first value of window 0.
        stride: Values from the first of one window to the first of the next.
        length: Values in a window; None for one, without an axis of its own.
        rate: Values from one value of a window to the next.
    """

    def __init__(
        self,
        series: AbstractReader,
        num_rows: int,
        *,
        first: int = 0,
        stride: int = 1,
        length: int | None = None,
        rate: int = 1,
    ) -> None:
        self._series = series
        self._first = first
        self._stride = stride
        self._length = length or 1
        self._rate = rate
        self._span = (self._length - 1) * rate + 1
        self.num_rows = num_rows
        self.row_shape = series.row_shape if length is None else (length, *series.row_shape)
        self.dtype = series.dtype
        self.block_rows = self._choose_block()
        self.is_direct = series.is_direct
        self.other_files = series.other_files
        self.categories = series.categories
        self.origin = derive_origin([series.origin], first, stride, length or 0, rate)

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of windows to their positions in `out`."""
        for start, stop, place in runs.joined():
            self._load(np.arange(start, stop), np.arange(place, place + stop - start), out)

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read windows in the requested order; values that they share are read once."""
        if shard[0] or not len(rows):
            return
        goes = np.arange(len(rows)) if positions is None else positions
        if (rows[1:] < rows[:-1]).any():
            order = np.argsort(rows, kind="stable")
            rows, goes = rows[order], goes[order]
        self._load(rows, goes, out)

    def describe(self) -> str:
        """Describe how the values are read."""
        return self._series.describe()

    def _choose_block(self) -> int:
        """Return how many windows are best read together.

        Windows that begin in one chunk reach into the next, which is decoded again for the block
        after it; so a block has several chunks, if they are small. A chunk that is in more windows
        than are worth keeping is decoded more than once, but never to more bytes than those windows
        have.
        """
        chunk_rows = self._series.block_rows
        chunk = max(1, chunk_rows // self._stride)  # windows that begin in it
        if chunk_rows == 1 or self._length == 1:
            return chunk
        row_bytes = max(1, self.row_bytes)
        most = max(1, max(_BLOCK_BYTES, chunk_rows * self._series.row_bytes) // row_bytes)
        if chunk > most:
            return -(-chunk // -(-chunk // most))
        num_shared = -(-max(0, self._span - self._stride) // chunk_rows)
        return chunk * max(1, min(_TAIL_SHARE * num_shared, most // chunk))

    def _load(self, rows: NDArray[np.int64], positions: NDArray[np.int64], out: np.ndarray) -> None:
        """Load windows in ascending order to their positions, so many that memory stays bounded."""
        starts = self._first + rows * self._stride
        # Values that each window adds to those before it.
        added = np.minimum(np.diff(starts, prepend=starts[:1] - self._span), self._span)
        most = max(_SLAB_BYTES // max(1, self._series.row_bytes), 2 * self._series.block_rows)
        slab = np.cumsum(added) // most
        edges = [0, *(np.flatnonzero(np.diff(slab)) + 1).tolist(), len(rows)]
        target = as_copied(out).reshape(len(out), self._length, *self._series.row_shape)
        for low, high in pairwise(edges):
            self._load_slab(starts[low:high], positions[low:high], target)

    def _load_slab(
        self, starts: NDArray[np.int64], positions: NDArray[np.int64], target: np.ndarray
    ) -> None:
        runs, which = _cover(starts, self._span)
        num_values = int((runs.stops - runs.starts).sum())
        if num_values > _READ_THROUGH * len(starts) * self._length:
            self._load_values(starts, positions, target)
            return
        values = empty((num_values, *self._series.row_shape), self.dtype)
        if len(runs) == 1 or self._series.is_direct:
            self._series.read_runs(runs, values)
        else:  # a chunk may hold several runs, and is decoded once
            lengths = runs.stops - runs.starts
            shift = np.repeat(runs.starts - runs.positions, lengths)
            self._series.read_rows(np.arange(num_values) + shift, values)
        self._copy(values, starts - (runs.starts - runs.positions)[which], positions, target)

    def _load_values(
        self, starts: NDArray[np.int64], positions: NDArray[np.int64], target: np.ndarray
    ) -> None:
        """Load windows whose values lie so far apart that each is asked for."""
        wanted = starts[:, None] + np.arange(self._length) * self._rate
        rows, back = np.unique(wanted, return_inverse=True)
        values = empty((len(rows), *self._series.row_shape), self.dtype)
        self._series.read_rows(rows, values)
        target[positions] = as_copied(values)[back.reshape(wanted.shape)]

    def _copy(
        self,
        values: np.ndarray,
        starts: NDArray[np.int64],
        positions: NDArray[np.int64],
        target: np.ndarray,
    ) -> None:
        """Copy windows, which begin at these values, to their positions."""
        values = as_copied(values)
        step = values.strides[0]
        windows = np.lib.stride_tricks.as_strided(
            values,
            (len(values) - self._span + 1, self._length, *values.shape[1:]),
            (step, step * self._rate, *values.strides[1:]),
            writeable=False,
        )
        if (chosen := _as_slice(starts)) and (goes := _as_slice(positions)):
            target[goes] = windows[chosen]
            return
        most = max(1, _COPY_BYTES // max(1, self.row_bytes))
        for low in range(0, len(starts), most):
            part = slice(low, low + most)
            target[positions[part]] = windows[starts[part]]


def _cover(starts: NDArray[np.int64], span: int) -> tuple[Runs, NDArray[np.int64]]:
    """Return the runs of values that windows of `span` values cover, and the run of each window.

    Args:
        starts: The first value of each, ascending.
        span: From the first value of a window to its last.
    """
    is_new = np.append(True, starts[1:] > starts[:-1] + span)
    first = np.flatnonzero(is_new)
    last = np.append(first[1:], len(starts)) - 1
    lows, highs = starts[first], starts[last] + span
    positions = np.cumsum(highs - lows) - (highs - lows)
    return Runs(lows, highs, positions), np.cumsum(is_new) - 1


def _as_slice(numbers: NDArray[np.int64]) -> slice | None:
    """Return the slice that chooses these numbers, if there is one."""
    first, last = int(numbers[0]), int(numbers[-1])
    step = int(numbers[1]) - first if len(numbers) > 1 else 1
    is_even = step > 0 and last - first == step * (len(numbers) - 1)
    if not is_even or (len(numbers) > 2 and (np.diff(numbers) != step).any()):
        return None
    return slice(first, last + 1, step)
