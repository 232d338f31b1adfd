"""Several columns of one part: their lengths, and their rows, read once for each data set.

x and y may be selected from one matrix, or be the same images, or fields of one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import ColumnError
from kerash5.h5.columns._columns import ResolvedColumn
from kerash5.h5.reading._derived import (
    DerivedReader,
    read_rows_together,
    read_runs_together,
    root_of,
)
from kerash5.h5.reading._ranges import CsrReader, PaddedReader
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._runs import Runs
from kerash5.h5.storage._file import H5File

Columns = Mapping[str, ResolvedColumn]


def group_columns(columns: Columns, part: int) -> tuple[tuple[str, ...], ...]:
    """Return the names of columns, grouped by the reader of their rows.

    Args:
        columns: The columns by name.
        part: Of which the readers are compared.
    """
    groups: dict[object, list[str]] = {}
    for name, column in columns.items():
        # Text goes through class ids, by itself.
        key = name if column.labels is not None else id(root_of(column.parts[part]))
        groups.setdefault(key, []).append(name)
    return tuple(map(tuple, groups.values()))


def load_rows(
    columns: Columns,
    part: int,
    rows: NDArray[np.int64],
    out: Mapping[str, np.ndarray],
    *,
    positions: NDArray[np.int64] | None,
    shard: tuple[int, int],
) -> None:
    """Load rows of one part to their positions; arguments as of `AbstractReader.read_rows`."""
    for names in group_columns(columns, part):
        column = columns[names[0]]
        if len(names) > 1:
            if shard[0] == 0:
                targets = [(columns[name].parts[part], out[name]) for name in names]
                read_rows_together(targets, rows, positions)
        elif column.labels is None:
            column.parts[part].read_rows(rows, out[names[0]], positions, shard)
        elif shard[0] == 0:
            stored = np.empty((len(rows), *column.stored_shape), column.stored_dtype)
            column.parts[part].read_rows(rows, stored)
            out[names[0]][slice(None) if positions is None else positions] = column.load(stored)


def load_runs(columns: Columns, part: int, runs: Runs, out: Mapping[str, np.ndarray]) -> None:
    """Load runs of rows of one part to their positions in `out`."""
    for names in group_columns(columns, part):
        column = columns[names[0]]
        if len(names) > 1:
            targets = [(columns[name].parts[part], out[name]) for name in names]
            # Where columns are the same rows, one array may be given for all.
            distinct = {id(array): (reader, array) for reader, array in targets}
            read_runs_together(list(distinct.values()), runs)
        elif column.labels is None:
            column.parts[part].read_runs(runs, out[names[0]])
        else:
            for start, stop, place in runs:
                stored = np.empty((stop - start, *column.stored_shape), column.stored_dtype)
                column.parts[part].read_range(start, stop, stored)
                out[names[0]][place : place + stop - start] = column.load(stored)


def allocate(columns: Columns, num_rows: int) -> dict[str, np.ndarray]:
    """Return uninitialised arrays for loaded rows; columns of the same rows share one."""
    arrays: dict[tuple[int, ...], np.ndarray] = {}
    found = {}
    for name, column in columns.items():
        # Readers are the same objects, or the rows are not known to be the same.
        key = (id(column.labels), *map(id, column.parts))
        if key not in arrays:
            arrays[key] = np.empty((num_rows, *column.stored_shape), column.loaded_dtype)
        found[name] = arrays[key]
    return found


def check_lengths(files: Sequence[H5File], first: ResolvedColumn, other: ResolvedColumn) -> None:
    """Raise `ColumnError` if two columns of the same files differ in length."""
    for number, (part, other_part) in enumerate(zip(first.parts, other.parts, strict=True)):
        if part.num_rows == other_part.num_rows:
            continue
        own = files[min(number, len(files) - 1)].path
        place, other_place = (
            one.beside[number].path if one.beside else own for one in (first, other)
        )
        names = (first.column.path, other.column.path)
        if place != other_place:
            raise ColumnError(
                f"columns differ in length: {names[0]!r} has {part.num_rows} rows in {place!r}, "
                f"{names[1]!r} {other_part.num_rows} in {other_place!r}; they must be aligned row "
                "by row: name the files that belong together"
            )
        raise ColumnError(
            f"columns of {place!r} differ in length: {names[0]!r} has {part.num_rows} rows, "
            f"{names[1]!r} {other_part.num_rows}; they must be aligned row by row: "
            + (
                _suggest_axis(first, part, other_part.num_rows)
                or _suggest_axis(other, other_part, part.num_rows)
                or "write the file again"
            )
        )


def _suggest_axis(column: ResolvedColumn, part: AbstractReader, num_rows: int) -> str | None:
    """Return the option that makes a column as long as another; None if no axis is."""
    is_made = isinstance(part, DerivedReader | PaddedReader | CsrReader)  # not as it is stored
    if column.column.axis or is_made or num_rows not in part.row_shape:
        return None
    axis = part.row_shape.index(num_rows) + 1
    return (
        f"if axis {axis} counts the rows of {column.column.path!r}, pass "
        f"Column({column.column.path!r}, axis={axis})"
    )
