"""The orders of rows: given, rows shuffled, chunks shuffled. Positions in, positions out.

Positions count the rows that a plan serves, from 0. A shard's stream is the sequence of rows that
one shard serves in an epoch; positions in it count from the shard's first row. `Plan` defines the
steps and maps positions to row numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from kerash5.order._permutation import SORT_MAX, make_key, permutation, permute

_Key = TypeVar("_Key", bound=Hashable)
_Made = TypeVar("_Made")

# Purposes of a key: the order of rows, of blocks, and of the rows in a window.
_ROW_ORDER: Final = 1
_BLOCK_ORDER: Final = 2
_WINDOW_ORDER: Final = 3
_REMEMBERED_EPOCHS: Final = 2
_REMEMBERED_WINDOWS: Final = (
    3  # those of the batches in flight, and the next one, which is being read
)


class Window(NamedTuple):
    """Some whole blocks whose rows are mixed with each other; number `number` of epoch `epoch`."""

    epoch: int
    number: int


class Span(NamedTuple):
    """The rows of a batch from one window: [start, stop) in the order of serving."""

    window: Window
    start: int
    stop: int


class AbstractOrder(ABC):
    """The order in which one shard serves its rows."""

    @abstractmethod
    def positions(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the positions at [start, stop) of the shard's stream, in a new array."""

    @abstractmethod
    def describe(self, batch_size: int) -> str:
        """Return a line about the order."""


@final
class GivenOrder(AbstractOrder):
    """The given order, in every epoch."""

    def __init__(self, shard_bounds: tuple[int, int]) -> None:
        self._first, _ = shard_bounds

    def positions(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the positions at [start, stop) of the shard's stream, in a new array."""
        return np.arange(self._first + start, self._first + stop)

    def describe(self, batch_size: int) -> str:
        """Return a line about the order."""
        return "rows come in the given order in every epoch"


@final
class RowOrder(AbstractOrder):
    """A uniform permutation of all rows in each epoch."""

    def __init__(self, num_served: int, shard_bounds: tuple[int, int], seed: int) -> None:
        self._num_served = num_served
        self._first, _ = shard_bounds
        self._seed = seed
        self._epochs = _Recent[int, NDArray[np.int64]](_REMEMBERED_EPOCHS)

    def positions(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the positions at [start, stop) of the shard's stream, in a new array."""
        start, stop = self._first + start, self._first + stop
        key = make_key(self._seed, _ROW_ORDER, epoch)
        if self._num_served > SORT_MAX:
            return permute(np.arange(start, stop), self._num_served, key)
        order = self._epochs.get(epoch, lambda: _read_only(permutation(self._num_served, key)))
        # A copy, so that a caller who sorts a batch does not change the cached order.
        return order[start:stop].copy()

    def describe(self, batch_size: int) -> str:
        """Return a line about the order."""
        return f"a new uniform permutation of all rows in every epoch (seed {self._seed})"


@final
class ChunkOrder(AbstractOrder):
    """Whole blocks in random order, the rows of each window mixed."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def positions(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the positions at [start, stop) of the shard's stream, in a new array."""
        spans = self._windows.spans(epoch, start, stop)
        return np.concatenate([self._windows.served(w)[low:high] for w, low, high in spans])

    def describe(self, batch_size: int) -> str:
        """Return a line about the order."""
        return self._windows.describe(batch_size)


@dataclass(frozen=True, slots=True, eq=False)
class _BlockOrder:
    """The order of blocks in one epoch, for one shard, and where the shard's windows begin."""

    order: NDArray[np.int64]  # blocks, as they are served
    starts: NDArray[np.int64]  # position of each, then the end; shape (num_blocks + 1,)
    first: int  # the shard's first block in `order`
    last: int  # the block after its last
    window_starts: NDArray[np.int64]  # positions in the shard's stream, then the end


@final
class Windows:
    """The windows of one shard: which blocks each consists of, and how their rows are mixed.

    Args:
        block_starts: Positions where blocks begin in the rows to serve, then their number; see
            `Blocks.block_starts`.
        window_blocks: Blocks in a window.
        shard_bounds: The positions [start, stop) of the shard.
        seed: Seed of the order of blocks and of the rows in a window; None for the given order.
    """

    def __init__(
        self,
        block_starts: NDArray[np.int64],
        window_blocks: int,
        shard_bounds: tuple[int, int],
        seed: int | None,
    ) -> None:
        self._block_starts = block_starts
        self._window_blocks = window_blocks
        self._shard_bounds = shard_bounds
        self._seed = seed
        self._epochs = _Recent[int, _BlockOrder](_REMEMBERED_EPOCHS)
        self._served = _Recent[Window, NDArray[np.int64]](_REMEMBERED_WINDOWS)

    def starts(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions in the shard's stream where windows begin, then its end."""
        return self._block_order(epoch).window_starts

    def spans(self, epoch: int, start: int, stop: int) -> list[Span]:
        """Return the windows that [start, stop) of the shard's stream is drawn from."""
        edges = self.starts(epoch)
        found = []
        while start < stop:
            # Not NumPy's search, which releases the GIL: each batch would wait to acquire it.
            number = bisect_right(edges, start) - 1
            begin, end = int(edges[number]), min(stop, int(edges[number + 1]))
            found.append(Span(Window(epoch, number), start - begin, end - begin))
            start = end
        return found

    def positions(self, window: Window) -> NDArray[np.int64]:
        """Return the positions of a window's rows, sorted block by block."""
        order, block_starts = self._block_order(window.epoch), self._block_starts
        first = order.first + window.number * self._window_blocks
        last = min(first + self._window_blocks, order.last)
        visited = first + np.argsort(order.order[first:last])
        blocks, starts = order.order[visited], order.starts[visited]
        # A shard may begin or end inside a block.
        low, high = self._shard_bounds
        begins = block_starts[blocks] + np.maximum(low - starts, 0)
        counts = np.minimum(block_starts[blocks + 1], block_starts[blocks] + high - starts) - begins
        before = np.cumsum(counts) - counts
        found: NDArray[np.int64] = np.arange(counts.sum()) + np.repeat(begins - before, counts)
        return found

    def order(self, window: Window) -> NDArray[np.int64]:
        """Return the order in which a window's rows are served: indices of `positions`."""
        order = self._block_order(window.epoch)
        size = int(order.window_starts[window.number + 1] - order.window_starts[window.number])
        if self._seed is None:
            return np.arange(size)
        first = order.first + window.number * self._window_blocks
        return permutation(size, make_key(self._seed, _WINDOW_ORDER, window.epoch, first))

    def served(self, window: Window) -> NDArray[np.int64]:
        """Return the positions of a window's rows in the order of serving, read-only."""
        return self._served.get(
            window, lambda: _read_only(self.positions(window)[self.order(window)])
        )

    def describe(self, batch_size: int) -> str:
        """Return a line about how rows are mixed."""
        rows = int(np.diff(self.starts(0)).max())
        fraction = rows / max(1, self._shard_bounds[1] - self._shard_bounds[0])
        return (
            f"whole chunks in random order (seed {self._seed}), {self._window_blocks} at a time "
            "mixed row by row: a window holds "
            f"up to {rows} rows, {fraction:.1%} of the epoch or {rows / batch_size:.0f} batches"
        )

    def _block_order(self, epoch: int) -> _BlockOrder:
        return self._epochs.get(epoch, lambda: self._make_block_order(epoch))

    def _make_block_order(self, epoch: int) -> _BlockOrder:
        count = len(self._block_starts) - 1
        if self._seed is None:
            order = np.arange(count)
        else:
            order = permutation(count, make_key(self._seed, _BLOCK_ORDER, epoch))
        starts = np.concatenate([[0], np.cumsum(np.diff(self._block_starts)[order])])
        low, high = self._shard_bounds
        first = int(np.searchsorted(starts, low, side="right")) - 1
        last = int(np.searchsorted(starts, high, side="left"))
        edges = np.append(starts[first : last : self._window_blocks], high)
        return _BlockOrder(order, starts, first, last, np.maximum(edges, low) - low)


@final
class _Recent(Generic[_Key, _Made]):
    """Caches the last few values that were computed.

    There is no lock, because a forked child could inherit a locked one. Threads may compute the
    same value twice, but never see an incomplete one: a value is complete and read-only before it
    is stored, each line of `get` is one atomic dict operation, and a value that another thread
    evicts is still returned.
    """

    def __init__(self, max_remembered: int) -> None:
        self._max_remembered = max_remembered
        self._known: dict[_Key, _Made] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: _Key, make: Callable[[], _Made]) -> _Made:
        """Return the cached value of a key; compute and store it if there is none."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = make()
            for old in list(self._known)[: -self._max_remembered]:
                self._known.pop(old, None)
        return found


def _read_only(array: NDArray[np.int64]) -> NDArray[np.int64]:
    array.setflags(write=False)
    return array
