"""The fast readers: bytes from the file to their place without HDF5's lock.

`ContiguousReader` gathers rows of contiguous data, a batch of them with one system call where there
is such a call (see `_gather`). `why_not_contiguous` says in words why a data set does not qualify;
what it refuses is read by `_readers.H5pyReader`, whose answer is the law.
"""

from __future__ import annotations

import os
from typing import cast, final

import numpy as np
from numpy.typing import NDArray

from kerash5.h5._descriptors import read_runs
from kerash5.h5._file import H5File
from kerash5.h5._layout import Layout
from kerash5.h5._readers import AbstractReader


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
    """Reads contiguous data straight from the file.

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

    def read_range(
        self, start: int, stop: int, out: np.ndarray, share: tuple[int, int] = (0, 1)
    ) -> None:
        """Read rows [start, stop) into `out` with as few system calls as possible."""
        if share[0] == 0:
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
        read_runs(
            self._file,
            self._path,
            offsets=firsts * row_bytes + self._offset,
            sizes=np.diff(edges) * row_bytes,
            out=out.reshape(-1).view(np.uint8),
            places=edges[:-1] * row_bytes,
        )
