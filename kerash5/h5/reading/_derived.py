"""Rows derived from the rows of another reader: selected values, or values computed from them.

A `RowFunction` transforms rows, and a `DerivedReader` applies it. Both can be pickled.
`h5/columns/_functions` has the functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import ColumnError
from kerash5.h5.reading._buffers import empty
from kerash5.h5.reading._readers import AbstractReader, as_copied
from kerash5.h5.reading._runs import Runs

_SLAB_BYTES: Final = 32 << 20  # bytes of rows of the base that are read at a time


class UnfitRowError(ValueError):
    """A row that a function cannot be applied to.

    Args:
        place: Index of the row in the array passed to the function.
        words: What is wrong, as a predicate that begins with its verb.
    """

    def __init__(self, place: int, words: str) -> None:
        super().__init__(words)
        self.place = place


class RowFunction(ABC):
    """Transforms each row on its own. It is immutable and can be pickled."""

    row_shape: tuple[int, ...]  # of the results
    dtype: np.dtype
    categories: tuple[str, ...] | None = None  # names of the resulting class ids
    selects_values = False  # whether the results are values of the base

    @abstractmethod
    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return the results, shape (n, *row_shape), for base rows of shape (n, ...), n >= 0."""

    @abstractmethod
    def describe(self) -> str:
        """Describe the transformation of a row in a few words."""


@final
class DerivedReader(AbstractReader):
    """Reads rows of another reader, and applies a function to them.

    Args:
        base: The other reader.
        function: The function to apply.
        where: The column and its file, for messages about a row.
    """

    def __init__(self, base: AbstractReader, function: RowFunction, where: str = "") -> None:
        self.base = base
        self._where = where
        self.function = function
        self.num_rows = base.num_rows
        self.row_shape = function.row_shape
        self.dtype = function.dtype
        self.block_rows = base.block_rows
        self.is_direct = base.is_direct
        self.other_files = base.other_files
        self.origin = base.origin
        if function.dtype.hasobject:
            self.object_bytes = base.object_bytes
        self.categories = base.categories if function.selects_values else function.categories

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their positions in `out`."""
        read_runs_together([(self, out)], runs)

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the requested order."""
        if shard[0] == 0:
            read_rows_together([(self, out)], rows, positions)

    def describe(self) -> str:
        """Describe how the rows are read and transformed."""
        return f"{self.base.describe()}; {self.function.describe()}"

    def apply(self, rows: np.ndarray, numbers: Callable[[], NDArray[np.int64]]) -> np.ndarray:
        """Return the transformed rows of the root reader.

        Args:
            rows: Rows of the root reader (`root_of`), shape (n, ...).
            numbers: Returns the row numbers, shape (n,), for messages about a row.
        """
        if isinstance(self.base, DerivedReader):
            rows = self.base.apply(rows, numbers)
        try:
            return self.function.apply(rows)
        except UnfitRowError as error:
            row = int(numbers()[error.place])
            raise ColumnError(f"row {row} of {self._where} {error}") from error


Target = tuple[AbstractReader, np.ndarray]  # a reader, and its output buffer


def root_of(reader: AbstractReader) -> AbstractReader:
    """Return the reader whose rows a reader is derived from; itself if it is not derived."""
    while isinstance(reader, DerivedReader):
        reader = reader.base
    return reader


def read_runs_together(targets: Sequence[Target], runs: Runs) -> None:
    """Read runs of rows for readers of the same root, whose rows are read once.

    Args:
        targets: The readers, each with the `out` of `read_runs`.
        runs: The rows.
    """
    root = root_of(targets[0][0])
    for some in _split_runs(runs, _most_rows(root)):
        lengths = some.stops - some.starts
        positions = np.cumsum(lengths) - lengths
        rows = empty((int(lengths.sum()), *root.row_shape), root.dtype)
        root.read_runs(Runs(some.starts, some.stops, positions), rows)
        for reader, out in targets:
            made = as_copied(_apply(reader, rows, partial(_numbers_of, some)))
            for place, goes, length in zip(
                positions.tolist(), some.positions.tolist(), lengths.tolist(), strict=True
            ):
                as_copied(out)[goes : goes + length] = made[place : place + length]


def read_rows_together(
    targets: Sequence[Target], rows: NDArray[np.int64], positions: NDArray[np.int64] | None = None
) -> None:
    """Read rows in the requested order for readers of the same root, whose rows are read once.

    Args:
        targets: The readers, each with the `out` of `read_rows`.
        rows: As in `read_rows`.
        positions: As in `read_rows`.
    """
    root = root_of(targets[0][0])
    most = _most_rows(root)
    if len(rows) > most:
        # In file order, so that slabs do not decode the same chunks again.
        order = np.argsort(rows, kind="stable")
        rows, positions = rows[order], order if positions is None else positions[order]
    for start in range(0, len(rows), most):
        some = rows[start : start + most]
        stored = empty((len(some), *root.row_shape), root.dtype)
        root.read_rows(some, stored)
        goes = slice(start, start + most) if positions is None else positions[start : start + most]
        for reader, out in targets:
            as_copied(out)[goes] = as_copied(_apply(reader, stored, partial(np.asarray, some)))


def _apply(
    reader: AbstractReader, rows: np.ndarray, numbers: Callable[[], NDArray[np.int64]]
) -> np.ndarray:
    return reader.apply(rows, numbers) if isinstance(reader, DerivedReader) else rows


def _most_rows(root: AbstractReader) -> int:
    return max(1, _SLAB_BYTES // max(1, root.row_bytes))


def _numbers_of(runs: Runs) -> NDArray[np.int64]:
    return np.concatenate([np.arange(start, stop) for start, stop, _ in runs])


def _split_runs(runs: Runs, most: int) -> list[Runs]:
    """Return the same runs in groups of at most `most` rows; longer runs are split."""
    lengths = runs.stops - runs.starts
    if int(lengths.sum()) <= most:
        return [runs] if len(runs) else []
    pieces = [
        (low, min(low + most, stop), place + low - start)
        for start, stop, place in runs
        for low in range(start, stop, most)
    ]
    groups: list[list[tuple[int, int, int]]] = [[]]
    count = 0
    for run in pieces:
        if count + run[1] - run[0] > most and groups[-1]:
            groups.append([])
            count = 0
        groups[-1].append(run)
        count += run[1] - run[0]
    return [Runs(*np.array(group, np.int64).T) for group in groups]
