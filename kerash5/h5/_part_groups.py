"""Groups of a file as parts of one source: "fold{part}/x" stands for fold1/x, fold2/x, ...

A part is to a source what a file is: its rows follow those of the part before, and no block of rows
reaches over its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kerash5._errors import ColumnError
from kerash5.h5._row_kind import RowKind
from kerash5.h5.columns._columns import (
    Column,
    ResolvedColumn,
    assemble_column,
    columns_of_file,
    find_beside,
    resolve_columns,
    with_one_type,
)
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._names import NamePattern, natural_key

_FIELD: Final = "part"
_MAX_NAMED: Final = 8
_Part = tuple[H5File, dict[str, Column], dict[str, ResolvedColumn]]  # what was asked, and found


@dataclass(frozen=True, slots=True)
class ResolvedParts:
    """The columns of some files, and the file of each of their parts."""

    files: tuple[H5File, ...]
    columns: dict[str, ResolvedColumn]
    kind: RowKind | None  # None: the parts are the files


def resolve_parts(
    columns: Mapping[str, Column],
    files: Sequence[H5File],
    *,
    allow_external: bool = False,
    reader: Reader = "auto",
) -> ResolvedParts:
    """Check columns against their files, as `resolve_columns` does, with {part} in their paths.

    Raises:
        ColumnError: Columns do not agree in which parts there are, or a part differs from others.
    """
    is_part = [f"{{{_FIELD}" in column.path for column in columns.values()]
    if not any(is_part):
        found = resolve_columns(columns, files, allow_external=allow_external, reader=reader)
        return ResolvedParts(tuple(files), found, None)
    _check_all_have_it(columns)
    patterns = {name: NamePattern(column.path, _FIELD) for name, column in columns.items()}
    beside = {name: find_beside(column, files) for name, column in columns.items()}
    parts: list[_Part] = []
    names: list[list[str]] = []
    for number, file in enumerate(files):
        told = columns_of_file(columns, beside, number)
        names.append(_find_parts(file, patterns, allow_external=allow_external))
        for value in names[-1]:
            asked = {
                name: replace(column, path=patterns[name].fill(value))
                for name, column in told.items()
            }
            found = resolve_columns(asked, [file], allow_external=allow_external, reader=reader)
            parts.append((file, asked, found))
    for name in columns:
        _check_alike(name, parts)
    assembled = {name: _assemble(name, column, parts) for name, column in columns.items()}
    return ResolvedParts(tuple(file for file, _, _ in parts), assembled, _describe(columns, names))


def _assemble(name: str, column: Column, parts: Sequence[_Part]) -> ResolvedColumn:
    files = [file for file, _, _ in parts]
    found = [columns[name] for _, _, columns in parts]
    readers = [part for each in found for part in each.parts]
    beside = tuple(file for each in found for file in each.beside)
    readers = with_one_type(column, beside or files, readers)
    first = found[0]
    return assemble_column(column, tuple(readers), first.storage, first.packing, beside)


def _check_all_have_it(columns: Mapping[str, Column]) -> None:
    for name, column in columns.items():
        if f"{{{_FIELD}" not in column.path:
            raise ColumnError(
                f"column {name}={column.path!r} has no {{{_FIELD}}}, and others have; rows of a "
                "part need all columns in it, so give each column its path in a part"
            )


def _find_parts(
    file: H5File, patterns: Mapping[str, NamePattern], *, allow_external: bool
) -> list[str]:
    with file.open() as handle:
        found = {
            name: pattern.find(file, handle, allow_external=allow_external)
            for name, pattern in patterns.items()
        }
    (first, parts), *others = found.items()
    for name, theirs in others:
        if alone := sorted(set(parts) ^ set(theirs), key=natural_key):
            has, lacks = (first, name) if alone[0] in parts else (name, first)
            raise ColumnError(
                f"parts of {file.path!r} differ: there is {patterns[has].fill(alone[0])!r} and no "
                f"{patterns[lacks].fill(alone[0])!r}; add what is missing, or narrow the patterns"
            )
    return parts


def _check_alike(name: str, parts: Sequence[_Part]) -> None:
    """Raise `ColumnError` if rows differ between parts in shape, or columns in length."""
    first_file, first_asked, first = parts[0]
    like = first[name].parts[0]
    for file, asked, found in parts:
        part = found[name].parts[0]
        if part.row_shape != like.row_shape:
            raise ColumnError(
                f"column {name!r} differs between parts: rows of shape {like.row_shape} "
                f"{like.dtype} in {first_asked[name].path!r} of {first_file.path!r}, of shape "
                f"{part.row_shape} {part.dtype} in {asked[name].path!r} of {file.path!r}; read "
                "them apart"
            )
        other = next(iter(found))
        if part.num_rows != found[other].parts[0].num_rows:
            raise ColumnError(
                f"columns of {file.path!r} differ in length: {asked[other].path!r} has "
                f"{found[other].parts[0].num_rows} rows, {asked[name].path!r} {part.num_rows}; "
                "they must be aligned row by row: write the file again"
            )


def _describe(columns: Mapping[str, Column], names: Sequence[Sequence[str]]) -> RowKind:
    path = next(iter(columns.values())).path
    told = ", ".join(names[0][:_MAX_NAMED]) + (", ..." if len(names[0]) > _MAX_NAMED else "")
    words = f"{sum(map(len, names))} parts {path!r}, in natural order: {told}"
    return RowKind("parts", words, {"parts": [list(each) for each in names]})
