"""Functions that columns apply to each stored row: select values, fields, or another type.

`h5/reading/_derived` applies them.
"""

from __future__ import annotations

import math
from typing import Any, Final, final

import numpy as np

from kerash5._errors import ColumnError
from kerash5.h5.columns._cast import MisfitError, cast, why_not_cast
from kerash5.h5.columns._indices import format_index
from kerash5.h5.reading._derived import RowFunction
from kerash5.h5.reading._select_reader import check_fields, split_field

_LARGEST_EXACT: Final = 1 << 53  # integers up to it are float64 values


@final
class SelectFunction(RowFunction):
    """Applies a NumPy index to each row.

    Args:
        select: The index, from `parse_select`.
        row_shape: Shape of the rows it is applied to.
        dtype: Type of the rows.
        where: The column and its file, for messages.

    Raises:
        ColumnError: The index does not fit rows of this shape.
    """

    selects_values = True

    def __init__(
        self,
        select: Any,  # noqa: ANN401  an index
        row_shape: tuple[int, ...],
        dtype: np.dtype,
        where: str,
    ) -> None:
        self._select = select
        parts = select if isinstance(select, tuple) else (select,)
        try:
            # One value that stands for all of a row: nothing is allocated.
            self.row_shape = np.broadcast_to(np.int8(0), row_shape)[select].shape
        except IndexError as error:
            raise ColumnError(
                f"select={format_index(select)!r} does not fit {where}, whose rows have shape "
                f"{row_shape} ({error}); choose an index of such a row"
            ) from None
        self.dtype = dtype
        self._positions: np.ndarray | None = None
        # NumPy counts ints beside a list as lists, and puts the axis of those first; it would do so
        # before the axis of rows.
        if any(isinstance(p, list) for p in parts) and any(isinstance(p, int) for p in parts):
            self._positions = np.arange(math.prod(row_shape)).reshape(row_shape)[select]
        self._index = (slice(None), *parts)

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return a part of each row."""
        if self._positions is None:
            return np.asarray(rows[self._index])
        flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
        return np.asarray(flat[:, self._positions])

    def describe(self) -> str:
        """Return the index."""
        return f"[{format_index(self._select)}] of each row"


@final
class FieldFunction(RowFunction):
    """Selects one field of a compound, or stacks several on a new last axis.

    Args:
        fields: Their names, nested ones by dots, or the name of one.
        row_shape: Shape of the rows.
        dtype: The compound.
        wanted: The type to stack fields in that have no common one; None: there is none.
        where: The column and its file, for messages.

    Raises:
        ColumnError: There is no such field, or fields cannot be stacked.
    """

    def __init__(
        self,
        fields: str | tuple[str, ...],
        row_shape: tuple[int, ...],
        dtype: np.dtype,
        wanted: np.dtype | None,
        where: str,
    ) -> None:
        self._is_one = isinstance(fields, str)
        self._fields = (fields,) if isinstance(fields, str) else fields
        self._where = where
        self._checks_integers = False
        found = [_find_field(field, dtype, where) for field in self._fields]
        shapes = {shape for _, shape in found}
        types = [kind for kind, _ in found]
        self.row_shape = row_shape + found[0][1]
        self.dtype = types[0]
        if self._is_one:
            return
        if len(shapes) > 1:
            raise ColumnError(
                f"field={list(self._fields)!r} of {where} cannot be stacked: they have the shapes "
                f"{', '.join(map(str, [shape for _, shape in found]))}; name them as columns of "
                "their own: x={'a': Column(..., field='a'), ...}"
            )
        self.row_shape += (len(found),)
        self.dtype = self._common_type(types, wanted)

    def _common_type(self, types: list[np.dtype], wanted: np.dtype | None) -> np.dtype:
        common = find_common_type(types)
        if common is not None:
            return common
        if wanted is not None and not any(why_not_cast(kind, wanted) for kind in types):
            return wanted
        if all(kind.kind in "biuf" for kind in types):  # float64, beside integers of 64 bits
            self._checks_integers = True
            return np.result_type(*types)
        named = ", ".join(f"{f} {t}" for f, t in zip(self._fields, types, strict=True))
        raise ColumnError(
            f"field={list(self._fields)!r} of {self._where} has no type that holds all values "
            f"({named}); pass dtype='float32' or another type of numbers, or name them as columns "
            "of their own: x={'a': Column(..., field='a'), ...}"
        )

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return the fields of each row."""
        if self._is_one:
            return _take_field(rows, self._fields[0])
        out = np.empty((len(rows), *self.row_shape), self.dtype)
        for number, field in enumerate(self._fields):
            values, where = _take_field(rows, field), f"field {field!r} of {self._where}"
            if self._checks_integers:
                _check_exact(values, where)
            out[..., number] = cast_values(values, self.dtype, where)
        return out

    def describe(self) -> str:
        """Return the names of the fields."""
        return f"field{'s' * (len(self._fields) > 1)} {', '.join(self._fields)}"


@final
class ComplexFunction(RowFunction):
    """Converts complex numbers, or a compound of two floats, to real numbers.

    Args:
        way: "channels" (real and imaginary part on a new last axis), "magnitude" or "phase".
        row_shape: Shape of the rows.
        dtype: Type of the rows.
        where: The column and its file, for messages.

    Raises:
        ColumnError: The rows are not complex numbers.
    """

    def __init__(self, way: str, row_shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
        self._way = way
        self._names = dtype.names if _is_pair(dtype) else None
        if dtype.kind != "c" and self._names is None:
            raise ColumnError(
                f"complex={way!r} of {where}, which holds {dtype} values; they have no imaginary "
                "part: leave complex= out"
            )
        self.row_shape = (*row_shape, 2) if way == "channels" else row_shape
        part = np.empty(0, dtype).real.dtype if dtype.names is None else dtype[0]
        self.dtype = part.newbyteorder("=")

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return real numbers."""
        real, imaginary = (
            (rows.real, rows.imag)
            if self._names is None
            else (rows[self._names[0]], rows[self._names[1]])
        )
        real, imaginary = real.astype(self.dtype), imaginary.astype(self.dtype)
        if self._way == "channels":
            return np.stack([real, imaginary], axis=-1)
        if self._way == "magnitude":
            return np.asarray(np.hypot(real, imaginary))
        return np.asarray(np.arctan2(imaginary, real))

    def describe(self) -> str:
        """Return what is made of the numbers."""
        return f"complex numbers as {self._way}"


def _is_pair(dtype: np.dtype) -> bool:
    """Return whether a compound is a complex number under names that h5py does not know."""
    names = tuple(name.lower() for name in dtype.names or ())
    is_named = names in {("real", "imag"), ("re", "im"), ("r", "i"), ("real", "imaginary")}
    return is_named and dtype[0] == dtype[1] and dtype[0].kind == "f"


@final
class CastFunction(RowFunction):
    """Casts rows to another type: a common type of all values, or the requested one.

    Args:
        row_shape: Shape of the rows.
        dtype: The type.
        where: The column and its file, for messages.
    """

    selects_values = True

    def __init__(self, row_shape: tuple[int, ...], dtype: np.dtype, where: str) -> None:
        self.row_shape = row_shape
        self.dtype = dtype
        self._where = where

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows in this type."""
        return cast_values(rows, self.dtype, self._where)

    def describe(self) -> str:
        """Return the type."""
        return f"as {self.dtype}"


def _find_field(field: str, dtype: np.dtype, where: str) -> tuple[np.dtype, tuple[int, ...]]:
    """Return the type of a field, and the shape of an array that it is."""
    shape: tuple[int, ...] = ()
    for name in split_field(field, dtype):
        check_fields([name], dtype, where)
        dtype = dtype[name]
        while dtype.subdtype is not None:
            dtype, inner = dtype.subdtype
            shape += inner
    return dtype, shape


def _take_field(rows: np.ndarray, field: str) -> np.ndarray:
    for name in split_field(field, rows.dtype):
        rows = rows[name]
    return rows


def _check_exact(values: np.ndarray, where: str) -> None:
    """Raise if float64 cannot hold an integer."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8 or not values.size:
        return
    for value in (values.max().item(), values.min().item()):
        if abs(value) > _LARGEST_EXACT:
            raise ColumnError(
                f"{where} holds {value}, which float64 cannot hold beside other fields; pass "
                "dtype='float32' or another type of numbers, or name the field as a column of its "
                "own"
            )


def find_common_type(types: list[np.dtype]) -> np.dtype | None:
    """Return the smallest type that holds every value of some types; None where there is none."""
    if all(kind == types[0] for kind in types):
        return types[0]
    if all(kind.kind in "SO" for kind in types):  # text
        is_fixed = all(kind.kind == "S" for kind in types)
        return max(types, key=lambda kind: kind.itemsize) if is_fixed else np.dtype(object)
    if not all(kind.kind in "biufc" for kind in types):
        return None
    common = np.result_type(*types)
    return common if all(_holds(common, kind) for kind in types) else None


def _holds(common: np.dtype, kind: np.dtype) -> bool:
    """Return whether no value changes, which NumPy does not ask for: to it int64 fits float64."""
    if kind.kind in "iu" and common.kind in "fc":
        bits = 8 * kind.itemsize - (kind.kind == "i")
        return bits <= np.finfo(common).nmant + 1
    return np.can_cast(kind, common, "safe")


def cast_values(values: np.ndarray, dtype: np.dtype, where: str) -> np.ndarray:
    """Return values in another type.

    Raises:
        ColumnError: A value does not fit it.
    """
    if dtype.kind == "O" or values.dtype.kind in "SO":
        return values.astype(dtype)
    try:
        return cast(values, dtype)
    except MisfitError as misfit:
        raise ColumnError(
            f"{where} holds {misfit}; choose a dtype= that holds all values"
        ) from None
