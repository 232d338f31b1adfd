"""Warn of data that may mean something else: packed numbers, and rows that are parts of a sample.

These are not errors, so each is warned of once, when a source is created. Certain errors raise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from kerash5._errors import (
    escape_controls,
)
from kerash5._warnings import warn
from kerash5.h5.columns._cf import NAMES, read_cf
from kerash5.h5.storage._file import H5File

if TYPE_CHECKING:
    from kerash5.h5.columns._columns import ResolvedColumn

MIN_PARTS: Final = 3  # files or groups; two of one length are not a pattern


def _is_nan(value: object) -> bool:
    """Return whether a fill value is NaN, which missing values would become anyway."""
    array = np.asarray(value)
    return array.dtype.kind == "f" and bool(np.isnan(array).all())


def read_packing(file: H5File, path: str, *, allow_external: bool) -> str:
    """Return the attributes of a data set that are not applied, as text; "" without any.

    Args:
        file: The file.
        path: Path of a column in the file.
        allow_external: As in `Source`.

    Raises:
        DamagedFileError: The attributes cannot be read.
    """
    found = read_cf(file, path, allow_external=allow_external)
    told = {name: found[name] for name in NAMES if name in found and not _is_nan(found[name])}
    return escape_controls(", ".join(f"{name}={value}" for name, value in told.items()))


def warn_of_packing(columns: Iterable[ResolvedColumn]) -> None:
    """Warn of columns whose attributes say that stored values are no measurements."""
    for column in columns:
        if column.packing:
            warn(
                f"column {column.column.path!r} is read as it is stored, and its attributes say "
                f"otherwise ({column.packing}): Column({column.column.path!r}, cf=True) applies "
                "them, cf=False reads what is stored without this warning"
            )


def warn_of_samples(files: Sequence[H5File], columns: Mapping[str, ResolvedColumn]) -> None:
    """Warn where each file may be one sample: as many rows in each as the next axis is long."""
    if len(files) < MIN_PARTS:
        return
    first = next(iter(columns.values()))
    if (count := find_square(first)) is not None:
        warn(
            f"{len(files)} files of {count} rows of shape {first.shape} in "
            f"{first.column.path!r} are read as {len(files) * count} rows; if each file is one "
            f"row of shape {(count, *first.shape)}, use k5.rows_from_files(files, "
            f"x={first.column.path!r})"
        )


def find_square(column: ResolvedColumn) -> int | None:
    """Return the rows of each part where all have as many as the rows' first axis is long."""
    lengths = {part.num_rows for part in column.parts}
    (length, *others) = lengths
    is_square = not others and bool(column.shape) and length == column.shape[0] > 1
    return length if is_square else None
