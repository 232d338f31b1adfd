"""What data may mean besides what is read: packed numbers, and rows that are parts of a sample.

None of it is a fault, so it is warned of once, where a source is made; what is certain is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import h5py
import numpy as np

from kerash5._errors import (
    DamagedFileError,
    escape_controls,
    explain_system_error,
)
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._find import find_object
from kerash5.h5.storage._opening import HDF5_ERRORS, words_of

if TYPE_CHECKING:
    from kerash5.h5.columns._columns import ResolvedColumn

# Of netCDF's conventions; a reader of netCDF applies them.
_PACKING: Final = ("scale_factor", "add_offset", "_FillValue", "missing_value")
MIN_PARTS: Final = 3  # files or groups; two of a length are no pattern


def packing_of(dataset: h5py.Dataset) -> dict[str, object]:
    """Return the attributes that say how stored values are to be changed; empty if none do."""
    found = {name: dataset.attrs[name] for name in _PACKING if name in dataset.attrs}
    return {name: value for name, value in found.items() if not _is_nan(value)}


def _is_nan(value: object) -> bool:
    """Say whether a fill value is NaN, which is what missing values would be made."""
    array = np.asarray(value)
    return array.dtype.kind == "f" and bool(np.isnan(array).all())


def describe_packing(packing: Mapping[str, object]) -> str:
    """Return "scale_factor=0.01, add_offset=5.0"."""
    return escape_controls(", ".join(f"{name}={value}" for name, value in packing.items()))


def read_packing(file: H5File, path: str, *, allow_external: bool) -> str:
    """Return the attributes of a data set that are not applied, as text; "" without any.

    Args:
        file: That holds it.
        path: Of a column in it.
        allow_external: As in `Source`.

    Raises:
        DamagedFileError: The attributes cannot be read.
    """
    with file.open() as handle:
        dataset = find_object(handle, path, allow_external=allow_external)
        try:
            found = packing_of(dataset) if isinstance(dataset, h5py.Dataset) else {}
            return describe_packing(found)
        except (KeyError, TypeError, *HDF5_ERRORS) as error:
            what = f"{path!r} in {file.path!r}"
            raise explain_system_error(error, what) or DamagedFileError(
                f"{what} is damaged: its attributes cannot be read ({words_of(error)}); copy or "
                "download the file again"
            ) from error


def warn_of_packing(columns: Iterable[ResolvedColumn]) -> None:
    """Warn of columns whose attributes say that stored values are no measurements."""
    for column in columns:
        if column.packing:
            warnings.warn(
                f"column {column.column.path!r} is read as it is stored, and its attributes say "
                f"otherwise ({column.packing}): apply them in a transform=, or write the values "
                "unpacked",
                stacklevel=4,
            )


def warn_of_samples(files: Sequence[H5File], columns: Mapping[str, ResolvedColumn]) -> None:
    """Warn where each file may be one sample: as many rows in each as the next axis is long."""
    if len(files) < MIN_PARTS:
        return
    first = next(iter(columns.values()))
    if (count := find_square(first)) is not None:
        warnings.warn(
            f"{len(files)} files of {count} rows of shape {first.shape} in "
            f"{first.column.path!r} are read as {len(files) * count} rows; if each file is one "
            f"row of shape {(count, *first.shape)}, use k5.rows_from_files(files, "
            f"x={first.column.path!r})",
            stacklevel=4,
        )


def find_square(column: ResolvedColumn) -> int | None:
    """Return the rows of each part where all have as many as the rows' first axis is long."""
    lengths = {part.num_rows for part in column.parts}
    (length, *others) = lengths
    is_square = not others and bool(column.shape) and length == column.shape[0] > 1
    return length if is_square else None
