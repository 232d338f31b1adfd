"""Cast arrays, or raise an error that names a value that the new type cannot represent.

A cast may round a float to fewer digits, and an integer to a float. Any other loss raises an error:
a wrapped or clipped integer, a lost fraction or imaginary part, NaN or infinity as an integer, and
overflow to infinity.

`cast` checks blocks that fit the processor's cache by their extremes, and only where the types
alone do not prove the cast; `find_misfits` checks every value and is the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import ColumnError, OptionError

_NUMBERS: Final = "biufc"
# Values cast and then checked, while they are in the processor's cache. Smaller blocks lose more to
# calls of NumPy than they gain; with these a checked float64 to float32 takes 1.2 to 2.5 times a
# bare one.
_BLOCK: Final = 131_072


class MisfitError(ValueError):
    """A value that does not fit a type.

    Args:
        place: Index of the value in the flat array.
        value: The value.
        dtype: The type.
    """

    def __init__(self, place: int, value: np.generic, dtype: np.dtype) -> None:
        super().__init__(f"{value.item()!r}, which {dtype} cannot hold: {_range_of(value, dtype)}")
        self.place = place


def why_not_cast(stored: np.dtype, wanted: np.dtype) -> str | None:
    """Return why no value of a type can be cast to another; None if some can."""
    if stored.kind in _NUMBERS and wanted.kind in _NUMBERS:
        return None
    if stored == wanted or (stored.kind == wanted.kind and np.can_cast(stored, wanted, "safe")):
        return None
    return f"{stored} values cannot become {wanted}"


def may_lose(stored: np.dtype, wanted: np.dtype) -> bool:
    """Return whether some values of a number type do not fit another and must be checked."""
    if stored.kind not in _NUMBERS or np.can_cast(stored, wanted, "safe"):
        return False
    if stored.kind in "biu" and wanted.kind in "fc":  # rounded; only float16 is soon exceeded
        return _max_float(wanted) < _max_int(stored)
    return True


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return values cast to a type that `why_not_cast` allows; their own array if it has the type.

    Raises:
        MisfitError: A value does not fit the type.
    """
    if values.dtype == dtype:
        return values
    if not may_lose(values.dtype, dtype):
        return values.astype(dtype)
    out = np.empty(values.shape, dtype)
    flat, target = values.reshape(-1), out.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, flat.size, _BLOCK):
            some, there = flat[start : start + _BLOCK], target[start : start + _BLOCK]
            source = some.real if some.dtype.kind == "c" and dtype.kind != "c" else some
            np.copyto(there, source, casting="unsafe")
            if not _fit(some, there):
                _raise_misfit(some, dtype, start)
    return out


def cast_rows(
    rows: np.ndarray, dtype: np.dtype, path: str, locate: Callable[[int], str]
) -> np.ndarray:
    """Return the rows of a column cast to a type.

    Args:
        rows: Shape (n, *row_shape).
        dtype: The type, which `check_types` allows.
        path: The column, for messages.
        locate: Returns the name of one of the rows, for messages.

    Raises:
        ColumnError: A value does not fit the type.
    """
    try:
        return cast(rows, dtype)
    except MisfitError as misfit:
        row = locate(misfit.place // rows[:1].size)
        raise ColumnError(
            f"column {path!r} holds in {row} the value {misfit}; leave dtype= out, or choose one "
            "that holds all values"
        ) from None


def check_types(stored: np.dtype, wanted: np.dtype, path: str) -> None:
    """Raise `OptionError` if no value of a column could be cast to the type asked for."""
    if (reason := why_not_cast(stored, wanted)) is not None:
        raise OptionError(
            f"dtype={wanted.str!r} of column {path!r}: {reason}; choose a type of numbers, such "
            "as 'float32', or leave it out"
        )


def find_misfits(values: np.ndarray, dtype: np.dtype) -> NDArray[np.bool_]:
    """Return for each value of a number type whether it does not fit another.

    Args:
        values: The values, any shape.
        dtype: A number type.

    Returns:
        The same shape.
    """
    wrong: NDArray[np.bool_]
    if values.dtype.kind == "c":
        part = _part_of(dtype)
        other = find_misfits(values.imag, part) if dtype.kind == "c" else values.imag != 0
        wrong = find_misfits(values.real, part)
        wrong |= other
    elif dtype.kind == "b":
        wrong = (values != 0) & (values != 1)
    elif dtype.kind in "iu":
        wrong = _find_unfit_for_int(values, dtype)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            wrong = np.isinf(values.astype(_part_of(dtype)))
        if values.dtype.kind == "f":
            wrong &= ~np.isinf(values)
    return wrong


def _find_unfit_for_int(values: np.ndarray, dtype: np.dtype) -> NDArray[np.bool_]:
    wrong: NDArray[np.bool_]
    limits = np.iinfo(dtype)
    if values.dtype.kind == "b":
        return np.zeros(values.shape, np.bool_)
    if values.dtype.kind in "iu":
        # As numbers of the stored type: NumPy before 2 compares others as floats.
        own = np.iinfo(values.dtype)
        least, most = max(limits.min, own.min), min(limits.max, own.max)
        wrong = (values < values.dtype.type(least)) | (values > values.dtype.type(most))
        return wrong
    wide = values.astype(np.float32) if values.dtype.itemsize == 2 else values
    # A power of two, which a float holds exactly; the largest integer would be rounded up to it.
    end = wide.dtype.type(2.0) ** int(limits.max).bit_length()
    low = wide.dtype.type(limits.min)
    with np.errstate(invalid="ignore"):
        wrong = ~((wide >= low) & (wide < end) & (np.trunc(wide) == wide))
    return wrong


def _fit(some: np.ndarray, there: np.ndarray) -> bool:
    """Return whether all values of a block fit, by its extremes; False also if undecided.

    Args:
        some: The values, at least one.
        there: The same, cast.
    """
    stored, dtype = some.dtype, there.dtype
    if stored.kind == "c" or dtype.kind in "bc" or stored.char == "g":
        return not find_misfits(some, dtype).any()
    if dtype.kind == "f":
        # Of what was cast, for it has fewer bytes; but NumPy compares float16 slowly. NaN and
        # infinity fail here, and are then looked at one by one.
        looked_at, limit = some if dtype.itemsize == 2 else there, _max_float(dtype)
        return bool(-limit <= looked_at.min() and looked_at.max() <= limit)
    limits = np.iinfo(dtype)
    # As Python's numbers, which compare exactly; NaN compares as False.
    if not (limits.min <= some.min().item() and some.max().item() <= limits.max):
        return False
    return stored.kind in "iu" or bool((there == some).all())


def _raise_misfit(some: np.ndarray, dtype: np.dtype, start: int) -> None:
    wrong = np.flatnonzero(find_misfits(some, dtype))
    if wrong.size:
        raise MisfitError(start + int(wrong[0]), some[wrong[0]], dtype)


def _part_of(dtype: np.dtype) -> np.dtype:
    """Return the type of the real part of a complex type, any other type as it is."""
    return np.empty(0, dtype).real.dtype


def _max_float(dtype: np.dtype) -> float:
    return float(np.finfo(dtype).max)


def _max_int(dtype: np.dtype) -> int:
    return 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)


def _range_of(value: np.generic, dtype: np.dtype) -> str:
    """Return which values a type can represent, for the message about one that it cannot."""
    if np.iscomplexobj(value) and dtype.kind != "c":
        if np.imag(value) != 0:
            return "it has no imaginary part"
        value = value.real
    if dtype.kind == "b":
        return "it holds 0 and 1"
    if dtype.kind in "fc":
        return f"its largest number is {_max_float(dtype):g}"
    limits = np.iinfo(dtype)
    return f"it holds whole numbers from {limits.min} to {limits.max}"
