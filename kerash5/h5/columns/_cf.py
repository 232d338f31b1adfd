"""Values that netCDF's conventions call packed or missing, made the numbers that they stand for.

CF conventions 1.11, 2.5.1 (missing data, valid range) and 8.1 (packed data), and the NetCDF Users
Guide's attribute conventions, which CF refers to:

- `_FillValue` and `missing_value` (which may be a list) mark what is missing, and so does a value
  outside `valid_range` or `valid_min` and `valid_max`. All are compared with what is stored, but
  for a valid range of the type of `scale_factor`, wider than the stored: that is in unpacked units.
- What is stored is multiplied by `scale_factor`, then `add_offset` is added.
- The result has the type of these two, but none that holds less than the stored values do: integers
  of 32 bits are not unpacked to float32.
- `_Unsigned = "true"` says that signed integers stand for unsigned ones.

Missing values are NaN here, so integers with such attributes become floats in any case: float32 if
they have 16 bits at most, else float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import h5py
import numpy as np

from kerash5._errors import ColumnError, DamagedFileError, explain_system_error
from kerash5.h5.reading._derived import RowFunction
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._find import find_object
from kerash5.h5.storage._opening import HDF5_ERRORS, words_of

_MISSING: Final = ("_FillValue", "missing_value")
_SCALE: Final = ("scale_factor", "add_offset")
_VALID: Final = ("valid_range", "valid_min", "valid_max")
NAMES: Final = (*_SCALE, *_MISSING, *_VALID)
_READ: Final = (*NAMES, "_Unsigned")


def read_cf(file: H5File, path: str, *, allow_external: bool) -> dict[str, Any]:
    """Return the attributes of a data set that say what its stored values stand for.

    Args:
        file: The file.
        path: Path of a data set in the file.
        allow_external: As in `Source`.

    Raises:
        DamagedFileError: The attributes cannot be read.
    """
    with file.open() as handle:
        found = find_object(handle, path, allow_external=allow_external)
        if not isinstance(found, h5py.Dataset):
            return {}
        try:
            return {name: found.attrs[name] for name in _READ if name in found.attrs}
        except (KeyError, TypeError, *HDF5_ERRORS) as error:
            what = f"{path!r} in {file.path!r}"
            raise explain_system_error(error, what) or DamagedFileError(
                f"{what} is damaged: its attributes cannot be read ({words_of(error)}); copy or "
                "download the file again"
            ) from error


@final
class UnpackFunction(RowFunction):
    """Unpacks values, and replaces missing ones with NaN.

    Args:
        attributes: The attributes of the data set, at least one.
        row_shape: Shape of the rows.
        dtype: Type of the rows; a number type.
        where: The column and its file, for messages.

    Raises:
        ColumnError: An attribute or the rows are not numbers.
    """

    def __init__(
        self,
        attributes: Mapping[str, Any],
        row_shape: tuple[int, ...],
        dtype: np.dtype,
        where: str,
    ) -> None:
        if dtype.kind not in "iuf":
            raise ColumnError(
                f"cf=True of {where}, which holds {dtype} values; only integers and floats are "
                "unpacked: leave cf= out"
            )
        self.row_shape = row_shape
        self._names = tuple(name for name in NAMES if name in attributes)
        numbers = {name: _parse(name, attributes[name], where) for name in self._names}
        if dtype.kind == "i" and _is_true(attributes.get("_Unsigned")):
            dtype = np.dtype(f"{dtype.byteorder}u{dtype.itemsize}")
        self._stored = dtype
        self.dtype = _choose_dtype(dtype, numbers)
        self._scale = {name: numbers[name].item(0) for name in _SCALE if name in numbers}
        self._missing = [_as_stored(numbers[n], dtype) for n in _MISSING if n in numbers]
        self._low, self._high = _find_bounds(numbers)
        self._is_valid_unpacked = _is_unpacked(numbers, dtype)

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows unpacked."""
        stored = rows.view(self._stored)
        out = stored.astype(self.dtype)  # a copy, also of the same type
        for name, number in self._scale.items():
            if name == "scale_factor":
                out *= self.dtype.type(number)
            else:
                out += self.dtype.type(number)
        wrong = np.zeros(stored.shape, np.bool_)
        for values in self._missing:
            for value in values:
                wrong |= stored == value
        looked_at = out if self._is_valid_unpacked else stored
        if self._low is not None:
            wrong |= looked_at < self._low
        if self._high is not None:
            wrong |= looked_at > self._high
        if wrong.any():
            out[wrong] = np.nan
        return out

    def describe(self) -> str:
        """Return the names of the attributes."""
        return f"{', '.join(self._names) or '_Unsigned'} applied"


def _parse(name: str, value: object, where: str) -> np.ndarray:
    found = np.asarray(value).reshape(-1)
    if found.dtype.kind not in "iuf" or not found.size:
        raise ColumnError(
            f"{where} has the attribute {name}={value!r}, which is no number, so cf=True cannot "
            "apply it; pass cf=False, and a transform="
        )
    return found


def _is_true(value: object) -> bool:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.strip("[]'\"").lower() == "true"


def _choose_dtype(stored: np.dtype, numbers: Mapping[str, np.ndarray]) -> np.dtype:
    scales = [numbers[name].dtype for name in _SCALE if name in numbers]
    wide = np.dtype(np.float32 if stored.kind != "f" and stored.itemsize <= 2 else np.float64)
    native = stored.newbyteorder("=")
    if not scales:
        has_nan = stored.kind == "f" or not any(n in numbers for n in (*_MISSING, *_VALID))
        return native if has_nan else wide
    said = np.result_type(*scales)
    least = native if stored.kind == "f" else wide
    return least if said.kind != "f" else max(said, least, key=lambda kind: kind.itemsize)


def _as_stored(values: np.ndarray, stored: np.dtype) -> list[Any]:
    """Return missing values in the stored type, without those it cannot represent."""
    found: list[Any] = []
    for value in values:
        with np.errstate(over="ignore", invalid="ignore"):
            here = value.astype(stored)
        # Of -1 for an unsigned 255, as "_Unsigned" has it, the bits are meant.
        is_same_bits = value.dtype.kind == "i" and value.dtype.itemsize == stored.itemsize
        if here == value or (is_same_bits and stored.kind == "u"):
            found.append(here)
        elif stored.kind == "f" and value.dtype.kind == "f":
            found.append(here)  # 1e20, rounded as the stored values were
    return found


def _find_bounds(numbers: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
    bounds = numbers.get("valid_range")
    if bounds is not None and bounds.size >= 2:
        return bounds.item(0), bounds.item(1)
    low, high = numbers.get("valid_min"), numbers.get("valid_max")
    return None if low is None else low.item(0), None if high is None else high.item(0)


def _is_unpacked(numbers: Mapping[str, np.ndarray], stored: np.dtype) -> bool:
    """Return whether a valid range applies to unpacked values (NetCDF Users Guide)."""
    scales = [numbers[name].dtype for name in _SCALE if name in numbers]
    valid = [numbers[name].dtype for name in _VALID if name in numbers]
    if not scales or not valid:
        return False
    said = np.result_type(*scales)
    return said.itemsize > stored.itemsize and all(kind == said for kind in valid)
