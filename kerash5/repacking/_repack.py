"""Write a file again: its rows in chunks that are fast to read, all else as it is.

The new file is written to a draft beside it (`kerash5.files.open_resumable`) and takes its name
when all rows have been compared with the source. The same call continues the draft of a process
that was killed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Final, final

import h5py
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import ColumnError, FileError, KerasH5Error, OptionError
from kerash5._version import __version__
from kerash5.files import ResumableFile, open_resumable
from kerash5.h5._inventory import find_groups
from kerash5.h5._write import check_place, check_room
from kerash5.h5.reading._select_reader import explained
from kerash5.h5.storage._file import H5File, StrPath, find_file, open_once
from kerash5.h5.storage._find import list_datasets
from kerash5.h5.storage._layout import load_filters
from kerash5.h5.storage._opening import HDF5_ERRORS
from kerash5.order._permutation import make_key, permutation
from kerash5.repacking._objects import ObjectCopier, describe_rows, is_row_set
from kerash5.repacking._options import Options, parse_options
from kerash5.repacking._rows import RowReader, RowSet, are_equal, write_rows

_ORDER: Final = "row_order"  # the data set that says which row of the source each row was
_COMMIT_SECONDS: Final = 10.0  # of work that a kill may cost
_COMMIT_SHARE: Final = 0.05  # of the time, at most, that commits take
_MAX_DATASETS: Final = 10_000_000
_NOT_SHUFFLED: Final = ("categories", "__categories")  # names of classes, not rows

ShowProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Repacked:
    """What `repack` did.

    Args:
        path: The new file.
        num_bytes: Its size.
        source_bytes: The size of the source.
        num_datasets: Data sets whose rows were written again, and compared.
        shuffled: Those whose rows have a new order.
        notes: What is not as it was in the source, as sentences.
        was_continued: Whether the draft of an earlier call was continued.
    """

    path: str
    num_bytes: int
    source_bytes: int
    num_datasets: int
    shuffled: tuple[str, ...]
    notes: tuple[str, ...]
    was_continued: bool


def repack(
    path: StrPath,
    out: StrPath,
    *,
    shuffle: bool = False,
    seed: int = 0,
    chunks: int | str = "auto",
    compression: str = "gzip",
    paged: bool = False,
    overwrite: bool = False,
    progress: ShowProgress | None = None,
) -> Repacked:
    """Write a file again, so that its rows are fast to read.

    All data sets with an axis of rows get chunks of whole rows. Groups, links, scalars, attributes,
    dimension scales and references are copied; `Repacked.notes` says what could not be. The rows
    are compared with the source before the new file takes its name; until then `out` is as before.
    A call that is killed is continued by the same call, unless the source has changed. Memory is
    bounded, whatever the size of the file.

    Args:
        path: The file.
        out: The file to write; its folder must exist. A draft is written beside it.
        shuffle: Write the rows in one random order: those of all data sets that are as long as the
            largest one. The data set "row_order" has the row of `path` for each row of `out`.
        seed: Seed of that order.
        chunks: Rows of a chunk; "auto" for as many as make about 256 KiB.
        compression: "gzip", "lzf", "none" (contiguous unless `chunks` is given), or with
            hdf5plugin "zstd", "lz4", "blosc" or "bitshuffle".
        paged: Use HDF5's paged file space, which gathers its metadata: for files on object stores.
        overwrite: Replace an existing file.
        progress: Called with the bytes that are done, and all bytes, of writing and comparing.

    Returns:
        What was done.

    Raises:
        FileError: A file cannot be read or written; `out` is unchanged, and what was written is
            kept for the next call.
        OptionError: An option is not valid, or `out` is `path`.

    Examples:
        >>> repack(digits_test(), "digits.h5", chunks=50, compression="lzf").num_datasets
        2
    """
    options = parse_options(
        chunks=chunks, compression=compression, shuffle=shuffle, seed=seed, paged=paged
    )
    file, name = find_file(path), os.fspath(out)
    _check_is_other(name, file)
    check_place(name, overwrite=overwrite)
    return _repack_file(file, name, options, overwrite, progress or (lambda _done, _all: None))


def _check_is_other(name: str, file: H5File) -> None:
    """Raise `OptionError` if the new file is the source, under whatever name."""
    is_same = os.path.exists(name) and os.path.samefile(name, file.place)
    if is_same or os.path.realpath(name) == os.path.realpath(file.place):
        raise OptionError(f"{name!r} is the file to be repacked; choose another path to write to")


def _repack_file(
    file: H5File,
    name: str,
    options: Options,
    overwrite: bool,  # noqa: FBT001
    progress: ShowProgress,
) -> Repacked:
    key = json.dumps([file.place, asdict(file.identity), asdict(options), __version__])
    with _explained(name, file), file.open() as source, open_resumable(name, key) as draft:
        was_continued = draft.note is not None
        with closing(_Job(file, source, draft, options, progress)) as job:
            job.begin()
            job.write()
            job.compare()
        notes = [*_tell_restart(draft, was_continued), *draft.note["notes"]]
        draft.finish(overwrite=overwrite)
    with open_once(name):  # checks that the written file opens
        pass
    return Repacked(
        name,
        os.path.getsize(name),
        file.identity.num_bytes,
        len(job.rows),
        tuple(each.path for each in job.rows if each.is_shuffled),
        tuple(notes),
        was_continued,
    )


def _tell_restart(draft: ResumableFile, was_continued: bool) -> Iterator[str]:  # noqa: FBT001
    if draft.was_other and not was_continued:
        yield (
            "an unfinished draft was not continued, because it was of another state of the source "
            "or of other options"
        )


@contextmanager
def _explained(name: str, file: H5File) -> Iterator[None]:
    """Convert errors of the system and of HDF5 to ours, with the cure."""
    try:
        yield
    except KerasH5Error:
        raise
    except FileExistsError as error:
        raise FileError(
            f"{name!r} exists: it was created while this file was written; pass overwrite=True to "
            "replace it"
        ) from error
    except (KeyError, TypeError, *HDF5_ERRORS) as error:
        file.check_unchanged()
        words = " ".join(str(error).split())
        if isinstance(error, OSError) and error.errno:  # of the system, not of HDF5
            cure = "free space, or see what is wrong with the disk"
        else:
            cure = f"see with kerash5 verify whether {file.path!r} is sound"
        raise FileError(
            f"{name!r} could not be written ({words}); {cure}; the same command goes on where this "
            "one stopped"
        ) from error


@final
class _Job:
    """One repacking, from the draft of an earlier call or from the beginning."""

    def __init__(
        self,
        file: H5File,
        source: h5py.File,
        draft: ResumableFile,
        options: Options,
        progress: ShowProgress,
    ) -> None:
        self._file = file
        self._source = source
        self._draft = draft
        self._options = options
        self._progress = progress
        self.rows, self._order = self._plan()
        self._num_bytes = max(1, sum(each.num_bytes for each in self.rows))
        self._done = 0
        self._seconds = _COMMIT_SECONDS
        self._reader: RowReader | None = None

    def _plan(self) -> tuple[list[RowSet], NDArray[np.int64] | None]:
        """Return what is written again, and the order of shuffled rows."""
        names = list_datasets(self._source, limit=_MAX_DATASETS)
        found = {name: self._source[name] for name in names}
        found = {name: one for name, one in found.items() if is_row_set(one)}
        for name, one in found.items():
            self._check_filters(name, one)
        if self._options.seed is None or not found:
            return [
                describe_rows(one, name, is_shuffled=False) for name, one in found.items()
            ], None
        sparse = [name for name, kind in find_groups(names).items() if kind == "sparse matrix"]
        if sparse:
            raise ColumnError(
                f"the rows of {sparse[0]!r}, a sparse matrix, cannot be put in another order; "
                "leave --shuffle out, because training shuffles rows anyway"
            )
        largest = max(found.values(), key=lambda one: one.nbytes)
        shuffled = {
            name
            for name, one in found.items()
            if len(one) == len(largest) and not _is_list_of_names(name)
        }
        rows = [
            describe_rows(one, name, is_shuffled=name in shuffled) for name, one in found.items()
        ]
        return rows, permutation(len(largest), make_key(self._options.seed))

    def _check_filters(self, name: str, dataset: h5py.Dataset) -> None:
        creation = dataset.id.get_create_plist()
        found = [creation.get_filter(number) for number in range(creation.get_nfilters())]
        if missing := load_filters(
            [(code, text.decode("utf-8", "replace")) for code, _, _, text in found]
        ):
            raise ColumnError(
                f"{name!r} in {self._file.path!r} cannot be read: it is compressed by "
                f"{missing[0].split(';')[0]!r}, which is not installed; pip install "
                "'kerash5[filters]' has the common ones"
            )

    def begin(self) -> None:
        """Create all objects, unless an earlier call has."""
        if self._draft.note is not None:
            return
        if self._options.compression == "none":
            check_room(self._draft.target, self._num_bytes)
        strategy = {"fs_strategy": "page", "fs_page_size": 1 << 16} if self._options.paged else {}
        version = self._source.id.get_create_plist().get_version()[0]
        new_style = {"libver": ("v108", "latest")} if version >= 2 else {}
        tracked = bool(self._source["/"].id.get_create_plist().get_link_creation_order())
        with self._draft.open(**strategy, **new_style, track_order=tracked) as target:
            copier = ObjectCopier(self._source, target, self._options, self._draft.check)
            notes = copier.copy()
            if self._order is not None:
                notes += self._write_order(target)
        self._commit(0, 0, notes)

    def _write_order(self, target: h5py.File) -> list[str]:
        rest = [each.path for each in self.rows if not each.is_shuffled]
        notes = []
        if rest:
            more = f" and {len(rest) - 5} more" if len(rest) > 5 else ""
            notes.append(
                f"{', '.join(rest[:5])}{more}: rows in their order, because they are not as many "
                "as those of the largest data set"
            )
        if _ORDER in target:
            return [
                *notes,
                f"{_ORDER!r} of the source was put in the same order, so that it still names rows "
                "of the file before that",
            ]
        target.create_dataset(_ORDER, data=self._order, track_times=False)
        target[_ORDER].attrs["about"] = "the row of the source that each row was"
        return notes

    def write(self) -> None:
        """Write the rows that the draft lacks, and commit from time to time."""
        while self._draft.note["at"] < len(self.rows):
            note = self._draft.note
            with self._draft.open() as target:
                at, row = self._write_for_a_while(target, note["at"], note["row"])
            self._commit(at, row, note["notes"])

    def _write_for_a_while(self, target: h5py.File, at: int, row: int) -> tuple[int, int]:
        """Write rows until it is time to commit; return the data set and the row to go on at."""
        until = time.monotonic() + self._seconds
        self._done = sum(each.num_bytes for each in self.rows[:at])
        while at < len(self.rows):
            rows = self.rows[at]
            made, reader = target[rows.path], self._open(rows)
            for start, stop in rows.blocks(made.chunks[0] if made.chunks else 1, row):
                with explained(rows.path, self._file):
                    values = reader.read(start, stop)
                write_rows(made, start, values, is_raw=rows.is_raw)
                self._draft.check()
                self._file.check_unchanged()
                self._progress(self._done + stop * rows.row_bytes, 2 * self._num_bytes)
                if time.monotonic() >= until and stop < rows.shape[0]:
                    return at, stop
            at, row, self._done = at + 1, 0, self._done + rows.num_bytes
            if time.monotonic() >= until:
                break
        return at, row

    def _commit(self, at: int, row: int, notes: list[str]) -> None:
        began = time.monotonic()
        self._draft.commit({"at": at, "row": row, "notes": notes})
        took = time.monotonic() - began
        self._seconds = max(_COMMIT_SECONDS, took / _COMMIT_SHARE)

    def compare(self) -> None:
        """Compare all rows of the draft with the source; raise `FileError` if some differ."""
        self._done = self._num_bytes
        with h5py.File(self._draft.path, "r", locking=False) as target:
            for rows in self.rows:
                made, plain = target[rows.path], RowReader(target[rows.path], rows, None, "")
                reader = self._open(rows)
                for start, stop in rows.blocks(made.chunks[0] if made.chunks else 1):
                    same = are_equal(reader.read(start, stop), plain.read(start, stop))
                    if not same.all():
                        raise FileError(
                            f"row {start + int(np.argmin(same))} of {rows.path!r} was not written "
                            "as it is in the source; the disk may be failing: nothing was put in "
                            "place"
                        )
                    self._progress(self._done + stop * rows.row_bytes, 2 * self._num_bytes)
                self._done += rows.num_bytes
        self._file.check_unchanged()

    def _open(self, rows: RowSet) -> RowReader:
        """Return the reader of a column of the source; it stays open until the next one's."""
        if self._reader is None or self._reader.rows != rows:
            self.close()
            folder = os.path.dirname(self._draft.path) or "."
            self._reader = RowReader(self._source[rows.path], rows, self._order, folder)
        return self._reader

    def close(self) -> None:
        """Free what the reader of a column holds."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _is_list_of_names(path: str) -> bool:
    return any(piece in _NOT_SHUFFLED for piece in path.split("/"))
