"""Stored values as class ids: those that `labels=` names, all that text holds, one-hot rows."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import h5py
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import ColumnError, LabelError, OptionError
from kerash5.h5.reading._derived import RowFunction, UnfitRowError
from kerash5.h5.reading._readers import AbstractReader

if TYPE_CHECKING:
    from kerash5.h5.columns._columns import Column

_SCAN_ROWS: Final = 65_536  # rows read at a time when a whole column is looked through
_LOOKED_AT: Final = 1000  # rows that may be one-hot, of at most so many bytes
_MAX_BYTES: Final = 1 << 20
_MAX_BLOCK_BYTES: Final = 64 << 20  # to decode only to look


@dataclass(frozen=True, slots=True)
class Labels:
    """Maps stored values to class ids. Values are sorted, ids run beside them."""

    values: np.ndarray
    ids: NDArray[np.int64]
    names: tuple[str, ...]  # by id

    def map(self, stored: np.ndarray, what: str) -> NDArray[np.int64]:
        """Return the class id of each value.

        Raises:
            LabelError: A value is not among the labels.
        """
        values = as_text(stored)
        place = np.searchsorted(self.values, values)
        place[place == len(self.values)] = 0
        wrong = self.values[place] != values
        if wrong.any():
            raise LabelError(
                f"{what} holds {values[wrong].item(0)!r}, which is not among its labels "
                f"{_shorten(self.names)}; add it to labels="
            )
        return self.ids[place]


def stores_one_hot(column: Column) -> bool:
    """Return whether the stored rows are said to be one-hot vectors: `labels="one_hot"`."""
    return isinstance(column.labels, str) and column.labels == "one_hot"


def is_text_type(dtype: np.dtype) -> bool:
    """Return whether values of a stored type are text."""
    return dtype.kind in "SO" or h5py.check_string_dtype(dtype) is not None


def find_labels(column: Column, parts: Sequence[AbstractReader]) -> Labels | None:
    is_text = is_text_type(parts[0].dtype)
    if column.labels is not None:
        return _labels_as_told(column, parts[0].dtype, is_text=is_text)
    return _labels_of_values(_distinct_values(parts)) if is_text else None


def labels_by_name(column: Column) -> dict[str, int] | None:
    """Return the ids that `labels=` gives to text; None where it has none, or gives numbers."""
    if column.labels is None or stores_one_hot(column):
        return None
    values, ids = _parse_labels(column)
    if values.dtype.kind != "U":
        return None
    return dict(zip(values.tolist(), ids, strict=True))


def name_values(values: np.ndarray) -> tuple[str, ...]:
    """Return values as text, that of bytes decoded."""
    return tuple(str(value) for value in as_text(values))


def _labels_as_told(column: Column, stored_dtype: np.dtype, *, is_text: bool) -> Labels:
    values, ids = _parse_labels(column)
    if is_text != (values.dtype.kind == "U"):
        raise OptionError(
            f"labels={reprlib.repr(column.labels)} of column {column.path!r} are "
            f"{'numbers' if is_text else 'text'}, and it holds "
            f"{'text' if is_text else stored_dtype}; name the stored values"
        )
    names = {number: str(value) for value, number in zip(values.tolist(), ids, strict=True)}
    order = np.argsort(values, kind="stable")
    return Labels(
        values[order],
        np.array(ids, np.int64)[order],
        tuple(names.get(number, str(number)) for number in range(max(names) + 1)),
    )


def _parse_labels(column: Column) -> tuple[np.ndarray, list[int]]:
    labels: Any = column.labels
    try:
        pairs = (
            labels.items()
            if isinstance(labels, Mapping)
            else zip(labels, range(len(labels)), strict=True)
        )
        told = [(_decode(value), operator.index(number)) for value, number in pairs]
        values = np.array([value for value, _ in told])
    except (TypeError, ValueError):
        told, values = [], np.empty(0)
    ids = [number for _, number in told]
    is_mixed = values.dtype.kind == "U" and not all(isinstance(value, str) for value, _ in told)
    is_sound = bool(told) and values.ndim == 1 and values.dtype.kind in "Ubiuf" and not is_mixed
    if isinstance(labels, str | bytes) or not is_sound or min(ids) < 0:
        raise OptionError(
            f"labels={reprlib.repr(labels)} of column {column.path!r}; it is a sequence of stored "
            "values, a mapping of them to ids from 0 up, or 'one_hot'"
        )
    if len(np.unique(values)) < len(values):
        raise OptionError(
            f"labels={reprlib.repr(labels)} of column {column.path!r} names a value twice; each "
            "has one id"
        )
    return values, ids


def _labels_of_values(values: np.ndarray) -> Labels:
    return Labels(values, np.arange(len(values)), tuple(str(value) for value in values))


def _distinct_values(parts: Sequence[AbstractReader]) -> np.ndarray:
    found: np.ndarray | None = None
    for part in parts:
        for start in range(0, part.num_rows, _SCAN_ROWS):
            stop = min(start + _SCAN_ROWS, part.num_rows)
            rows = np.empty((stop - start, *part.row_shape), part.dtype)
            part.read_range(start, stop, rows)
            distinct = np.unique(as_text(rows))
            found = distinct if found is None else np.union1d(found, distinct)
    return found if found is not None else np.empty(0, "U1")


def as_text(values: np.ndarray) -> np.ndarray:
    """Return byte and object strings as fixed-width unicode, other arrays as they are."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "backslashreplace")
    if values.dtype.kind == "O":
        texts = [str(_decode(value)) for value in values.flat]
        return np.array(texts, dtype=np.str_).reshape(values.shape)
    return values


def _decode(value: object) -> object:
    # backslashreplace keeps apart what is no UTF-8; "replace" would make one class of two.
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (
        f", ... ({len(names)} in all)" if len(names) > 5 else ""
    )


@final
class OneHotFunction(RowFunction):
    """Returns the position of the 1 along the last axis.

    Args:
        row_shape: Shape of the rows; the last axis has an entry for each class.
        dtype: Type of the rows.
        where: The column and its file, for messages.

    Raises:
        ColumnError: Rows of this shape or type are no one-hot vectors.
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
        if dtype.kind not in "biuf" or not row_shape or row_shape[-1] < 2:
            raise ColumnError(
                f"labels='one_hot' takes rows of one-hot vectors, and rows of {where} are {dtype} "
                f"of shape {row_shape}; leave it out if they are class ids"
            )
        self.row_shape = row_shape[:-1]
        self.dtype = np.dtype(np.int64)
        self.categories = tuple(map(str, range(row_shape[-1])))

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return class ids.

        Raises:
            UnfitRowError: A row has not one 1 and else 0.
        """
        is_one_hot = _are_one_hot(rows)
        if not is_one_hot.all():
            wrong = np.argwhere(~is_one_hot)[0]
            shown = np.array2string(rows[tuple(wrong)], threshold=12, edgeitems=4)
            raise UnfitRowError(int(wrong[0]), f"is not one-hot: {shown}")
        return np.asarray(rows.argmax(-1), np.int64)

    def describe(self) -> str:
        """Describe the mapping."""
        return f"class ids of one-hot rows of {len(self.categories or ())} classes"


def count_one_hot(reader: AbstractReader) -> int:
    """Return how many rows were looked at, from the first, if all of these are one-hot; else 0."""
    if reader.dtype.kind not in "biuf" or len(reader.row_shape) != 1 or reader.row_shape[0] < 2:
        return 0
    row_bytes = reader.row_shape[0] * reader.dtype.itemsize
    if reader.block_rows * row_bytes > _MAX_BLOCK_BYTES:
        return 0
    count = min(reader.num_rows, _LOOKED_AT, _MAX_BYTES // row_bytes)
    rows = np.empty((count, *reader.row_shape), reader.dtype)
    reader.read_range(0, count, rows)
    return count if count and _are_one_hot(rows).all() else 0


def _are_one_hot(rows: np.ndarray) -> np.ndarray:
    return np.asarray(((rows == 1).sum(-1) == 1) & ((rows != 0).sum(-1) == 1))
