"""Write columns to a new HDF5 file some rows at a time, with memory for a few rows.

`write` does the same for whole arrays. The file gets its name when the last row is written. Before
that there is no such file, and nothing is left if writing fails or the process is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import h5py
import numpy as np
from numpy.typing import ArrayLike

from kerash5._checks import parse_count
from kerash5._errors import ColumnError
from kerash5.files import HDF5Draft, create_hdf5, unwritable
from kerash5.h5._write import check_place, check_room, set_attribute
from kerash5.h5.storage._file import StrPath, open_once


@final
class RowWriter:
    """Appends rows to the columns of one file. Made by `open_writer`."""

    def __init__(self, draft: HDF5Draft, path: str, num_rows: int) -> None:
        self._draft = draft
        self._path = path
        self._num_rows = num_rows
        self._num_written = 0
        self._columns: dict[str, h5py.Dataset] = {}

    def append(self, rows: Mapping[str, ArrayLike] | None = None, /, **columns: ArrayLike) -> None:
        """Append rows to every column; the first call defines the columns.

        Args:
            rows: One array per column, shape (n, ...), all the same n and, from call to call, the
                same names, dtypes and shapes of a row. Column names may be paths, such as
                "train/image".
            **columns: Likewise, for columns whose names are Python's.

        Raises:
            ColumnError: They differ from those before, or there are too many.
            FileError: The disk is full, or reports another error.
        """
        arrays = {name: np.asarray(values) for name, values in {**(rows or {}), **columns}.items()}
        _check_rows(self._path, arrays)
        if not self._columns:
            self._create(arrays)
        start = self._num_written
        lengths = {len(array) for array in arrays.values()}
        stop = start + lengths.pop()
        if lengths or stop > self._num_rows or set(arrays) != set(self._columns):
            raise ColumnError(
                f"{self._path!r} takes {self._num_rows} rows of {', '.join(self._columns)}, the "
                f"same number of each; got {', '.join(arrays)} up to row {stop}"
            )
        for name, array in arrays.items():
            column = self._columns[name]
            if array.shape[1:] != column.shape[1:]:
                raise ColumnError(
                    f"rows of {name!r} had shape {column.shape[1:]} and now have {array.shape[1:]};"
                    " a column has rows of one shape"
                )
            if array.dtype != column.dtype:
                raise ColumnError(
                    f"rows of {name!r} were of type {column.dtype} and now are {array.dtype}; a "
                    "column has rows of one type: cast them"
                )
            try:
                column[start:stop] = array
                self._draft.check()
            except (OSError, RuntimeError) as error:
                raise unwritable(self._path, error) from error
        self._num_written = stop

    def check_complete(self) -> None:
        """Raise `ColumnError` if rows are missing."""
        if self._num_written < self._num_rows:
            raise ColumnError(
                f"{self._path!r} takes {self._num_rows} rows and got {self._num_written}"
            )

    def _create(self, rows: Mapping[str, np.ndarray]) -> None:
        shapes = {name: (self._num_rows, *array.shape[1:]) for name, array in rows.items()}
        num_bytes = sum(
            int(np.prod(shape, dtype=np.int64)) * rows[name].dtype.itemsize
            for name, shape in shapes.items()
        )
        # The rows may take hours to compute, so disk space is checked before the first of them.
        check_room(self._path, num_bytes)
        try:
            # Contiguous: nothing is faster to read in any order.
            create = self._draft.file.create_dataset
            self._columns = {
                name: create(name, shapes[name], array.dtype, track_times=False)
                for name, array in rows.items()
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ColumnError(
                f"{', '.join(map(repr, rows))} cannot be columns of one file ({error}); choose "
                "another name"
            ) from error


def _check_rows(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that there are columns, and that each has an axis of rows."""
    scalars = [name for name, array in arrays.items() if array.ndim == 0]
    if scalars or not arrays:
        what = f"{scalars[0]!r} is a single value" if scalars else "there are no columns"
        raise ColumnError(
            f"rows of {path!r}: {what}; append arrays of shape (n, ...), one per column, such as "
            "append(image=images, label=labels)"
        )


@contextmanager
def open_writer(
    path: StrPath,
    rows: int,
    *,
    overwrite: bool = False,
    attributes: Mapping[str, str | int | float] | None = None,
) -> Iterator[RowWriter]:
    """Open a writer of a new file, larger than memory perhaps, that appends rows to its columns.

    The file takes its name when all rows are in it: a process that is killed leaves nothing behind.

    Args:
        path: The file. Its folder must exist.
        rows: Number of rows of each column; all of them must come.
        overwrite: Replace an existing file.
        attributes: Attributes of the file.

    Raises:
        FileError: The file exists (and `overwrite` is False), or cannot be written.
        ColumnError: Rows are missing or do not fit together. Whatever is raised, nothing is left
            behind.

    Examples:
        >>> with open_writer("squares.h5", rows=4) as writer:
        ...     writer.append(square=[0, 1])
        ...     writer.append(square=[4, 9])
        >>> read_all("squares.h5", "square").tolist()
        [0, 1, 4, 9]
    """
    num_rows = parse_count("rows", rows, "the number of rows to write", least=0)
    name = os.fspath(path)
    check_place(name, overwrite=overwrite)
    with create_hdf5(name, overwrite=overwrite) as draft:
        for key, value in (attributes or {}).items():
            set_attribute(draft.file, key, value)
        writer = RowWriter(draft, name, num_rows)
        yield writer
        writer.check_complete()
    with open_once(name):  # checks that the written file opens
        pass
