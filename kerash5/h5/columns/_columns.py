"""Columns: which data set, and how its rows become what a model takes.

A `Column` is what the user says. A `ResolvedColumn` is that, checked against the files: one reader
per part (file or group), all parts alike. Rows are *loaded* (as stored, strings as class ids), kept
that way in caches, and *finished* (cast, reshaped, one-hot) batch by batch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import h5py
import numpy as np

from kerash5._errors import (
    ColumnError,
    LabelError,
    OptionError,
    ShapeError,
)
from kerash5.h5.columns._cast import cast_rows, check_types, may_lose, why_not_cast
from kerash5.h5.columns._categories import check_codes, unify_categories
from kerash5.h5.columns._class_ids import Labels, as_text, find_labels, is_text_type
from kerash5.h5.columns._column import Column
from kerash5.h5.columns._doubts import read_packing
from kerash5.h5.columns._functions import CastFunction, find_common_type
from kerash5.h5.columns._open import Shared, open_column
from kerash5.h5.columns._ragged import Truncation, warn_of_truncation
from kerash5.h5.reading._derived import DerivedReader
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import H5File, find_files

__all__ = ["Column", "ResolvedColumn", "assemble_column", "resolve_columns"]


_KINDS: Final = {"u": "i", "S": "O"}  # kinds of types that are of one kind: integers, text


@dataclass(frozen=True, slots=True)
class ResolvedColumn:
    """A column checked against its files; its parts lie one after another on axis 0. Picklable."""

    column: Column
    parts: tuple[AbstractReader, ...]
    stored_shape: tuple[int, ...]  # of one row
    stored_dtype: np.dtype
    labels: Labels | None
    class_names: tuple[str, ...] | None
    storage: str  # how the first part is stored, as text
    packing: str = ""  # attributes of the first part that are not applied, as text
    beside: tuple[H5File, ...] = ()  # the file of each part, where column.file names them

    @property
    def loaded_dtype(self) -> np.dtype:
        """The type of loaded rows: as stored, or int64 class ids."""
        return np.dtype(np.int64) if self.labels else self.stored_dtype

    @property
    def loaded_row_bytes(self) -> int:
        """Bytes of one loaded row; about so many, where it is text of any length."""
        each = self.loaded_dtype.itemsize
        if self.loaded_dtype.hasobject:
            each += max(part.object_bytes for part in self.parts)
        return math.prod(self.stored_shape) * each

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one finished row."""
        if self.column.one_hot is not None:
            return (
                (*self.stored_shape, self.column.one_hot)
                if self.stored_shape not in ((), (1,))
                else (self.column.one_hot,)
            )
        return self.column.shape if self.column.shape is not None else self.stored_shape

    @property
    def dtype(self) -> np.dtype:
        """The type of finished rows."""
        if self.is_text:
            return np.dtype(object)
        if self.column.dtype is not None:
            return np.dtype(self.column.dtype)
        return np.dtype(np.float32) if self.column.one_hot is not None else self.loaded_dtype

    @property
    def may_lose(self) -> bool:
        """Whether some stored value may be refused, so that rows are looked at."""
        if self.may_miss:
            return True
        if self.is_text:
            return False
        return self.column.one_hot is None and may_lose(self.loaded_dtype, self.dtype)

    def fingerprint(self) -> list[object]:
        """Return what must be equal for two columns to hold the same rows, as JSON has it."""
        found: list[object] = [self.column.path, list(self.shape), str(self.dtype)]
        options = self.column.kind_options()
        if self.beside:  # by their names, not their folders, as the source's own files
            sizes = [[os.path.basename(f.path), f.identity.num_bytes] for f in self.beside]
            options["file"] = sizes
        # Only where there are such: checkpoints of before they existed fit all other columns.
        return [*found, options] if options else found

    @property
    def is_text(self) -> bool:
        """Whether rows are text, as it was asked for."""
        return self.column.wants_text and is_text_type(self.stored_dtype)

    @property
    def may_miss(self) -> bool:
        """Whether rows may have none of the categories that the file names."""
        # An enum that counts from 0 is read as it is stored, and mostly unsigned.
        is_coded = (
            self.loaded_dtype.kind == "i" and h5py.check_enum_dtype(self.stored_dtype) is None
        )
        return is_coded and all(part.categories is not None for part in self.parts)

    @property
    def is_named_by_itself(self) -> bool:
        """Whether it is text that nobody said to be classes."""
        asked = self.column.labels is not None or self.column.one_hot is not None
        return self.labels is not None and not asked

    @property
    def is_direct(self) -> bool:
        """Whether single rows cost no more than their own bytes."""
        return all(part.is_direct for part in self.parts)

    def load(self, stored: np.ndarray) -> np.ndarray:
        """Turn rows as read into rows as kept: strings become class ids."""
        return self.labels.map(stored, f"column {self.column.path!r}") if self.labels else stored

    def finish(
        self, loaded: np.ndarray, locate: Callable[[int], str] = "number {} of these".format
    ) -> np.ndarray:
        """Turn loaded rows into the rows of a batch: one-hot, reshaped, cast.

        Args:
            loaded: The rows.
            locate: Returns the name of one of the rows, for messages.

        Raises:
            LabelError: A label lies outside [0, one_hot), or a row has no category.
            ColumnError: A value does not fit the column's `dtype`.
        """
        if self.may_miss:
            check_codes(loaded, self.column.path, self.class_names or (), locate)
        if self.column.one_hot is not None:
            return _one_hot(loaded, self.column.one_hot, self.dtype, self.column.path).reshape(
                len(loaded), *self.shape
            )
        if self.is_text:
            return as_text(loaded).astype(object).reshape(len(loaded), *self.shape)
        rows = loaded.reshape(len(loaded), *self.shape)
        return cast_rows(rows, self.dtype, self.column.path, locate)


def resolve_columns(
    columns: Mapping[str, Column],
    files: Sequence[H5File],
    *,
    allow_external: bool = False,
    reader: Reader = "auto",
) -> dict[str, ResolvedColumn]:
    """Check columns against their files, of which each is opened once.

    Args:
        columns: The columns as the user defined them, by name.
        files: The files, whose rows follow one another.
        allow_external: Allow data outside the folders of the files.
        reader: As in `open_part`.

    Raises:
        ColumnError: A data set is missing, no column, or differs between files (both are named).
        ShapeError: A column's `shape` has another number of values than a stored row.
    """
    parts: dict[str, list[AbstractReader]] = {name: [] for name in columns}
    storage: dict[str, str] = {}
    packing: dict[str, str] = {}
    truncations: dict[str, list[Truncation]] = {name: [] for name in columns}
    beside = {name: find_beside(column, files) for name, column in columns.items()}
    for number, own in enumerate(files):
        shared: Shared = {}  # so that columns of one data set have one reader
        for name, column in columns.items():
            file = beside[name][number] if beside[name] else own
            opened = open_column(
                column, file, allow_external=allow_external, reader=reader, shared=shared
            )
            parts[name].append(opened.reader)
            if file is not own:
                opened.reader.other_files = (*opened.reader.other_files, file)
            if opened.truncation is not None:
                truncations[name].append(opened.truncation)
            if number == 0:
                storage[name] = opened.storage
                if column.cf is None:
                    packing[name] = read_packing(file, opened.path, allow_external=allow_external)
            else:
                first = (beside[name] or files)[0]
                _check_alike(column.path, first, parts[name][0], file, opened.reader)
    for name, column in columns.items():
        parts[name] = with_one_type(column, beside[name] or files, parts[name])
    for name, column in columns.items():
        warn_of_truncation(column, truncations[name], sum(part.num_rows for part in parts[name]))
    return {
        name: assemble_column(
            column, tuple(parts[name]), storage[name], packing.get(name, ""), beside[name]
        )
        for name, column in columns.items()
    }


def find_beside(column: Column, files: Sequence[H5File]) -> tuple[H5File, ...]:
    """Return the files that a column lies in, one for each of the source's; none: in those."""
    if column.file is None:
        return ()
    found = find_files(column.file)
    if len(found) != len(files):
        raise ColumnError(
            f"column {column.path!r} lies in {len(found)} files (file={column.file!r}), and the "
            f"source has {len(files)}; give one for each"
        )
    return found


def columns_of_file(
    columns: Mapping[str, Column], beside: Mapping[str, tuple[H5File, ...]], number: int
) -> dict[str, Column]:
    """Return the columns of one file of several; `beside` is what `find_beside` gives for each."""
    return {
        name: replace(column, file=beside[name][number].path) if beside[name] else column
        for name, column in columns.items()
    }


def _check_alike(
    path: str, first_file: H5File, first: AbstractReader, file: H5File, part: AbstractReader
) -> None:
    if part.row_shape != first.row_shape:
        raise ColumnError(
            f"column {path!r} differs between files: rows of shape {first.row_shape} "
            f"{first.dtype} in {first_file.path!r}, of shape {part.row_shape} {part.dtype} "
            f"in {file.path!r}; read them apart"
        )


def with_one_type(
    column: Column, files: Sequence[H5File], parts: list[AbstractReader]
) -> list[AbstractReader]:
    """Return readers of one type: one that changes no value, or that of `dtype=`.

    Raises:
        ColumnError: There is no such type.
    """
    first = parts[0].dtype
    other = next((n for n, part in enumerate(parts) if part.dtype != first), None)
    if other is None or all(part.categories is not None for part in parts):  # those get ids
        return parts
    types = list(dict.fromkeys(part.dtype for part in parts))
    # Integers beside floats may be the same images before and after scaling: that is asked.
    is_one_kind = len({_KINDS.get(kind.kind, kind.kind) for kind in types}) == 1
    common = find_common_type(types) if is_one_kind else None
    wanted = None if column.dtype is None else np.dtype(column.dtype)
    if common is None and wanted and not any(why_not_cast(kind, wanted) for kind in types):
        common = wanted
    if common is None:
        cure = (
            "if they do, pass dtype=, the type to read both in, or read them apart"
            if all(kind.kind in "biufc" for kind in types)
            else "read them apart"
        )
        raise ColumnError(
            f"column {column.path!r} differs between files: rows of {first} in {files[0].path!r} "
            f"and of {parts[other].dtype} in {files[other].path!r}, which need not mean the same; "
            f"{cure}"
        )
    return [
        part
        if part.dtype == common
        else DerivedReader(
            part,
            CastFunction(part.row_shape, common, f"column {column.path!r} of {file.path!r}"),
        )
        for file, part in zip(files, parts, strict=True)
    ]


def assemble_column(
    column: Column,
    parts: tuple[AbstractReader, ...],
    storage: str,
    packing: str = "",
    beside: tuple[H5File, ...] = (),
) -> ResolvedColumn:
    """Make a column of parts that are known to be alike.

    Args:
        column: The column as the user defined it.
        parts: Its readers.
        storage: How the parts are stored, as text.
        packing: Attributes that are not applied, as text.
        beside: The file of each part, where it lies in others than the source.
    """
    parts, names = unify_categories(column, parts)
    stored_shape, stored_dtype = parts[0].row_shape, parts[0].dtype
    _check_shape(column, stored_shape)
    is_asked = column.wants_text and is_text_type(stored_dtype)
    labels = None if names is not None or is_asked else find_labels(column, parts)
    found = ResolvedColumn(
        column,
        parts,
        stored_shape,
        stored_dtype,
        labels,
        labels.names if labels else names,
        storage,
        packing,
        beside,
    )
    if is_asked:
        return found
    ones = np.dtype(np.float32)  # what one_hot= makes
    check_types(found.loaded_dtype if column.one_hot is None else ones, found.dtype, column.path)
    return found


def _check_shape(column: Column, stored_shape: tuple[int, ...]) -> None:
    wanted = column.shape
    if wanted is not None and np.prod(wanted, dtype=np.int64) != np.prod(
        stored_shape, dtype=np.int64
    ):
        raise ShapeError(
            f"column {column.path!r} has rows of shape {stored_shape}, which cannot become "
            f"{wanted}: {math.prod(stored_shape)} values against {math.prod(wanted)}"
        )
    if wanted is not None and column.one_hot is not None:
        raise OptionError(
            f"column {column.path!r} has both shape= and one_hot=; one_hot gives the shape itself"
        )


def _one_hot(labels: np.ndarray, count: int, dtype: np.dtype, path: str) -> np.ndarray:
    if labels.dtype.kind not in "iub":
        raise LabelError(
            f"column {path!r} holds {labels.dtype} values; one_hot= takes integer labels"
        )
    if labels.size and (labels.min() < 0 or labels.max() >= count):
        wrong = labels[(labels < 0) | (labels >= count)].flat[0]
        raise LabelError(
            f"column {path!r} holds label {wrong}, outside [0, {count}); raise one_hot="
        )
    out = np.zeros((labels.size, count), dtype)
    # As integers: NumPy takes an array of booleans for a mask.
    out[np.arange(labels.size), labels.reshape(-1).astype(np.int64)] = 1
    return out
