"""Columns that are class ids with names in the file: categorical groups and HDF5 enums.

A reader of such a column returns ids, has their names as `categories`, and returns -1 for rows
without a category. Parts, or two data sets, may number their categories differently; the ids are
assigned by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

import h5py
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import ColumnError, LabelError
from kerash5.h5.columns._class_ids import labels_by_name, name_values, stores_one_hot
from kerash5.h5.columns._column import Column
from kerash5.h5.reading._derived import DerivedReader, RowFunction
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._select_reader import Reader, open_part
from kerash5.h5.storage._file import H5File

_UNLISTED: Final = -2  # the id of a name that labels= lacks
_NAMED_ROWS: Final = 5  # in a message


def is_categorical(group: h5py.Group) -> bool:
    """Return whether a group has codes and their categories, as AnnData writes them."""
    return all(isinstance(group.get(name), h5py.Dataset) for name in ("codes", "categories"))


def open_categorical(
    file: H5File, path: str, *, allow_external: bool, reader: Reader
) -> tuple[str, AbstractReader]:
    """Return a reader of the codes of a categorical group, with their names as `categories`.

    Raises:
        ColumnError: Its codes are not integers.
    """
    layout, codes = open_part(f"{path}/codes", file, allow_external=allow_external, reader=reader)
    if codes.dtype.kind not in "iu":
        raise ColumnError(
            f"column {path!r} of {file.path!r} has codes of {codes.dtype}; they are integers, one "
            "for each category: name codes or categories themselves"
        )
    codes.categories = _read_names(f"{path}/categories", file, allow_external=allow_external)
    return f"codes of {len(codes.categories)} categories, {layout.describe()}", codes


def add_categories(
    column: Column, part: AbstractReader, file: H5File, *, allow_external: bool
) -> AbstractReader:
    """Return a reader of one number a row with the names that an enum or AnnData gives these."""
    enum = h5py.check_enum_dtype(part.dtype)
    if enum and (column.labels is None or labels_by_name(column) is not None):
        values = sorted(enum.items(), key=lambda pair: int(pair[1]))
        names = tuple(str(name) for name, _ in values)
        stored = np.array([value for _, value in values], np.int64)
        if (stored == np.arange(len(stored))).all():
            part.categories = names
            return part
        function = RecodeFunction(stored, np.arange(len(stored)), part.row_shape, names)
        return DerivedReader(part, function)
    if part.named_by is not None:
        part.categories = _read_names(part.named_by, file, allow_external=allow_external)
    return part


def _read_names(path: str, file: H5File, *, allow_external: bool) -> tuple[str, ...]:
    _, reader = open_part(path, file, allow_external=allow_external)
    values = np.empty((reader.num_rows, *reader.row_shape), reader.dtype)
    reader.read_range(0, reader.num_rows, values)
    names = name_values(values.reshape(-1))
    if len(set(names)) < len(names):
        raise ColumnError(
            f"categories {path!r} of {file.path!r} name one twice; write them again, each once"
        )
    return names


def unify_categories(
    column: Column, parts: Sequence[AbstractReader]
) -> tuple[tuple[AbstractReader, ...], tuple[str, ...] | None]:
    """Give the categories of all parts the same ids.

    Args:
        column: Its `labels`, if they are names, say what the ids are.
        parts: Its readers.

    Returns:
        The readers, and the names by id; None where the parts have no categories.

    Raises:
        ColumnError: Some parts have categories, and others none.
    """
    found = [part.categories for part in parts]
    if all(names is None for names in found):
        return tuple(parts), None
    if any(names is None for names in found):
        raise ColumnError(
            f"column {column.path!r} has categories in some files, and in others none; read them "
            "apart"
        )
    asked = labels_by_name(column)
    is_named = column.labels is None or stores_one_hot(column)
    if not is_named and asked is None:  # stored numbers, as in any other column
        return tuple(parts), None
    ids = asked or {
        name: number
        for number, name in enumerate(dict.fromkeys(n for names in found for n in names or ()))
    }
    by_id = {number: name for name, number in ids.items()}
    names = tuple(by_id.get(number, str(number)) for number in range(max(by_id, default=-1) + 1))
    is_alike = all((part.categories, part.dtype) == (names, parts[0].dtype) for part in parts)
    made = parts if is_alike else [_recode(part, ids, names) for part in parts]
    return tuple(made), names


def _recode(part: AbstractReader, ids: dict[str, int], names: tuple[str, ...]) -> AbstractReader:
    own = part.categories or ()
    wanted = np.array([ids.get(name, _UNLISTED) for name in own], np.int64)
    return DerivedReader(
        part, RecodeFunction(np.arange(len(own)), wanted, part.row_shape, names, own)
    )


def check_codes(
    ids: np.ndarray, path: str, class_names: Sequence[str], locate: Callable[[int], str]
) -> None:
    """Raise `LabelError` if some rows have no category.

    Args:
        ids: Shape (n, ...).
        path: The column, for messages.
        class_names: The names by id.
        locate: Returns the name of one of the rows, for messages.
    """
    if ids.dtype.kind == "u" or not (ids < 0).any():
        return
    wrong = np.flatnonzero((ids < 0).reshape(len(ids), -1).any(axis=1))
    named = ", ".join(locate(int(row)) for row in wrong[:_NAMED_ROWS])
    more = f" and {len(wrong) - _NAMED_ROWS} more" if len(wrong) > _NAMED_ROWS else ""
    raise LabelError(
        f"column {path!r} has none of its {len(class_names)} categories in {named}{more} (code "
        "-1); leave these rows out with rows=, or write a category for them"
    )


@final
class RecodeFunction(RowFunction):
    """Maps stored codes to ids; to -1 if a code has none.

    Args:
        codes: The codes, ascending, shape (n,).
        ids: The id of each code.
        row_shape: Shape of the rows.
        categories: The names by id.
        names: Of the codes, for messages; where it may be that labels= lacks some.
    """

    def __init__(
        self,
        codes: NDArray[np.int64],
        ids: NDArray[np.int64],
        row_shape: tuple[int, ...],
        categories: tuple[str, ...],
        names: tuple[str, ...] = (),
    ) -> None:
        self.row_shape = row_shape
        self.dtype = np.dtype(np.int64)
        self.categories = categories
        self._shown = ", ".join(map(repr, categories[:5]))
        self._count = len(categories)
        self._codes = codes
        self._ids = ids
        self._names = names

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return the ids."""
        stored = rows.astype(np.int64)
        if not len(self._codes):
            return np.full(stored.shape, -1)
        place = np.minimum(np.searchsorted(self._codes, stored), len(self._codes) - 1)
        ids = self._ids[place]
        is_known = self._codes[place] == stored
        unlisted = is_known & (ids == _UNLISTED)
        if unlisted.any():
            raise LabelError(
                f"a column with categories holds {self._names[int(stored[unlisted].flat[0])]!r}, "
                f"which is not among its labels {self._shown}; add it to "
                "labels="
            )
        return np.asarray(np.where(is_known, ids, -1))

    def describe(self) -> str:
        """Describe the number of categories."""
        return f"codes as ids of {self._count} categories"
