"""Row numbers that a caller passes: checked once, as int64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerash5._errors import RowError


def parse_rows(rows: ArrayLike, num_rows: int) -> NDArray[np.int64]:
    """Return row numbers as an array of shape (n,).

    Raises:
        RowError: They are something else, or one lies outside [0, num_rows).
    """
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise RowError(f"rows must be a flat array of row numbers ({error})") from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise RowError(
            f"rows must be a flat array of row numbers, not {array.dtype} of shape {array.shape}"
        )
    if array.size and (array.min() < 0 or array.max() >= num_rows):
        wrong = array[(array < 0) | (array >= num_rows)][0]
        raise RowError(
            f"row {wrong} is outside [0, {num_rows}); rows are counted from 0, over all files"
        )
    return array.astype(np.int64)
