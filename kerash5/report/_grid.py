"""A table of text: what is in its cells, and nothing of how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kerash5.comparison._statistics import Estimate
from kerash5.report._wording import NOTHING


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is read first, what stands smaller beside it, and whether it is greyed."""

    text: str
    note: str = ""
    is_grey: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a grid.

    Args:
        cells: As many as there are columns.
        is_grey: Whether it is shown, but does not count.
        reason: Why it, or some of its cells, do not.
    """

    cells: tuple[Cell, ...]
    is_grey: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table of text.

    Args:
        title: Stands above it.
        columns: The head of each column; the first names what a line is about.
        lines: From the top.
        groups: Heads over several columns each, as (text, how many columns); empty for none.
    """

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    groups: tuple[tuple[str, int], ...] = ()


def pick_columns(grid: Grid, columns: Sequence[int], title: str) -> Grid:
    """Return some columns of a grid, without groups, under a title."""
    return Grid(
        title=title,
        columns=tuple(grid.columns[column] for column in columns),
        lines=tuple(
            replace(line, cells=tuple(line.cells[column] for column in columns))
            for line in grid.lines
        ),
    )


def without_empty_columns(grid: Grid) -> Grid:
    """Leave out what was measured nowhere: a processor alone has no memory of a device."""
    kept = [
        column
        for column in range(len(grid.columns))
        if any(line.cells[column].text != NOTHING for line in grid.lines)
    ]
    return pick_columns(grid, kept, grid.title)


def estimated_cell(estimate: Estimate, write: Callable[[float], str]) -> Cell:
    """Return a cell with a value and its interval, written by `write`."""
    if not estimate.has_interval:
        return Cell(write(estimate.value))
    (low, *unit), high = write(estimate.low).split(" "), write(estimate.high)
    # A unit that both ends share is written once.
    is_shared = unit == high.split(" ")[1:]
    return Cell(write(estimate.value), f"{low if is_shared else ' '.join([low, *unit])} to {high}")
