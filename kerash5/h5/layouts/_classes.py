"""Files that keep each class in a group of its own, as one source: the group's name is the label.

Nothing is copied: the groups are parts of the source, one after another. See `_source`.
"""

from __future__ import annotations

import h5py
import numpy as np

from kerash5._errors import ColumnError, OptionError, UnknownColumnError
from kerash5.h5._source import Source
from kerash5.h5.columns._columns import Column, ResolvedColumn, assemble_column
from kerash5.h5.columns._doubts import check_class_groups
from kerash5.h5.reading._readers import AbstractReader, ConstantReader
from kerash5.h5.reading._select_reader import open_part
from kerash5.h5.storage._file import H5File, StrPath, find_files
from kerash5.h5.storage._find import find_object, what_is_in
from kerash5.h5.storage._layout import Layout


def classes_from_groups(
    path: StrPath, data: str = "image", *, group: str = "/", allow_external: bool = False
) -> Source:
    """Make a source of a file that keeps each class in a group of its own. Nothing is copied.

    Args:
        path: The file.
        data: The data set in each class's group, as in /cat/image and /dog/image. A group that
            holds one data set only may call it anything.
        group: The group whose groups are the classes.
        allow_external: As in `Source`.

    Returns:
        A source with the columns "x" (the rows of all classes, one class after another, in the
        sorted order of their names) and "y" (int64 class ids), and with `class_names`.

    Raises:
        ColumnError: There are no groups, one has no such data set, classes differ in row shape or
            type, or groups have a label of their own, so that each is a sample.
    """
    files = find_files(path)
    if len(files) > 1:
        raise OptionError(f"classes_from_groups takes one file, and {path!r} are {len(files)}")
    file = files[0]
    names = _class_names(file, group, allow_external=allow_external)
    parts: list[AbstractReader] = []
    layouts: list[Layout] = []
    groups = [f"{group.strip('/')}/{name}".strip("/") for name in names]
    for name, class_group in zip(names, groups, strict=True):
        place = _find_in_class(file, class_group, data, allow_external=allow_external)
        layout, reader = open_part(place, file, allow_external=allow_external)
        parts.append(reader)
        layouts.append(layout)
        if (layout.row_shape, layout.dtype) != (layouts[0].row_shape, layouts[0].dtype):
            raise ColumnError(
                f"classes of {file.path!r} differ: rows of shape {layouts[0].row_shape} "
                f"{layouts[0].dtype} in {names[0]!r}, "
                f"of shape {layout.row_shape} {layout.dtype} in {name!r}; write them alike"
            )
    ids = [
        ConstantReader(np.array(number, np.int64), part.num_rows)
        for number, part in enumerate(parts)
    ]
    x = assemble_column(Column(f"*/{data}"), tuple(parts), layouts[0].describe())
    check_class_groups(file, groups, x, allow_external=allow_external)
    y = ResolvedColumn(
        Column("(group)"),
        tuple(ids),
        (),
        np.dtype(np.int64),
        None,
        tuple(names),
        "the group's name",
    )
    return Source.from_parts((file,), {"x": x, "y": y})


def _class_names(file: H5File, group: str, *, allow_external: bool) -> list[str]:
    with file.open() as handle:
        try:
            where = find_object(handle, group, allow_external=allow_external)
        except UnknownColumnError:
            where = None
        names = sorted(
            name
            for name in (where if isinstance(where, h5py.Group) else ())
            if isinstance(
                find_object(handle, f"{group}/{name}", allow_external=allow_external), h5py.Group
            )
        )
    if not names:
        raise ColumnError(
            f"{group!r} of {file.path!r} holds no groups, so no classes; {what_is_in(file)}"
        )
    return names


def _find_in_class(file: H5File, name: str, data: str, *, allow_external: bool) -> str:
    with file.open() as handle:
        members = find_object(handle, name, allow_external=allow_external)
        if data in members:
            return f"{name}/{data}"
        inside = [
            member
            for member in members
            if isinstance(
                find_object(handle, f"{name}/{member}", allow_external=allow_external),
                h5py.Dataset,
            )
        ]
    if len(inside) != 1:
        raise ColumnError(
            f"class group {name!r} of {file.path!r} has no data set {data!r}, and {len(inside)} "
            "others"
            + (
                f" ({', '.join(map(repr, inside[:5]))}); name the one to read with data="
                if inside
                else ""
            )
        )
    return f"{name}/{inside[0]}"
