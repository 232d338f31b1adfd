"""Rows sorted by class: a group, a data set or files for each; its name is the label.

Nothing is copied: the classes are parts of the source, one after another. See `_source`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import h5py
import numpy as np

from kerash5._errors import ColumnError, OptionError, UnknownColumnError
from kerash5.h5._row_kind import RowKind
from kerash5.h5._source import Source
from kerash5.h5.columns._columns import (
    Column,
    ResolvedColumn,
    assemble_column,
    resolve_columns,
)
from kerash5.h5.columns._doubts import warn_of_packing
from kerash5.h5.columns._given import parse_column
from kerash5.h5.layouts._class_checks import check_classes
from kerash5.h5.reading._readers import AbstractReader, ConstantReader
from kerash5.h5.reading._select_reader import Reader, open_part
from kerash5.h5.storage._file import H5File, StrPath, find_files
from kerash5.h5.storage._find import find_object, what_is_in
from kerash5.h5.storage._layout import Layout
from kerash5.h5.storage._pool import closing_files


def classes_from_groups(
    path: StrPath, data: str = "image", *, group: str = "/", allow_external: bool = False
) -> Source:
    """Make a source of a file that keeps each class in a group or data set of its own.

    Nothing is copied.

    Args:
        path: The file.
        data: The data set in each class's group, as in /cat/image and /dog/image. A group that
            holds one data set only may call it anything.
        group: The group whose groups are the classes; where it holds none, its data sets are the
            classes, as in /cat and /dog.
        allow_external: As in `Source`.

    Returns:
        A source with the columns "x" (the rows of all classes, one class after another, in the
        sorted order of their names) and "y" (int64 class ids), and with `class_names`.

    Raises:
        ColumnError: There are no classes, one has no such data set, classes differ in row shape or
            type, or each group is a row: it has a label of its own, or the groups are numbered from
            0 and have the shape of one row each. `rows_from_groups` reads those.
    """
    files = find_files(path)
    if len(files) > 1:
        raise OptionError(f"classes_from_groups takes one file, and {path!r} are {len(files)}")
    file = files[0]
    paths, is_grouped = _find_classes(file, group, allow_external=allow_external)
    names = [place.rpartition("/")[2] for place in paths]
    parts: list[AbstractReader] = []
    layouts: list[Layout] = []
    for name, place in zip(names, paths, strict=True):
        path_in = (
            _find_in_class(file, place, data, allow_external=allow_external)
            if is_grouped
            else place
        )
        layout, reader = open_part(path_in, file, allow_external=allow_external)
        parts.append(reader)
        layouts.append(layout)
        if (layout.row_shape, layout.dtype) != (layouts[0].row_shape, layouts[0].dtype):
            no_groups = (
                "" if is_grouped else f"{group!r} holds no groups, and its data sets, read as "
            )
            raise ColumnError(
                f"{no_groups}classes of {file.path!r} differ: rows of shape "
                f"{layouts[0].row_shape} {layouts[0].dtype} in {names[0]!r}, "
                f"of shape {layout.row_shape} {layout.dtype} in {name!r}; write them alike"
            )
    x = assemble_column(
        Column(f"*/{data}" if is_grouped else "*"), tuple(parts), layouts[0].describe()
    )
    check_classes(file, paths, x, data if is_grouped else "", allow_external=allow_external)
    y = _ids_of(parts, range(len(parts)), names, "(group)", "the group's name")
    return Source.from_parts((file,), {"x": x, "y": y})


def classes_from_files(
    paths: Mapping[str, StrPath | Sequence[StrPath]],
    x: str | Column = "image",
    *,
    allow_external: bool = False,
    reader: Reader = "auto",
) -> Source:
    """Make a source of files each of which holds rows of one class. Nothing is copied.

    Args:
        paths: For each class its name, and a file, a glob pattern, or a list of either.
        x: The data set of the rows in each file, or a `Column` that names it.
        allow_external: As in `Source`.
        reader: As in `Source`.

    Returns:
        A source with the columns "x" (the rows of all classes, one class after another, in the
        sorted order of their names, whatever that of `paths`) and "y" (int64 class ids), and with
        `class_names`.

    Raises:
        FileMissingError: No file matches for a class.
        OptionError: `paths` is no mapping of names, or one file is of two classes.
        ColumnError: A file has no such data set, or files differ in row shape or type.

    Examples:
        >>> write("cat.h5", image=np.zeros((2, 8, 8))), write("dog.h5", image=np.ones((3, 8, 8)))
        >>> pets = classes_from_files({"dog": "dog.h5", "cat": "cat.h5"}, x="image")
        >>> pets.class_names, pets.read(range(5))["y"]
        (('cat', 'dog'), array([0, 0, 1, 1, 1]))
    """
    files, ids, names = _find_class_files(paths)
    column = parse_column("x", x)
    with closing_files(files):
        found = resolve_columns({"x": column}, files, allow_external=allow_external, reader=reader)[
            "x"
        ]
    warn_of_packing([found])
    y = _ids_of(found.parts, ids, names, "(class)", "the class of the file")
    counts = Counter(names[number] for number in ids)
    words = f"each file is of one class: {', '.join(f'{n} of {c!r}' for c, n in counts.items())}"
    kind = RowKind("classes_from_files", words, dict(counts))
    return Source.from_parts(files, {"x": found, "y": y}, kind)


def _find_class_files(paths: object) -> tuple[tuple[H5File, ...], list[int], list[str]]:
    """Return all files, the class of each, and the names of the classes."""
    is_sound = isinstance(paths, Mapping) and paths and all(isinstance(n, str) for n in paths)
    if not isinstance(paths, Mapping) or not is_sound:
        raise OptionError(
            f"classes_from_files takes a dict of class names and their files, such as "
            f"{{'cat': 'cat/*.h5', 'dog': 'dog/*.h5'}}, not {paths!r}"
        )
    names = sorted(paths)
    files: dict[H5File, int] = {}
    for number, name in enumerate(names):
        for file in find_files(paths[name]):
            if files.setdefault(file, number) != number:
                raise OptionError(
                    f"{file.path!r} is among the files of class {names[files[file]]!r} and of "
                    f"{name!r}; a file is of one class: narrow the patterns"
                )
    return tuple(files), list(files.values()), names


def _ids_of(
    parts: Sequence[AbstractReader], ids: Sequence[int], names: Sequence[str], path: str, why: str
) -> ResolvedColumn:
    """Return the column of class ids of parts that are of one class each."""
    readers = tuple(
        ConstantReader(np.array(number, np.int64), part.num_rows)
        for number, part in zip(ids, parts, strict=True)
    )
    kind = np.dtype(np.int64)
    return ResolvedColumn(Column(path), readers, (), kind, None, tuple(names), why)


def _find_classes(file: H5File, group: str, *, allow_external: bool) -> tuple[list[str], bool]:
    """Return the paths of the classes, and whether they are groups."""
    inside = group.strip("/")
    with file.open() as handle:
        try:
            where = find_object(handle, group, allow_external=allow_external)
        except UnknownColumnError:
            where = None
        found = dict(_members(handle, inside, where, allow_external=allow_external))
    groups = sorted(place for place, one in found.items() if issubclass(one, h5py.Group))
    datasets = sorted(place for place, one in found.items() if issubclass(one, h5py.Dataset))
    if not groups and len(datasets) < 2:
        raise ColumnError(
            f"{group!r} of {file.path!r} holds no groups, so no classes; {what_is_in(file)}"
        )
    return (groups, True) if groups else (datasets, False)


def _members(
    handle: h5py.File, inside: str, where: h5py.HLObject | None, *, allow_external: bool
) -> Iterator[tuple[str, type]]:
    """Yield the path and the kind of each member of a group."""
    for name in where if isinstance(where, h5py.Group) else ():
        place = f"{inside}/{name}".strip("/")
        yield place, type(find_object(handle, place, allow_external=allow_external))


def _find_in_class(file: H5File, name: str, data: str, *, allow_external: bool) -> str:
    with file.open() as handle:
        members = find_object(handle, name, allow_external=allow_external)
        if data in members:
            return f"{name}/{data}"
        found = _members(handle, name, members, allow_external=allow_external)
        inside = [place for place, kind in found if issubclass(kind, h5py.Dataset)]
    if len(inside) != 1:
        named = ", ".join(repr(place.rpartition("/")[2]) for place in inside[:5])
        raise ColumnError(
            f"class group {name!r} of {file.path!r} has no data set {data!r}, and {len(inside)} "
            f"others{f' ({named}); name the one to read with data=' if inside else ''}"
        )
    return inside[0]
