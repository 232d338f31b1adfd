"""The main tables of a report: the speed of each contender, and its ratio to the fastest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from kerash5.report._findings import Table, tuning_gain
from kerash5.report._grid import Grid, Line, TableCell, estimated_cell, pick_columns
from kerash5.report._rows import ContenderStats, Standing
from kerash5.report._wording import NOTHING, SETTING_WORDS, interval, name_of, number

STANDING_WORDS: Final[dict[Standing, str]] = {
    "fastest": "fastest",
    "level": "no difference",
    "slower": "slower",
    "unknown": "too few rounds",
    "unranked": "not ranked",
}


def speed_grids(tables: Sequence[Table]) -> tuple[Grid, ...]:
    """Return one grid per batch size, with the settings side by side."""
    sizes = dict.fromkeys(table.batch_size for table in tables)
    sides = ([table for table in tables if table.batch_size == size] for size in sizes)
    return tuple(_speed_grid(tables, here, has_gain=len(here) > 1) for here in sides)


def table_grid(tables: Sequence[Table], table: Table) -> Grid:
    """Return the grid of one table alone, for outputs too narrow for two side by side."""
    has_gain = table.setting == "tuned" and any(
        (other.batch_size, other.setting) == (table.batch_size, "plain") for other in tables
    )
    grid = _speed_grid(tables, [table], has_gain=has_gain)
    title = f"Batch size {table.batch_size}, {SETTING_WORDS[table.setting]}"
    return pick_columns(grid, range(len(grid.columns)), title)


def _speed_grid(tables: Sequence[Table], here: Sequence[Table], *, has_gain: bool) -> Grid:
    columns = [head for _ in here for head in ("Rows/s", "ms/step", "/ fastest")]
    return Grid(
        title=f"Batch size {here[0].batch_size}",
        columns=("Backend", *columns, *(["Trainer / model.fit"] if has_gain else [])),
        groups=(
            ("", 1),
            *((SETTING_WORDS[table.setting], 3) for table in here),
            *([("", 1)] if has_gain else []),
        ),
        lines=tuple(_speed_lines(tables, here, has_gain=has_gain)),
    )


def _speed_lines(
    tables: Sequence[Table], here: Sequence[Table], *, has_gain: bool
) -> Iterable[Line]:
    for contender in _in_order_of_speed(here):
        rows = [row for table in here if (row := table.row(contender)) is not None]
        gain = tuning_gain(tables, here[0].batch_size, contender)
        cells = [cell for row in rows for cell in _speed_cells(row)]
        yield Line(
            cells=(
                TableCell(name_of(contender)),
                *cells,
                *([estimated_cell(gain, number)] if has_gain else []),
            ),
            is_grey=not any(row.is_ranked for row in rows),
            reason=_why_grey(here, rows),
        )


def _why_grey(here: Sequence[Table], rows: Sequence[ContenderStats]) -> str:
    """Return why rows of a contender are unranked, with the setting if it is not all of them."""
    reasons = dict.fromkeys(row.reason for row in rows)
    if len(reasons) == 1:
        return next(iter(reasons))
    settings = [SETTING_WORDS[table.setting] for table in here]
    told = [
        f"{setting}: {row.reason}"
        for setting, row in zip(settings, rows, strict=True)
        if row.reason
    ]
    return "; ".join(told)


def _in_order_of_speed(here: Sequence[Table]) -> list[str]:
    """Return the contenders, fastest first by the first setting that ranks any."""
    first = next((table for table in here if table.ranked), here[0])
    return [row.contender for row in first.rows]


def _speed_cells(row: ContenderStats) -> tuple[TableCell, ...]:
    cells = (
        estimated_cell(row.speed, number),
        estimated_cell(row.step_seconds, lambda value: number(value * 1e3)),
        _standing_cell(row),
    )
    return tuple(replace(cell, is_grey=not row.is_ranked) for cell in cells)


def _standing_cell(row: ContenderStats) -> TableCell:
    words = STANDING_WORDS[row.standing]
    if row.standing == "unranked" or not math.isfinite(row.relative.value):
        return TableCell(NOTHING, words)
    if row.relative.has_interval:
        return TableCell(number(row.relative.value), f"{interval(row.relative)}; {words}")
    return TableCell(number(row.relative.value), words)
