"""Draw the figures of a report: SVG that uses the colours and fonts of the page around it.

matplotlib draws them in placeholder colours, which are then replaced by CSS variables. One figure
therefore works in light and dark mode and in print. Text remains text, and nothing is loaded from
outside.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from kerash5._errors import BackendError
from kerash5.comparison._results import Comparison
from kerash5.report._findings import Table
from kerash5.report._rows import ContenderStats
from kerash5.report._wording import SETTING_WORDS, name_of, number, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _MUTED, _GRID, _PAPER = "#010101", "#020202", "#030303", "#040404"
_VARIABLES: Final = {_INK: "--ink", _MUTED: "--muted", _GRID: "--line", _PAPER: "--paper"}
_NUM_COLORS: Final = 6
_MARKERS: Final = ("o", "s", "^", "D", "v", "P")
_PLACES: Final = {"jax": 0, "tensorflow": 1, "torch": 2}
_WIDE: Final = 20  # ratio of speeds; above it the slow ones are too close to 0 to be distinguished
_WIDTH: Final = 4.8  # inches; small, so that text stays readable on a phone


def draw_speeds(comparison: Comparison, tables: Sequence[Table], name: str) -> str:
    """Draw every process of one batch size as a dot, and the median with its interval.

    Args:
        comparison: The comparison, whose contenders determine the colours.
        tables: Tables of one batch size, one per setting.
        name: Prefix of the element ids; unique on the page.

    Returns:
        An `<svg>` element.

    Raises:
        BackendError: matplotlib is not installed.
    """
    rows = [(table, row) for table in tables for row in table.rows if row.samples]
    figure, axes = _new_axes(0.36 * len(rows) + 0.75)
    for position, (_, row) in enumerate(rows):
        _draw_row(axes, position, row, _color_index(comparison, row.contender))
    _label_rows(axes, [f"{name_of(row.contender)}, {SETTING_WORDS[t.setting]}" for t, row in rows])
    _scale_speeds(axes, [row.speed.value for _, row in rows])
    size = tables[0].batch_size
    told = [
        f"{name_of(row.contender)} {SETTING_WORDS[table.setting]}: {number(row.speed.value)}"
        for table, row in rows
    ]
    return _to_svg(figure, name, f"Rows per second at batch size {size}", "; ".join(told))


def draw_starts(comparison: Comparison, tables: Sequence[Table], name: str) -> str:
    """Draw the time to the first step, split into import, build and compile, cold and warm."""
    bars = [bar for row in _first_rows(tables) for bar in _start_bars(row)]
    figure, axes = _new_axes(0.36 * len(bars) + 1.0)
    for position, (_, contender, parts) in enumerate(bars):
        color, left = _color(_color_index(comparison, contender)), 0.0
        for part, (length, alpha) in enumerate(zip(parts, (0.35, 0.6, 1.0), strict=True)):
            axes.barh(
                position, length, left=left, height=0.62, color=color, alpha=alpha, label=part
            )
            left += length
        axes.annotate(
            seconds(left),
            (left, position),
            (4, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
        )
    _label_rows(axes, [label for label, _, _ in bars])
    axes.margins(x=0.16)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds; pale: import, medium: build, full: first step")
    told = [f"{label}: {seconds(sum(parts))}" for label, _, parts in bars]
    return _to_svg(figure, name, "Time to the first step", "; ".join(told))


def draw_losses(comparison: Comparison, tables: Sequence[Table], name: str) -> str:
    """Draw the training loss of every process over the epochs, warm-up first."""
    figure, axes = _new_axes(2.7)
    from matplotlib.ticker import MaxNLocator

    rows = [(table, row) for table in tables for row in table.rows if row.samples]
    several = len({table.setting for table in tables}) > 1
    for table, row in rows:
        position = _color_index(comparison, row.contender)
        line = "--" if table.setting == "tuned" else "-"
        label = name_of(row.contender) + (f", {SETTING_WORDS[table.setting]}" if several else "")
        for number_of, sample in enumerate(row.samples):
            epochs = range(1, len(sample.epoch_losses) + 1)
            axes.plot(
                epochs,
                sample.epoch_losses,
                line,
                color=_color(position),
                marker=_MARKERS[position % len(_MARKERS)],
                markersize=3.5,
                linewidth=1.1,
                alpha=0.8,
                label=label if number_of == 0 else None,
            )
    axes.set_xlabel("epoch, warm-up first")
    axes.set_ylabel("training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=_GRID, linewidth=0.7)
    if rows:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=_INK)
    told = [f"{name_of(row.contender)} ends at {number(row.loss.value)}" for _, row in rows]
    size = tables[0].batch_size
    return _to_svg(figure, name, f"Training loss at batch size {size}", "; ".join(told))


def _first_rows(tables: Sequence[Table]) -> list[ContenderStats]:
    """Return the rows of the smallest batch size; the start hardly depends on the batch size."""
    return [row for row in tables[0].rows if row.samples and row.first_step]


def _start_bars(row: ContenderStats) -> list[tuple[str, str, tuple[float, float, float]]]:
    bars = []
    for cache in row.first_step:
        kept = [sample for sample in row.samples if sample.compile_cache == cache]
        middle = sorted(kept, key=lambda s: s.time_to_first_step_seconds)[(len(kept) - 1) // 2]
        parts = (middle.import_seconds, middle.build_seconds, middle.first_step_seconds)
        if all(math.isfinite(part) for part in parts):
            label = name_of(row.contender) + ("" if cache == "none" else f", {cache}")
            bars.append((label, row.contender, parts))
    return bars


def _draw_row(axes: Axes, position: int, row: ContenderStats, contender: int) -> None:
    color = _color(contender) if row.is_ranked else _MUTED
    speeds = [sample.rows_per_second for sample in row.samples]
    if row.speed.has_interval:
        axes.plot(
            [row.speed.low, row.speed.high],
            [position, position],
            color=color,
            linewidth=5,
            alpha=0.3,
        )
    # The dots of a row are spread vertically, because processes that agree would hide each other.
    shifts = [0.11 * ((index % 3) - 1) for index in range(len(speeds))]
    axes.plot(
        speeds,
        [position + shift for shift in shifts],
        linestyle="none",
        marker=_MARKERS[contender % len(_MARKERS)],
        markersize=4.5,
        color=color,
        markeredgecolor=_PAPER,
        markeredgewidth=0.6,
    )
    axes.plot([row.speed.value] * 2, [position - 0.3, position + 0.3], color=color, linewidth=2)


def _scale_speeds(axes: Axes, speeds: Sequence[float]) -> None:
    """Scale the axis linearly from 0, or logarithmically if some speeds would lie on 0."""
    if speeds and max(speeds) > _WIDE * min(speeds):
        axes.set_xscale("log")
        axes.set_xlabel("rows per second, logarithmic; right is faster")
    else:
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("rows per second; farther right is faster")
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _label_rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def _color_index(comparison: Comparison, contender: str) -> int:
    """Return the index of a contender's colour; the three backends always have the same colours."""
    if contender in _PLACES:
        return _PLACES[contender]
    others = [name for name in comparison.method.contenders if name not in _PLACES]
    return 3 + (others.index(contender) if contender in others else 0)


def _color(position: int) -> str:
    return f"#0500{position % _NUM_COLORS:02d}"


def _new_axes(height: float) -> tuple[Figure, Axes]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendError("the page needs matplotlib: pip install 'kerash5[report]'") from error
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_GRID)
    axes.tick_params(colors=_INK, labelsize=9, color=_GRID)
    axes.xaxis.label.set(color=_MUTED, fontsize=9)
    axes.yaxis.label.set(color=_MUTED, fontsize=9)
    return figure, axes


def _to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = text[text.index("<svg") :]
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="[^"]+"', head)
    # Element ids of one figure must not clash with those of another figure on the page.
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]+", "font-family: inherit", body)
    for color, variable in _all_variables().items():
        body = body.replace(color, f"var({variable})")
    return (
        f'<svg {box[0] if box else ""} role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>'
        f"{body.strip()}"
    )


def _all_variables() -> dict[str, str]:
    return {**_VARIABLES, **{_color(position): f"--c{position}" for position in range(_NUM_COLORS)}}
