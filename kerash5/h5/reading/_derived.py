"""Rows made of the rows of another reader: some values of each, or others computed from them.

A `RowFunction` says what becomes of rows, and a `DerivedReader` applies it. Both pickle. What the
functions are: see `h5/columns/_functions`.
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

_SLAB_BYTES: Final = 32 << 20  # of rows of the base, read at a time


class UnfitRowError(ValueError):
    """Says what is wrong with one of the rows that a function was applied to.

    Args:
        place: Its place among them.
        words: What is wrong, as a sentence that begins with its verb.
    """

    def __init__(self, place: int, words: str) -> None:
        super().__init__(words)
        self.place = place


class RowFunction(ABC):
    """Makes rows of rows, each of its own row alone. No state but its description: it pickles."""

    row_shape: tuple[int, ...]  # of what it makes
    dtype: np.dtype
    categories: tuple[str, ...] | None = None  # names of the class ids that it makes
    selects_values = False  # what it makes are values of the base

    @abstractmethod
    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return shape (n, *row_shape) for rows of the base, shape (n, ...), n perhaps 0."""

    @abstractmethod
    def describe(self) -> str:
        """Return a few words about what it makes of a row."""


@final
class DerivedReader(AbstractReader):
    """Reads rows of another reader, and applies a function to them.

    Args:
        base: The other reader.
        function: What is applied.
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
        """Read runs of rows to their places."""
        read_runs_together([(self, out)], runs)

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        places: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the order asked for."""
        if shard[0] == 0:
            read_rows_together([(self, out)], rows, places)

    def describe(self) -> str:
        """Say in words how the rows are reached, and what is made of them."""
        return f"{self.base.describe()}; {self.function.describe()}"

    def apply(self, rows: np.ndarray, numbers: Callable[[], NDArray[np.int64]]) -> np.ndarray:
        """Return what becomes of rows of the root.

        Args:
            rows: Of the reader that stands at the root of this one.
            numbers: Returns those of the rows, for what the function refuses.
        """
        if isinstance(self.base, DerivedReader):
            rows = self.base.apply(rows, numbers)
        try:
            return self.function.apply(rows)
        except UnfitRowError as error:
            row = int(numbers()[error.place])
            raise ColumnError(f"row {row} of {self._where} {error}") from error


Target = tuple[AbstractReader, np.ndarray]  # a reader, and where its rows go


def root_of(reader: AbstractReader) -> AbstractReader:
    """Return the reader whose rows another one is made of; itself, if it is made of none."""
    while isinstance(reader, DerivedReader):
        reader = reader.base
    return reader


def read_runs_together(targets: Sequence[Target], runs: Runs) -> None:
    """Read runs of rows by readers of one root, whose rows are read once.

    Args:
        targets: The readers, each with the array that `read_runs` takes.
        runs: The rows.
    """
    root = root_of(targets[0][0])
    for some in _split_runs(runs, _most_rows(root)):
        lengths = some.stops - some.starts
        places = np.cumsum(lengths) - lengths
        rows = empty((int(lengths.sum()), *root.row_shape), root.dtype)
        root.read_runs(Runs(some.starts, some.stops, places), rows)
        for reader, out in targets:
            made = as_copied(_apply(reader, rows, partial(_numbers_of, some)))
            for place, goes, length in zip(
                places.tolist(), some.places.tolist(), lengths.tolist(), strict=True
            ):
                as_copied(out)[goes : goes + length] = made[place : place + length]


def read_rows_together(
    targets: Sequence[Target], rows: NDArray[np.int64], places: NDArray[np.int64] | None = None
) -> None:
    """Read rows in the order asked for by readers of one root, whose rows are read once.

    Args:
        targets: The readers, each with the array that `read_rows` takes.
        rows: As there.
        places: As there.
    """
    root = root_of(targets[0][0])
    most = _most_rows(root)
    if len(rows) > most:
        # In file order, so that slabs do not decode the same chunks again.
        order = np.argsort(rows, kind="stable")
        rows, places = rows[order], order if places is None else places[order]
    for start in range(0, len(rows), most):
        some = rows[start : start + most]
        stored = empty((len(some), *root.row_shape), root.dtype)
        root.read_rows(some, stored)
        goes = slice(start, start + most) if places is None else places[start : start + most]
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
    """Return the same runs in groups of at most `most` rows; long ones are cut."""
    lengths = runs.stops - runs.starts
    if int(lengths.sum()) <= most:
        return [runs] if len(runs) else []
    cut = [
        (low, min(low + most, stop), place + low - start)
        for start, stop, place in runs
        for low in range(start, stop, most)
    ]
    groups: list[list[tuple[int, int, int]]] = [[]]
    count = 0
    for run in cut:
        if count + run[1] - run[0] > most and groups[-1]:
            groups.append([])
            count = 0
        groups[-1].append(run)
        count += run[1] - run[0]
    return [Runs(*np.array(group, np.int64).T) for group in groups]
