"""The ways of reading one file that are compared: kerash5, h5py, and memory.

Each is a function that reads an epoch, or as much of it as time allows, and returns rows per
second. `_reading` collects the results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, final

import h5py
import numpy as np
import psutil
from numpy.typing import NDArray

from kerash5._errors import KerasH5Error
from kerash5.batches._batches import Batches, open_batches
from kerash5.batches._options import BatchOptions
from kerash5.h5 import Source, close_files, write
from kerash5.h5.storage._file import StrPath

FIRST, LATER, CACHED, H5PY, MEMORY, SAMPLE, REWRITTEN = (
    "kerash5, first epoch",
    "kerash5, later epochs",
    "kerash5, all rows cached",
    "h5py, sorted rows",
    "arrays in memory",
    "kerash5, a sample",
    "kerash5, the sample rewritten",
)
_MEMORY_FRACTION: Final = 0.4  # fraction of free memory that the arrays may use
_SAMPLE_BYTES: Final = 64 << 20  # decoded bytes of the rewritten sample


@final
class ReadingWays:
    """The ways of reading one file, ready to be measured."""

    def __init__(
        self, path: StrPath, x: str, y: str | None, options: BatchOptions, seconds: float
    ) -> None:
        self._path = path
        self.columns = {"x": x} | ({} if y is None else {"y": y})
        self._options = options
        self._seconds = seconds
        self.batches = self._open(options)
        self._epochs = 0
        self.num_sampled = 0
        if self.batches.fits_memory:
            _exhaust(self.batches.epoch(0))

    def ways(self, rewritten: Path | None) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
        """Return a function per way that measures it, and why others cannot be measured."""
        source = self.batches.source
        num_bytes = len(source) * source.row_bytes
        free = int(psutil.virtual_memory().available * _MEMORY_FRACTION)
        ways = {
            FIRST: lambda: self._speed(self._open(self._options).epoch(self._next())),
            LATER: lambda: self._speed(self.batches.epoch(self._next())),
        }
        skipped = {}
        try:
            next(self._by_h5py(0))
            ways[H5PY] = lambda: self._speed(self._by_h5py(self._next()))
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            skipped[H5PY] = f"h5py cannot read it ({error})"
        if 2 * num_bytes > free:
            reason = f"all rows need {num_bytes / 1e9:.1f} GB, but {free / 1e9:.1f} GB may be used"
            skipped[MEMORY] = reason
        else:
            arrays = _load(source)
            ways[MEMORY] = lambda: self._speed(self._gather(arrays, self._next()))
            if not self.batches.fits_memory:
                cached = self._open(BatchOptions(self._options.batch_size, cache=2 * num_bytes))
                _exhaust(cached.epoch(0))
                ways[CACHED] = lambda: self._speed(cached.epoch(self._next()))
        if rewritten is not None:
            try:
                ways |= self._sample_ways(rewritten)
            except KerasH5Error as error:
                skipped[REWRITTEN] = str(error)
        return ways, skipped

    def _open(self, options: BatchOptions, path: StrPath | None = None) -> Batches:
        columns = self.columns
        return open_batches(path or self._path, columns["x"], columns.get("y"), None, options)

    def _next(self) -> int:
        self._epochs += 1
        return self._epochs

    def _speed(self, batches: Iterator[Any]) -> float:
        """Return rows per second over an epoch, or as much of it as time allows."""
        num_rows = 0
        start = time.perf_counter()
        for batch in batches:
            num_rows += len(batch[0])
            if time.perf_counter() - start > self._seconds:
                break
        return num_rows / (time.perf_counter() - start)

    def _order(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        size = self._options.batch_size
        order = np.random.default_rng(epoch).permutation(len(self.batches.source))
        return (order[start : start + size] for start in range(0, len(order), size))

    def _by_h5py(self, epoch: int) -> Iterator[Any]:
        with h5py.File(self._path) as file:
            datasets = [file[path] for path in self.columns.values()]
            for rows in map(np.sort, self._order(epoch)):
                yield tuple(dataset[rows] for dataset in datasets)

    def _gather(self, arrays: Sequence[np.ndarray], epoch: int) -> Iterator[Any]:
        for rows in self._order(epoch):
            yield tuple(array[rows] for array in arrays)

    def _sample_ways(self, rewritten: Path) -> dict[str, Callable[[], float]]:
        source = self.batches.source
        num_rows = min(len(source), max(1, _SAMPLE_BYTES // source.row_bytes))
        self.num_sampled = num_rows
        sample = source.read(np.arange(num_rows))
        columns: dict[str, Any] = {self.columns[name]: rows for name, rows in sample.items()}
        write(rewritten, **columns)
        close_files()
        rows = slice(0, num_rows)
        options = BatchOptions(self._options.batch_size, rows=rows, cache=2 * _SAMPLE_BYTES)

        def first_epoch(path: StrPath) -> float:
            return self._speed(self._open(options, path).epoch(self._next()))

        return {
            SAMPLE: lambda: first_epoch(self._path),
            REWRITTEN: lambda: first_epoch(str(rewritten)),
        }


def _exhaust(batches: Iterator[Any]) -> None:
    for _ in batches:
        pass


def _load(source: Source) -> list[np.ndarray]:
    """Read all rows into memory."""
    arrays = source.allocate(len(source))
    starts = source.part_starts.tolist()
    for start, stop in pairwise(starts):
        source.load_range(start, stop, {name: array[start:stop] for name, array in arrays.items()})
    return list(arrays.values())
