"""A source: named columns of one or many HDF5 files, aligned on axis 0. Row numbers in, arrays out.

A source has no order, no batches and no randomness: see `order` and `batches`. It pickles, and
opens its files in the process that reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerash5._display import Described, Text
from kerash5._errors import ColumnError, OptionError
from kerash5.h5._describe import describe_columns
from kerash5.h5._look import look_at
from kerash5.h5._part_groups import resolve_parts
from kerash5.h5._row_kind import RowKind
from kerash5.h5._row_numbers import parse_rows
from kerash5.h5.columns._columns import Column, ResolvedColumn
from kerash5.h5.columns._doubts import warn_of_packing, warn_of_samples
from kerash5.h5.columns._given import name_columns, parse_column
from kerash5.h5.columns._together import allocate, check_lengths, load_rows, load_runs
from kerash5.h5.reading._buffers import empty
from kerash5.h5.reading._runs import Runs
from kerash5.h5.reading._select_reader import READERS, Reader
from kerash5.h5.storage._file import H5File, StrPath, find_files
from kerash5.h5.storage._find import what_is_in
from kerash5.h5.storage._parts import Parts
from kerash5.h5.storage._pool import close_files, close_with, closing_files


@final
class Source(Described):
    """Columns of HDF5 files, read by row number.

    For users are `len(source)`, `read`, `select`, `columns`, `paths`, `class_names`, `describe` and
    `close`. The other methods are for kerash5's own code and may change.

    Args:
        path: One file, a glob pattern, or a list of either. Many files are read as one,
            concatenated on axis 0 in the sorted order of their paths. May be left out where the
            columns are open data sets.
        allow_external: Let links, virtual data sets and raw files point outside the folder of a
            file.
        reader: "auto" reads straight from the file where that is safe; "h5py" reads everything
            through h5py; "direct" reads chunks through h5py without using file offsets, for
            diagnosis.
        untrusted: Open the files in a child process first, so that one on which HDF5 crashes, hangs
            or fills memory is an error instead of the end of this process. It takes 0.25 s, and for
            each file as long as opening it takes. Without, files are trusted.
        **columns: The name of each column, and where it lies: a data set's path, an open
            `h5py.Dataset` of a file opened with mode "r", or a `Column`. With {part} in the path of
            each column, as in "fold{part}/x", the groups of a file that fit are read as one, in
            natural order (fold2 before fold10).

    Raises:
        FileError: A file is missing, damaged or not an HDF5 file.
        ColumnError: A data set is missing or differs between files, or columns have different
            lengths.
        ExternalDataError: Data lie outside the folder, and `allow_external` is False.

    Examples:
        >>> source = Source(digits_train(), image="image", label="label")
        >>> len(source), source.read([7, 0, 7])["label"].shape
        (5000, (3,))
    """

    def __init__(
        self,
        path: StrPath | Sequence[StrPath] | None = None,
        *,
        allow_external: bool = False,
        reader: Reader = "auto",
        untrusted: bool = False,
        **columns: str | Column,
    ) -> None:
        if reader not in READERS:
            raise OptionError(f"reader={reader!r}; choose 'auto', 'direct' or 'h5py'")
        path, named = name_columns(path, columns)
        files = find_files(path)
        if not columns:
            raise ColumnError(
                f"a source needs at least one column, such as x='image'; {what_is_in(files[0])}"
            )
        specs = {name: parse_column(name, spec) for name, spec in named.items()}
        if untrusted:
            look_at(files, specs.values(), allow_external=allow_external)
        # A handle that stays open forbids this process to write the file again, and only some
        # readers need one: they open it when they read.
        with closing_files(files):
            found = resolve_parts(specs, files, allow_external=allow_external, reader=reader)
            self._setup(found.files, found.columns, found.kind)
        warn_of_packing(found.columns.values())
        warn_of_samples(files, found.columns)

    def _setup(
        self,
        files: tuple[H5File, ...],
        columns: dict[str, ResolvedColumn],
        kind: RowKind | None = None,
    ) -> None:
        first, *others = columns.values()
        if len(files) == 1:
            files *= len(first.parts)
        self._part_files = files  # one for each part
        self._files = tuple(dict.fromkeys(files))
        self._columns = columns
        self._kind = kind
        for column in others:
            check_lengths(files, first, column)
        lengths = [part.num_rows for part in first.parts]
        behind = [self._find_files_behind(part) for part in range(len(lengths))]
        self._parts = Parts(lengths, behind)
        if len(self) == 0:
            raise ColumnError(
                f"column {first.column.path!r} of {files[0].path!r} has no rows; "
                "there is nothing to read"
            )
        close_with(self, self._parts.all_files)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Use the files of this process."""
        self.__dict__.update(state)
        close_with(self, self._parts.all_files)

    def close(self) -> None:
        """Close the HDF5 handles of its files in this process, so that it can write them again.

        They close by themselves when the last source of a file is gone, and open again when the
        source is read. Other sources of these files are not disturbed.
        """
        close_files(self._parts.all_files)

    def __enter__(self) -> Source:
        """Return the source; `with` closes its files at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def from_parts(
        cls,
        files: tuple[H5File, ...],
        columns: dict[str, ResolvedColumn],
        kind: RowKind | None = None,
    ) -> Source:
        """Make a source of columns that are resolved already.

        Args:
            files: The file of each part; or one that holds all parts.
            columns: The columns by name.
            kind: What a row is, where it is not an entry of axis 0.
        """
        source = cls.__new__(cls)
        cls._setup(source, files, columns, kind)
        return source

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._parts.num_rows

    def __repr__(self) -> str:
        columns = ", ".join(
            f"{name}={column.column.path!r}" for name, column in self._columns.items()
        )
        more = f" and {len(self._files) - 1} more" if len(self._files) > 1 else ""
        return f"Source({self._files[0].path!r}{more}, {columns}, {len(self)} rows)"

    @property
    def columns(self) -> Mapping[str, ResolvedColumn]:
        """The columns by name."""
        return self._columns

    @property
    def paths(self) -> tuple[str, ...]:
        """The files read, in the order of their rows."""
        return tuple(file.path for file in self._files)

    @property
    def part_starts(self) -> NDArray[np.int64]:
        """The first row of each part (a file, or a group of one), and the number of rows.

        Shape (num_parts + 1,).
        """
        return self._parts.starts

    @property
    def part_paths(self) -> tuple[str, ...]:
        """The file of each part."""
        return tuple(file.path for file in self._part_files)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names behind the class ids of column "y" (or of the only column that has names)."""
        named = {
            name: c.class_names for name, c in self._columns.items() if c.class_names is not None
        }
        return named.get("y") or (next(iter(named.values())) if len(named) == 1 else None)

    def select(self, **columns: str) -> Source:
        """Return a source of some of these columns under other names.

        Args:
            **columns: The new name, and the name it has here.

        Raises:
            ColumnError: There is no such column here.
        """
        if not columns:
            raise ColumnError(f"a source needs at least one column; {self!r} has all it could")
        for name in columns.values():
            if name not in self._columns:
                raise ColumnError(
                    f"no column {name!r} in {self!r}; it has {', '.join(map(repr, self._columns))}"
                )
        return self.with_columns({new: self._columns[old] for new, old in columns.items()})

    def with_columns(self, columns: dict[str, ResolvedColumn]) -> Source:
        """Return a source of these columns of the same files."""
        return Source.from_parts(self._part_files, columns, self._kind)

    def read(self, rows: ArrayLike) -> dict[str, np.ndarray]:
        """Read the given rows of every column, in the requested order.

        Args:
            rows: Row numbers, shape (n,), any order, repeats allowed.

        Returns:
            One array per column, shape (n, *row_shape), dtype as stored unless its `Column` says
            otherwise.

        Raises:
            RowError: A row is outside [0, len(self)).
            FileChangedError: A file changed since the source was made.
            ColumnError: A value does not fit the `dtype` of its `Column`.

        Examples:
            >>> Source(digits_train(), label="label").read([0, 0, 1])["label"].shape
            (3,)
        """
        wanted = parse_rows(rows, len(self))
        loaded = self.load_rows(wanted)
        return self.finish_rows(loaded, lambda: wanted)

    def finish_rows(
        self, loaded: Mapping[str, np.ndarray], find_rows: Callable[[], NDArray[np.int64]]
    ) -> dict[str, np.ndarray]:
        """Turn loaded rows into rows of a batch; `find_rows` gives their numbers for messages."""

        def locate(place: int) -> str:
            row = int(find_rows()[place])
            part = int(self._parts.find(np.array([row]))[0]) if len(self._files) > 1 else 0
            return f"row {row - self._parts.starts[part]} of {self._part_files[part].path!r}"

        return {name: self._columns[name].finish(rows, locate) for name, rows in loaded.items()}

    def load_rows(self, rows: NDArray[np.int64]) -> dict[str, np.ndarray]:
        """Read rows in the form that caches store: stored type and shape, strings as class ids.

        Rows must be in range.
        """
        found = {
            name: empty((len(rows), *column.stored_shape), column.loaded_dtype)
            for name, column in self._columns.items()
        }
        self.load_rows_to(rows, found)
        return found

    def load_rows_to(
        self,
        rows: NDArray[np.int64],
        out: Mapping[str, np.ndarray],
        positions: NDArray[np.int64] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Load rows to given positions of the given arrays.

        Args:
            rows: Row numbers in [0, len(self)), any order, shape (n,).
            out: One array per column, shape (m, *row_shape).
            positions: Row i is loaded to `out[name][positions[i]]`, shape (n,), without repeats;
                None: rows are loaded to 0 to n - 1.
            shard: (index, count), count at most `num_shards`; load only the `index`-th of `count`
                slices of the work. Threads can load all of them at the same time.
        """
        for part, chosen in self._parts.split(rows):
            self._parts.check_unchanged(part)
            here, goes = rows, positions
            if chosen is not None:
                here = rows[chosen] - self._parts.starts[part]
                goes = chosen if positions is None else positions[chosen]
            load_rows(self._columns, part, here, out, positions=goes, shard=shard)

    def load_range(self, start: int, stop: int, out: Mapping[str, np.ndarray]) -> None:
        """Load rows [start, stop) of one part into arrays of shape (stop - start, *row_shape)."""
        self.load_runs(Runs.one(start, stop), out)

    def load_runs(self, runs: Runs, out: Mapping[str, np.ndarray]) -> None:
        """Load runs of rows, each within one part, to their positions in `out`.

        Args:
            runs: The rows.
            out: One array per column, shape (n, *row_shape).
        """
        for part, chosen in self._parts.split(runs.starts):
            self._parts.check_unchanged(part)
            here = runs
            if chosen is not None:
                here = runs[chosen].counted_from(int(self._parts.starts[part]))
            load_runs(self._columns, part, here, out)

    def allocate(self, num_rows: int) -> dict[str, np.ndarray]:
        """Return uninitialised arrays for `num_rows` loaded rows of every column."""
        return allocate(self._columns, num_rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of one loaded row over all columns."""
        return sum(column.loaded_row_bytes for column in self._columns.values())

    @property
    def num_shards(self) -> int:
        """Maximum number of threads that can load one block together."""
        return max(part.num_shards for column in self._columns.values() for part in column.parts)

    @property
    def is_direct(self) -> bool:
        """Whether reading single rows of every column reads no more than their bytes."""
        return all(column.is_direct for column in self._columns.values())

    @property
    def block_rows(self) -> int:
        """Number of rows that are stored together, and best read together.

        It is the largest chunk's number of rows over all columns and parts.
        """
        return max(part.block_rows for column in self._columns.values() for part in column.parts)

    def check_unchanged(self, rows: NDArray[np.int64] | None = None) -> None:
        """Raise `FileChangedError` if a file changed since the source was made.

        Args:
            rows: Check only the files of these rows, because there may be thousands of files;
                None for all files.
        """
        files = self._parts.all_files
        if rows is not None and len(self._parts) > 1:
            files = self._parts.files_of(np.unique(self._parts.find(rows)).tolist())
        for file in files:
            file.check_unchanged()

    def fingerprint(self) -> dict[str, object]:
        """Return the values that are equal for two sources with the same rows.

        These are names, lengths, shapes, types and sizes.
        """
        kind = {} if self._kind is None else {"kind": self._kind.fingerprint()}
        return kind | {
            "num_rows": len(self),
            "files": [
                [os.path.basename(file.path), file.identity.num_bytes] for file in self._files
            ],
            "columns": {name: column.fingerprint() for name, column in self._columns.items()},
        }

    def describe(self) -> str:
        """Describe the columns: what they are, how they are stored, and how they are read."""
        return Text(describe_columns(self._files, self._columns, self._kind))

    def _find_files_behind(self, part: int) -> tuple[H5File, ...]:
        """Return the file of a part, and the files that its links lead to, without repeats."""
        own = self._part_files[part]
        columns = self._columns.values()
        others = (file for column in columns for file in column.parts[part].other_files)
        return tuple(dict.fromkeys((own, *others)))


def modified_ns(source: Source) -> list[int]:
    """Return when each file of a source was last written, in nanoseconds since 1970."""
    files = source._parts.all_files  # noqa: SLF001  a member would be one for users
    return [file.identity.modified_ns for file in files]
