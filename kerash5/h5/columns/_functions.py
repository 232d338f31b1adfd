"""What columns make of stored rows, one by one: a part of each. See `h5/reading/_derived`."""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np

from kerash5._errors import ColumnError
from kerash5.h5.columns._indices import format_index
from kerash5.h5.reading._derived import RowFunction


@final
class SelectFunction(RowFunction):
    """Applies a NumPy index to each row.

    Args:
        select: As `parse_select` gives it.
        row_shape: Of the rows it is applied to.
        dtype: Of them.
        where: The column and its file, for messages.

    Raises:
        ColumnError: The index does not fit rows of this shape.
    """

    def __init__(
        self,
        select: Any,  # noqa: ANN401  an index
        row_shape: tuple[int, ...],
        dtype: np.dtype,
        where: str,
    ) -> None:
        self._select = select
        parts = select if isinstance(select, tuple) else (select,)
        try:
            # One value that stands for all of a row: nothing is allocated.
            self.row_shape = np.broadcast_to(np.int8(0), row_shape)[select].shape
        except IndexError as error:
            raise ColumnError(
                f"select={format_index(select)!r} does not fit {where}, whose rows have shape "
                f"{row_shape} ({error}); choose an index of such a row"
            ) from None
        self.dtype = dtype
        self._positions: np.ndarray | None = None
        # NumPy counts ints beside a list as lists, and puts the axis of those first; it would do so
        # before the axis of rows.
        if any(isinstance(p, list) for p in parts) and any(isinstance(p, int) for p in parts):
            self._positions = np.arange(math.prod(row_shape)).reshape(row_shape)[select]
        self._index = (slice(None), *parts)

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return a part of each row."""
        if self._positions is None:
            return np.asarray(rows[self._index])
        flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
        return np.asarray(flat[:, self._positions])

    def describe(self) -> str:
        """Return the index."""
        return f"[{format_index(self._select)}] of each row"
