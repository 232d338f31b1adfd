"""Facts about the values of labels: smallest, largest, fractions, NaN, one-hot or not.

Uses NumPy alone. `_rules` decides whether a loss accepts such values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Number = int | float
ReadRows = Callable[[NDArray[np.int64]], np.ndarray]

_SMALL_ROW_BYTES: Final = 16  # labels up to this size are all read
_MAX_BYTES: Final = 256 << 20  # of larger labels at most this many; beyond it, evenly spread blocks
_NUM_BLOCKS: Final = 16
_BLOCK_BYTES: Final = 8 << 20
_FIRST_ROWS: Final = 256  # read first; most columns that are not one-hot differ here


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """The range of labels, and the first that are not integers or not finite.

    Attributes:
        smallest, largest: Smallest and largest finite value, each with its row; None if there is
            none.
        fraction: First finite value that is not an integer, with its row; None if there is none.
        nonfinite: First NaN or infinity, with its row; None if there is none.
    """

    smallest: tuple[Number, int] | None = None
    largest: tuple[Number, int] | None = None
    fraction: tuple[Number, int] | None = None
    nonfinite: tuple[Number, int] | None = None


def find_facts(values: np.ndarray, rows: NDArray[np.int64], ignored: int | None) -> LabelFacts:
    """Return the facts about labels.

    Args:
        values: Integers, booleans or floats, shape (n, *row_shape).
        rows: Row numbers to report, shape (n,).
        ignored: A value to ignore, such as `ignore_class` of a loss.
    """
    flat, width = values.reshape(-1), math.prod(values.shape[1:])
    counted = np.ones(flat.shape, bool) if ignored is None else flat != ignored
    fraction = nonfinite = None
    if flat.dtype.kind == "f":
        finite = np.isfinite(flat)
        nonfinite = _first(flat, counted & ~finite, rows, width)
        counted &= finite
        fraction = _first(flat, counted & (flat != np.floor(flat)), rows, width)
    if not counted.any():
        return LabelFacts(nonfinite=nonfinite)
    every = counted.all()
    positions = np.arange(flat.size) if every else np.flatnonzero(counted)
    kept = flat if every else flat[counted]
    smallest, largest = positions[kept.argmin()], positions[kept.argmax()]
    return LabelFacts(
        (flat[smallest].item(), int(rows[smallest // width])),
        (flat[largest].item(), int(rows[largest // width])),
        fraction,
        nonfinite,
    )


def read_facts(
    read: ReadRows, rows: NDArray[np.int64], row_bytes: int, ignored: int | None
) -> LabelFacts:
    """Return the facts about labels in a file, read in blocks.

    Rows of at most 16 bytes are all read. Larger rows (masks, images as targets) are all read up to
    256 MiB in total; beyond that, 16 blocks of 8 MiB, evenly spread, are read.
    """
    found = LabelFacts()
    for piece in _pieces(rows, row_bytes):
        found = _merge(found, find_facts(read(piece), piece, ignored))
    return found


def read_is_one_hot(read: ReadRows, rows: NDArray[np.int64], row_bytes: int) -> bool:
    """Return whether every row read is one-hot; reading stops at the first that is not."""
    return len(rows) > 0 and all(is_one_hot(read(piece)) for piece in _pieces(rows, row_bytes))


def is_one_hot(values: np.ndarray) -> bool:
    """Return whether, along a last axis of at least two, one value is 1 and the others are 0."""
    if values.ndim < 2 or values.shape[-1] < 2 or values.dtype.kind not in "biuf":
        return False
    ones = values == 1
    return bool(((values == 0) | ones).all() and (ones.sum(axis=-1) == 1).all())


def _first(
    flat: np.ndarray, wanted: NDArray[np.bool_], rows: NDArray[np.int64], width: int
) -> tuple[Number, int] | None:
    place = int(wanted.argmax()) if wanted.size else 0
    if not wanted.size or not wanted[place]:
        return None
    return flat[place].item(), int(rows[place // width])


def _merge(one: LabelFacts, other: LabelFacts) -> LabelFacts:
    both = [each for each in (one.smallest, other.smallest) if each is not None]
    tops = [each for each in (one.largest, other.largest) if each is not None]
    return LabelFacts(
        min(both, key=lambda pair: pair[0]) if both else None,
        max(tops, key=lambda pair: pair[0]) if tops else None,
        one.fraction or other.fraction,
        one.nonfinite or other.nonfinite,
    )


def _pieces(rows: NDArray[np.int64], row_bytes: int) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers to read, one block at a time."""
    size = max(1, _BLOCK_BYTES // max(1, row_bytes))
    if row_bytes <= _SMALL_ROW_BYTES or len(rows) * row_bytes <= _MAX_BYTES:
        yield rows[:_FIRST_ROWS]
        starts = [*range(_FIRST_ROWS, len(rows), size)]
    else:
        last = max(0, len(rows) - size)
        starts = np.unique(np.linspace(0, last, _NUM_BLOCKS).astype(np.int64)).tolist()
    for start in starts:
        yield rows[start : start + size]
