"""Runs of rows and their output positions, to be read in one call. Nothing here reads.

One call for many runs costs as much Python time as a call for one. Chunks of 600 kB decode in 170
us; a call for each took another 90 us, mostly with the GIL, while other threads waited for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Runs of rows [starts[i], stops[i]), read to out[positions[i]] and on; none is empty.

    Args:
        starts: The first row of each run, shape (n,).
        stops: The row after its last, shape (n,).
        positions: Position in the output of the first row of each run, shape (n,); runs do not
            overlap there.
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    positions: NDArray[np.int64]

    @classmethod
    def one(cls, start: int, stop: int) -> Runs:
        """Return the run [start, stop) at output position 0; no run if it is empty."""
        bounds = np.array([[start, stop, 0]] if start < stop else np.empty((0, 3)), np.int64)
        return cls(*bounds.T)

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop, place) of each run."""
        return zip(self.starts.tolist(), self.stops.tolist(), self.positions.tolist(), strict=True)

    def __getitem__(self, chosen: slice | NDArray[np.intp]) -> Runs:
        """Return some of the runs."""
        return Runs(self.starts[chosen], self.stops[chosen], self.positions[chosen])

    def counted_from(self, row: int) -> Runs:
        """Return the same runs with row numbers relative to `row`."""
        return Runs(self.starts - row, self.stops - row, self.positions)

    def joined(self) -> Runs:
        """Return fewer, longer runs: join runs that are adjacent in the file and the output."""
        lengths = self.stops - self.starts
        is_new = (self.starts[1:] != self.stops[:-1]) | (
            self.positions[1:] != self.positions[:-1] + lengths[:-1]
        )
        first = np.flatnonzero(np.append(True, is_new)[: len(self)])
        last = np.append(first[1:], len(self)) - 1 if len(first) else first
        return Runs(self.starts[first], self.stops[last], self.positions[first])
