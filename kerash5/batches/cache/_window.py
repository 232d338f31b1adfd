"""One window in memory: its rows, what is still to be loaded, and how batches are read from it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5.batches.cache._store import Arrays, gather_rows
from kerash5.h5.reading._buffers import empty
from kerash5.h5.reading._readers import as_copied
from kerash5.order._blocks import Blocks
from kerash5.order._orders import Span, Window
from kerash5.order._plan import Plan

Part = tuple[Arrays, NDArray[np.int64]]  # some rows of a batch, and their numbers

_FEWEST_PIECES: Final = 8  # of a window
_SHARE_OF_REST: Final = 5  # a piece is a fifth of what is left, so that the last ones are small


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What one thread loads at a time: rows of some blocks, or a shard of one block."""

    rows: NDArray[np.int64]
    positions: NDArray[np.int64]  # of the rows in the window's arrays
    shard: tuple[int, int] = (0, 1)  # (index, count) of the slice of a block


@dataclass(slots=True, eq=False)
class ResidentWindow:
    """A window that is in memory or being loaded. It is not evicted while it is pinned."""

    arrays: Arrays  # its rows in the order of serving, or as in `order`
    rows: NDArray[np.int64]  # row numbers in the order of serving
    order: NDArray[np.int64] | None  # their indices in the arrays; None: 0, 1, 2, ...
    waiting: list[Piece]  # pieces still to be loaded
    viewed: set[int] = field(
        default_factory=set
    )  # starts of the spans whose views the caller may have changed
    pins: int = 1
    is_here: bool = False
    has_failed: bool = False
    num_loading: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """The rows of a window, and the pieces it is loaded in."""

    rows: NDArray[np.int64]  # row numbers in the order of serving
    order: NDArray[np.int64] | None  # as in `ResidentWindow`
    pieces: list[Piece]  # the last one first


def next_window(plan: Plan, window: Window) -> Window:
    """Return the window that is served after one: the first of the next epoch after the last."""
    if window.number + 1 < plan.num_windows(window.epoch):
        return Window(window.epoch, window.number + 1)
    return Window(window.epoch + 1, 0)


def find_contents(
    plan: Plan, blocks: Blocks, num_shards: int, window: Window, *, in_order: bool
) -> Contents:
    """Return the contents of a window.

    Args:
        plan: The order.
        blocks: Rows that are best read together.
        num_shards: Maximum number of threads that can load one block together.
        window: A window of the plan.
        in_order: Load rows in the order of serving; else in that of the file.
    """
    rows, order = plan.window_rows(window), plan.window_order(window)
    positions = np.arange(len(order))
    if in_order:
        positions[order] = positions.copy()
    block = blocks.of_rows(rows)
    stops = np.append(np.flatnonzero(block[1:] != block[:-1]) + 1, len(rows)).tolist()
    shards = min(num_shards, -(-_FEWEST_PIECES // len(stops)))
    if shards == 1:  # several blocks a piece
        stops = _thin_out(stops)
    pieces = [
        Piece(rows[start:stop], positions[start:stop], (shard, shards))
        for start, stop in pairwise([0, *stops])
        for shard in range(shards)
    ]
    return Contents(rows[order], None if in_order else order, pieces[::-1])


def _thin_out(stops: list[int]) -> list[int]:
    """Return fewer stops: each piece is a fraction of the rest, so that the last ones are small."""
    chosen, left = [], len(stops)
    while left:
        left -= -(-left // _SHARE_OF_REST)
        chosen.append(stops[len(stops) - left - 1])
    return chosen


@final
class Prefetcher:
    """Computes the contents of the next window outside the lock, which blocks all readers.

    Args:
        find: Returns the contents of a window.
    """

    def __init__(self, find: Callable[[Window], Contents]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._known: tuple[Window, Contents] | None = None

    def look_at(self, window: Window) -> None:
        """Compute the contents of this window; concurrent calls wait for it."""
        with self._lock:
            if self._known is None or self._known[0] != window:
                self._known = window, self._find(window)

    @property
    def is_looking(self) -> bool:
        """Whether a thread is computing contents now."""
        return self._lock.locked()

    def tell(self, window: Window) -> Contents:
        """Return the contents of a window, and drop them: its pieces are loaded once."""
        known, contents = self._known or (None, None)
        if contents is None or known != window:
            return self._find(window)
        self._known = None
        return contents


def view_part(resident: ResidentWindow, span: Span) -> Part:
    """Return rows of a window and their numbers without a copy; it is in the order of serving."""
    part = slice(span.start, span.stop)
    return {name: array[part] for name, array in resident.arrays.items()}, resident.rows[part]


def copy_part(resident: ResidentWindow, span: Span) -> Part:
    """Return copies of rows of a window, and their numbers."""
    rows, found = resident.rows[span.start : span.stop], {}
    for name, array in resident.arrays.items():
        if resident.order is not None:
            found[name] = gather_rows(array, resident.order[span.start : span.stop])
            continue
        found[name] = out = empty((len(rows), *array.shape[1:]), array.dtype)
        as_copied(out)[:] = as_copied(array)[span.start : span.stop]
    return found, rows


def join_parts(parts: list[Part]) -> Part:
    """Return the parts of a batch as one."""
    rows = np.concatenate([numbers for _, numbers in parts])
    found = {}
    for name, first in parts[0][0].items():
        found[name] = out = empty((len(rows), *first.shape[1:]), first.dtype)
        end = 0
        for arrays, numbers in parts:
            begin, end = end, end + len(numbers)
            as_copied(out)[begin:end] = as_copied(arrays[name])
    return found, rows
