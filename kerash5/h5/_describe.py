"""Describe the data sets of a file, and how each is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from kerash5._errors import KerasH5Error, escape_controls
from kerash5.h5._child import Child, read_options, refusal, say, say_refusal
from kerash5.h5._trainable import Candidate, suggest_training
from kerash5.h5.columns._doubts import read_packing
from kerash5.h5.reading._select_reader import open_part
from kerash5.h5.storage._file import H5File, StrPath, find_file, find_files
from kerash5.h5.storage._filters import codec_advice
from kerash5.h5.storage._find import list_datasets
from kerash5.h5.storage._opening import HDF5_ERRORS, words_of

if TYPE_CHECKING:
    from kerash5.h5._row_kind import RowKind
    from kerash5.h5.columns._columns import ResolvedColumn

_CHILD: Final = "kerash5.h5._describe:describe_and_report"
_MAX_FAILURES: Final = 8  # of HDF5 on one file, each of which costs another child


def describe(path: StrPath) -> str:
    """Describe the data sets of a file, or of the files of a glob pattern.

    The first lines say which data sets look like inputs and targets, and the command that trains
    on them: a suggestion by names, shapes and types. Then every data set has its shape, its type,
    how it is stored and how it is read. The files are read in a child process, because HDF5 crashes
    or hangs on some damaged ones; starting it takes 0.25 s, whatever the number of files.

    Args:
        path: A file, or a glob pattern.

    Returns:
        Some lines of text.

    Raises:
        FileError: A file is missing, damaged or not an HDF5 file.

    Examples:
        >>> print(describe(digits_train()).splitlines()[3])
          image: 5000 rows of (28, 28) uint8, chunks (500, 28, 28), gzip
    """
    files = find_files(path)
    texts: list[str] = []
    failures: dict[str, str] = {}  # of the file that is described, by the name of what failed
    while len(texts) < len(files):
        file = files[len(texts)]
        paths = [other.path for other in files[len(texts) :]]
        child = Child(_CHILD, {"paths": paths, "failures": failures})
        begun = ""
        for line in child.lines():
            if "refused" in line:
                raise refusal(line)
            begun = line.get("begin", begun)
            if "text" in line:
                texts.append(line["text"])
                begun, failures = "", {}
        if len(texts) < len(files):
            if not begun or len(failures) == _MAX_FAILURES:
                raise child.error(file.path)
            failures[begun] = child.why_dead()
    return "\n".join(texts)


def describe_and_report() -> None:
    """In the child: describe the files that stdin names, and say so on stdout."""
    options = read_options()
    for number, path in enumerate(options["paths"]):
        try:
            say(text=_describe_file(find_file(path), options["failures"] if number == 0 else {}))
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


def _describe_file(file: H5File, failures: Mapping[str, str]) -> str:
    say(begin="")
    with file.open() as handle:
        names = list_datasets(handle)
    file_name = os.path.basename(file.path)
    head = f"{file_name}: {len(names)} data sets, {file.identity.num_bytes / 1e6:.1f} MB"
    lines: list[str] = []
    candidates: list[Candidate] = []
    for name in names:
        say(begin=name)
        failure = failures.get(name)
        lines += [f"  {name}: {failure}"] if failure else _describe_dataset(file, name, candidates)
    lines = [head, *suggest_training(file_name, candidates), *lines]
    lines += _describe_attributes(file, failures)
    # Each line is one of ours: what a file calls its data sets must not look like another.
    return "\n".join(map(escape_controls, lines))


def _describe_dataset(file: H5File, name: str, candidates: list[Candidate]) -> list[str]:
    """Return lines about a data set, and add it to what a model could be trained on."""
    try:
        layout, reader = open_part(name, file)
        packing = read_packing(file, name, allow_external=False)
    except KerasH5Error as error:
        return [f"  {name}: {error}"]
    candidates.append(Candidate(name, layout.num_rows, layout.row_shape, layout.dtype))
    ratio = layout.num_rows * layout.row_bytes / max(1, layout.num_stored_bytes)
    packed = f", packed {ratio:.1f} times" if layout.filters and layout.num_stored_bytes else ""
    shape = f"{layout.row_shape} " if layout.row_shape else ""  # one number a row has none
    return [
        f"  {name}: {layout.num_rows} rows of {shape}{layout.dtype}, {layout.describe()}{packed}",
        f"    read {reader.describe()}",
        *([f"    as stored; its attributes say {packing}"] if packing else []),
        *([f"    {advice}"] if (advice := codec_advice(layout.filters)) else []),
    ]


def _describe_attributes(file: H5File, failures: Mapping[str, str]) -> Iterator[str]:
    say(begin="@")
    with file.open() as handle:
        try:
            names = [] if "@" in failures else list(handle.attrs)
        except (*HDF5_ERRORS, KeyError) as error:
            yield f"  attributes cannot be listed ({words_of(error)})"
            return
        if "@" in failures:
            yield f"  attributes cannot be listed ({failures['@']})"
        for name in names:
            say(begin=f"@{name}")
            try:
                failure = failures.get(f"@{name}")
                value = failure or _shorten(str(handle.attrs[name]))
                yield f"  @{name}: {value}"
            except (KeyError, TypeError, *HDF5_ERRORS) as error:
                yield f"  @{name}: cannot be read ({words_of(error)})"


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:97] + "..."
