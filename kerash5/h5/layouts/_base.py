"""The data sets that rows of another kind are made of: opened like the columns of a `Source`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kerash5._errors import ColumnError
from kerash5.h5.columns._columns import (
    Column,
    ResolvedColumn,
    assemble_column,
    columns_of_file,
    find_beside,
    resolve_columns,
    with_one_type,
)
from kerash5.h5.columns._doubts import warn_of_packing
from kerash5.h5.columns._given import name_columns, parse_column
from kerash5.h5.reading._readers import AbstractReader, Origin
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import H5File, StrPath, find_files
from kerash5.h5.storage._pool import closing_files


@dataclass(frozen=True, slots=True)
class Base:
    """A column as it is stored, and what was asked of the rows that are made of it."""

    asked: Column
    files: tuple[H5File, ...]
    parts: tuple[AbstractReader, ...]  # one for each file
    storage: str
    packing: str
    beside: tuple[H5File, ...]  # the file of each part, where it lies in others than the source

    def with_readers(self, readers: Sequence[AbstractReader]) -> ResolvedColumn:
        """Return the column whose rows these readers read, one reader for each part.

        Raises:
            ColumnError: Their rows differ in shape or type.
        """
        files, first = self.beside or self.files, readers[0]
        for file, reader in zip(files, readers, strict=True):
            if reader.row_shape != first.row_shape:
                raise ColumnError(
                    f"column {self.asked.path!r} differs between files: rows of shape "
                    f"{first.row_shape} {first.dtype} in {files[0].path!r}, of shape "
                    f"{reader.row_shape} {reader.dtype} in {file.path!r}; read them apart"
                )
        parts = tuple(with_one_type(self.asked, files, list(readers)))
        return assemble_column(self.asked, parts, self.storage, self.packing, self.beside)


def open_bases(
    path: StrPath | Sequence[StrPath] | None,
    columns: Mapping[str, str | Column | None],
    *,
    allow_external: bool,
    reader: Reader,
) -> tuple[tuple[H5File, ...], dict[str, Base]]:
    """Open the data sets behind some columns.

    Args:
        path: As in `Source`.
        columns: By name; those that are None are left out.
        allow_external: As in `Source`.
        reader: As in `Source`.

    Returns:
        The files, and the columns with a part for each file.
    """
    path, named = name_columns(path, {k: v for k, v in columns.items() if v is not None})
    files = find_files(path)
    asked = {name: parse_column(name, spec) for name, spec in named.items()}
    # What is asked of rows is not asked of the values that they are made of.
    plain = {
        name: replace(column, shape=None, dtype=None, one_hot=None)
        for name, column in asked.items()
    }
    beside = {name: find_beside(column, files) for name, column in plain.items()}
    with closing_files(files):
        # One by one: series and volumes of one source may be of any size.
        found = [
            resolve_columns(
                columns_of_file(plain, beside, number),
                [file],
                allow_external=allow_external,
                reader=reader,
            )
            for number, file in enumerate(files)
        ]
    warn_of_packing(found[0].values())
    bases = {}
    for name, column in asked.items():
        parts = tuple(part for each in found for part in each[name].parts)
        first = found[0][name]
        bases[name] = Base(column, files, parts, first.storage, first.packing, beside[name])
    return files, bases


def check_same_lengths(files: Sequence[H5File], bases: Mapping[str, Base], what: str) -> None:
    """Raise `ColumnError` if two columns of a file differ in length; `what` names a length."""
    first, *others = bases.values()
    for other in others:
        pairs = zip(files, first.parts, other.parts, strict=True)
        for file, one, two in pairs:
            if one.num_rows != two.num_rows:
                raise ColumnError(
                    f"{what} of {file.path!r} differ in length: {first.asked.path!r} has "
                    f"{one.num_rows} values, {other.asked.path!r} {two.num_rows}; they must be "
                    "aligned value by value"
                )


def derive_origin(origins: Sequence[Origin | None], *cut: int) -> Origin | None:
    """Return an origin that is equal for two readers with the same rows.

    Args:
        origins: The origins of the data sets of the rows, in order.
        cut: Numbers that define how rows are made of the data sets.
    """
    known = [origin for origin in origins if origin is not None]
    if len(known) < len(origins) or len({origin[:2] for origin in known}) != 1:
        return None
    device, inode, _ = known[0]
    # Never the address of an object, which is positive. Hashes of numbers are the same everywhere.
    return device, inode, -abs(hash((*(address for _, _, address in known), *cut))) - 1
