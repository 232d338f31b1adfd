"""Columns: which data set, and how its rows become what a model takes.

A `Column` is what the user says. A `ResolvedColumn` is that, checked against the files: one reader
per part (file or group), all parts alike. Rows are *loaded* (as stored, strings as class ids), kept
that way in caches, and *finished* (cast, reshaped, one-hot) batch by batch.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike

from kerash5._checks import parse_count
from kerash5._errors import (
    ColumnError,
    LabelError,
    OptionError,
    ShapeError,
)
from kerash5.h5.columns._cast import cast_rows, check_types, may_lose
from kerash5.h5.columns._class_ids import Labels, find_labels
from kerash5.h5.columns._doubts import read_packing
from kerash5.h5.reading._readers import AbstractReader
from kerash5.h5.reading._select_reader import Reader, open_part
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._handles import name_dataset


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file: a data set and what to make of its rows.

    Args:
        path: The data set's path in the file, such as "image" or "train/images"; or the open
            `h5py.Dataset`, of a file opened with mode "r".
        shape: The shape each row takes, such as (28, 28, 1) for rows stored as (28, 28); same
            number of values, no cost.
        dtype: The type each batch is cast to. Better left alone: the stored uint8 travels faster,
            and the model rescales. Floats are rounded (float64 to float32, int64 to float32), and
            nothing else is lost: a value that would wrap (300 as uint8), overflow (1e30 as
            float16), lose a fraction or an imaginary part, or be NaN as an integer, is a
            `ColumnError` that names its row; for labels when the data set is made, for other
            columns when the row is read.
        one_hot: The number of classes; integer labels of shape () become float32 rows of shape
            (one_hot,).
        labels: How stored values become class ids: a sequence of values (the id is the position) or
            a mapping of value to id. String columns find their labels by themselves (sorted).

    Example:
        >>> Column("image", shape=(28, 28, 1)).shape
        (28, 28, 1)
    """

    path: str
    shape: tuple[int, ...] | None = None
    dtype: DTypeLike | None = None
    one_hot: int | None = None
    labels: Sequence[object] | Mapping[Any, int] | None = None
    # The file of the open data set that was given as path=.
    given_in: str | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.path, h5py.Dataset):
            file, name = name_dataset(self.path, "path= of a column")
            object.__setattr__(self, "given_in", file)
            object.__setattr__(self, "path", name)
        if not isinstance(self.path, str) or not self.path.strip("/"):
            raise OptionError(f"a column needs the path of a data set, not {self.path!r}")
        if self.shape is not None:
            object.__setattr__(self, "shape", _parse_shape(self.shape))
        if self.dtype is not None:
            _check_dtype(self.dtype, self.path)
        if self.one_hot is not None:
            object.__setattr__(self, "one_hot", _parse_one_hot(self.one_hot, self.path))


@dataclass(frozen=True, slots=True)
class ResolvedColumn:
    """A column checked against its files; its parts lie one after another on axis 0. Picklable."""

    column: Column
    parts: tuple[AbstractReader, ...]
    stored_shape: tuple[int, ...]  # of one row
    stored_dtype: np.dtype
    labels: Labels | None
    class_names: tuple[str, ...] | None
    storage: str  # how the first part is stored, in words
    packing: str = ""  # attributes of the first part that are not applied, in words

    @property
    def loaded_dtype(self) -> np.dtype:
        """The type of loaded rows: as stored, or int64 class ids."""
        return np.dtype(np.int64) if self.labels else self.stored_dtype

    @property
    def loaded_row_bytes(self) -> int:
        """Bytes of one loaded row."""
        return int(np.prod(self.stored_shape, dtype=np.int64)) * self.loaded_dtype.itemsize

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
        if self.column.dtype is not None:
            return np.dtype(self.column.dtype)
        return np.dtype(np.float32) if self.column.one_hot is not None else self.loaded_dtype

    @property
    def may_lose(self) -> bool:
        """Whether some stored value would not survive the cast, so that rows are looked at."""
        return self.column.one_hot is None and may_lose(self.loaded_dtype, self.dtype)

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
            locate: Returns the words for one of them, for messages.

        Raises:
            LabelError: A label lies outside [0, one_hot).
            ColumnError: A value does not fit the column's `dtype`.
        """
        if self.column.one_hot is not None:
            return _one_hot(loaded, self.column.one_hot, self.dtype, self.column.path).reshape(
                len(loaded), *self.shape
            )
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
        columns: What the user said, by name.
        files: The files, whose rows follow one another.
        allow_external: Let data lie outside the files' folders.
        reader: As `open_part` has it.

    Raises:
        ColumnError: A data set is missing, no column, or differs between files (both are named).
        ShapeError: A column's `shape` has another number of values than a stored row.
    """
    parts: dict[str, list[AbstractReader]] = {name: [] for name in columns}
    storage: dict[str, str] = {}
    packing: dict[str, str] = {}
    for file in files:
        for name, column in columns.items():
            layout, part = open_part(
                column.path, file, allow_external=allow_external, reader=reader
            )
            parts[name].append(part)
            if file is files[0]:
                storage[name] = layout.describe()
                packing[name] = read_packing(file, column.path, allow_external=allow_external)
            else:
                _check_alike(column.path, files[0], parts[name][0], file, part)
    return {
        name: assemble_column(column, tuple(parts[name]), storage[name], packing[name])
        for name, column in columns.items()
    }


def _check_alike(
    path: str, first_file: H5File, first: AbstractReader, file: H5File, part: AbstractReader
) -> None:
    if (part.row_shape, part.dtype) != (first.row_shape, first.dtype):
        raise ColumnError(
            f"column {path!r} differs between files: rows of shape {first.row_shape} "
            f"{first.dtype} in {first_file.path!r}, of shape {part.row_shape} {part.dtype} "
            f"in {file.path!r}; read them apart"
        )


def assemble_column(
    column: Column, parts: tuple[AbstractReader, ...], storage: str, packing: str = ""
) -> ResolvedColumn:
    """Make a column of parts that are known to be alike; `storage` says how they are stored."""
    stored_shape, stored_dtype = parts[0].row_shape, parts[0].dtype
    _check_shape(column, stored_shape)
    labels = find_labels(column, parts)
    found = ResolvedColumn(
        column,
        parts,
        stored_shape,
        stored_dtype,
        labels,
        labels.names if labels else None,
        storage,
        packing,
    )
    ones = np.dtype(np.float32)  # what one_hot= makes
    check_types(found.loaded_dtype if column.one_hot is None else ones, found.dtype, column.path)
    return found


def check_lengths(files: Sequence[H5File], first: ResolvedColumn, other: ResolvedColumn) -> None:
    """Raise `ColumnError` if two columns of the same files differ in length."""
    for number, (part, other_part) in enumerate(zip(first.parts, other.parts, strict=True)):
        if part.num_rows != other_part.num_rows:
            path = files[min(number, len(files) - 1)].path
            raise ColumnError(
                f"columns of {path!r} differ in length: {first.column.path!r} has "
                f"{part.num_rows} rows, {other.column.path!r} {other_part.num_rows}; they must be "
                "aligned row by row: write the file again"
            )


def _parse_shape(shape: Sequence[int]) -> tuple[int, ...]:
    try:
        # Not int(): it would cut 28.5 to 28, and make (2, 8) of "28".
        parsed = tuple(operator.index(length) for length in shape)
    except TypeError:
        raise OptionError(
            f"shape={shape!r} of a column; it is a tuple of lengths, such as (28, 28, 1)"
        ) from None
    if any(length < 0 for length in parsed):
        raise OptionError(
            f"shape={parsed} of a column; lengths are known for stored rows, so none is negative"
        )
    return parsed


def _check_dtype(dtype: DTypeLike, path: str) -> None:
    try:
        np.dtype(dtype)
    except TypeError:
        raise OptionError(
            f"dtype={dtype!r} of column {path!r} is no type that NumPy knows, such as 'float32'"
        ) from None


def _parse_one_hot(count: object, path: str) -> int:
    return parse_count("one_hot", count, f"the number of classes of column {path!r}")


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
