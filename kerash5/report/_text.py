"""Write the report as text: Markdown for a repository, tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kerash5.comparison._results import Comparison
from kerash5.report._findings import find_tables
from kerash5.report._grid import Grid, Line, TableCell
from kerash5.report._grids import cost_grid, engine_grid, parity_grid, settings_grid, versions_grid
from kerash5.report._method import describe_method
from kerash5.report._speed_grids import table_grid
from kerash5.report._verdict import describe_machine, find_verdict
from kerash5.report._wording import NOTHING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable


def render_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the report of one comparison or several as Markdown."""
    parts = [part for comparison in comparisons for part in _markdown_parts(comparison)]
    method = describe_method([comparison.method for comparison in comparisons])
    parts += ["## How it was measured and how to read it"]
    parts += [f"**{head}.** {_escape(text)}" for head, text in method]
    return "\n\n".join(parts) + "\n"


def render_terminal(comparison: Comparison, console: Console) -> None:
    """Print the verdict, the tables and the caveats.

    Args:
        comparison: The comparison to print.
        console: Console to print to; tables are laid out for its width.
    """
    from rich.padding import Padding
    from rich.text import Text

    tables = find_tables(comparison)
    verdict = find_verdict(comparison, tables)
    console.print(Text(verdict.headline, style="bold"))
    for table in tables:
        console.print(Padding(_rich_table(table_grid(tables, table)), (1, 0, 0, 0)))
    ran = [": ".join(map(_in_one, line.cells)) for line in engine_grid(tables).lines]
    for text in (*verdict.details, *verdict.remarks, *verdict.caveats, *ran):
        console.print(Text(f"* {text}"), style="dim", highlight=False)


def _markdown_parts(comparison: Comparison) -> Iterable[str]:
    tables = find_tables(comparison)
    verdict = find_verdict(comparison, tables)
    day = comparison.started[:10]
    yield f"# Which backend is fastest for {_escape(comparison.method.model)}?"
    yield f"**{_escape(verdict.headline)}**"
    if verdict.details:
        yield _bullets(verdict.details)
    yield "In brackets: intervals, which hold jointly for all pairs of a table with 95 %."
    yield _bullets(verdict.caveats)
    yield from _markdown_grids(*(table_grid(tables, table) for table in tables))
    if verdict.remarks:
        yield "## Further findings"
        yield _bullets(verdict.remarks)
    yield from _markdown_grids(
        cost_grid(tables),
        engine_grid(tables),
        parity_grid(comparison),
        settings_grid(comparison),
        versions_grid(comparison),
    )
    yield _escape(f"{describe_machine(comparison.machine)}{', ' + day if day else ''}.")


def _markdown_grids(*grids: Grid) -> Iterable[str]:
    for grid in grids:
        if grid.lines:
            yield f"## {grid.title}"
            yield _markdown_table(grid)


def _markdown_table(grid: Grid) -> str:
    head = [
        f"| {' | '.join(map(_escape, grid.columns))} |",
        f"|---|{'---:|' * (len(grid.columns) - 1)}",
    ]
    return "\n".join([*head, *(_markdown_line(line) for line in grid.lines)])


def _markdown_line(line: Line) -> str:
    first, *others = line.cells
    about = _in_one(first) + (f" ({line.reason})" if line.reason else "")
    cells = [f"*{_escape(about)}*" if line.is_grey else _escape(about)]
    return f"| {' | '.join([*cells, *(_escape(_in_one(cell)) for cell in others)])} |"


def _rich_table(grid: Grid) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(title=grid.title, title_justify="left", title_style="bold")
    for number, column in enumerate(grid.columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for line in grid.lines:
        cells = [Text(cell.text + (f"\n{cell.note}" if cell.note else "")) for cell in line.cells]
        for cell, shown in zip(line.cells, cells, strict=True):
            shown.stylize("dim", 0 if cell.is_grey else len(cell.text))
        if line.reason:
            cells[0].append(f"\n{line.reason}")
        table.add_row(*cells, style="dim" if line.is_grey else "")
    return table


def _in_one(cell: TableCell) -> str:
    text = f"{cell.text} ({cell.note})" if cell.note else cell.text
    return f"{text}*" if cell.is_grey and cell.text != NOTHING else text


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"* {_escape(text)}" for text in texts)


def _escape(text: str) -> str:
    """Return text escaped for Markdown, also inside tables."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
