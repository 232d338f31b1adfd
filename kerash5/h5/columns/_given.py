"""What users give as columns: names, `Column`s, or open data sets, whose file is then known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import h5py

from kerash5._errors import OptionError
from kerash5.h5.columns._columns import Column
from kerash5.h5.storage._file import find_files
from kerash5.h5.storage._handles import name_dataset, name_file


def name_columns(path: Any, specs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401  Paths, or None
    """Put names in the place of open data sets, and find their file where no path is given.

    Args:
        path: The files, or None.
        specs: What was given for each column, or for each role a tuple or dict of columns.

    Returns:
        The path, that of a file for its handle, and the columns without open data sets.

    Raises:
        OptionError: A data set cannot be read by its name, or lies in another file than `path` or
            another column.
    """
    if isinstance(path, h5py.File):
        path = name_file(path, "path=")
    found: dict[str, str] = {}
    named = {name: _name(name, spec, found) for name, spec in specs.items()}
    if not found:
        return path, named
    (first, file), *others = found.items()
    for name, other in others:
        if not os.path.samefile(file, other):
            raise OptionError(
                f"{first} is a data set of {file!r} and {name} one of {other!r}; columns lie in "
                "one file: write them into one, or give a list of files that have both"
            )
    if path is None:
        return file, named
    if not any(os.path.samefile(file, one.place) for one in find_files(path)):
        raise OptionError(
            f"{first} is a data set of {file!r}, which is not among the files {path!r}; leave "
            f"them out, or name the data set: {first}={named_in(named, first)!r}"
        )
    return path, named


def named_in(named: Mapping[str, Any], place: str) -> str:
    """Return the path of the column at "x" or "x/0"."""
    found: Any = named
    for key in place.split("/"):
        found = found[int(key)] if isinstance(found, tuple) else found[key]
    return found.path if isinstance(found, Column) else str(found)


def _name(name: str, spec: Any, found: dict[str, str]) -> Any:  # noqa: ANN401  the form of `spec`
    if isinstance(spec, h5py.Dataset):
        found[name], path = name_dataset(spec, f"column {name}=")
        return path
    if isinstance(spec, Column):
        if spec.given_in is not None:
            found[name] = spec.given_in
        return spec
    if isinstance(spec, Mapping) and not isinstance(spec, h5py.Group):
        return {key: _name(f"{name}/{key}", part, found) for key, part in spec.items()}
    if isinstance(spec, tuple | list):
        return tuple(_name(f"{name}/{key}", part, found) for key, part in enumerate(spec))
    return spec


def parse_column(name: str, spec: object) -> Column:
    """Return a column as a `Column`.

    Raises:
        OptionError: It is not valid.
    """
    if isinstance(spec, Column):
        return spec
    if isinstance(spec, str):
        return Column(spec)
    if isinstance(spec, h5py.Group):
        raise OptionError(f"column {name}={spec!r} is a group; name a data set in it")
    raise OptionError(
        f"column {name}={spec!r}; it is a data set's path, an open h5py.Dataset or a Column"
    )
