"""One window in memory: its rows, what is still to be loaded of them, and how parts leave it."""

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

_FEWEST_PIECES: Final = 8  # that a window is loaded in
_SHARE_OF_REST: Final = 5  # a piece is a fifth of what is left, so that the last ones are small


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What one thread loads at a time: rows of some blocks, or a shard of one block."""

    rows: NDArray[np.int64]
    places: NDArray[np.int64]  # of the rows in the window's arrays
    shard: tuple[int, int] = (0, 1)  # (index, count) of the slice of a block


@dataclass(slots=True, eq=False)
class ResidentWindow:
    """A window in memory, or on its way there. It stays as long as somebody has it pinned."""

    arrays: Arrays  # its rows in the order they are served in, or as `order` says
    rows: NDArray[np.int64]  # their numbers, in the order they are served in
    order: NDArray[np.int64] | None  # where they are in the arrays; None: one after another
    waiting: list[Piece]  # what is still to be loaded
    given: set[int] = field(default_factory=set)  # starts of the spans that are the caller's now
    pins: int = 1
    is_here: bool = False
    has_failed: bool = False
    num_loading: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a window consists of."""

    rows: NDArray[np.int64]  # in the order they are served in
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
    """Find out what a window consists of.

    Args:
        plan: The order.
        blocks: Rows that are best read together.
        num_shards: Maximum number of threads that can load one block together.
        window: One of the plan's.
        in_order: Rows are loaded to the order they are served in; else to that of the file.
    """
    rows, order = plan.window_rows(window), plan.window_order(window)
    places = np.arange(len(order))
    if in_order:
        places[order] = places.copy()
    block = blocks.of_rows(rows)
    stops = np.append(np.flatnonzero(block[1:] != block[:-1]) + 1, len(rows)).tolist()
    shards = min(num_shards, -(-_FEWEST_PIECES // len(stops)))
    if shards == 1:  # several blocks a piece
        stops = _thin_out(stops)
    pieces = [
        Piece(rows[start:stop], places[start:stop], (shard, shards))
        for start, stop in pairwise([0, *stops])
        for shard in range(shards)
    ]
    return Contents(rows[order], None if in_order else order, pieces[::-1])


def _thin_out(stops: list[int]) -> list[int]:
    """Choose stops so that each piece is a share of what is left, and no thread waits for long."""
    chosen, left = [], len(stops)
    while left:
        left -= -(-left // _SHARE_OF_REST)
        chosen.append(stops[len(stops) - left - 1])
    return chosen


@final
class Prefetcher:
    """Finds out what a window consists of before it comes in: who lets it in holds up the others.

    Args:
        find: Returns the contents of a window.
    """

    def __init__(self, find: Callable[[Window], Contents]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._known: tuple[Window, Contents] | None = None

    def look_at(self, window: Window) -> None:
        """Be ready to tell what this window consists of; who asks at the same time waits."""
        with self._lock:
            if self._known is None or self._known[0] != window:
                self._known = window, self._find(window)

    @property
    def is_looking(self) -> bool:
        """Whether some thread is finding out right now."""
        return self._lock.locked()

    def tell(self, window: Window) -> Contents:
        """Return what a window consists of, and forget it: its pieces are loaded once."""
        known, contents = self._known or (None, None)
        if contents is None or known != window:
            return self._find(window)
        self._known = None
        return contents


def view_part(held: ResidentWindow, span: Span) -> Part:
    """Return rows of a window that is in the order of serving, without a copy."""
    part = slice(span.start, span.stop)
    return {name: array[part] for name, array in held.arrays.items()}, held.rows[part]


def copy_part(held: ResidentWindow, span: Span) -> Part:
    """Return rows of a window that are the caller's to keep, and their numbers."""
    rows, found = held.rows[span.start : span.stop], {}
    for name, array in held.arrays.items():
        if held.order is not None:
            found[name] = gather_rows(array, held.order[span.start : span.stop])
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
