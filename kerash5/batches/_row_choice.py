"""Rows that the file itself names: a data set of row numbers, a mask, or the value of a column."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import OptionError, RowError
from kerash5.h5 import Source
from kerash5.order._selection import RowSelection

_MAX_SHOWN: Final = 5


def find_rows(rows: Any, source: Source) -> RowSelection:  # noqa: ANN401  a selection, or a name
    """Return the row numbers of a selection that the files of a source hold.

    Args:
        rows: The path of a data set of row numbers or of a mask, such as "train_idx"; or a column
            and a value, such as ("split", "train"), for the rows in which the column has the value.
            Any other selection is returned as it is.
        source: Whose rows they are.

    Raises:
        OptionError: The data set is neither, or no row has the value.
        RowError: A mask, or the column, has another length than the source.
        UnknownColumnError: There is no such data set.
    """
    if isinstance(rows, str):
        return _read_numbers(rows, source)
    is_pair = isinstance(rows, tuple | list) and len(rows) == 2
    if is_pair and isinstance(rows[0], str):
        return _find_equal(rows[0], rows[1], source)
    selection: RowSelection = rows
    return selection


def read_beside(path: str, source: Source, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return all values of another data set of a source's files, and the names of its class ids.

    Args:
        path: The data set.
        source: The source.
        name: The option, for messages.

    Raises:
        OptionError: The rows of the source are not those of its files.
    """
    if len(source.part_starts) - 1 != len(source.paths):
        raise OptionError(
            f"{name}={path!r} is read from the files of {source!r}, whose rows are groups of them; "
            "give row numbers"
        )
    other = Source(list(source.paths), column=path)
    return other.read(np.arange(len(other)))["column"], other.class_names


def _read_numbers(path: str, source: Source) -> NDArray[np.int64] | NDArray[np.bool_]:
    values, names = read_beside(path, source, "rows")
    values = values.reshape(-1) if values.shape[1:] == (1,) else values
    if names is not None or values.ndim != 1 or values.dtype.kind not in "biu":
        kind = "text" if names is not None else f"{values.dtype} of shape {values.shape}"
        raise OptionError(
            f"rows={path!r} is {kind}; it is a data set of row numbers or a mask, or a column and "
            "a value, such as ('split', 'train')"
        )
    if values.dtype == np.bool_:
        if len(values) != len(source):
            raise RowError(
                f"the mask rows={path!r} has {len(values)} values, and the data {len(source)} rows"
            )
        return values
    if len(values) == len(source) > 2 and set(np.unique(values)) <= {0, 1}:
        raise OptionError(
            f"rows={path!r} holds 0 or 1 for each of the {len(source)} rows, as a mask does, but "
            f"of type {values.dtype}, as row numbers are; give rows=({path!r}, 1) for a mask"
        )
    if len(source.paths) > 1:
        raise OptionError(
            f"rows={path!r} holds row numbers, and there are {len(source.paths)} files; numbers "
            "are those of one file: give a mask, or numbers over all files"
        )
    return values.astype(np.int64)


def _find_equal(path: str, value: object, source: Source) -> NDArray[np.int64]:
    values, names = read_beside(path, source, "rows")
    if len(values) != len(source) or values.reshape(len(values), -1).shape[1] != 1:
        raise RowError(
            f"rows=({path!r}, {value!r}): the column has shape {values.shape}, and the data "
            f"{len(source)} rows; it needs one value per row"
        )
    flat = values.reshape(-1)
    if names is not None:
        flat = np.array(names, dtype=object)[flat]
        value = value.decode() if isinstance(value, bytes) else value
    found = np.flatnonzero(flat == value)
    if not len(found):
        some = list(dict.fromkeys(flat[:10_000].tolist()))
        shown = ", ".join(map(repr, some[:_MAX_SHOWN])) + (", ..." if some[_MAX_SHOWN:] else "")
        raise OptionError(f"rows=({path!r}, {value!r}) selects no row; the column holds {shown}")
    return found.astype(np.int64)
