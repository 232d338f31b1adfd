"""Rows whose values are ranges of flat data sets.

Row i has the values [offsets[i], offsets[i + 1]). `PaddedReader` pads them to rows of one length,
and `CsrReader` reads dense rows of a sparse matrix. A block of rows is one range of each flat data
set.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError
from kerash5.h5.reading._buffers import empty
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._runs import Runs

_MAX_VALUES: Final = 4 << 20  # read from a flat data set at a time
_MAX_BYTES: Final = 32 << 20  # bytes of dense rows that are created at a time


class _RangeReader(AbstractReader):
    """Reads rows from ranges of flat data sets; subclasses make rows of the ranges.

    Args:
        flat: The readers of the flat data sets; each value is one of their rows.
        offsets: Start of each row, then the end of the last; shape (num_rows + 1,), ascending, and
            within the flat data sets.
        row_shape: Shape of the resulting rows.
        dtype: Type of the resulting rows.
    """

    def __init__(
        self,
        flat: tuple[AbstractReader, ...],
        offsets: NDArray[np.int64],
        row_shape: tuple[int, ...],
        dtype: np.dtype,
    ) -> None:
        self._flat = flat
        self._offsets = offsets
        self.num_rows = len(offsets) - 1
        self.row_shape = row_shape
        self.dtype = dtype
        mean = max(1, int(offsets[-1] - offsets[0]) // max(1, self.num_rows))
        self.block_rows = max(1, min(max(one.block_rows for one in flat) // mean, self.num_rows))
        self.is_direct = all(one.is_direct for one in flat)
        self.other_files = tuple(dict.fromkeys(f for one in flat for f in one.other_files))
        self.origin = flat[0].origin

    @abstractmethod
    def _fill(self, rows: NDArray[np.int64], out: np.ndarray) -> None:
        """Read rows with these ascending numbers to `out`, shape (len(rows), *row_shape)."""

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their positions in `out`."""
        for start, stop, place in runs.joined():
            rows = np.arange(start, stop)
            for low, high in self._slabs(rows):
                self._fill(rows[low:high], out[place + low : place + high])

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the requested order."""
        if shard[0] or not len(rows):
            return
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        goes = order if positions is None else positions[order]
        for low, high in self._slabs(ordered):
            dense = empty((high - low, *self.row_shape), self.dtype)
            self._fill(ordered[low:high], dense)
            out[goes[low:high]] = dense

    def _slabs(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Yield bounds of slabs of at most `_MAX_VALUES` values and `_MAX_BYTES` bytes."""
        most_rows = max(1, _MAX_BYTES // max(1, self.row_bytes))
        ends = np.cumsum(self._offsets[rows + 1] - self._offsets[rows])
        low, before = 0, 0
        while low < len(rows):
            high = int(np.searchsorted(ends, before + _MAX_VALUES, side="right"))
            high = min(max(high, low + 1), low + most_rows, len(rows))
            yield low, high
            low, before = high, int(ends[high - 1])


def gather_ranges(
    flat: AbstractReader, starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> np.ndarray:
    """Return the values of some ranges of a flat data set, one range after another.

    Args:
        flat: Its reader.
        starts: The first value of each range, ascending.
        stops: The value after its last; no smaller than its start.
    """
    lengths = stops - starts
    total = int(lengths.sum())
    out = empty((total, *flat.row_shape), flat.dtype)
    some = lengths > 0
    starts, stops, lengths = starts[some], stops[some], lengths[some]
    if not total:
        return out
    positions = np.cumsum(lengths) - lengths
    if flat.block_rows > 1 and (starts[1:] != stops[:-1]).any():
        # By row numbers, so that a chunk with several ranges is decoded once.
        flat.read_rows(np.repeat(starts - positions, lengths) + np.arange(total), out)
    else:
        flat.read_runs(Runs(starts, stops, positions).joined(), out)
    return out


@final
class PaddedReader(_RangeReader):
    """Reads rows of any length, each padded or truncated to one length.

    Args:
        values: The values of all rows, one row after another.
        offsets: As in `_RangeReader`.
        pad_to: The length of the rows.
        pad_value: The value that short rows are padded with.
    """

    def __init__(
        self,
        values: AbstractReader,
        offsets: NDArray[np.int64],
        pad_to: int,
        pad_value: Any,  # noqa: ANN401  a value of the type of `values`
    ) -> None:
        super().__init__((values,), offsets, (pad_to, *values.row_shape), values.dtype)
        self._pad_to = pad_to
        self._pad_value = pad_value

    def _fill(self, rows: NDArray[np.int64], out: np.ndarray) -> None:
        starts = self._offsets[rows]
        lengths = np.minimum(self._offsets[rows + 1] - starts, self._pad_to)
        values = gather_ranges(self._flat[0], starts, starts + lengths)
        out[...] = self._pad_value
        is_value = np.arange(self._pad_to) < lengths[:, None]
        out[is_value] = values

    def describe(self) -> str:
        """Say in words how the rows are reached."""
        return f"{self._flat[0].describe()}; rows padded to {self._pad_to}, as their offsets say"


@final
class CsrReader(_RangeReader):
    """Reads dense rows of a sparse matrix that is stored row by row (CSR).

    Args:
        data: The stored values.
        indices: The column of each stored value.
        indptr: Start of each row in both, as `offsets` in `_RangeReader`.
        num_columns: Values in a dense row.
        what: The matrix and its file, for messages.
    """

    def __init__(
        self,
        data: AbstractReader,
        indices: AbstractReader,
        indptr: NDArray[np.int64],
        num_columns: int,
        what: str,
    ) -> None:
        super().__init__((data, indices), indptr, (num_columns,), data.dtype)
        self._what = what

    def _fill(self, rows: NDArray[np.int64], out: np.ndarray) -> None:
        starts, stops = self._offsets[rows], self._offsets[rows + 1]
        data = gather_ranges(self._flat[0], starts, stops)
        indices = gather_ranges(self._flat[1], starts, stops)
        width = self.row_shape[0]
        if indices.size and not (indices.min() >= 0 and indices.max() < width):
            raise DamagedFileError(
                f"{self._what} is damaged: its indices go from {indices.min()} to "
                f"{indices.max()}, and its rows have {width} values; copy or write it again"
            )
        positions = np.repeat(np.arange(len(rows)) * width, stops - starts)
        positions += indices.astype(np.int64)
        flat = out.reshape(-1)
        flat[...] = np.zeros((), self.dtype)
        if (positions[1:] > positions[:-1]).all():
            flat[positions] = data
        else:  # unsorted or repeated columns; repeated ones are summed
            np.add.at(flat, positions, data)

    def describe(self) -> str:
        """Say in words how the rows are reached."""
        stored = int(self._offsets[-1] - self._offsets[0])
        fraction = stored / max(1, self.num_rows * self.row_shape[0])
        return (
            f"{self._flat[0].describe()}; dense rows of a sparse matrix (CSR, {stored} values, "
            f"{fraction:.2g} of all)"
        )
