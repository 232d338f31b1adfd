"""A contact sheet: rows in a grid on one page, each with its label and its number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kerash5.report.runs._pictures import TRAIN, VALIDATION, new_figure
from kerash5.viewing._cells import RowShape, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL: Final = 1.1  # inches; a cell is one unit wide
_GAP: Final = 0.1
_STRIP: Final = 0.2  # the height of a line of text
_HEAD: Final = 0.55  # inches
_INK, _FAINT, _PAPER = "#222222", "#999999", "#f4f4f2"
_LINES: Final = (TRAIN, VALIDATION, "#3a923a", "#c03d3e", "#7f62b3", "#6b6b6b")
_CURVE_HEIGHT: Final = 0.62
_NARROW: Final = (0.4, 2.5)  # heights of a cell; longer images leave a margin
_ONE_LINE: Final = 6  # cells that stand side by side
_LABEL: Final = 13  # characters that fit beside the number of the row


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is drawn.

    Args:
        title: The line above.
        note: A second, fainter line; "" without one.
        shape: What rows are.
        scale: The range of their values.
        rows: The rows, prepared by `shape`.
        numbers: Their row numbers.
        labels: A label for each; None without labels.
    """

    title: str
    note: str
    shape: RowShape
    scale: Scale
    rows: list[np.ndarray]
    numbers: list[int]
    labels: list[str] | None


def draw_sheet(sheet: Sheet) -> Figure:
    """Return the figure of a sheet; raise `BackendError` without matplotlib."""
    count = len(sheet.rows)
    height = _cell_height(sheet)
    num_columns = _choose_columns(count, height)
    num_rows = math.ceil(count / num_columns)
    width = num_columns * (1 + _GAP) + _GAP
    down = num_rows * (height + _STRIP + _GAP) + _GAP
    # As wide as the title needs, however few the rows are.
    size = max(_CELL * width, 0.075 * max(len(sheet.title), len(sheet.note)) + 0.3)
    figure = new_figure(size, _CELL * down + _HEAD)
    figure.set_layout_engine("none")
    total = _CELL * down + _HEAD
    axes = figure.add_axes((0, 0, _CELL * width / size, _CELL * down / total))
    axes.set(xlim=(0, width), ylim=(down, 0))
    axes.set_axis_off()
    left = _CELL * _GAP / size
    figure.text(left, 1 - 0.2 / total, sheet.title, fontsize=10, color=_INK, va="center")
    if sheet.note:
        figure.text(left, 1 - 0.4 / total, sheet.note, fontsize=8, color=_FAINT, va="center")
    for place in range(count):
        row, column = divmod(place, num_columns)
        corner = _GAP + column * (1 + _GAP), _GAP + row * (height + _STRIP + _GAP)
        _draw_cell(axes, sheet, place, corner, height)
    axes.set(xlim=(0, width), ylim=(down, 0), aspect="auto")  # imshow has changed both
    return figure


def _choose_columns(count: int, height: float) -> int:
    """Return the cells of a line: about a square in all, with few empty places in the last line."""
    if count <= _ONE_LINE:
        return count
    square = round(math.sqrt(count * (height + _STRIP)))
    near = [columns for columns in range(square - 1, square + 2) if 1 <= columns <= count]
    return min(near, key=lambda columns: (-count % columns, abs(columns - square)))


def _cell_height(sheet: Sheet) -> float:
    if sheet.shape.kind == "lines":
        return _CURVE_HEIGHT
    high, wide = sheet.rows[0].shape[:2]
    return float(min(max(high / wide, _NARROW[0]), _NARROW[1]))


def _draw_cell(
    axes: Any,  # noqa: ANN401  of matplotlib
    sheet: Sheet,
    place: int,
    corner: tuple[float, float],
    height: float,
) -> None:
    from matplotlib.patches import Rectangle

    left, top = corner
    axes.add_patch(Rectangle(corner, 1, height, color=_PAPER, lw=0, zorder=0))
    values = sheet.scale.apply(sheet.rows[place])
    if sheet.shape.kind == "lines":
        _draw_lines(axes, values, corner, height)
    else:
        _draw_image(axes, values, corner, height)
    under = top + height + _STRIP / 2
    number = f"{sheet.numbers[place]:,}"
    axes.text(left + 1, under, number, fontsize=6, color=_FAINT, ha="right", va="center")
    if sheet.labels is not None:
        room = _LABEL - len(number) // 2
        label = sheet.labels[place]
        text = label if len(label) <= room else f"{label[: room - 1]}…"
        axes.text(left, under, text, fontsize=8, color=_INK, va="center")


def _draw_lines(
    axes: Any,  # noqa: ANN401  of matplotlib
    values: np.ndarray,
    corner: tuple[float, float],
    height: float,
) -> None:
    across = corner[0] + np.linspace(0.02, 0.98, len(values))
    for number, line in enumerate(values.reshape(len(values), -1).T):
        down = corner[1] + height * (0.96 - 0.92 * line)
        color = _LINES[number % len(_LINES)]
        axes.plot(across, down, color=color, lw=0.8, solid_joinstyle="round")


def _draw_image(
    axes: Any,  # noqa: ANN401  of matplotlib
    values: np.ndarray,
    corner: tuple[float, float],
    height: float,
) -> None:
    high, wide = values.shape[:2]
    factor = min(1 / wide, height / high)
    left = corner[0] + (1 - wide * factor) / 2
    top = corner[1] + (height - high * factor) / 2
    axes.imshow(
        values,
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(left, left + wide * factor, top + high * factor, top),
    )
