"""Rows of chunked data, sorted into the bands of chunks that hold them: these are numbers."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class BandPart(NamedTuple):
    """Rows of one band of chunks, and where they go."""

    band: int
    inside: slice | NDArray[np.int64]  # counted from the first of the band
    places: slice | NDArray[np.int64]


def split_bands(
    rows: NDArray[np.int64], places: NDArray[np.int64] | None, band_rows: int
) -> list[BandPart]:
    """Cut rows, and where they go, into those of each band, as slices where they are neighbours."""
    is_ascending = _is_ascending(rows)
    if not is_ascending:
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        places = order if places is None else places[order]
    elif places is None:
        places = np.arange(len(rows))
    if band_rows == 1 and is_ascending:
        one = slice(0, 1)
        pairs = zip(rows.tolist(), places.tolist(), strict=True)
        return [BandPart(row, one, slice(place, place + 1)) for row, place in pairs]
    parts, low, count = [], 0, len(rows)
    # Chunk by chunk: NumPy lets the GIL go to look at more than 500 rows at once, and each time
    # another thread may take it.
    while low < count:
        first = int(rows[low])
        band = first // band_rows
        end = (band + 1) * band_rows
        high = low + end - first  # if the rest of the chunk follows, and no row twice
        is_run = is_ascending and high <= count and int(rows[high - 1]) == end - 1
        if not is_run:
            high = bisect_left(rows, end, low, count)
            is_run = _is_run(rows[low:high])
        goes = places[low:high]
        # Rows in file order are copied once from a slice, and twice from a list of places.
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
    """Whether each number is one more than that before it."""
    has_ends = int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1
    return has_ends and _is_ascending(numbers)


def _is_ascending(numbers: NDArray[np.int64]) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())
