"""Rows of any length, padded or truncated to one: vlen data sets, and values with offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import h5py
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import ColumnError, UnknownColumnError
from kerash5._warnings import warn
from kerash5.h5.columns._cast import find_misfits
from kerash5.h5.columns._column import Column
from kerash5.h5.reading._derived import DerivedReader, RowFunction
from kerash5.h5.reading._ranges import PaddedReader
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._select_reader import Reader, explained, open_part, read_vlen_lengths
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._find import find_object

_OBJECT_BYTES: Final = 64  # of an empty string or array in Python, about


@dataclass(frozen=True, slots=True)
class Truncation:
    """How many rows of a part are truncated."""

    num_rows: int
    longest: int


def open_vlen(
    column: Column, file: H5File, path: str, *, allow_external: bool, reader: Reader
) -> tuple[str, AbstractReader, Truncation | None]:
    """Open a data set of rows of any length.

    Returns:
        How it is stored, the reader, and which rows are truncated; None where that is not known.

    Raises:
        ColumnError: The rows have one length, or their values are no numbers.
    """
    where = f"column {path!r} of {file.path!r}"
    layout, base = open_part(
        path, file, allow_external=allow_external, reader=reader, axis=column.axis, ragged=True
    )
    inner = h5py.check_vlen_dtype(base.dtype)
    if inner is None:
        raise ColumnError(
            f"pad_to={column.pad_to} of {where}, whose rows all have the shape {base.row_shape}; "
            "leave pad_to= out, or name where rows begin with offsets="
        )
    pad_value = _parse_pad_value(column, inner, where)
    lengths = read_vlen_lengths(path, file, allow_external=allow_external)
    note_object_bytes(base, lengths, inner.itemsize)
    function = PadFunction(
        column.pad_to or 0,
        pad_value,
        base.row_shape,
        inner,
        where,
        warns=lengths is None,
    )
    found = None if lengths is None else _count(lengths, column.pad_to or 0)
    return layout.describe(), DerivedReader(base, function), found


def note_object_bytes(reader: AbstractReader, lengths: NDArray[Any] | None, size: int) -> None:
    """Note how much memory the objects of a reader take.

    Args:
        reader: Of the objects.
        lengths: Of some of them; None: not known.
        size: Bytes of each of their values.
    """
    mean = 0.0 if lengths is None or not lengths.size else float(lengths.mean())
    reader.object_bytes = int(mean * size) + _OBJECT_BYTES


def open_with_offsets(
    column: Column, file: H5File, path: str, *, allow_external: bool, reader: Reader
) -> tuple[str, AbstractReader, Truncation]:
    """Open a flat data set of values, with another one that says where each row begins.

    Returns:
        As `open_vlen`.

    Raises:
        ColumnError: The offsets are not valid.
    """
    where = f"column {path!r} of {file.path!r}"
    layout, values = open_part(path, file, allow_external=allow_external, reader=reader)
    beside = _find_beside(path, str(column.offsets), file, allow_external=allow_external)
    offsets = read_offsets(beside, file, values.num_rows, allow_external=allow_external)
    if values.dtype.kind not in "biufc":
        raise ColumnError(f"{where} holds {values.dtype} values; rows of numbers alone are padded")
    pad_value = _parse_pad_value(column, values.dtype, where)
    found = PaddedReader(values, offsets, column.pad_to or 0, pad_value)
    return layout.describe(), found, _count(np.diff(offsets), column.pad_to or 0)


def read_offsets(
    path: str, file: H5File, num_values: int, *, allow_external: bool
) -> NDArray[np.int64]:
    """Return where rows begin in a flat data set, and the last one ends; shape (num_rows + 1,).

    Args:
        path: Path of the offsets.
        file: The file.
        num_values: Number of values in the flat data set.
        allow_external: As in `Source`.

    Raises:
        ColumnError: They are no ascending whole numbers within the flat data set.
    """
    _, reader = open_part(path, file, allow_external=allow_external)
    if reader.row_shape or reader.dtype.kind not in "iu" or not reader.num_rows:
        raise ColumnError(
            f"offsets {path!r} of {file.path!r} are {reader.dtype} of shape "
            f"{(reader.num_rows, *reader.row_shape)}; they are whole numbers, one for each row and "
            "one for the end"
        )
    stored = np.empty(reader.num_rows, reader.dtype)
    reader.read_range(0, reader.num_rows, stored)
    offsets = stored.astype(np.int64)
    if offsets[0] < 0 or offsets[-1] > num_values or (np.diff(offsets) < 0).any():
        raise ColumnError(
            f"offsets {path!r} of {file.path!r} do not ascend from 0 to the {num_values} values "
            f"they are for (they go from {offsets[0]} to {offsets[-1]}); name those that belong to "
            "them"
        )
    return offsets


def _find_beside(path: str, name: str, file: H5File, *, allow_external: bool) -> str:
    """Return the path of a data set named relative to the group of another one, or to the root."""
    group = path.strip("/").rpartition("/")[0]
    with explained(path, file), file.open() as handle:
        for place in dict.fromkeys([f"{group}/{name}".strip("/"), name.strip("/")]):
            try:
                find_object(handle, place, allow_external=allow_external)
            except UnknownColumnError:
                continue
            return place
    return name


def _parse_pad_value(column: Column, dtype: np.dtype, where: str) -> Any:  # noqa: ANN401  of `dtype`
    if dtype.kind not in "biufc":
        raise ColumnError(f"{where} holds rows of {dtype} values; rows of numbers alone are padded")
    value = np.asarray(column.pad_value)
    if find_misfits(value.reshape(1), dtype).any():
        raise ColumnError(
            f"pad_value={column.pad_value!r} of {where} is no {dtype}, which its values are; "
            "choose one that is"
        )
    return value.astype(dtype)[()]


def _count(lengths: NDArray[Any], pad_to: int) -> Truncation:
    return Truncation(int((lengths > pad_to).sum()), int(lengths.max(initial=0)))


def warn_of_truncation(column: Column, found: list[Truncation], num_rows: int) -> None:
    """Warn, once for all parts, of rows that are longer than they are read."""
    count = sum(one.num_rows for one in found)
    if count:
        warn(
            f"{count} of the {num_rows} rows of column {column.path!r} are longer than "
            f"pad_to={column.pad_to} and are truncated (the longest has "
            f"{max(one.longest for one in found)} values); raise pad_to= to keep all of them"
        )


@final
class PadFunction(RowFunction):
    """Pads or truncates arrays of any length.

    Args:
        pad_to: The length.
        pad_value: The value that short rows are padded with.
        row_shape: Shape of the rows, whose values are arrays.
        dtype: Type of the values of these arrays.
        where: The column and its file, for messages.
        warns: Whether to warn, once, of rows that are truncated, for nobody has done so.
    """

    def __init__(
        self,
        pad_to: int,
        pad_value: Any,  # noqa: ANN401  of `dtype`
        row_shape: tuple[int, ...],
        dtype: np.dtype,
        where: str,
        *,
        warns: bool,
    ) -> None:
        self.row_shape = (*row_shape, pad_to)
        self.dtype = dtype
        self._pad_to = pad_to
        self._pad_value = pad_value
        self._where = where
        self._warns = warns

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of one length."""
        out = np.full((rows.size, self._pad_to), self._pad_value, self.dtype)
        longest = 0
        for padded, values in zip(out, rows.reshape(-1), strict=True):
            longest = max(longest, len(values))
            padded[: len(values)] = values[: self._pad_to]
        if longest > self._pad_to and self._warns:
            self._warns = False
            warn(
                f"{self._where} has rows longer than pad_to={self._pad_to}, such as one of "
                f"{longest} values, and they are truncated; raise pad_to= to keep all of them"
            )
        return out.reshape(len(rows), *self.row_shape)

    def describe(self) -> str:
        """Describe the padding."""
        return f"rows padded to {self._pad_to}"
