"""One window in memory: its rows, what is still to be loaded of them, and how parts leave it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kerash5._arena._rows import Arrays
from kerash5._plan import Span
from kerash5.h5._memory import empty
from kerash5.h5._readers import as_copied

Part = tuple[Arrays, NDArray[np.int64]]  # some rows of a batch, and their numbers

# Pieces that a window is loaded in, so that no thread waits long for the last one.
_FEWEST_PIECES: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Something to load by one thread: rows of some blocks, or a share of the chunks of one."""

    rows: NDArray[np.int64]
    places: NDArray[np.int64]  # in the order that they are served in
    share: tuple[int, int] = (0, 1)  # the how manyeth of how many


@dataclass(slots=True, eq=False)
class Held:
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


def cut_pieces(
    rows: NDArray[np.int64], places: NDArray[np.int64], edges: NDArray[np.int64], num_shares: int
) -> list[Piece]:
    """Cut the rows of a window into pieces to load: few, and enough for threads to share.

    Args:
        rows: In file order, shape (n,).
        places: Where each goes, shape (n,).
        edges: Where another block begins among the rows, but for the first.
        num_shares: How many threads can load one block side by side.

    Returns:
        The pieces, the last one first.
    """
    shares = min(num_shares, -(-_FEWEST_PIECES // (len(edges) + 1)))
    if shares == 1:  # several blocks a piece
        each = -(-(len(edges) + 1) // _FEWEST_PIECES)
        edges = edges[each - 1 :: each]
    pieces = [
        Piece(*piece, (share, shares))
        for piece in zip(np.split(rows, edges), np.split(places, edges), strict=True)
        for share in range(shares)
    ]
    return pieces[::-1]


def view_part(held: Held, span: Span) -> Part:
    """Return rows of a window that is in the order of serving, without a copy."""
    part = slice(span.start, span.stop)
    return {name: array[part] for name, array in held.arrays.items()}, held.rows[part]


def copy_part(held: Held, span: Span) -> Part:
    """Return rows of a window that are the caller's to keep, and their numbers."""
    rows, found = held.rows[span.start : span.stop], {}
    for name, array in held.arrays.items():
        found[name] = out = empty((len(rows), *array.shape[1:]), array.dtype)
        if held.order is None:
            as_copied(out)[:] = as_copied(array)[span.start : span.stop]
        else:
            places = held.order[span.start : span.stop]
            # The places are known to be right, and with "raise" NumPy would copy twice.
            np.take(array, places, axis=0, out=out, mode="clip")
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
