"""A table of text: the contents of its cells, without their appearance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kerash5.comparison._statistics import Estimate
from kerash5.report._wording import NOTHING


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell: its main text, a smaller note, and whether it is greyed out."""

    text: str
    note: str = ""
    is_grey: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a grid.

    Args:
        cells: One per column.
        is_grey: Whether the line is greyed out, because it does not count.
        reason: Why the line, or some of its cells, do not count.
    """

    cells: tuple[TableCell, ...]
    is_grey: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table of text.

    Args:
        title: Heading above the table.
        columns: Heading of each column; the first column names the line.
        lines: Lines, from top to bottom.
        groups: Headings over several columns, as (text, number of columns); empty for none.
    """

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    groups: tuple[tuple[str, int], ...] = ()


def pick_columns(grid: Grid, columns: Sequence[int], title: str) -> Grid:
    """Return a grid of the given columns, without groups, with another title."""
    return Grid(
        title=title,
        columns=tuple(grid.columns[column] for column in columns),
        lines=tuple(
            replace(line, cells=tuple(line.cells[column] for column in columns))
            for line in grid.lines
        ),
    )


def without_empty_columns(grid: Grid) -> Grid:
    """Return the grid without empty columns, such as device memory on a CPU."""
    kept = [
        column
        for column in range(len(grid.columns))
        if any(line.cells[column].text != NOTHING for line in grid.lines)
    ]
    return pick_columns(grid, kept, grid.title)


def estimated_cell(estimate: Estimate, write: Callable[[float], str]) -> TableCell:
    """Return a cell with a value and its interval, formatted by `write`."""
    if not estimate.has_interval:
        return TableCell(write(estimate.value))
    (low, *unit), high = write(estimate.low).split(" "), write(estimate.high)
    # Write a unit that both ends have only once.
    is_shared = unit == high.split(" ")[1:]
    return TableCell(
        write(estimate.value), f"{low if is_shared else ' '.join([low, *unit])} to {high}"
    )
