"""The parts of a source and their files; maps row numbers to parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import final

import numpy as np
from numpy.typing import NDArray

from kerash5.h5.storage._file import H5File


@final
class Parts:
    """Files, or groups of one file, whose rows are concatenated.

    Args:
        lengths: The number of rows of each part.
        files: For each part the files of its rows, without repeats.
    """

    def __init__(self, lengths: Sequence[int], files: Sequence[tuple[H5File, ...]]) -> None:
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._files = files
        self.all_files = self.files_of(range(len(files)))

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self._files)

    @property
    def num_rows(self) -> int:
        """Rows over all parts."""
        return int(self.starts[-1])

    def find(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the part of each row; shape (n,)."""
        if len(self) == 1:
            return np.zeros(len(rows), np.int64)
        return np.searchsorted(self.starts, rows, side="right") - 1

    def split(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp] | None]]:
        """Yield each part with some of the rows, and the indices of these rows; None for all."""
        if len(self) == 1:
            if len(rows):
                yield 0, None
            return
        part_of = self.find(rows)
        # One sort instead of a search per part: there may be thousands of files of one row each.
        order = np.argsort(part_of, kind="stable")
        ordered = part_of[order]
        edges = np.flatnonzero(np.diff(ordered, prepend=-1, append=-1))
        for low, high in pairwise(edges.tolist()):
            yield int(ordered[low]), order[low:high]

    def files_of(self, parts: Iterable[int]) -> tuple[H5File, ...]:
        """Return the files of some parts without repeats; a file may have many parts."""
        return tuple(dict.fromkeys(file for part in parts for file in self._files[part]))

    def check_unchanged(self, part: int) -> None:
        """Raise `FileChangedError` if a file of a part changed since it was first seen."""
        for file in self._files[part]:
            file.check_unchanged()
