"""Measure how fast a user's file is read, compared with h5py and with arrays in memory.

All ways take turns, round by round, and are compared within a round. A slow way is measured over as
many batches as `seconds` allow. `_words` formats the result as a table and a sentence.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import h5py

from kerash5._backends import environment
from kerash5._errors import ColumnError, FileError, OptionError
from kerash5._json import write_values
from kerash5.batches._options import BatchOptions
from kerash5.batches.cache import parse_cache
from kerash5.benchmark._ways import ReadingWays
from kerash5.h5.storage._file import H5File, StrPath, find_file
from kerash5.h5.storage._find import list_datasets


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Measured reading speeds of one file. Made by `bench`.

    Args:
        path: Path of the file.
        columns: Paths of x and y.
        num_rows: Rows in an epoch.
        row_bytes: Bytes of one decoded row, over all columns.
        batch_size: Rows in a batch.
        cache_bytes: Memory that `cache` allows, in bytes.
        fits: Whether all rows fit in the cache.
        order: Description of the order of rows and of how they are read.
        speeds: Rows per second, one per round, by way.
        skipped: Why a way was not measured, by way.
        num_sampled: Rows that were rewritten; 0 without `rewrite`.
        environment: Machine and package versions.
    """

    path: str
    columns: tuple[str, ...]
    num_rows: int
    row_bytes: int
    batch_size: int
    cache_bytes: int
    fits: bool
    order: str
    speeds: Mapping[str, Sequence[float]]
    skipped: Mapping[str, str]
    num_sampled: int
    environment: Mapping[str, Any]

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows, decoded."""
        return self.num_rows * self.row_bytes

    def median(self, way: str) -> float | None:
        """Return the median rows per second of a way; None if it was not measured."""
        return statistics.median(self.speeds[way]) if way in self.speeds else None

    def ratio(self, way: str, of: str) -> float | None:
        """Return the median over rounds of the speed of one way / the speed of another."""
        if way not in self.speeds or of not in self.speeds:
            return None
        pairs = zip(self.speeds[way], self.speeds[of], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def save(self, path: StrPath) -> None:
        """Write all results as JSON.

        Raises:
            FileError: The file cannot be written.
        """
        try:
            Path(path).write_text(write_values(self) + "\n", encoding="utf-8")
        except OSError as error:
            raise FileError(
                f"{os.fspath(path)!r} cannot be written ({error.strerror}); name a file in an "
                "existing folder"
            ) from error


def bench(
    path: StrPath,
    x: str | None = None,
    y: str | None = None,
    *,
    batch_size: int = 256,
    rounds: int = 5,
    seconds: float = 3.0,
    cache: float | str = "auto",
    rewrite: bool = False,
) -> Reading:
    """Measure how fast shuffled batches of a file are read.

    A first round is not counted; it brings the file into the page cache of the operating system as
    far as it fits.

    Args:
        path: Path of one file.
        x: Path of the input data set; default: the largest one of numbers.
        y: Path of the labels; default: "label" if the file has it.
        batch_size: Rows in a batch.
        rounds: Number of timed rounds.
        seconds: Longest time of one way in a round, in seconds.
        cache: As in `H5Dataset`.
        rewrite: Also rewrite the first rows with `kerash5.write` in a temporary folder, and measure
            the first epoch on them and on the same rows of the file.

    Raises:
        FileError: The file is missing, damaged or not an HDF5 file.
        ColumnError: The file has no data set of numbers.
        OptionError: A number is out of range.
    """
    if rounds < 1 or not seconds > 0:
        raise OptionError(
            f"rounds={rounds!r}, seconds={seconds!r}; pass rounds of at least 1 and seconds above 0"
        )
    file = find_file(path)
    x, y = _choose_columns(file, x, y)
    options = BatchOptions(batch_size=batch_size, cache=cache)
    reading = ReadingWays(path, x, y, options, seconds)
    with tempfile.TemporaryDirectory(prefix="kerash5-bench-") as folder:
        ways, skipped = reading.ways(Path(folder) / "rewritten.h5" if rewrite else None)
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            turn = number % len(ways)
            for way in [*list(ways)[turn:], *list(ways)[:turn]]:  # no way is always first
                rows_per_second = ways[way]()
                if number:
                    speeds[way].append(rows_per_second)
    source = reading.batches.source
    return Reading(
        path=os.fspath(path),
        columns=tuple(reading.columns.values()),
        num_rows=len(source),
        row_bytes=source.row_bytes,
        batch_size=batch_size,
        cache_bytes=parse_cache(cache),
        fits=reading.batches.fits_memory,
        order=reading.batches.describe(),
        speeds=speeds,
        skipped=skipped,
        num_sampled=reading.num_sampled,
        environment=environment(),
    )


def _choose_columns(file: H5File, x: str | None, y: str | None) -> tuple[str, str | None]:
    with file.open() as handle:
        names = list_datasets(handle)
        if x is None:
            sizes = {name: _num_bytes(handle[name]) for name in names if name != y}
            x = max(sizes, key=sizes.__getitem__, default=None)
            if x is None or not sizes[x]:
                raise ColumnError(
                    f"{file.path!r} has no data set of numbers with rows; name a data set with --x"
                )
        y = "label" if y is None and "label" in names and x != "label" else y
    return x, y


def _num_bytes(dataset: h5py.Dataset) -> int:
    """Return the decoded bytes of a data set that can be a model's input, else 0."""
    try:
        is_input = dataset.shape and dataset.dtype.kind in "biufc"
        return int(dataset.size) * dataset.dtype.itemsize if is_input else 0
    except (OSError, RuntimeError, TypeError):
        return 0
