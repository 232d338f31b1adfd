"""Write the report as files: one self-contained HTML page, Markdown, and the numbers as JSON.

The page is made from the same findings, sentences and grids as the terminal's tables; the template
only sets its appearance. The page loads no resources and runs no script, and its content security
policy forbids both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kerash5._errors import BackendError, OptionError
from kerash5._version import __version__
from kerash5.comparison._results import COMPARISON_FILE, Comparison
from kerash5.files import replace_text
from kerash5.report._findings import Table, find_tables
from kerash5.report._grid import Grid
from kerash5.report._grids import cost_grid, engine_grid, parity_grid, settings_grid, versions_grid
from kerash5.report._method import describe_method
from kerash5.report._plots import draw_losses, draw_speeds, draw_starts
from kerash5.report._speed_grids import speed_grids
from kerash5.report._text import render_markdown
from kerash5.report._verdict import Verdict, describe_machine, find_verdict

if TYPE_CHECKING:
    from jinja2 import Template

PAGE_FILE: Final = "report.html"
TEXT_FILE: Final = "report.md"


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing and its caption."""

    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Size:
    """The parts of a report about one batch size."""

    grid: Grid
    figure: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One comparison, ready for the template."""

    name: str
    verdict: Verdict
    sizes: tuple[Size, ...]
    costs: Grid
    engines: Grid
    figures: tuple[Figure, ...]
    parity: Grid
    settings: Grid
    versions: Grid
    has_intervals: bool
    file: str
    json: str

    @property
    def embedded(self) -> str:
        """The JSON, escaped so that it cannot close its script element."""
        return self.json.replace("<", "\\u003c")


def write_report(
    comparisons: Comparison | Sequence[Comparison], folder: str | os.PathLike[str]
) -> tuple[str, ...]:
    """Write the report of one comparison, or of several on one page.

    Args:
        comparisons: The comparisons; several appear one below the other and are never mixed.
        folder: Folder to write to; created if missing. Files of an older report are replaced.

    Returns:
        The paths of the page, the Markdown, and the JSON of each comparison.

    Raises:
        BackendError: Jinja2 or matplotlib is not installed.
        OptionError: `comparisons` is empty.
    """
    found = (comparisons,) if isinstance(comparisons, Comparison) else tuple(comparisons)
    if not found:
        raise OptionError("there is no comparison to report; pass at least one")
    page, text = render_page(found), render_markdown(found)
    into = Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    written = {PAGE_FILE: page, TEXT_FILE: text}
    for name, comparison in zip(_file_names(len(found)), found, strict=True):
        written[name] = comparison.to_json()
    for name, content in written.items():
        replace_text(into / name, content)
    return tuple(str(into / name) for name in written)


def render_page(comparisons: Sequence[Comparison]) -> str:
    """Return the HTML page about these comparisons.

    Raises:
        BackendError: Jinja2 or matplotlib is not installed.
    """
    template = _load_template()
    models = list(dict.fromkeys(comparison.method.model for comparison in comparisons))
    names = _file_names(len(comparisons))
    page = template.render(
        title=f"Which backend is fastest for {' and '.join(models)}?",
        subtitle=_subtitle(comparisons),
        version=__version__,
        views=[
            _make_view(comparison, name, f"p{number}")
            for number, (comparison, name) in enumerate(zip(comparisons, names, strict=True), 1)
        ],
        method=describe_method([comparison.method for comparison in comparisons]),
        heads=column_heads,
    )
    return page.lstrip()


def column_heads(grid: Grid) -> tuple[str, ...]:
    """Return each column's heading, prefixed with its group: "Trainer: Rows/s"."""
    if not grid.groups:
        return grid.columns
    groups = [text for text, width in grid.groups for _ in range(width)]
    return tuple(
        f"{group}: {column}" if group else column
        for group, column in zip(groups, grid.columns, strict=True)
    )


def name_comparison(comparison: Comparison) -> str:
    """Return the title of a comparison: its machine, model and date."""
    day = comparison.started[:10]
    return ", ".join(
        filter(None, [describe_machine(comparison.machine), comparison.method.model, day])
    )


def _subtitle(comparisons: Sequence[Comparison]) -> str:
    if len(comparisons) > 1:
        return f"{len(comparisons)} comparisons by kerash5"
    return f"{comparisons[0].method.data}. {name_comparison(comparisons[0])}."


def _make_view(comparison: Comparison, file: str, name: str) -> View:
    tables = find_tables(comparison)
    shown = speed_grids(tables)
    return View(
        name=name_comparison(comparison),
        verdict=find_verdict(comparison, tables),
        sizes=tuple(
            Size(grid, _speed_figure(comparison, same, f"{name}-speed-{position}"))
            for position, (grid, same) in enumerate(zip(shown, _by_size(tables), strict=True))
        ),
        costs=cost_grid(tables),
        engines=engine_grid(tables),
        figures=tuple(_other_figures(comparison, _by_size(tables)[0], name)),
        parity=parity_grid(comparison),
        settings=settings_grid(comparison),
        versions=versions_grid(comparison),
        has_intervals=comparison.method.repeats > 1,
        file=file,
        json=comparison.to_json(),
    )


def _speed_figure(comparison: Comparison, tables: Sequence[Table], name: str) -> Figure:
    return Figure(
        draw_speeds(comparison, tables, name),
        "Each dot is a process, the line their median, the pale bar its interval. Grey: not "
        "ranked.",
    )


def _other_figures(comparison: Comparison, tables: Sequence[Table], name: str) -> list[Figure]:
    where = f"Batch size {tables[0].batch_size}."
    return [
        Figure(
            draw_starts(comparison, tables, f"{name}-start"),
            f"{where} Time from the start of a process to its first step. Cold: the compilation "
            "cache was empty; warm: it contained the model.",
        ),
        Figure(
            draw_losses(comparison, tables, f"{name}-loss"),
            f"{where} Training loss of every process. The curves of backends that compute the same "
            "from the same weights and batches lie on top of each other.",
        ),
    ]


def _by_size(tables: Sequence[Table]) -> list[list[Table]]:
    sizes = dict.fromkeys(table.batch_size for table in tables)
    return [[table for table in tables if table.batch_size == size] for size in sizes]


def _file_names(count: int) -> list[str]:
    if count == 1:
        return [COMPARISON_FILE]
    stem, dot, suffix = COMPARISON_FILE.partition(".")
    return [f"{stem}-{number}{dot}{suffix}" for number in range(1, count + 1)]


def _load_template() -> Template:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise BackendError("the page needs Jinja2: pip install 'kerash5[report]'") from error
    environment = Environment(
        loader=PackageLoader("kerash5.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
