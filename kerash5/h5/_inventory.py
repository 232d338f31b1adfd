"""The facts about each data set of a file, as plain values: what `describe` prints.

Read in a child process, one data set at a time; `_inventory_text` makes lines of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import h5py
import numpy as np

from kerash5._errors import ColumnError, KerasH5Error
from kerash5.h5.columns._categories import add_categories
from kerash5.h5.columns._column import Column
from kerash5.h5.columns._doubts import read_packing
from kerash5.h5.columns._open import open_column
from kerash5.h5.reading._select_reader import explained, open_part
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._filters import codec_advice
from kerash5.h5.storage._find import find_dataset

Kind = Literal["rows", "scalar", "empty", "sparse matrix", "categories", "not readable"]

_GROUP_KINDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "sparse matrix": ("data", "indices", "indptr"),
    "categories": ("codes", "categories"),
}
_MAX_VALUE: Final = 100  # characters of a value or an attribute


@dataclass(frozen=True, slots=True)
class Entry:
    """One data set, or a group that is one column. Its fields are the keys of `describe --json`.

    Args:
        path: Path in the file.
        kind: "rows", or why there are none; "sparse matrix" and "categories" are groups.
        num_rows: Length of axis 0; of a scalar None.
        row_shape: Shape of a row.
        dtype: NumPy's name of the type of its values; "text" for text of any kind.
        fields: The fields of a compound type, and their types.
        storage: How it is stored, as text.
        chunks: Shape of a chunk; None if it is not chunked.
        filters: Names of the filters of its chunks, in the order of writing.
        num_bytes: Bytes of the decoded values.
        num_stored_bytes: Bytes in the file.
        reader: How rows are read, and why not faster.
        units: Its attribute `units`.
        packing: Attributes that say that stored values are no measurements, as text.
        class_names: Names of the values of an enum or of categories, by id.
        members: The data sets of a group.
        value: The value of a scalar, as text.
        advice: What to install to read it faster.
        reason: Why it cannot be read as rows.
    """

    path: str
    kind: Kind
    num_rows: int | None = None
    row_shape: tuple[int, ...] | None = None
    dtype: str | None = None
    fields: Mapping[str, str] | None = None
    storage: str | None = None
    chunks: tuple[int, ...] | None = None
    filters: tuple[str, ...] = ()
    num_bytes: int | None = None
    num_stored_bytes: int | None = None
    reader: str | None = None
    units: str | None = None
    packing: str | None = None
    class_names: tuple[str, ...] | None = None
    members: tuple[str, ...] = ()
    value: str | None = None
    advice: str | None = None
    reason: str | None = None


def parse_entry(values: Mapping[str, Any]) -> Entry:
    """Return the facts that another process has sent as JSON."""
    return Entry(**{name: _to_tuple(value) for name, value in values.items()})


def _to_tuple(value: Any) -> Any:  # noqa: ANN401  a value of JSON
    return tuple(value) if isinstance(value, list) else value


def find_groups(names: list[str]) -> dict[str, Kind]:
    """Return the groups that are one column each, as far as names tell, and what they are."""
    known = set(names)
    folders = dict.fromkeys(name.rpartition("/")[0] for name in names)
    return {
        folder: kind
        for folder in folders
        if folder
        for kind, members in _GROUP_KINDS.items()
        if all(f"{folder}/{member}" in known for member in members)
    }


def read_group(file: H5File, path: str, kind: Kind) -> tuple[Entry, np.dtype] | None:
    """Read the facts of a group that is one column; None if it cannot be read as one."""
    try:
        opened = open_column(Column(path), file)
    except KerasH5Error:
        return None
    reader = opened.reader
    entry = Entry(
        path,
        kind,
        num_rows=reader.num_rows,
        row_shape=reader.row_shape,
        dtype=describe_dtype(reader.dtype),
        storage=opened.storage,
        reader=reader.describe(),
        class_names=reader.categories,
        members=_GROUP_KINDS[kind],
    )
    return entry, reader.dtype


def read_entry(file: H5File, path: str) -> tuple[Entry, np.dtype | None]:
    """Read the facts of a data set, and the type of its values if it has rows."""
    try:
        with explained(path, file), file.open() as handle:
            dataset = find_dataset(handle, path).dataset
            units = _read_units(dataset)
            if dataset.shape is None:
                return Entry(path, "empty", units=units), None
            if dataset.shape == ():
                return _read_scalar(dataset, path, units), None
        layout, stored = open_part(path, file)
        reader = add_categories(Column(path), stored, file, allow_external=False)
        packing = read_packing(file, path, allow_external=False)
    except KerasH5Error as error:
        return Entry(path, "not readable", reason=_shorten_reason(error, file, path)), None
    entry = Entry(
        path,
        "rows",
        num_rows=layout.num_rows,
        row_shape=layout.row_shape,
        dtype=describe_dtype(layout.dtype),
        fields=_describe_fields(layout.dtype),
        storage=layout.describe(),
        chunks=layout.chunks,
        filters=tuple(one.name for one in layout.filters),
        num_bytes=layout.num_rows * layout.row_bytes,
        num_stored_bytes=layout.num_stored_bytes,
        reader=reader.describe(),
        units=units,
        packing=packing or None,
        class_names=reader.categories,
        advice=codec_advice(layout.filters) or None,
    )
    return entry, layout.dtype


def _read_scalar(dataset: h5py.Dataset, path: str, units: str | None) -> Entry:
    try:
        dtype = describe_dtype(dataset.dtype)
        value = describe_value(dataset[()])
    except (TypeError, ValueError) as error:
        return Entry(path, "scalar", units=units, reason=f"h5py cannot read its type ({error})")
    return Entry(path, "scalar", dtype=dtype, value=value, units=units)


def _read_units(dataset: h5py.Dataset) -> str | None:
    try:
        value = dataset.attrs.get("units")
    except (KeyError, TypeError, ValueError):  # a type that h5py does not know
        return None
    return None if value is None else describe_value(value)


def _shorten_reason(error: KerasH5Error, file: H5File, path: str) -> str:
    """Return a message without the path that stands before it anyway."""
    if not isinstance(error, ColumnError):
        return str(error)
    return str(error).removeprefix(f"{f'/{path}'!r} in {file.place!r} ")


def describe_dtype(dtype: np.dtype) -> str:
    """Return NumPy's name of a type, and "text" for text of any kind."""
    if dtype.names is not None:
        return f"{len(dtype.names)} field{'s' * (len(dtype.names) > 1)}"
    if dtype.kind in "SU" or h5py.check_string_dtype(dtype) is not None:
        return "text"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references"
    if (inner := h5py.check_vlen_dtype(dtype)) is not None:
        return f"arrays of {describe_dtype(inner)}"
    return str(dtype)


def _describe_fields(dtype: np.dtype) -> dict[str, str] | None:
    if dtype.names is None:
        return None
    kinds = {name: dtype[name] for name in dtype.names}
    return {
        name: describe_dtype(kind.base) + (f" {kind.shape}" if kind.shape else "")
        for name, kind in kinds.items()
    }


def describe_value(value: Any) -> str:  # noqa: ANN401  whatever h5py returns
    """Return a value of a scalar or an attribute as text on one line."""
    if isinstance(value, bytes):
        text = value.decode("utf-8", "backslashreplace")
    elif isinstance(value, np.ndarray):
        flat = [describe_value(each) for each in value.reshape(-1)[:_MAX_VALUE]]
        text = flat[0] if value.size == 1 else f"[{', '.join(flat)}]"
    elif isinstance(value, h5py.Empty):
        text = "empty"
    else:
        text = str(value)
    line = " ".join(text.split())
    return line if len(line) <= _MAX_VALUE else f"{line[: _MAX_VALUE - 3]}..."
