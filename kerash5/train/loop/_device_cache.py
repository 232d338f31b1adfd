"""Rows cached on the device: a step gets row positions, and gathers its rows there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

import numpy as np
import psutil
from numpy.typing import NDArray

from kerash5._errors import OptionError
from kerash5.batches._batches import Batch
from kerash5.batches.cache import parse_size
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._served import served_by
from kerash5.train.engines import AbstractEngine
from kerash5.train.engines.common._stack import count_bytes, fill, leaves_of

DeviceCache = float | str | bool

# The same limit as for a stack of batches; larger data gain little from being on the device.
_AUTO_BYTES: Final = 32 << 20
_AUTO_FREE_SHARE: Final = 0.25  # fraction of the GPU's and of the host's free memory


@final
class DeviceRows:
    """The rows of a data set on the device. Made by `put_rows_on_device`.

    Args:
        train: The data set.
        rows: Row numbers in the order of the rows on the device.
    """

    def __init__(self, train: H5Dataset, rows: NDArray[np.int64]) -> None:
        self._train = train
        self._is_all = bool(np.array_equal(rows, np.arange(len(rows))))
        self._order = np.argsort(rows, kind="stable").astype(np.int32)
        self._sorted = rows[self._order]

    def positions(self, epoch: int, start: int = 0) -> Iterator[NDArray[np.int32]]:
        """Yield each batch's row positions, shape (rows,), in the order of `H5Dataset.batches`.

        Raises:
            FileChangedError: A file changed since it was opened.
        """
        train = self._train
        for index in range(start, len(train)):
            rows = train.plan.rows(epoch * len(train) + index)
            train.source.check_unchanged(rows)
            if self._is_all:
                yield rows.astype(np.int32)
            else:
                yield self._order[np.searchsorted(self._sorted, rows)]


def parse_device_cache(device_cache: DeviceCache) -> int | None:
    """Return the bytes that rows may take on the device; None for "auto".

    Raises:
        OptionError: It is not a size.
    """
    if device_cache == "auto":
        return None
    try:
        return 0 if device_cache is False else parse_size(device_cache)
    except OptionError as error:
        raise OptionError(
            f"device_cache={device_cache!r}; give 'auto', bytes, a size such as '2GB', or 0"
        ) from error


def put_rows_on_device(
    engine: AbstractEngine, train: H5Dataset, limit: int | None, batch: Batch, most_rows: int | None
) -> tuple[DeviceRows | None, str]:
    """Copy the rows of a data set to the device, if that is possible and worthwhile.

    Args:
        engine: A built engine.
        train: The training data.
        limit: Maximum bytes. None: 32 MiB, or a quarter of a GPU's free memory, but no more than a
            quarter of the host's; and no rows if the fit uses fewer rows than the data set has.
        batch: One batch of the data set.
        most_rows: Maximum number of rows that the fit will use, including repeats; None: no limit.

    Returns:
        The rows, or None; and a description of what was done, or why not.
    """
    num_bytes = count_bytes(batch) // len(leaves_of(batch)[0]) * train.num_rows
    most = _auto_limit(engine) if limit is None else limit
    reason = engine.why_not_on_device() or _why_not(train)
    if reason is None and limit is None and most_rows is not None and most_rows < train.num_rows:
        reason = f"the fit asks for {most_rows:,} of {train.num_rows:,} rows"
    if reason is None and num_bytes > most:
        reason = f"they take {num_bytes:,} bytes, and {most:,} are allowed"
    if reason is not None:
        return None, f"rows are not kept on the device: {reason}"
    served_by(train).warn()
    rows = served_by(train).rows_in_order()
    engine.put_rows_on_device(_read_all(train, len(rows)))
    train.release()
    return DeviceRows(train, rows), f"{len(rows):,} rows ({num_bytes:,} bytes) are on the device"


def _why_not(train: H5Dataset) -> str | None:
    if served_by(train).is_transformed:
        return "a transform makes each batch anew"
    if train.plan.drop_last == "pad":
        return "drop_last='pad' fills up the last batch"
    if train.plan.shard[1] > 1:
        return "this process has a shard of each epoch, never the same rows"
    return None


def _read_all(train: H5Dataset, count: int) -> Batch:
    """Return all rows as one batch."""
    found: list[np.ndarray] = []
    start, batch = 0, ()
    for batch in served_by(train).batches_in_order():
        parts = leaves_of(batch)
        found = found or [np.empty((count, *part.shape[1:]), part.dtype) for part in parts]
        for whole, part in zip(found, parts, strict=True):
            whole[start : start + len(part)] = part
        start += len(parts[0])
    return fill(batch, found)


def _auto_limit(engine: AbstractEngine) -> int:
    """Return the limit in bytes for device_cache="auto"."""
    free = engine.free_device_bytes()
    if free is None:
        return _AUTO_BYTES
    # All rows are briefly in the host's memory as well.
    return int(min(free, psutil.virtual_memory().available) * _AUTO_FREE_SHARE)
