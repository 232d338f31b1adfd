"""The other tables of a report: cost of starting, parity, settings, environment.

The page, Markdown and the terminal show the same cells, so each is formatted once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from kerash5.comparison._parity import CheckName, Parity, ParityCheck
from kerash5.comparison._results import Comparison
from kerash5.comparison._statistics import Estimate, median_interval
from kerash5.report._findings import Table
from kerash5.report._grid import Grid, Line, TableCell, estimated_cell, without_empty_columns
from kerash5.report._rows import ContenderStats
from kerash5.report._wording import (
    NOTHING,
    SETTING_WORDS,
    memory,
    name_of,
    number,
    percent,
    seconds,
)

_CHECKS: Final[dict[CheckName, str]] = {
    "forward": "Outputs, same weights",
    "losses": "First 5 losses",
    "adam": "10 steps of Adam",
    "sgd": "64 steps of SGD, mean",
}


def cost_grid(tables: Sequence[Table]) -> Grid:
    """Return a grid of start time, memory, loss, accuracy and spread of each contender."""
    several = len({table.batch_size for table in tables}) > 1
    lines = [
        Line(cells=_cost_cells(table, row, several=several), is_grey=not row.is_ranked)
        for table in tables
        for row in table.rows
        if row.samples
    ]
    grid = Grid(
        title="Starting, memory, loss",
        columns=(
            *("Backend", "First step, cold", "First step, warm", "Input wait", "Peak memory"),
            *("On device", "Final loss", "Accuracy", "Spread", "Load before", "Runs"),
        ),
        lines=tuple(lines),
    )
    return without_empty_columns(grid)


def engine_grid(tables: Sequence[Table]) -> Grid:
    """Return a grid of the engine of each contender, and why a faster one was not used."""
    several = len({table.batch_size for table in tables}) > 1
    return Grid(
        title="Engine of the steps",
        columns=("Backend", "Engine"),
        lines=tuple(
            Line(
                cells=(
                    _contender_cell(table, row, several=several),
                    TableCell("; ".join(row.engines)),
                )
            )
            for table in tables
            for row in table.rows
            if row.engines
        ),
    )


def parity_grid(comparison: Comparison) -> Grid:
    """Return a grid of each contender's differences from the reference, with their bounds."""
    return Grid(
        title="Parity",
        columns=("Backend", *_CHECKS.values(), "Verdict"),
        lines=tuple(_parity_line(parity) for parity in comparison.parities),
    )


def settings_grid(comparison: Comparison) -> Grid:
    """Return a grid of the options and the machine."""
    method, machine = comparison.method, asdict(comparison.machine)
    asked = {
        "Model": method.model,
        "Data": method.data,
        "Batch sizes": ", ".join(map(str, method.batch_sizes)),
        "Settings": ", ".join(SETTING_WORDS[setting] for setting in method.settings),
        "Rounds": str(method.repeats),
        "Steps in an epoch": f"{method.num_steps:,}",
        "Timed epochs per process": f"{method.num_epochs}, after two warm-up epochs",
        "Threads": str(method.threads),
        "Precision": f"{method.precision}, TF32 {'allowed' if method.tf32 else 'off'}",
        "Seed": str(method.seed),
        "Started": comparison.started or NOTHING,
        "Took": seconds(comparison.seconds),
    }
    noted = {f"Machine: {name.replace('_', ' ')}": value for name, value in machine.items()}
    return Grid(
        title="Settings and machine",
        columns=("What", "Value"),
        lines=tuple(_pair(name, value) for name, value in {**asked, **noted}.items()),
    )


def versions_grid(comparison: Comparison) -> Grid:
    """Return a grid of package versions and resolved settings, by contender."""
    found = {name: _find_environment(comparison, name) for name in comparison.method.contenders}
    known = {name: values for name, values in found.items() if values}
    entries = dict.fromkeys(entry for values in known.values() for entry in values)
    return Grid(
        title="Environment",
        columns=("What", *(name_of(name) for name in known)),
        lines=tuple(
            Line(
                cells=(
                    TableCell(entry if entry.isupper() else entry.replace("_", " ")),
                    *(TableCell(str(values.get(entry, NOTHING))) for values in known.values()),
                )
            )
            for entry in entries
        ),
    )


def _cost_cells(table: Table, row: ContenderStats, *, several: bool) -> tuple[TableCell, ...]:
    warm = row.first_step.get("warm", Estimate(math.nan))
    cold = row.first_step.get("cold", Estimate(math.nan))
    uncached = row.first_step.get("none")
    return (
        _contender_cell(table, row, several=several),
        *([_without_cache(uncached), TableCell(NOTHING)] if uncached else _starts(cold, warm)),
        estimated_cell(row.input_wait, percent),
        TableCell(memory(row.host_bytes.value)),
        TableCell(memory(row.device_bytes.value)),
        estimated_cell(row.loss, number),
        estimated_cell(row.accuracy, percent),
        TableCell(percent(row.variation), "unstable" if row.instabilities else ""),
        _load_cell(row),
        TableCell(f"{len(row.samples)} of {row.num_asked}"),
    )


def _contender_cell(table: Table, row: ContenderStats, *, several: bool) -> TableCell:
    size = f"batch {table.batch_size}, " if several else ""
    return TableCell(name_of(row.contender), size + SETTING_WORDS[table.setting])


def _load_cell(row: ContenderStats) -> TableCell:
    before, after = (
        median_interval([getattr(sample, name) for sample in row.samples]).value
        for name in ("load_before", "load_after")
    )
    return TableCell(number(before, digits=2), f"{number(after, digits=2)} after")


def _starts(cold: Estimate, warm: Estimate) -> list[TableCell]:
    return [estimated_cell(cold, seconds), estimated_cell(warm, seconds)]


def _without_cache(start: Estimate) -> TableCell:
    return TableCell(seconds(start.value), "no cache")


def _parity_line(parity: Parity) -> Line:
    checks = {check.name: check for check in parity.checks}
    return Line(
        cells=(
            TableCell(name_of(parity.contender), SETTING_WORDS[parity.setting]),
            *(_check_cell(checks.get(name)) for name in _CHECKS),
            TableCell("passed" if parity.is_passed else "failed"),
        ),
        is_grey=not parity.is_passed,
        reason=parity.reason,
    )


def _check_cell(check: ParityCheck | None) -> TableCell:
    if check is None:
        return TableCell(NOTHING)
    allowed = f"bound {check.bound:.0e}"
    text = f"{check.difference:.1e}" if math.isfinite(check.difference) else "not finite"
    text = text if check.difference else "0"
    return TableCell(text, f"{allowed}; {check.loosened}" if check.loosened else allowed)


def _find_environment(comparison: Comparison, contender: str) -> dict[str, object]:
    """Return the versions and environment that the first process of a contender reported."""
    resolved = next(
        (s.environment for s in comparison.samples if s.contender == contender and s.environment),
        {},
    )
    told = {
        name: value
        for name, value in resolved.items()
        if isinstance(value, str | int | float) and name not in asdict(comparison.machine)
    }
    settings = resolved.get("settings", {})
    kept = {name: settings[name] for name in sorted(settings) if name.endswith("_THREADS")}
    return {**dict(sorted(comparison.versions.get(contender, {}).items())), **told, **kept}


def _pair(name: str, value: object) -> Line:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    is_size = name.endswith(" bytes") and isinstance(value, int)
    text = memory(float(str(value))) if is_size else str(value)
    return Line(cells=(TableCell(name.removesuffix(" bytes")), TableCell(text or NOTHING)))
