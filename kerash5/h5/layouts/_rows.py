"""Sources whose rows are separate groups, or separate files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import h5py

from kerash5._errors import ColumnError, OptionError
from kerash5.h5._row_kind import RowKind
from kerash5.h5._source import Source
from kerash5.h5.columns._columns import Column, assemble_column
from kerash5.h5.columns._given import parse_column
from kerash5.h5.layouts._places import PlaceCollector
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import H5File, StrPath, find_files
from kerash5.h5.storage._names import NamePattern, natural_key
from kerash5.h5.storage._pool import closing_files


def rows_from_groups(
    path: StrPath | Sequence[StrPath],
    *,
    x: str | Column,
    y: str | Column | None = None,
    allow_external: bool = False,
    reader: Reader = "auto",
) -> Source:
    """Make a source of a file that keeps each row in a group, or a data set, of its own.

    Nothing is copied: row i is the whole data set i, in natural order (sample_2 before sample_10).

    Args:
        path: A file, a glob pattern, or a list of either; file follows file, as in `Source`.
        x: The path of a row, with {row} for what differs from one to the next, at any depth:
            "sample_{row}/image", "{row}/img", "data/image_{row}"; or a `Column` with such a path.
            {row:d} stands for numbers alone, where other names are alike.
        y: That of its label, likewise. "sample_{row}@label" is the attribute "label" of the group,
            "sample_{row}/image@label" that of the data set.
        allow_external: As in `Source`.
        reader: As in `Source`.

    Returns:
        A source with the columns "x" and "y"; rows have the shape of a data set, () for those of
        one value. Attributes and single values are read now, and are in memory.

    Raises:
        OptionError: A path has no {row}.
        ColumnError: Nothing fits, a row lacks one of both, or rows differ in shape or type; those
            that do are named.

    Examples:
        >>> with h5py.File("samples.h5", "w") as file:
        ...     for number in range(12):
        ...         file[f"sample_{number}/image"] = np.full((2, 2), number)
        ...         file[f"sample_{number}"].attrs["label"] = number % 3
        >>> source = rows_from_groups("samples.h5", x="sample_{row}/image", y="sample_{row}@label")
        >>> source.read([2, 10])["x"][:, 0, 0], source.read([2, 10])["y"]
        (array([ 2, 10]), array([2, 1]))
    """
    asked = _parse_columns(x, y)
    patterns = {name: NamePattern(column.path, "row") for name, column in asked.items()}
    files = find_files(path)
    found = _collectors(asked, allow_external=allow_external, reader=reader)
    with closing_files(files):
        for file in files:
            values = _find_rows(file, patterns, allow_external=allow_external)
            for name, pattern in patterns.items():
                found[name].add(file, [pattern.fill(value) for value in values])
    words = f"each row is a data set: {asked['x'].path!r}, in natural order"
    return _assemble(files, asked, found, RowKind("rows_from_groups", words, {}))


def rows_from_files(
    path: StrPath | Sequence[StrPath],
    *,
    x: str | Column,
    y: str | Column | None = None,
    allow_external: bool = False,
    reader: Reader = "auto",
) -> Source:
    """Make a source of files each of which is one row. Nothing is copied.

    The files are in the natural order of their paths (scan_2.h5 before scan_10.h5), whatever order
    a list had. There may be many thousands: at most 128 are open at a time.

    Args:
        path: A glob pattern, or a list of files or patterns.
        x: The data set that is the row, or a `Column` that names it.
        y: That of its label, likewise. "@label" is an attribute of the file, "img@label" one of the
            data set or group "img".
        allow_external: As in `Source`.
        reader: As in `Source`.

    Returns:
        A source with the columns "x" and "y"; rows have the shape of a data set, () for those of
        one value. Attributes and single values are read now, and are in memory.

    Raises:
        FileMissingError: No file matches.
        ColumnError: A file lacks one of both, or files differ in shape or type; those that do are
            named.

    Examples:
        >>> for number in range(12):
        ...     write(f"scan_{number}.h5", img=np.full((2, 2), number), mask=np.zeros((2, 2), "u1"))
        >>> rows_from_files("scan_*.h5", x="img", y="mask").read([2, 10])["x"][:, 0, 0]
        array([ 2, 10])
    """
    asked = _parse_columns(x, y)
    files = tuple(sorted(find_files(path), key=lambda file: natural_key(file.path)))
    found = _collectors(asked, allow_external=allow_external, reader=reader)
    with closing_files(files):
        for file in files:
            for name, column in asked.items():
                found[name].add(file, [column.path])
    words = f"each row is a file: its {asked['x'].path!r}, files in natural order"
    return _assemble(files, asked, found, RowKind("rows_from_files", words, {}))


def _parse_columns(x: object, y: object) -> dict[str, Column]:
    asked: dict[str, Column] = {}
    for name, spec in {"x": x, "y": y}.items():
        if isinstance(spec, h5py.Dataset) or (isinstance(spec, Column) and spec.given_in):
            raise OptionError(
                f"column {name}= is an open data set, which is one row of many; give its path, as "
                "in 'sample_{row}/image'"
            )
        if spec is not None or name == "x":
            asked[name] = column = parse_column(name, spec)
            if options := column.kind_options():
                raise OptionError(
                    f"column {name}= has {', '.join(options)}, which are for rows of axis 0 and "
                    "not for whole data sets; leave them out, and use a transform="
                )
    return asked


def _collectors(
    asked: Mapping[str, Column], *, allow_external: bool, reader: Reader
) -> dict[str, PlaceCollector]:
    return {
        name: PlaceCollector(column.path, allow_external=allow_external, reader=reader)
        for name, column in asked.items()
    }


def _find_rows(
    file: H5File, patterns: Mapping[str, NamePattern], *, allow_external: bool
) -> list[str]:
    """Return what {row} stands for in a file.

    Raises:
        ColumnError: It is not the same for all columns.
    """
    first, *others = patterns.values()
    with file.open() as handle:
        values = first.find(file, handle, allow_external=allow_external)
        for other in others:
            if other.stem == first.stem:
                continue  # what lacks one of both is named when it is opened
            theirs = other.find(file, handle, allow_external=allow_external)
            if alone := sorted(set(values) ^ set(theirs), key=natural_key):
                has, lacks = (first, other) if alone[0] in values else (other, first)
                raise ColumnError(
                    f"{len(alone)} rows of {file.path!r} have one of {first.path!r} and "
                    f"{other.path!r} and not the other: there is {has.fill(alone[0])!r} and no "
                    f"{lacks.fill(alone[0])!r}; add what is missing, or narrow the patterns"
                )
    return values


def _assemble(
    files: Sequence[H5File],
    asked: Mapping[str, Column],
    found: Mapping[str, PlaceCollector],
    kind: RowKind,
) -> Source:
    for collector in found.values():
        collector.check()
    columns = {
        name: assemble_column(column, tuple(found[name].readers), found[name].storage)
        for name, column in asked.items()
    }
    return Source.from_parts(tuple(files), columns, kind)
