"""Look at files in a child process first, so that this process survives those that HDF5 does not.

The child opens the columns as a source does; what it finds wrong is left to this process to say.
Only files on which it crashes, hangs or runs out of memory are refused here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from kerash5._errors import KerasH5Error
from kerash5.h5._child import Child, read_options, say
from kerash5.h5._part_groups import resolve_parts
from kerash5.h5.columns._columns import Column
from kerash5.h5.storage._file import H5File, find_file, find_files
from kerash5.h5.storage._opening import HDF5_ERRORS
from kerash5.h5.storage._pool import close_files

_CHILD: Final = "kerash5.h5._look:look_and_report"
# What a child of this process has survived; an `H5File` is one version of a file.
_SEEN: Final[set[tuple[H5File, str, bool]]] = set()


def look_at(files: Iterable[H5File], columns: Iterable[Column], *, allow_external: bool) -> None:
    """Open columns in a child process: one for all files, and none for those it has looked at.

    Text is read there too, for it becomes class ids when a source is made. Starting the child takes
    0.25 s; each file then takes as long as it takes to open.

    Args:
        files: The files.
        columns: What is read of each.
        allow_external: As in `Source`.

    Raises:
        DamagedFileError: HDF5 crashes or hangs on a file.
        FileError: The child ran out of memory.
    """
    columns = list(columns)
    for column in columns:
        if column.file is not None:
            look_at(
                find_files(column.file),
                [replace(column, file=None)],
                allow_external=allow_external,
            )
    columns = [column for column in columns if column.file is None]
    if not columns:
        return
    # Without labels=, shape= and their like: none of them changes what HDF5 is asked for.
    asked = [{"path": column.path, **column.kind_options()} for column in columns]
    key = json.dumps(asked)
    waiting = [file for file in files if (file, key, allow_external) not in _SEEN]
    if not waiting:
        return
    paths = [file.place for file in waiting]
    child = Child(_CHILD, {"paths": paths, "columns": asked, "external": allow_external})
    num_done = 0
    for line in child.lines():
        num_done = line.get("done", num_done)
    _SEEN.update((file, key, allow_external) for file in waiting[:num_done])
    if num_done < len(waiting):
        raise child.error(waiting[num_done].path)


def look_and_report() -> None:
    """In the child: open the columns that stdin names, and say after each file how many it was."""
    options: dict[str, Any] = read_options()
    columns = {str(number): Column(**one) for number, one in enumerate(options["columns"])}
    for number, path in enumerate(options["paths"], 1):
        try:
            resolve_parts(columns, [find_file(path)], allow_external=options["external"])
        except (KerasH5Error, KeyError, TypeError, *HDF5_ERRORS):
            pass  # the parent will meet it, and can raise it
        close_files()
        say(done=number)
    say(end=True)
