"""How fast a user's own file is read, beside h5py and beside arrays in memory.

All ways take turns, round by round, and what counts is the share of the same round. A way that is
slow is measured over as many batches as `seconds` allow. In words and tables: see `_words`.
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
    """What reading one file was measured to be. Made by `bench`.

    Args:
        path: The file.
        columns: What was read: the paths of x and y.
        num_rows: Rows in an epoch.
        row_bytes: Bytes of one decoded row, over all columns.
        batch_size: Rows in a batch.
        cache_bytes: What `cache` allowed.
        fits: Whether all rows stay in memory within the cache.
        order: Which rows come when, and where they come from, in words.
        speeds: Rows per second, one per round, by way.
        skipped: Why a way was not measured.
        num_sampled: Rows that were rewritten; 0 if that was not asked for.
        environment: Machine and versions.
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
        """Return the rows per second of a way; None where it was not measured."""
        return statistics.median(self.speeds[way]) if way in self.speeds else None

    def share(self, way: str, of: str) -> float | None:
        """Return the median of one way's shares of another, round by round."""
        if way not in self.speeds or of not in self.speeds:
            return None
        pairs = zip(self.speeds[way], self.speeds[of], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def save(self, path: StrPath) -> None:
        """Write all figures as JSON.

        Raises:
            FileError: It cannot be written there.
        """
        try:
            Path(path).write_text(write_values(self) + "\n", encoding="utf-8")
        except OSError as error:
            raise FileError(
                f"{os.fspath(path)!r} cannot be written ({error.strerror}); name a file in a "
                "folder that is there"
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
    """Measure how fast shuffled batches of a file come.

    One round that is not counted comes first, so that the file is in the memory of the operating
    system as far as it fits there.

    Args:
        path: One file.
        x: The data set that a model takes; the largest one of numbers if not given.
        y: The labels; "label" if not given and there.
        batch_size: Rows in a batch.
        rounds: How often everything is measured.
        seconds: The most that one way takes in a round.
        cache: As `H5Dataset` takes it.
        rewrite: Also rewrite the first rows with `kerash5.write`, in a temporary folder, and
            measure the first epoch over them and over the same rows of the file as it is.

    Raises:
        FileError: The file is missing, damaged or no HDF5 file.
        ColumnError: There is nothing in it that a model could take.
        OptionError: A number makes no sense.
    """
    if rounds < 1 or not seconds > 0:
        raise OptionError(f"rounds={rounds!r}, seconds={seconds!r}; give at least one, and more")
    file = find_file(path)
    x, y = _choose_columns(file, x, y)
    options = BatchOptions(batch_size=batch_size, cache=cache)
    reading = ReadingWays(path, x, y, options, seconds)
    with tempfile.TemporaryDirectory(prefix="kerash5-bench-") as folder:
        ways, skipped = reading.ways(Path(folder) / "rewritten.h5" if rewrite else None)
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            turn = number % len(ways)
            for way in [*list(ways)[turn:], *list(ways)[:turn]]:  # none always comes first
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
                    f"{file.path!r} has no data set of numbers with rows; name the one to read "
                    "with --x"
                )
        y = "label" if y is None and "label" in names and x != "label" else y
    return x, y


def _num_bytes(dataset: h5py.Dataset) -> int:
    """Return the decoded bytes of what could be a model's input, else 0."""
    try:
        is_input = dataset.shape and dataset.dtype.kind in "biufc"
        return int(dataset.size) * dataset.dtype.itemsize if is_input else 0
    except (OSError, RuntimeError, TypeError):
        return 0
