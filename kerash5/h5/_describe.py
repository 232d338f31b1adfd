"""Describe the data sets of a file, and how each is read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kerash5._display import Text
from kerash5._errors import KerasH5Error, escape_controls
from kerash5.h5._child import Child, read_options, refusal, say, say_refusal
from kerash5.h5._inventory import (
    Entry,
    describe_value,
    find_groups,
    parse_entry,
    read_entry,
    read_group,
)
from kerash5.h5._inventory_text import count_of, describe_entries, size_of
from kerash5.h5._trainable import Candidate, suggest_training
from kerash5.h5.columns._class_ids import count_one_hot
from kerash5.h5.reading._select_reader import open_part
from kerash5.h5.storage._file import H5File, StrPath, find_file, find_files
from kerash5.h5.storage._find import list_datasets
from kerash5.h5.storage._opening import HDF5_ERRORS, words_of

if TYPE_CHECKING:
    from kerash5.h5._row_kind import RowKind
    from kerash5.h5.columns._columns import ResolvedColumn

_CHILD: Final = "kerash5.h5._describe:describe_and_report"
_MAX_DATASETS: Final = 10_000  # that are described
_MAX_FAILURES: Final = 8  # of HDF5 on one file, each of which costs another child


def describe(path: StrPath, *, as_json: bool = False) -> str:
    """Describe the data sets of a file, or of the files of a glob pattern.

    The first lines say which data sets look like inputs and targets, and the command that trains
    on them: a suggestion by names, shapes and types. Then every data set has its shape, its type
    and how it is stored, and how they are read. Data sets whose names differ in numbers only, such
    as those of sample_0 to sample_999, share a line. The files are read in a child process, because
    HDF5 crashes or hangs on some damaged ones; starting it takes 0.25 s, whatever the number of
    files.

    Args:
        path: A file, or a glob pattern.
        as_json: Return the same facts as JSON, with every data set by itself. The keys are listed
            in docs/guides/files.md.

    Returns:
        Some lines of text, or JSON.

    Raises:
        FileError: A file is missing, damaged or not an HDF5 file.

    Examples:
        >>> print(describe(digits_train()).splitlines()[3])
          image: 5000 rows of (28, 28) uint8, chunks (500, 28, 28), gzip, packed 6.6 times
    """
    found = _read_files(path)
    if as_json:
        return json.dumps({"files": found}, indent=2)
    return Text("\n".join(line for each in found for line in _describe_file(each)))


def _read_files(path: StrPath) -> list[dict[str, Any]]:
    """Return the facts about files, read in child processes."""
    files = find_files(path)
    found: list[dict[str, Any]] = []
    failures: dict[str, str] = {}  # of the file that is described, by the name of what failed
    while len(found) < len(files):
        file = files[len(found)]
        paths = [other.path for other in files[len(found) :]]
        child = Child(_CHILD, {"paths": paths, "failures": failures})
        begun = ""
        for line in child.lines():
            if "refused" in line:
                raise refusal(line)
            begun = line.get("begin", begun)
            if "facts" in line:
                found.append(line["facts"])
                begun, failures = "", {}
        if len(found) < len(files):
            if not begun or len(failures) == _MAX_FAILURES:
                raise child.error(file.path)
            failures[begun] = child.why_dead()
    return found


def describe_and_report() -> None:
    """In the child: read the facts about the files that stdin names, and say them on stdout."""
    options = read_options()
    for number, path in enumerate(options["paths"]):
        try:
            say(facts=_read_file(find_file(path), options["failures"] if number == 0 else {}))
        except KerasH5Error as error:
            say_refusal(error)
            return
    say(end=True)


def describe_columns(
    files: Sequence[H5File], columns: Mapping[str, ResolvedColumn], kind: RowKind | None = None
) -> str:
    """Describe the columns of a source: what they are, how they are stored, how they are read."""
    num_rows = sum(part.num_rows for part in next(iter(columns.values())).parts)
    size = sum(file.identity.num_bytes for file in files)
    count = f"{len(files)} file{'s' * (len(files) > 1)}"
    lines = [f"{num_rows} rows in {count} ({size / 1e6:.1f} MB on disk)"]
    if kind is not None:
        lines.append(f"  {kind.words}")
    for name, column in columns.items():
        lines += _describe_column(name, column)
    return "\n".join(map(escape_controls, lines))  # as in `_describe_file`


def _describe_column(name: str, column: ResolvedColumn) -> Iterator[str]:
    rows = f"rows {column.shape} {column.dtype}"
    yield f"  {name}: {column.column.path!r}, {rows}, {column.storage}"
    if column.beside:
        more = f" and {len(column.beside) - 1} more" if len(column.beside) > 1 else ""
        yield f"    of {column.beside[0].path!r}{more}"
    yield f"    read {column.parts[0].describe()}"
    if column.packing:
        yield f"    as stored, though its attributes say {column.packing}"
    if column.class_names is not None:
        names = ", ".join(column.class_names[:8]) + (" ..." if len(column.class_names) > 8 else "")
        yield f"    {len(column.class_names)} classes: {names}"


def _read_file(file: H5File, failures: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts about a file: the values of `describe --json`."""
    say(begin="")
    with file.open() as handle:
        names = list_datasets(handle, limit=_MAX_DATASETS)
    entries, candidates = _read_entries(file, names, failures)
    scalars = [entry.path for entry in entries if entry.kind == "scalar"]
    suggestion = suggest_training(file.path, candidates, scalars)
    return {
        "path": file.path,
        "num_bytes": file.identity.num_bytes,
        "can_be_trained_on": None if suggestion is None else asdict(suggestion),
        "data_sets": [asdict(entry) for entry in entries],
        "attributes": dict(_read_attributes(file, failures)),
    }


def _read_entries(
    file: H5File, names: list[str], failures: Mapping[str, str]
) -> tuple[list[Entry], list[Candidate]]:
    """Return the facts about the data sets, and what a model could be trained on."""
    entries: list[Entry] = []
    candidates: list[Candidate] = []
    groups = find_groups(names)
    members: set[str] = set()  # of groups that are columns, and so are no columns themselves
    for name in names:
        folder = name.rpartition("/")[0]
        if folder in groups and name not in members:
            say(begin=f"{folder}/")
            kind = groups.pop(folder)
            group = None if f"{folder}/" in failures else read_group(file, folder, kind)
            if group is not None:
                _add(file, *group, entries, candidates)
                members.update(f"{folder}/{member}" for member in group[0].members)
        say(begin=name)
        if failure := failures.get(name):
            entries.append(Entry(name, "not readable", reason=failure))
        else:
            others = [] if name in members else candidates
            _add(file, *read_entry(file, name), entries, others)
    return entries, candidates


def _add(
    file: H5File,
    entry: Entry,
    dtype: np.dtype | None,
    entries: list[Entry],
    candidates: list[Candidate],
) -> None:
    entries.append(entry)
    if dtype is not None and entry.num_rows is not None and entry.row_shape is not None:
        named = entry.class_names is not None
        one_hot = _count_one_hot(file, entry) if len(entry.row_shape) == 1 else 0
        shape = entry.row_shape
        candidates.append(Candidate(entry.path, entry.num_rows, shape, dtype, named, one_hot))


def _describe_file(facts: Mapping[str, Any]) -> list[str]:
    """Return the lines about a file, of the facts that the child has sent."""
    entries = [parse_entry(each) for each in facts["data_sets"]]
    inside = {f"{each.path}/{member}" for each in entries for member in each.members}
    name = os.path.basename(facts["path"])
    first = "the first " if len(entries) >= _MAX_DATASETS else ""
    count = count_of(sum(not each.members for each in entries), "data set")
    lines = [f"{name}: {first}{count}, {size_of(facts['num_bytes'])}"]
    if suggestion := facts["can_be_trained_on"]:
        lines += [
            f"  can be trained on: {suggestion['text']}",
            f"    {suggestion['command'] or suggestion['python']}",
        ]
    lines += describe_entries([each for each in entries if each.path not in inside])
    lines += [f"  @{key}: {value}" for key, value in facts["attributes"].items()]
    # Each line is one of ours: what a file calls its data sets must not look like another.
    return list(map(escape_controls, lines))


def _count_one_hot(file: H5File, entry: Entry) -> int:
    """Return how many of the first rows are one-hot, if all that are looked at are; else 0."""
    try:
        return count_one_hot(open_part(entry.path, file)[1])
    except (KerasH5Error, OSError):  # a group, or damaged rows, which are found by `verify`
        return 0


def _read_attributes(file: H5File, failures: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the attributes of the file and their values as text."""
    say(begin="@")
    with file.open() as handle:
        try:
            names = [] if "@" in failures else list(handle.attrs)
        except (*HDF5_ERRORS, KeyError) as error:
            yield "", f"attributes cannot be listed ({words_of(error)})"
            return
        if "@" in failures:
            yield "", f"attributes cannot be listed ({failures['@']})"
        for name in names:
            say(begin=f"@{name}")
            try:
                yield name, failures.get(f"@{name}") or describe_value(handle.attrs[name])
            except (KeyError, TypeError, *HDF5_ERRORS) as error:
                yield name, f"cannot be read ({words_of(error)})"
