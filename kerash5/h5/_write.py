"""Write HDF5 files for training: whole rows per chunk, and never a half-written file.

A reader sees the old file, or the complete new one: see `kerash5.files`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Final, Literal

import h5py
import numpy as np
from numpy.typing import ArrayLike

from kerash5._errors import ColumnError, FileError, KerasH5Error, OptionError
from kerash5.files import create_hdf5, unwritable
from kerash5.h5.storage._file import StrPath, open_once

# Large enough to compress and read well, small enough that a few hundred make a window.
_CHUNK_BYTES: Final = 256 << 10
# Below this no one is told beforehand that there may be no room: compression may make some.
_LARGE_BYTES: Final = 256 << 20


def write(
    path: StrPath,
    *,
    overwrite: bool = False,
    compression: Literal["gzip", "lzf"] | None = "gzip",
    chunk_rows: int | None = None,
    attributes: Mapping[str, str | int | float] | None = None,
    **columns: ArrayLike,
) -> str:
    """Write columns to a new HDF5 file, in chunks of whole rows, crash-safely.

    Args:
        path: The file. Its folder must exist.
        overwrite: Replace an existing file.
        compression: "gzip" (level 4), "lzf", or None for contiguous data, the fastest to read in
            any order.
        chunk_rows: Rows of a chunk; by default as many as make about 256 KiB.
        attributes: Attributes of the file, such as origin and licence.
        **columns: The data, one array of shape (n, ...) per column; all the same n. Text becomes
            UTF-8 strings. A name with "/" such as "train/image" makes groups (pass it as
            **{"train/image": array}).

    Returns:
        The path written.

    Raises:
        FileError: The file exists (and `overwrite` is False), or cannot be written; nothing is left
            behind.
        ColumnError: There are no columns, they differ in length, or one is ragged.

    Examples:
        >>> write("numbers.h5", overwrite=True, x=np.arange(6).reshape(3, 2), y=[0, 1, 0])
        'numbers.h5'
    """
    arrays = _parse_columns(columns)
    if compression not in ("gzip", "lzf", None):
        raise OptionError(f"compression={compression!r}; choose 'gzip', 'lzf' or None")
    if chunk_rows is not None and chunk_rows < 1:
        raise OptionError(f"chunk_rows={chunk_rows}; a chunk has at least one row")
    name = os.fspath(path)
    num_bytes = sum(array.nbytes for array in arrays.values())
    check_place(name, overwrite=overwrite)
    if num_bytes > _LARGE_BYTES:
        check_room(name, num_bytes, " before compression")

    with create_hdf5(name, overwrite=overwrite) as draft:
        try:
            for key, value in (attributes or {}).items():
                set_attribute(draft.file, key, value)
            for column, array in arrays.items():
                _create(draft.file, column, array, compression, chunk_rows)
                draft.check()  # what is dropped need not be compressed first
        except KerasH5Error:
            raise
        except (OSError, RuntimeError) as error:
            raise unwritable(name, error) from error
    with open_once(name):  # checks that the written file opens
        return name


def _parse_columns(columns: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    if not columns:
        raise ColumnError("nothing to write: name at least one column, such as image=array")
    arrays: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise ColumnError(
                f"column {name!r} is ragged ({error}); pad its rows to one length"
            ) from error
        if array.ndim == 0:
            raise ColumnError(
                f"column {name!r} is a single value; a column has one row per example"
            )
        if array.dtype == object and not all(
            isinstance(value, str | bytes) for value in array.flat
        ):
            raise ColumnError(f"column {name!r} holds Python objects; write numbers or text")
        arrays[name] = array
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ColumnError(
            "columns differ in length: "
            + ", ".join(f"{name!r} has {rows} rows" for name, rows in lengths.items())
        )
    return arrays


def check_place(path: str, *, overwrite: bool) -> None:
    """Raise `FileError` if no file can be created here."""
    place = os.path.realpath(path) if overwrite else path
    folder = os.path.dirname(place) or "."
    if not os.path.isdir(folder):
        raise FileError(f"{path!r} cannot be written: there is no folder {folder!r}; make it first")
    if os.path.isdir(place):
        raise FileError(f"{path!r} is a folder; name a file in it")
    if os.path.lexists(place) and not overwrite:
        raise FileError(f"{path!r} exists; pass overwrite=True to replace it")
    if os.path.lexists(place) and not os.path.isfile(place):
        raise FileError(f"{path!r} is a device, a pipe or a circle of links; name a file")


def check_room(path: str, num_bytes: int, note: str = "") -> None:
    """Raise `FileError` if the disk has no space for a file of this size."""
    folder = os.path.dirname(os.path.realpath(path))
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise FileError(
            f"{path!r} may take {num_bytes / 1e6:.0f} MB{note}, and {folder!r} has "
            f"{free / 1e6:.0f} MB free; free space first"
        )


def _create(
    file: h5py.File, name: str, array: np.ndarray, compression: str | None, chunk_rows: int | None
) -> None:
    if array.dtype.kind in "UTO":
        array, kind = array.astype(object), h5py.string_dtype()
        row_bytes = 16  # what HDF5 keeps per variable-length string in the data set itself
    else:
        kind, row_bytes = array.dtype, array.nbytes // max(1, len(array))
    storage: dict[str, object] = {}
    if array.size > 0 and (compression is not None or chunk_rows is not None):
        rows = min(len(array), chunk_rows or max(1, _CHUNK_BYTES // max(1, row_bytes)))
        is_number = array.dtype.itemsize > 1 and array.dtype.kind in "iuf"
        storage = {
            "chunks": (rows, *array.shape[1:]),
            "compression": compression,
            "shuffle": compression is not None and is_number,
        }
    try:
        file.create_dataset(name, data=array, dtype=kind, track_times=False, **storage)
    except (KeyError, TypeError, ValueError) as error:
        raise ColumnError(
            f"column {name!r} of type {array.dtype} cannot be stored ({error}); write numbers or "
            "text, under a name that no other column or group has"
        ) from error


def set_attribute(file: h5py.File, name: str, value: object) -> None:
    """Set an attribute of the file, or raise `OptionError`."""
    try:
        file.attrs[name] = value
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"attribute {name!r}={value!r} cannot be stored ({error}); write text or numbers"
        ) from error
