"""Assign row numbers to bands of chunks. Nothing here reads: rows and bands are numbers."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class BandPart(NamedTuple):
    """Rows of one band of chunks, and their output positions."""

    band: int
    inside: slice | NDArray[np.int64]  # row indices from the first row of the band
    positions: slice | NDArray[np.int64]


def split_bands(
    rows: NDArray[np.int64], positions: NDArray[np.int64] | None, band_rows: int
) -> list[BandPart]:
    """Split rows and their output positions by band; consecutive numbers become slices."""
    is_ascending = _is_ascending(rows)
    if not is_ascending:
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        positions = order if positions is None else positions[order]
    elif positions is None:
        positions = np.arange(len(rows))
    if band_rows == 1 and is_ascending:
        one = slice(0, 1)
        pairs = zip(rows.tolist(), positions.tolist(), strict=True)
        return [BandPart(row, one, slice(place, place + 1)) for row, place in pairs]
    parts, low, count = [], 0, len(rows)
    # One chunk at a time: NumPy releases the GIL for more than 500 elements, and another thread may
    # take it each time.
    while low < count:
        first = int(rows[low])
        band = first // band_rows
        end = (band + 1) * band_rows
        high = low + end - first  # if the rest of the chunk follows without repeats
        is_run = is_ascending and high <= count and int(rows[high - 1]) == end - 1
        if not is_run:
            high = bisect_left(rows, end, low, count)
            is_run = _is_run(rows[low:high])
        goes = positions[low:high]
        # NumPy copies rows once with a slice, and twice with an array of positions.
        if not is_run:
            part = BandPart(band, rows[low:high] - band * band_rows, goes)
        else:
            inside = slice(first - band * band_rows, first - band * band_rows + high - low)
            is_slice = _is_run(goes)
            part = BandPart(
                band, inside, slice(int(goes[0]), int(goes[-1]) + 1) if is_slice else goes
            )
        parts.append(part)
        low = high
    return parts


def _is_run(numbers: NDArray[np.int64]) -> bool:
    """Return whether each number is the previous one plus 1."""
    has_ends = int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1
    return has_ends and _is_ascending(numbers)


def _is_ascending(numbers: NDArray[np.int64]) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())
