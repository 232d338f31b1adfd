"""Read boxes of a volume; boxes of one call are read together, and each chunk is decoded once.

A box is a range along each of the first axes of a data set, with one shape for all boxes; later
axes are read whole. `choose_boxes` selects the method by the reader of the volume.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import product
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5.h5.reading._buffers import empty
from kerash5.h5.reading._chunk_readers import ChunkedReader
from kerash5.h5.reading._contiguous import ContiguousReader
from kerash5.h5.reading._readers import AbstractReader, as_copied

_LINES: Final = 1 << 16  # of contiguous boxes, read with one call


class AbstractBoxes(ABC):
    """Reads boxes of one volume. Picklable; any thread may use it."""

    is_direct: bool  # a box costs no more than its own bytes
    chunks: tuple[int, ...] | None  # along the axes of a box; None: no part is decoded as a whole

    @abstractmethod
    def read(
        self,
        lows: NDArray[np.int64],
        highs: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64],
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read boxes to their positions in `out`.

        Args:
            lows: First corner of each box, shape (n, num_axes).
            highs: The corner after its last, shape (n, num_axes); inside the volume.
            out: Shape (m, *box_shape, *rest), C-contiguous. A smaller box fills the beginning.
            positions: Box i goes to out[positions[i]].
            shard: (index, count); read only the `index`-th of `count` slices of the chunks.
        """


def choose_boxes(volume: AbstractReader, num_axes: int) -> AbstractBoxes:
    """Return what reads boxes of a volume whose first axes those of a box are."""
    if isinstance(volume, ChunkedReader):
        return ChunkBoxes(volume, num_axes)
    if isinstance(volume, ContiguousReader):
        return ContiguousBoxes(volume, num_axes)
    return SlabBoxes(volume, num_axes)


@final
class ChunkBoxes(AbstractBoxes):
    """Decodes each chunk once for all boxes that overlap it."""

    def __init__(self, volume: ChunkedReader, num_axes: int) -> None:
        self._volume = volume
        self._num_axes = num_axes
        self.chunks = volume.chunks[:num_axes]
        self.is_direct = False
        shape = (volume.num_rows, *volume.row_shape)
        grid = [-(-length // size) for length, size in zip(shape, volume.chunks, strict=True)]
        self._steps = [math.prod(grid[axis + 1 :]) for axis in range(len(grid))]
        # The chunks, along the axes that stay whole, of one place along the others.
        self._rest = list(product(*(range(count) for count in grid[num_axes:])))
        self._shape = shape

    def read(
        self,
        lows: NDArray[np.int64],
        highs: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64],
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read boxes to their positions in `out`."""
        wanted = self._find_chunks(lows, highs)
        chosen = sorted(wanted)
        count = len(chosen)
        chosen = chosen[count * shard[0] // shard[1] : count * (shard[0] + 1) // shard[1]]
        target = as_copied(out)
        corners, ends, goes = lows.tolist(), highs.tolist(), positions.tolist()

        def copy(place: int, chunk: np.ndarray) -> None:
            number = chosen[place]
            first = self._first_of(number)
            for box in wanted[number]:
                inside, outside = self._overlap(first, corners[box], ends[box])
                target[(goes[box], *outside)] = chunk[inside]

        if chosen:
            self._volume.visit_chunks(chosen, copy)

    def _find_chunks(
        self, lows: NDArray[np.int64], highs: NDArray[np.int64]
    ) -> dict[int, list[int]]:
        """Return the numbers of the chunks that boxes touch, and which boxes touch each."""
        sizes = np.array(self.chunks, np.int64)
        firsts, lasts = (lows // sizes).tolist(), (-(-highs // sizes)).tolist()
        found: dict[int, list[int]] = {}
        steps, rest = self._steps[: self._num_axes], self._steps[self._num_axes :]
        ends = [sum(map(math.prod, zip(each, rest, strict=True))) for each in self._rest]
        for box, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
            for place in product(*map(range, first, last)):
                begin = sum(map(math.prod, zip(place, steps, strict=True)))
                for end in ends:
                    found.setdefault(begin + end, []).append(box)
        return found

    def _first_of(self, number: int) -> list[int]:
        """Return the first corner of a chunk."""
        first = []
        for step, size in zip(self._steps, self._volume.chunks, strict=True):
            place, number = divmod(number, step)
            first.append(place * size)
        return first

    def _overlap(
        self, first: list[int], low: list[int], high: list[int]
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return where a chunk and a box overlap, counted from either."""
        inside, outside = [], []
        for axis, (begin, size) in enumerate(zip(first, self._volume.chunks, strict=True)):
            is_cut = axis < self._num_axes
            start, stop = (low[axis], high[axis]) if is_cut else (0, self._shape[axis])
            left, right = max(begin, start), min(begin + size, stop)
            inside.append(slice(left - begin, right - begin))
            outside.append(slice(left - start, right - start))
        return tuple(inside), tuple(outside)


@final
class ContiguousBoxes(AbstractBoxes):
    """Reads the lines of boxes straight from the file, many with one system call."""

    def __init__(self, volume: ContiguousReader, num_axes: int) -> None:
        self._volume = volume
        self._num_axes = num_axes
        self.chunks = None
        self.is_direct = True
        shape = (volume.num_rows, *volume.row_shape)
        size = volume.dtype.itemsize
        self._steps = [math.prod(shape[axis + 1 :]) * size for axis in range(num_axes)]

    def read(
        self,
        lows: NDArray[np.int64],
        highs: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64],
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read boxes to their positions in `out`."""
        if shard[0] or not out[:1].nbytes:
            return
        box_bytes, most = out[:1].nbytes, max(1, _LINES // math.prod(out.shape[1 : self._num_axes]))
        steps = [out.strides[axis + 1] for axis in range(self._num_axes)]
        for low in range(0, len(lows), most):
            pieces = [
                self._lines(lows[box], highs[box], positions[box] * box_bytes, steps)
                for box in range(low, min(low + most, len(lows)))
            ]
            offsets, sizes, goes = map(np.concatenate, zip(*pieces, strict=True))
            self._volume.read_pieces(offsets, sizes, out, goes)

    def _lines(
        self, low: NDArray[np.int64], high: NDArray[np.int64], place: int, steps: list[int]
    ) -> tuple[NDArray[np.int64], ...]:
        """Return the offsets, the sizes and the positions of the lines of one box, in bytes."""
        offsets = np.array([int(low @ np.array(self._steps))], np.int64)
        goes = np.array([place], np.int64)
        for axis in range(self._num_axes - 1):
            count = np.arange(int(high[axis] - low[axis]))
            offsets = (offsets[:, None] + count * self._steps[axis]).reshape(-1)
            goes = (goes[:, None] + count * steps[axis]).reshape(-1)
        size = int(high[-1] - low[-1]) * self._steps[-1]
        return offsets, np.full(len(offsets), size), goes


@final
class SlabBoxes(AbstractBoxes):
    """Reads all rows of axis 0 that boxes overlap, and copies the boxes from them."""

    def __init__(self, volume: AbstractReader, num_axes: int) -> None:
        self._volume = volume
        self._num_axes = num_axes
        self.chunks = (volume.block_rows, *volume.row_shape[: num_axes - 1])
        self.is_direct = False

    def read(
        self,
        lows: NDArray[np.int64],
        highs: NDArray[np.int64],
        out: np.ndarray,
        positions: NDArray[np.int64],
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Read boxes to their positions in `out`."""
        if shard[0]:
            return
        target = as_copied(out)
        for start, stop in sorted({*zip(lows[:, 0].tolist(), highs[:, 0].tolist(), strict=True)}):
            slab = empty((stop - start, *self._volume.row_shape), self._volume.dtype)
            self._volume.read_range(start, stop, slab)
            values = as_copied(slab)
            is_here = (lows[:, 0] == start) & (highs[:, 0] == stop)
            for box in np.flatnonzero(is_here).tolist():
                low, high = lows[box, 1:].tolist(), highs[box, 1:].tolist()
                inside = tuple(map(slice, low, high))
                outside = tuple(slice(b - a) for a, b in zip(low, high, strict=True))
                target[(positions[box], slice(stop - start), *outside)] = values[
                    (slice(None), *inside)
                ]
