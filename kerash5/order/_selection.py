"""Parse `rows=`, the rows of a source to serve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerash5._errors import RowError

RowSelection = slice | ArrayLike | None


def parse_selection(rows: RowSelection, num_rows: int) -> NDArray[np.int64] | None:
    """Return the selected row numbers, shape (n,); None for all rows.

    Raises:
        RowError: A row is outside [0, num_rows), or a mask has another length.
    """
    if rows is None:
        return None
    if isinstance(rows, slice):
        return _parse_slice(rows, num_rows)
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise RowError(f"rows= is ragged ({error}); give a flat array of row numbers") from error
    if array.dtype == np.bool_:
        if array.shape != (num_rows,):
            raise RowError(
                f"the mask rows= has shape {array.shape}; it needs one value for each of the "
                f"{num_rows} rows"
            )
        return np.flatnonzero(array)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise RowError(
            f"rows= is {array.dtype} of shape {array.shape}; give a slice, a mask, or a flat array "
            "of row numbers"
        )
    if array.size and (array.min() < 0 or array.max() >= num_rows):
        wrong = array[(array < 0) | (array >= num_rows)][0]
        raise RowError(f"rows= selects row {wrong}, outside [0, {num_rows})")
    return array.astype(np.int64)


def _parse_slice(rows: slice, num_rows: int) -> NDArray[np.int64] | None:
    try:
        start, stop, step = rows.indices(num_rows)
    except (TypeError, ValueError) as error:
        raise RowError(f"rows={rows!r} selects nothing sensible: {error}") from error
    # None instead of an array of all rows, of which there may be 10^9.
    return None if (start, stop, step) == (0, num_rows, 1) else np.arange(start, stop, step)
