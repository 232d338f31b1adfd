"""The fast readers: bytes from the file to their place without HDF5's lock.

`ContiguousReader` gathers rows of contiguous data with `pread`. `why_not_contiguous` says in words
why a data set does not qualify; what it refuses is read by `_readers.H5pyReader`, whose answer is
the law.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Final, cast, final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError
from kerash5.h5._file import FileIdentity, H5File
from kerash5.h5._layout import Layout
from kerash5.h5._readers import AbstractReader

_MAX_DESCRIPTORS: Final = 64
_MAX_PREAD: Final = 1 << 30  # one call returns at most 2,147,479,552 bytes on Linux


def why_not_contiguous(layout: Layout, file_bytes: int) -> str | None:
    """Say why a data set cannot be read straight from the file at one offset; None if it can."""
    end = (layout.offset or 0) + layout.num_stored_bytes
    reasons = (
        (not hasattr(os, "preadv"), "this operating system has no preadv"),
        (layout.chunks is not None, "it is stored in chunks"),
        (layout.is_virtual or layout.has_external_bytes, "its bytes lie in other files"),
        (layout.offset is None, "it has no place in the file (compact, or never written)"),
        (
            not layout.dtype_is_exact,
            f"its stored type is converted on reading to {layout.dtype}",
        ),
        (
            not layout.is_plain_file,
            "the file is open for writing, has a driver of its own, or a user block this HDF5 "
            "miscounts",
        ),
        (
            layout.num_rows * layout.row_bytes != layout.num_stored_bytes,
            "its stored size is not that of its rows",
        ),
        (end > file_bytes, "its bytes lie past the end of the file"),
    )
    return next((reason for is_so, reason in reasons if is_so), None)


@final
class ContiguousReader(AbstractReader):
    """Reads contiguous data straight from the file with `pread`.

    Made only where `why_not_contiguous` is None.
    """

    def __init__(self, file: H5File, path: str, layout: Layout) -> None:
        self._file = file
        self._path = path
        self._offset = cast("int", layout.offset)
        self.num_rows = layout.num_rows
        self.row_shape = layout.row_shape
        self.dtype = layout.dtype
        self.block_rows = 1
        self.is_direct = True

    def read_range(self, start: int, stop: int, out: np.ndarray) -> None:
        """Read rows [start, stop) into `out` with as few system calls as possible."""
        self._read_runs(np.array([start]), np.array([0, stop - start]), out)

    def read_rows(self, rows: NDArray[np.int64], out: np.ndarray) -> None:
        """Read rows in the order asked for, neighbours with one system call."""
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        edges = np.concatenate([[0], breaks, [len(rows)]])
        self._read_runs(rows[edges[:-1]] if len(rows) else rows, edges, out)

    def describe(self) -> str:
        """Say in words how the rows are reached."""
        return "straight from the file (contiguous)"

    def _read_runs(
        self, firsts: NDArray[np.int64], edges: NDArray[np.int64], out: np.ndarray
    ) -> None:
        """Read runs of neighbouring rows.

        Run i begins at row firsts[i] and fills out[edges[i] : edges[i + 1]].
        """
        row_bytes = self.row_bytes
        if row_bytes == 0 or len(out) == 0:
            return
        place = out.reshape(-1).view(np.uint8).data
        starts = (firsts * row_bytes + self._offset).tolist()
        places = (edges * row_bytes).tolist()
        descriptor = _DESCRIPTORS.get(self._file)
        for offset, begin, end in zip(starts, places[:-1], places[1:], strict=True):
            _read(descriptor, self._file, self._path, offset, place[begin:end])


def read_bytes(file: H5File, path: str, offset: int, place: memoryview) -> None:
    """Fill `place` with the bytes of the file from `offset` on.

    Raises:
        DamagedFileError: The file ends before; the message names data set `path`.
        FileChangedError: It is not the file it was.
    """
    _read(_DESCRIPTORS.get(file), file, path, offset, place)


def _read(descriptor: _Descriptor, file: H5File, path: str, offset: int, place: memoryview) -> None:
    # pread, not seek + read: threads share the descriptor. In a loop: one call may return less
    # than asked.
    while place:
        count = os.preadv(descriptor.number, [place[:_MAX_PREAD]], offset)
        if count == 0:
            file.check_unchanged()
            raise DamagedFileError(
                f"{path!r} in {file.path!r} ends at byte {offset}, {len(place)} bytes early; the "
                "file is cut short: copy or download it again"
            )
        place = place[count:]
        offset += count


class _Descriptor:
    """A file descriptor that closes when nobody uses it any more, not before."""

    def __init__(self, file: H5File) -> None:
        file.check_unchanged()
        self.number = os.open(file.place, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        stat = os.fstat(self.number)  # again: it may have been replaced between the two calls
        if FileIdentity(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) != file.identity:
            file.check_unchanged()

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class _DescriptorPool:
    """The read-only descriptors of this process, least recently used first.

    There are at most `_MAX_DESCRIPTORS`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[H5File, _Descriptor] = OrderedDict()

    def get(self, file: H5File) -> _Descriptor:
        """Return a descriptor; it stays open as long as the caller holds it."""
        with self._lock:
            descriptor = self._open.pop(file, None) or _Descriptor(file)
            self._open[file] = descriptor
            while len(self._open) > _MAX_DESCRIPTORS:
                self._open.popitem(last=False)
            return descriptor

    def forget(self) -> None:
        """Start over in a forked child, where another thread's lock would never open."""
        self._lock = threading.Lock()


_DESCRIPTORS: Final = _DescriptorPool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_DESCRIPTORS.forget)
