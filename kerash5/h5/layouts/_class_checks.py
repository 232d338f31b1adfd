"""Groups that may each be one row, and not a class: refused where it is clear, else warned of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import h5py

from kerash5._errors import ColumnError
from kerash5._warnings import warn
from kerash5.h5.columns._columns import ResolvedColumn
from kerash5.h5.columns._doubts import MIN_PARTS, find_square
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._find import find_object

_LABELS: Final = frozenset({"label", "labels", "class", "target", "y"})


def check_classes(
    file: H5File, paths: Sequence[str], x: ResolvedColumn, data: str, *, allow_external: bool
) -> None:
    """Raise for groups that are one row each, and warn of those that may be.

    Args:
        file: The file.
        paths: Paths of the groups, or of the data sets that are the classes.
        x: The rows in them, a part for each.
        data: The data set in a group; "" where the data sets are the classes.
        allow_external: As in `Source`.

    Raises:
        ColumnError: They hold a label beside the data, or are numbered and have the shape of one
            row each.
    """
    count, what = len(paths), "groups" if data else "data sets"
    folder = paths[0].rpartition("/")[0]
    pattern = "/".join(filter(None, [folder, "{row}", data]))
    with file.open() as handle:
        labels = [
            _label_in(find_object(handle, place, allow_external=allow_external))
            for place in paths[:MIN_PARTS]
        ]
    if all(labels):
        y = f"{pattern.removesuffix(data).removesuffix('/')}{labels[0]}"
        raise ColumnError(
            f"the {what} of {file.path!r}, such as {paths[0]!r}, have a {labels[0]!r} of their "
            f"own, so each of the {count} is a row and no class; use k5.rows_from_groups("
            f"{file.path!r}, x={pattern!r}, y={y!r})"
        )
    lengths = {part.num_rows for part in x.parts}
    if count < MIN_PARTS or len(lengths) > 1:
        return
    (length,) = lengths
    names = {place.rpartition("/")[2] for place in paths}
    is_numbered = names == {str(number) for number in range(count)}
    told = f"{count} {what} of {length} rows of shape {x.shape} each in {file.path!r}"
    cure = f"k5.rows_from_groups({file.path!r}, x={pattern!r})"
    one = f"one row of shape {(length, *x.shape)}"
    is_square = find_square(x) is not None
    if is_numbered and (is_square or length == 1):
        raise ColumnError(
            f"{told} are numbered from 0, so each seems to be {one} and no class; use {cure}, or "
            "give the classes names"
        )
    if is_square or (is_numbered and count > length):
        warn(f"{told} are read as {count} classes; if each is {one}, use {cure}")


def _label_in(found: h5py.HLObject) -> str | None:
    """Return where a label lies that an object has for all of it: "@label", or "/label"."""
    for name in found.attrs:
        if name.lower() in _LABELS:
            return f"@{name}"
    for name in _names(found):
        one = found[name] if found.get(name, getclass=True) is h5py.Dataset else None
        if one is not None and name.lower() in _LABELS and one.size == 1:
            return f"/{name}"
    return None


def _names(found: h5py.HLObject) -> Iterable[str]:
    return list(found) if isinstance(found, h5py.Group) else ()
