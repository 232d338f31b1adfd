"""Check that all of a file can be read, in a separate process.

HDF5 itself crashes or hangs on some damaged files, and fills memory on others. So a child reads,
with limits, and says what it begins and what it has done; when it dies, the data set it was at is
to blame, and another child goes on with the next. What the child does: see `read_and_report`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np

from kerash5._display import Text
from kerash5._errors import (
    ColumnError,
    DamagedFileError,
    FileMissingError,
    KerasH5Error,
    OptionError,
    explain_system_error,
)
from kerash5.h5._child import (
    MEMORY_BYTES,
    SECONDS,
    Child,
    read_options,
    refusal,
    say,
    say_refusal,
)
from kerash5.h5.reading._select_reader import open_part
from kerash5.h5.storage._file import H5File, StrPath, find_file, find_files
from kerash5.h5.storage._find import find_dataset, list_datasets
from kerash5.h5.storage._opening import HDF5_ERRORS

State = Literal["sound", "damaged", "not read"]

_BLOCK_BYTES: Final = 16 << 20  # read at a time; each is a sign of life
_NO_CONVERSION: Final = "no appropriate function for conversion path"
_CHILD: Final = "kerash5.h5._verify:read_and_report"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of reading one data set.

    Args:
        path: The data set; "" for the file as a whole.
        state: "sound" where every byte was read and decoded; "not read" where that was not tried.
        reason: Why it is not sound or was not read, as text.
    """

    path: str
    state: State
    reason: str = ""


@final
class Verdicts(tuple[Verdict, ...]):
    """The results for all data sets, in the file's order; a line each in a console."""

    __slots__ = ()

    @property
    def is_sound(self) -> bool:
        """Whether every data set is sound."""
        return all(each.state == "sound" for each in self)

    def __repr__(self) -> str:
        """Return a line for each data set that is not sound, and the number of sound ones."""
        bad = [each for each in self if each.state != "sound"]
        lines = [f"{each.path or 'the file'}: {each.state}: {each.reason}" for each in bad]
        return Text("\n".join([f"{len(self) - len(bad)} of {len(self)} data sets sound", *lines]))

    def _repr_html_(self) -> str:
        return Text(repr(self))._repr_html_()


def verify(
    path: StrPath,
    *,
    allow_external: bool = False,
    most_seconds: float = SECONDS,
    most_memory: int = MEMORY_BYTES,
) -> Verdicts:
    """Read every data set of a file, or of the files of a glob, and say which are sound.

    Checksums are compared where there are some, and what h5py would pass off as data (chunks cut
    short, parts that are missing) counts as damage.

    Args:
        path: A file, or a glob pattern.
        allow_external: Read what lies outside the file's folder, too.
        most_seconds: How long the child may be silent before it counts as hung.
        most_memory: Bytes of addresses that the child may use; no limit where the system knows
            none.

    Returns:
        A verdict for each data set, in the file's order.

    Raises:
        FileError: A file is missing or not an HDF5 file.
        OptionError: A limit is not valid.
    """
    return Verdicts(
        verify_each(
            path,
            allow_external=allow_external,
            most_seconds=most_seconds,
            most_memory=most_memory,
        )
    )


def verify_each(
    path: StrPath,
    *,
    allow_external: bool = False,
    most_seconds: float = SECONDS,
    most_memory: int = MEMORY_BYTES,
) -> Iterator[Verdict]:
    """Yield the verdicts of `verify` as they come."""
    if not most_seconds > 0 or most_memory < 1 << 28:
        raise OptionError(
            f"most_seconds={most_seconds!r}, most_memory={most_memory!r}; give more than no "
            "seconds, and at least 256 MiB"
        )
    for file in find_files(path):  # which opens none
        options = {"path": file.path, "external": allow_external, "memory": most_memory}
        yield from _verify_file(options, most_seconds)


def _verify_file(options: dict[str, Any], most_seconds: float) -> Iterator[Verdict]:
    """Start children until one reaches the end of the file."""
    done: list[str] = []
    while True:
        child = Child(_CHILD, {**options, "done": done}, most_seconds)
        begun = ""
        for line in child.lines():
            if "begin" in line:
                begun = line["begin"]
            elif "refused" in line:
                raise refusal(line)
            elif "state" in line:
                done.append(begun)
                yield Verdict(begun, line["state"], line["reason"])
                begun = ""
        if child.has_finished:
            return
        yield Verdict(begun, "not read" if child.was_killed else "damaged", child.why_dead())
        if not begun:  # it died between data sets: another would die there, too
            return
        done.append(begun)


def read_and_report() -> None:
    """In the child: read the file that stdin names, and say on stdout what comes of it."""
    options = read_options()
    done = set(options["done"])
    try:
        file = find_file(options["path"])
        with file.open() as handle:
            names = list_datasets(handle)
    except DamagedFileError as error:
        say(state="damaged", reason=str(error))
    except KerasH5Error as error:  # locked, or no HDF5 file at all: the parent's to say
        say_refusal(error)
    else:
        for name in (name for name in names if name not in done):
            say(begin=name)
            say(**_read_dataset(file, name, allow_external=options["external"]))
    say(end=True)


def _read_dataset(file: H5File, name: str, *, allow_external: bool) -> dict[str, str]:
    try:
        _read_all(file, name, allow_external=allow_external)
    except (DamagedFileError, FileMissingError) as error:
        return {"state": "damaged", "reason": str(error)}
    except KerasH5Error as error:
        return {"state": "not read", "reason": str(error)}
    except (KeyError, TypeError, *HDF5_ERRORS) as error:
        if _NO_CONVERSION in str(error):
            return {"state": "not read", "reason": f"h5py cannot read its type ({error})"}
        if refused := explain_system_error(error, repr(name)):
            return {"state": "not read", "reason": str(refused)}
        return {"state": "damaged", "reason": f"h5py says: {error}"}
    return {"state": "sound", "reason": ""}


def _read_all(file: H5File, name: str, *, allow_external: bool) -> None:
    try:
        layout, reader = open_part(name, file, allow_external=allow_external)
    except ColumnError:  # a scalar, text of any length, references: no column, but data
        _read_plainly(file, name, allow_external=allow_external)
        return
    rows = max(1, _BLOCK_BYTES // max(1, layout.row_bytes))
    step = max(1, rows // layout.chunk_rows) * layout.chunk_rows
    for start in range(0, layout.num_rows, step):
        stop = min(start + step, layout.num_rows)
        reader.read_range(start, stop, np.empty((stop - start, *layout.row_shape), layout.dtype))
        say(alive=True)


def _read_plainly(file: H5File, name: str, *, allow_external: bool) -> None:
    """Read a data set that cannot be a column with h5py, a few rows at a time."""
    with file.open() as handle:
        dataset = find_dataset(handle, name, allow_external=allow_external).dataset
        if dataset.shape is None:
            return
        if not dataset.shape:
            dataset[()]
            return
        step = max(1, _BLOCK_BYTES // max(1, int(np.prod(dataset.shape[1:])) * 16))
        for start in range(0, dataset.shape[0], step):
            dataset[start : start + step]
            say(alive=True)
