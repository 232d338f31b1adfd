"""Storage for cached rows: in memory, or in a scratch file.

A storage has a fixed number of row positions; `_resident` maps row numbers to them.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import threading
from abc import ABC, abstractmethod
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError, FileError
from kerash5.batches.cache._store import Arrays, gather_rows
from kerash5.h5 import Runs, Source
from kerash5.h5.reading._batched_pread import MOST_BYTES, gather
from kerash5.h5.reading._buffers import empty

_LOG: Final = logging.getLogger("kerash5")
_TINY_ROW_BYTES: Final = 64
_MOST_AT_ONCE: Final = (
    32 << 20
)  # decoded bytes of a block; larger ones are loaded by one thread at a time


class AbstractStorage(ABC):
    """Stores rows at positions 0 to `num_rows` - 1, each written once; thread-safe."""

    @abstractmethod
    def put(self, source: Source, runs: Runs) -> None:
        """Load runs of rows of the source to their positions."""

    @abstractmethod
    def read(self, positions: NDArray[np.int64]) -> Arrays:
        """Return the rows at these positions, as new arrays."""


@final
class MemoryStorage(AbstractStorage):
    """Stores rows in arrays."""

    def __init__(self, source: Source, num_rows: int) -> None:
        self._arrays = source.allocate(num_rows)

    def put(self, source: Source, runs: Runs) -> None:
        """Load runs of rows to their positions."""
        source.load_runs(runs, self._arrays)

    def read(self, positions: NDArray[np.int64]) -> Arrays:
        """Return the rows at these positions."""
        found = {}
        for name, array in self._arrays.items():
            # `np.take` releases the GIL; acquiring it again can take longer than copying labels.
            is_tiny = array.nbytes <= _TINY_ROW_BYTES * len(array)
            found[name] = array[positions] if is_tiny else gather_rows(array, positions)
        return found


@final
class ScratchFile(AbstractStorage):
    """Stores rows in an unlinked file, which is removed however the process ends.

    The columns follow one another, with rows as in memory, so that reading a batch takes a few
    system calls. All space is allocated first, so that a full disk is reported before anything is
    written. A forked child uses the same file; it writes the same bytes to the same positions.
    """

    def __init__(self, source: Source, num_rows: int, folder: str) -> None:
        self._folder = folder
        columns = source.columns.values()
        sizes = [column.loaded_row_bytes for column in columns]
        self._row_bytes = dict(zip(source.columns, sizes, strict=True))
        bases = np.cumsum([0, *sizes]) * num_rows
        self._bases = dict(zip(source.columns, bases.tolist(), strict=False))
        self._types = {name: (c.stored_shape, c.loaded_dtype) for name, c in source.columns.items()}
        self._large = threading.Lock()
        self._file = _OwnFile(folder, int(bases[-1]))
        _LOG.info(
            "rows that do not fit the cache are decoded once into a scratch file in %r "
            "(%.1f MB, gone when this process is)",
            folder,
            bases[-1] / 1e6,
        )

    def put(self, source: Source, runs: Runs) -> None:
        """Load runs of rows, and write them to their positions."""
        for start, stop, place in runs:
            is_large = (stop - start) * source.row_bytes > _MOST_AT_ONCE
            with self._large if is_large else nullcontext():
                self._put(place, source, start, stop)

    def after_fork(self) -> None:
        """Create a new lock: a thread of the parent process may have had the old one."""
        self._large = threading.Lock()

    def read(self, positions: NDArray[np.int64]) -> Arrays:
        """Return the rows at these positions."""
        found = {}
        for name, (shape, dtype) in self._types.items():
            size, array = self._row_bytes[name], empty((len(positions), *shape), dtype)
            if array.nbytes:
                offsets = self._bases[name] + positions * size
                self._file.read(offsets, size, array.reshape(-1).view(np.uint8))
            found[name] = array
        return found

    def _put(self, begin: int, source: Source, start: int, stop: int) -> None:
        rows = source.allocate(stop - start)
        source.load_range(start, stop, rows)
        for name, array in rows.items():
            place = self._bases[name] + begin * self._row_bytes[name]
            self._file.write(place, array.reshape(-1).view(np.uint8).data)


class _OwnFile:
    """An unlinked, preallocated temporary file; its space is freed with the last descriptor."""

    def __init__(self, folder: str, num_bytes: int) -> None:
        self._folder = folder
        self._num_bytes = num_bytes
        try:
            self._descriptor = _open_nameless(folder)
            self._reserve()
        except OSError as error:
            raise self._explain(error) from error

    def read(self, offsets: NDArray[np.int64], size: int, out: NDArray[np.uint8]) -> None:
        """Read ranges of `size` bytes at `offsets`, shape (n,), one after another into `out`."""
        positions = np.arange(len(offsets)) * size
        unread = np.arange(len(offsets))
        if size <= MOST_BYTES:
            unread = gather(self._descriptor, offsets, np.full(len(offsets), size), out, positions)
        for number in unread.tolist():
            place, offset = out[number * size : (number + 1) * size].data, int(offsets[number])
            while place:
                count = os.preadv(self._descriptor, [place[:MOST_BYTES]], offset)
                if not count:
                    raise DamagedFileError(
                        f"the scratch file in {self._folder!r} ends early: the disk lost what was "
                        "written; check it, and give another folder as scratch="
                    )
                place, offset = place[count:], offset + count

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes at an offset."""
        try:
            while data:
                count = os.pwrite(self._descriptor, data[:MOST_BYTES], offset)
                data, offset = data[count:], offset + count
        except OSError as error:
            raise self._explain(error) from error

    def _reserve(self) -> None:
        os.truncate(self._descriptor, self._num_bytes)
        if hasattr(os, "posix_fallocate") and self._num_bytes:
            try:
                os.posix_fallocate(self._descriptor, 0, self._num_bytes)
            except (
                OSError
            ) as error:  # the file system cannot preallocate; a full disk raises on writing
                if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                    raise

    def _explain(self, error: OSError) -> FileError:
        size = f"{self._num_bytes / 1e6:.1f} MB of decoded rows"
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            return FileError(
                f"no room for {size} in {self._folder!r} ({error.strerror}); free some, give a "
                "folder on a larger disk as scratch=, or use shuffle='chunks'"
            )
        return FileError(
            f"{size} cannot be written in {self._folder!r} ({error.strerror}); give a folder that "
            "this user may write in as scratch="
        )

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def _open_nameless(folder: str) -> int:
    if hasattr(os, "O_TMPFILE"):
        with suppress(OSError):  # not supported by some file systems
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    descriptor, name = tempfile.mkstemp(prefix=".kerash5-scratch-", dir=folder)
    Path(name).unlink()
    return descriptor
