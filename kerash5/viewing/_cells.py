"""Rows as pictures or curves: what the axes of a row mean, and how values become colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from kerash5._errors import ColumnError, ShapeError

Kind = Literal["gray", "color", "lines"]

MAX_PIXELS: Final = 256  # of a side, and of a curve four times as many: a cell has fewer
_MIN_IMAGE: Final = 7  # pixels of the shorter side; below, an axis is one of channels
_MAX_LINES: Final = 6
_COLORS: Final = (3, 4)
_DARK: Final = 32  # bytes that reach no further are no brightness from 0 to 255


@dataclass(frozen=True, slots=True)
class RowShape:
    """What the axes of a row mean.

    Args:
        kind: "gray" and "color" are images; "lines" are curves.
        moves: The order of the axes, without those of length 1: (height, width[, channels]), or
            (time[, channels]).
    """

    kind: Kind
    moves: tuple[int, ...]

    def prepare(self, row: np.ndarray) -> np.ndarray:
        """Return a row with its axes in that order, thinned out to what can be seen."""
        others = [axis for axis in range(row.ndim) if axis not in self.moves]  # of length 1
        made = row.transpose(*self.moves, *others)
        made = made.reshape(made.shape[: len(self.moves)])
        if self.kind == "lines":
            return made[:: _stride(len(made), 4 * MAX_PIXELS)].copy()  # not a view of all of it
        step = _stride(max(made.shape[:2]), MAX_PIXELS)
        return made[::step, ::step].copy()


def _stride(length: int, most: int) -> int:
    return max(1, -(-length // most))


def find_row_shape(name: str, shape: tuple[int, ...], dtype: np.dtype) -> RowShape:
    """Return how rows are drawn.

    Args:
        name: Name of the column, for messages.
        shape: Shape of a row.
        dtype: Type of its values.

    Raises:
        ColumnError: They are no numbers.
        ShapeError: Rows of this shape are neither images nor curves.
    """
    if dtype.kind not in "biuf":
        raise ColumnError(
            f"column {name!r} has values of {dtype}, which cannot be drawn; name one of numbers "
            "with -x NAME"
        )
    axes = [axis for axis, length in enumerate(shape) if length != 1]
    lengths = [shape[axis] for axis in axes]
    if len(axes) == 1:
        return RowShape("lines", (axes[0],))
    if len(axes) == 2 and (min(lengths) >= _MIN_IMAGE):
        return RowShape("gray", (axes[0], axes[1]))
    if len(axes) == 2 and min(lengths) <= _MAX_LINES and max(lengths) > min(lengths):
        time = int(np.argmax(lengths))
        return RowShape("lines", (axes[time], axes[1 - time]))
    if len(axes) == 3:
        is_last, is_first = lengths[-1] in _COLORS, lengths[0] in _COLORS
        if is_last and not is_first:
            return RowShape("color", (axes[0], axes[1], axes[2]))
        if is_first and not is_last:
            return RowShape("color", (axes[1], axes[2], axes[0]))
    raise ShapeError(
        f"rows of {name!r} have shape {shape}, which is neither an image (height, width), with "
        "3 or 4 channels first or last, nor a curve; name another column with -x NAME"
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of values that is drawn from dark to light, or from bottom to top.

    Args:
        low: The value at the bottom.
        high: The value at the top.
        is_plain: Whether that is the range of the type, about which nothing need be said.
    """

    low: float
    high: float
    is_plain: bool

    def apply(self, row: np.ndarray) -> np.ndarray:
        """Return values as fractions of the range, NaN where there are none."""
        values = row.astype(np.float64)
        span = self.high - self.low or 1.0
        return np.asarray(np.clip((values - self.low) / span, 0, 1))


def find_scale(rows: list[np.ndarray], kind: Kind) -> Scale:
    """Return one range for all rows, so that they can be compared."""
    finite = [row[np.isfinite(row)] for row in rows]
    found = [values for values in finite if values.size]
    if not found:
        return Scale(0.0, 1.0, is_plain=False)
    low = float(min(values.min() for values in found))
    high = float(max(values.max() for values in found))
    if kind != "lines":
        if rows[0].dtype == np.uint8 and high > _DARK:
            return Scale(0.0, 255.0, is_plain=True)
        if rows[0].dtype.kind in "fb" and low >= 0 and high <= 1:
            return Scale(0.0, 1.0, is_plain=True)
    return Scale(low, high, is_plain=False)
