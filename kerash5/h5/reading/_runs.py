"""Runs of rows, and where each goes: what is read together. Nothing here reads: these are numbers.

A list of runs costs Python what one of them does. Chunks of 600 kB decode in 170 us, and asking for
each by itself took another 90 us, most of it with the GIL that the other threads wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Rows [starts[i], stops[i]) each, which go to places[i] and after it; none is empty.

    Args:
        starts: The first row of each run, shape (n,).
        stops: The row after its last, shape (n,).
        places: Where the first row goes, shape (n,); the runs do not overlap there.
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def one(cls, start: int, stop: int) -> Runs:
        """Return the rows [start, stop), from place 0 on; no run where there are none."""
        bounds = np.array([[start, stop, 0]] if start < stop else np.empty((0, 3)), np.int64)
        return cls(*bounds.T)

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop, place) of each run."""
        return zip(self.starts.tolist(), self.stops.tolist(), self.places.tolist(), strict=True)

    def __getitem__(self, chosen: slice | NDArray[np.intp]) -> Runs:
        """Return some of the runs."""
        return Runs(self.starts[chosen], self.stops[chosen], self.places[chosen])

    def counted_from(self, row: int) -> Runs:
        """Return the same runs with rows counted from another one."""
        return Runs(self.starts - row, self.stops - row, self.places)

    def joined(self) -> Runs:
        """Return fewer, longer runs: neighbours in both the file and the target become one."""
        lengths = self.stops - self.starts
        is_new = (self.starts[1:] != self.stops[:-1]) | (
            self.places[1:] != self.places[:-1] + lengths[:-1]
        )
        first = np.flatnonzero(np.append(True, is_new)[: len(self)])
        last = np.append(first[1:], len(self)) - 1 if len(first) else first
        return Runs(self.starts[first], self.stops[last], self.places[first])
