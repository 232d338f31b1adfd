"""The other tables of a report: what starting costs, parity, settings, the environment.

Cell by cell as the page, Markdown and the terminal show them; numbers and names are written once.
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
from kerash5.report._grid import Cell, Grid, Line, estimated_cell, without_empty_columns
from kerash5.report._rows import Row
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
    """Return what else each contender cost and gave: starting, memory, loss, accuracy, spread."""
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
            *("Backend", "First step, cold", "First step, warm", "Waits for input", "Peak memory"),
            *("On device", "Final loss", "Accuracy", "Spread", "Load before", "Runs"),
        ),
        lines=tuple(lines),
    )
    return without_empty_columns(grid)


def engine_grid(tables: Sequence[Table]) -> Grid:
    """Return which engine ran the steps of each contender, and why not a faster one."""
    several = len({table.batch_size for table in tables}) > 1
    return Grid(
        title="What ran the steps",
        columns=("Backend", "Engine"),
        lines=tuple(
            Line(cells=(_contender_cell(table, row, several=several), Cell("; ".join(row.engines))))
            for table in tables
            for row in table.rows
            if row.engines
        ),
    )


def parity_grid(comparison: Comparison) -> Grid:
    """Return what each contender's numbers differ by from the reference, beside what is allowed."""
    return Grid(
        title="Parity",
        columns=("Backend", *_CHECKS.values(), "Verdict"),
        lines=tuple(_parity_line(parity) for parity in comparison.parities),
    )


def settings_grid(comparison: Comparison) -> Grid:
    """Return what was asked for, and the machine it ran on."""
    method, machine = comparison.method, asdict(comparison.machine)
    asked = {
        "Model": method.model,
        "Data": method.data,
        "Batch sizes": ", ".join(map(str, method.batch_sizes)),
        "Settings": ", ".join(SETTING_WORDS[setting] for setting in method.settings),
        "Rounds": str(method.repeats),
        "Steps in an epoch": f"{method.num_steps:,}",
        "Epochs timed in a process": f"{method.num_epochs}, and two before them to warm up",
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
    """Return versions of packages, and settings as the processes found them, by contender."""
    found = {name: _find_environment(comparison, name) for name in comparison.method.contenders}
    known = {name: values for name, values in found.items() if values}
    entries = dict.fromkeys(entry for values in known.values() for entry in values)
    return Grid(
        title="Environment",
        columns=("What", *(name_of(name) for name in known)),
        lines=tuple(
            Line(
                cells=(
                    Cell(entry if entry.isupper() else entry.replace("_", " ")),
                    *(Cell(str(values.get(entry, NOTHING))) for values in known.values()),
                )
            )
            for entry in entries
        ),
    )


def _cost_cells(table: Table, row: Row, *, several: bool) -> tuple[Cell, ...]:
    warm = row.first_step.get("warm", Estimate(math.nan))
    cold = row.first_step.get("cold", Estimate(math.nan))
    uncached = row.first_step.get("none")
    return (
        _contender_cell(table, row, several=several),
        *([_without_cache(uncached), Cell(NOTHING)] if uncached else _starts(cold, warm)),
        estimated_cell(row.input_wait, percent),
        Cell(memory(row.host_bytes.value)),
        Cell(memory(row.device_bytes.value)),
        estimated_cell(row.loss, number),
        estimated_cell(row.accuracy, percent),
        Cell(percent(row.variation), "unstable" if row.instabilities else ""),
        _load_cell(row),
        Cell(f"{len(row.samples)} of {row.num_asked}"),
    )


def _contender_cell(table: Table, row: Row, *, several: bool) -> Cell:
    size = f"batch {table.batch_size}, " if several else ""
    return Cell(name_of(row.contender), size + SETTING_WORDS[table.setting])


def _load_cell(row: Row) -> Cell:
    before, after = (
        median_interval([getattr(sample, name) for sample in row.samples]).value
        for name in ("load_before", "load_after")
    )
    return Cell(number(before, digits=2), f"{number(after, digits=2)} after")


def _starts(cold: Estimate, warm: Estimate) -> list[Cell]:
    return [estimated_cell(cold, seconds), estimated_cell(warm, seconds)]


def _without_cache(start: Estimate) -> Cell:
    return Cell(seconds(start.value), "no cache")


def _parity_line(parity: Parity) -> Line:
    checks = {check.name: check for check in parity.checks}
    return Line(
        cells=(
            Cell(name_of(parity.contender), SETTING_WORDS[parity.setting]),
            *(_check_cell(checks.get(name)) for name in _CHECKS),
            Cell("passed" if parity.is_passed else "failed"),
        ),
        is_grey=not parity.is_passed,
        reason=parity.reason,
    )


def _check_cell(check: ParityCheck | None) -> Cell:
    if check is None:
        return Cell(NOTHING)
    allowed = f"of {check.bound:.0e} allowed"
    text = f"{check.difference:.1e}" if math.isfinite(check.difference) else "not a number"
    text = text if check.difference else "0"
    return Cell(text, f"{allowed}; {check.loosened}" if check.loosened else allowed)


def _find_environment(comparison: Comparison, contender: str) -> dict[str, object]:
    """Return versions, and what the first process of a contender says of itself."""
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
    return Line(cells=(Cell(name.removesuffix(" bytes")), Cell(text or NOTHING)))
