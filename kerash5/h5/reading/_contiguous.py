"""The fast readers: bytes from the file to their place without HDF5's lock.

`ContiguousReader` gathers rows of contiguous data, a batch of them with one system call where there
is such a call (see `_batched_pread`). `why_not_contiguous` says in words why a data set does not
qualify; what it refuses is read by `_readers.H5pyReader`, whose answer is the law.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import cast, final

import numpy as np
from numpy.typing import NDArray

from kerash5.h5.reading._descriptors import read_byte_ranges
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._runs import Runs
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._layout import Layout


def why_not_contiguous(layout: Layout, file_bytes: int) -> str | None:
    """Return why a data set cannot be read straight from the file at one offset; None if it can."""
    return next((reason for is_so, reason in _reasons(layout, file_bytes) if is_so), None)


def _reasons(layout: Layout, file_bytes: int) -> Iterator[tuple[bool, str]]:
    yield not hasattr(os, "preadv"), "this operating system has no preadv"
    yield layout.chunks is not None, "it is stored in chunks"
    yield layout.is_virtual or layout.has_external_bytes, "its bytes lie in other files"
    yield layout.offset is None, "it has no place in the file (compact, or never written)"
    if not layout.dtype_is_exact:  # the text of a type takes longer than all else here
        yield True, f"its stored type is converted on reading to {layout.dtype}"
    yield (
        not layout.is_plain_file,
        "the file is open for writing, has a driver of its own, or a user block this HDF5 "
        "miscounts",
    )
    row_bytes = layout.num_rows * layout.row_bytes
    yield row_bytes != layout.num_stored_bytes, "its stored size is not that of its rows"
    end = (layout.offset or 0) + layout.num_stored_bytes
    yield end > file_bytes, "its bytes lie past the end of the file"


@final
class ContiguousReader(AbstractReader):
    """Reads contiguous data straight from the file.

    Made only where `why_not_contiguous` is None.
    """

    def __init__(self, file: H5File, path: str, layout: Layout) -> None:
        self._file = file
        self._path = path
        self.offset = cast("int", layout.offset)
        self.num_rows = layout.num_rows
        self.row_shape = layout.row_shape
        self.dtype = layout.dtype
        self.block_rows = 1
        self.is_direct = True

    def read_runs(self, runs: Runs, out: np.ndarray) -> None:
        """Read runs of rows to their positions with as few system calls as possible."""
        joined = runs.joined()
        self._read(joined.starts, joined.stops - joined.starts, out, joined.positions)

    def read_rows(
        self,
        rows: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read rows in the requested order, adjacent ones with one system call."""
        if not len(rows) or shard[0]:
            return
        is_new = rows[1:] - rows[:-1] != 1
        if positions is not None:
            is_new |= positions[1:] - positions[:-1] != 1
        edges = np.flatnonzero(np.concatenate([[True], is_new, [True]]))
        first = edges[:-1]
        self._read(
            rows[first], np.diff(edges), out, first if positions is None else positions[first]
        )

    def describe(self) -> str:
        """Describe how the rows are read."""
        return "straight from the file (contiguous)"

    def read_pieces(
        self,
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64],
    ) -> None:
        """Read pieces of the data to `out`, which is C-contiguous; all are counted in bytes."""
        if len(offsets):
            read_byte_ranges(
                self._file,
                self._path,
                offsets=offsets + self.offset,
                sizes=sizes,
                out=out.reshape(-1).view(np.uint8),
                positions=positions,
            )

    def _read(
        self,
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64],
    ) -> None:
        """Read counts[i] rows from row starts[i] on to out[positions[i]] and after it."""
        row_bytes = self.row_bytes
        if row_bytes == 0 or len(starts) == 0:
            return
        read_byte_ranges(
            self._file,
            self._path,
            offsets=starts * row_bytes + self.offset,
            sizes=counts * row_bytes,
            out=out.reshape(-1).view(np.uint8),
            positions=positions * row_bytes,
        )
