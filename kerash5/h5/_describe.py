"""Saying in words what is in a file, and how fast each data set can be read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import h5py

from kerash5._errors import KerasH5Error, escape_controls
from kerash5.h5._choice import open_part
from kerash5.h5._doubts import describe_packing, packing_of
from kerash5.h5._file import H5File, StrPath, find_files
from kerash5.h5._filters import codec_advice
from kerash5.h5._find import list_datasets

if TYPE_CHECKING:
    from kerash5.h5._columns import ResolvedColumn


def describe(path: StrPath) -> str:
    """Say in words what is in a file, or the files of a glob.

    Every data set has its shape, its type, how it is stored and how it is read.

    Args:
        path: A file, or a glob pattern.

    Returns:
        Some lines of text.

    Raises:
        FileError: A file is missing, damaged or no HDF5 file.

    Example:
        >>> print(describe(digits_train()).splitlines()[1])
          image: 5000 rows of (28, 28) uint8, chunks (500, 28, 28), gzip
    """
    return "\n".join(_describe_file(file) for file in find_files(path))


def describe_columns(files: Sequence[H5File], columns: Mapping[str, ResolvedColumn]) -> str:
    """Say in words what the columns of a source are, how they are stored and how they are read."""
    num_rows = sum(part.num_rows for part in next(iter(columns.values())).parts)
    size = sum(file.identity.num_bytes for file in files)
    count = f"{len(files)} file{'s' * (len(files) > 1)}"
    lines = [f"{num_rows} rows in {count} ({size / 1e6:.1f} MB on disk)"]
    for name, column in columns.items():
        lines += _describe_column(name, column)
    return "\n".join(lines)


def _describe_column(name: str, column: ResolvedColumn) -> Iterator[str]:
    rows = f"rows {column.shape} {column.dtype}"
    yield f"  {name}: {column.column.path!r}, {rows}, {column.storage}"
    yield f"    read {column.parts[0].describe()}"
    if column.packing:
        yield f"    as stored, though its attributes say {column.packing}"
    if column.class_names is not None:
        names = ", ".join(column.class_names[:8]) + (" ..." if len(column.class_names) > 8 else "")
        yield f"    {len(column.class_names)} classes: {names}"


def _describe_file(file: H5File) -> str:
    with file.open() as handle:
        names = list_datasets(handle)
        attributes = list(_describe_attributes(handle))
    lines = [
        f"{os.path.basename(file.path)}: {len(names)} data sets, "
        f"{file.identity.num_bytes / 1e6:.1f} MB"
    ]
    for name in names:
        lines += _describe_dataset(file, name)
    # Each line is one of ours: what a file calls its data sets must not look like another.
    return "\n".join(map(escape_controls, lines + attributes))


def _describe_dataset(file: H5File, name: str) -> list[str]:
    try:
        layout, reader = open_part(name, file)
        with file.open() as handle:
            packing = packing_of(handle[name])
    except KerasH5Error as error:
        return [f"  {name}: {error}"]
    ratio = layout.num_rows * layout.row_bytes / max(1, layout.num_stored_bytes)
    packed = f", packed {ratio:.1f} times" if layout.filters and layout.num_stored_bytes else ""
    shape = f"{layout.row_shape} " if layout.row_shape else ""  # one number a row has none
    return [
        f"  {name}: {layout.num_rows} rows of {shape}{layout.dtype}, {layout.describe()}{packed}",
        f"    read {reader.describe()}",
        *([f"    as stored; its attributes say {describe_packing(packing)}"] if packing else []),
        *([f"    {advice}"] if (advice := codec_advice(layout.filters)) else []),
    ]


def _describe_attributes(handle: h5py.File) -> Iterator[str]:
    try:
        names = list(handle.attrs)
    except (OSError, RuntimeError) as error:
        yield f"  attributes cannot be listed ({error})"
        return
    for name in names:
        try:
            yield f"  @{name}: {_shorten(str(handle.attrs[name]))}"
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            yield f"  @{name}: cannot be read ({error})"


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:97] + "..."
