"""Open the reader of a column in one file: of the stored rows, and of the derived ones."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import h5py
import numpy as np

from kerash5._errors import ColumnError, UnknownColumnError
from kerash5.h5.columns._categories import add_categories, is_categorical, open_categorical
from kerash5.h5.columns._cf import UnpackFunction, read_cf
from kerash5.h5.columns._class_ids import OneHotFunction, stores_one_hot
from kerash5.h5.columns._column import Column
from kerash5.h5.columns._functions import ComplexFunction, FieldFunction, SelectFunction
from kerash5.h5.columns._ragged import (
    Truncation,
    note_object_bytes,
    open_vlen,
    open_with_offsets,
)
from kerash5.h5.columns._sparse import is_of_matlab, is_sparse, open_sparse
from kerash5.h5.reading._derived import DerivedReader
from kerash5.h5.reading._images import ImageFunction
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._select_reader import Reader, explained, open_part, read_vlen_lengths
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._find import find_object
from kerash5.h5.storage._layout import Layout


class OpenedColumn(NamedTuple):
    """A column of one file."""

    path: str  # of the data set
    storage: str  # how it is stored, as text
    reader: AbstractReader
    truncation: Truncation | None = None  # None: not known, or there is none


Shared = dict[tuple[H5File, str, int], tuple[Layout, AbstractReader]]


def open_column(
    column: Column,
    file: H5File,
    *,
    allow_external: bool = False,
    reader: Reader = "auto",
    shared: Shared | None = None,
) -> OpenedColumn:
    """Open a column of one file.

    Args:
        column: The column as the user defined it.
        file: The file.
        allow_external: Allow data outside the folder of the file.
        reader: As in `open_part`.
        shared: Readers that other columns have opened, to be reused; new ones are added.

    Returns:
        The reader of its rows, and how they are stored.

    Raises:
        KerasH5Error: There is no such column, its options do not fit it, or it is damaged.
    """
    how: _How = {"allow_external": allow_external, "reader": reader}
    stored = _open_stored(column, file, how, {} if shared is None else shared)
    part, path = stored.reader, stored.path
    where = f"column {path!r} of {file.path!r}"
    if column.select is not None:
        part = DerivedReader(part, SelectFunction(column.select, part.row_shape, part.dtype, where))
    if column.cf:
        attributes = read_cf(file, path, allow_external=allow_external)
        if attributes:
            function = UnpackFunction(attributes, part.row_shape, part.dtype, where)
            part = DerivedReader(part, function)
    if column.complex is not None:
        made = ComplexFunction(column.complex, part.row_shape, part.dtype, where)
        part = DerivedReader(part, made)
    if stores_one_hot(column):
        part = DerivedReader(part, OneHotFunction(part.row_shape, part.dtype, where), where)
    return stored._replace(reader=part)


def _open_stored(column: Column, file: H5File, how: _How, shared: Shared) -> OpenedColumn:
    """Open what is stored: a data set, its fields, padded rows, or a group that is one column."""
    path, field = find_field(column, file, allow_external=how["allow_external"])
    try:
        if column.offsets is not None:
            return OpenedColumn(path, *open_with_offsets(column, file, path, **how))
        if column.pad_to is not None:
            return OpenedColumn(path, *open_vlen(column, file, path, **how))
        return _open_dataset(column, file, path, field, how=how, shared=shared)
    except ColumnError:  # groups are few: to look for one first would open each file twice
        if (group := _open_group(column, file, path, how)) is None:
            raise
        return group


def _open_dataset(
    column: Column,
    file: H5File,
    path: str,
    field: str | tuple[str, ...] | None,
    *,
    how: _How,
    shared: Shared,
) -> OpenedColumn:
    """Open a data set, or fields of it."""
    fields = (field,) if isinstance(field, str) else field
    ragged = column.decode is not None
    where = f"column {path!r} of {file.path!r}"
    key = (file, path.strip("/"), column.axis)
    if key in shared and not ragged:
        layout, part = shared[key]
    else:
        layout, part = open_part(path, file, fields=fields, axis=column.axis, ragged=ragged, **how)
        if not layout.dtype.hasobject:  # of others, a reader may give some fields alone
            shared[key] = layout, part
    if field is not None:
        wanted = None if column.dtype is None else np.dtype(column.dtype)
        part = DerivedReader(part, FieldFunction(field, part.row_shape, part.dtype, wanted, where))
    if part.dtype.hasobject and (ragged or column.wants_text):
        lengths = read_vlen_lengths(path, file, allow_external=how["allow_external"])
        note_object_bytes(part, lengths, 1)
    if ragged:
        part = DerivedReader(part, ImageFunction(part, column.resize, where), where)
    else:
        part = add_categories(column, part, file, allow_external=how["allow_external"])
    return OpenedColumn(path, layout.describe(), part)


class _How(TypedDict):
    """Options that are passed on unchanged."""

    allow_external: bool
    reader: Reader


def _open_group(column: Column, file: H5File, path: str, how: _How) -> OpenedColumn | None:
    """Open a group that is one column; None where the path names something else."""
    with explained(path, file), file.open() as handle:
        found = find_object(handle, path, allow_external=how["allow_external"])
        if not isinstance(found, h5py.Group):
            return None
        if is_sparse(found) or is_categorical(found):
            _check_options_of_group(column, file, path, takes_axis=is_of_matlab(found))
        if is_sparse(found):
            return OpenedColumn(path, *open_sparse(column, file, path, found, **how))
        if is_categorical(found):
            return OpenedColumn(path, *open_categorical(file, path, **how))
        return None  # `open_part` has the words


def _check_options_of_group(column: Column, file: H5File, path: str, *, takes_axis: bool) -> None:
    given = column.kind_options()
    for name in ("field", "axis", "pad_to", "offsets", "decode"):
        if name in given and not (name == "axis" and takes_axis):
            raise ColumnError(
                f"{name}={given[name]!r} does not go with column {path!r} of {file.path!r}, which "
                "is a group of several data sets; leave it out, or name one of these"
            )


def find_field(
    column: Column, file: H5File, *, allow_external: bool
) -> tuple[str, str | tuple[str, ...] | None]:
    """Return the path of a column's data set, and the fields wanted of it; None for all of it.

    "table:energy" names a field where there is no data set of that very name.
    """
    path, mark, fields = column.path.rpartition(":")
    if column.field is not None or not mark or not path.strip("/") or not fields:
        given = column.field
        return column.path, given if given is None or isinstance(given, str) else tuple(given)
    with explained(path, file), file.open() as handle:
        try:
            find_object(handle, column.path, allow_external=allow_external)
        except UnknownColumnError:
            try:
                find_object(handle, path, allow_external=allow_external)
            except UnknownColumnError:  # the message is then about the name as it was given
                return column.path, None
        else:
            return column.path, None
    names = tuple(name.strip() for name in fields.split(","))
    return path, names if len(names) > 1 else names[0]
