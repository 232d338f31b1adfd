"""The batch: source and plan together. Step in, arrays out.

`Batches.read(step)` is a pure function of files, plan and step. `Batches.epoch` gives the same
batches in order, a few of them read ahead on threads. No Keras here: see `feeds` for the faces
Keras and Grain look at.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerash5._arena import (
    INDEX_BYTES,
    AbstractRows,
    DirectRows,
    ResidentRows,
    WindowRows,
    parse_cache,
)
from kerash5._backends import detect_shard
from kerash5._blocks import Blocks
from kerash5._errors import ColumnError, OptionError, RowError
from kerash5._plan import Plan, Shuffle
from kerash5.h5 import Column, Source
from kerash5.h5._choice import Reader
from kerash5.h5._file import StrPath

Batch = tuple[Any, ...]
ColumnSpec = str | Column | Sequence["ColumnSpec"] | Mapping[str, "ColumnSpec"]
Tree = str | tuple["Tree", ...] | dict[Any, "Tree"]  # the same, with columns' names for columns
RowSelection = slice | ArrayLike | None

# Each block costs some 50 us besides its bytes; a thousand of them mix well.
_BLOCK_BYTES: Final = 128 << 10
_MIN_BLOCKS: Final = 1024
_MAX_BLOCKS: Final = 1 << 20  # of which the order is one array of 8 MB per epoch
_LOOK_AHEAD_BYTES: Final = 32 << 20
_ROLES: Final = ("x", "y", "sample_weight")


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What `H5Dataset` is asked for, but for files and columns; the same meaning and defaults."""

    batch_size: int = 32
    shuffle: Shuffle | Literal["auto"] = "auto"
    seed: int = 0
    rows: RowSelection = None
    transform: Callable[..., Any] | None = None
    drop_last: bool = False
    cache: int | float | str = "auto"
    threads: int | None = None
    shard: tuple[int, int] | Literal["auto"] | None = None


@final
class Batches:
    """All batches of a plan. Made by `open_batches`; picklable if its transform is."""

    def __init__(
        self,
        source: Source,
        trees: Mapping[str, Tree],
        plan: Plan,
        store: AbstractRows,
        options: BatchOptions,
    ) -> None:
        self.source = source
        self.plan = plan
        self._trees = dict(trees)  # role -> the column's name, or a tuple or dict of such
        self._store = store
        self._options = options
        self._transform = _parse_transform(options.transform)
        self._threads = _parse_threads(options.threads)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self.plan.steps_per_epoch

    @property
    def roles(self) -> tuple[str, ...]:
        """What a batch consists of: "x", then "y" and "sample_weight" where there are such."""
        return tuple(self._trees)

    def tree(self, role: str) -> Tree:
        """Return the names of the columns of a role: one name, or a tuple or dict of them.

        Args:
            role: "x", "y" or "sample_weight".
        """
        return self._trees[role]

    def read(self, step: int) -> Batch:
        """Return the batch of a global step: (x,), (x, y) or (x, y, sample_weight).

        Args:
            step: The global batch number, from 0; the epoch is step // len(self).

        Returns:
            One entry per role, each an array or, as asked for, a tuple or dict of them.

        Raises:
            FileChangedError: A file changed since it was opened.
            DamagedFileError: Bytes could not be read or decoded.
        """
        columns = {
            name: _finish(self.source.columns[name].finish(rows))
            for name, rows in self._store.take(step).items()
        }
        batch = tuple(_fill_tree(tree, columns) for tree in self._trees.values())
        return batch if self._transform is None else self._apply(self._transform, batch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch in order, read ahead on threads.

        Args:
            epoch: From 0.
            start: The index of the first batch wanted.

        Raises:
            OptionError: There is no such epoch or batch.
        """
        if epoch < 0 or not 0 <= start <= len(self):
            raise OptionError(
                f"epoch {epoch} from batch {start}; epochs count from 0, and batches from 0 to "
                f"{len(self)}"
            )
        first = epoch * len(self)
        steps = range(first + start, first + len(self))
        if self._threads == 0 or (self._store.is_in_memory() and self._transform is None):
            return (self.read(step) for step in steps)
        return self._ahead(steps)

    def in_given_order(self) -> Batches:
        """Return the batches of the same rows without shuffling; what is in memory is shared."""
        options = replace(self._options, shuffle=False, drop_last=False)
        other = _plan_batches(self.source, self._trees, options)
        if not isinstance(self._store, ResidentRows):
            return other
        # Not from the plan at hand: for "chunks" its rows are sorted.
        plan = other.plan.in_given_order()
        return Batches(self.source, self._trees, plan, self._store.with_plan(plan), options)

    def with_rows(self, rows: RowSelection, **changes: Any) -> Batches:  # noqa: ANN401 replace's
        """Return the batches of other rows of the same source, with some `BatchOptions` changed.

        What is held in memory is shared where it includes those rows.
        """
        options = replace(self._options, rows=rows, **changes)
        return _plan_batches(self.source, self._trees, options, self._store)

    @property
    def is_transformed(self) -> bool:
        """Whether a transform changes batches, so that columns do not tell what a model gets."""
        return self._transform is not None

    @property
    def fits_memory(self) -> bool:
        """Whether everything read stays in memory, within the cache."""
        return isinstance(self._store, ResidentRows)

    def with_threads(self, threads: int | None) -> Batches:
        """Return the same batches, read by another number of threads."""
        return Batches(
            self.source,
            self._trees,
            self.plan,
            self._store,
            replace(self._options, threads=threads),
        )

    def release(self) -> None:
        """Let go of memory that the next epoch can do without."""
        self._store.release()

    def describe(self) -> str:
        """Say in words what is read, in which order, and where rows come from."""
        return "\n".join(
            [self.source.describe(), self.plan.describe(), f"  {self._store.describe()}"]
        )

    def _ahead(self, steps: range) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        coming = iter(steps)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="kerash5-read") as executor:
            try:
                for step in steps:
                    while len(waiting) < self._depth and (ahead := next(coming, None)) is not None:
                        waiting.append(executor.submit(self.read, ahead))
                    self._store.advance(step, executor)
                    yield waiting.popleft().result()
            finally:
                executor.shutdown(wait=False, cancel_futures=True)

    @property
    def _depth(self) -> int:
        """Batches in flight: enough to keep every thread busy, within a budget."""
        batch_bytes = max(1, self.source.row_bytes * self.plan.batch_size)
        return max(1, min(self._threads + 1, _LOOK_AHEAD_BYTES // batch_bytes))

    def _apply(self, transform: Callable[..., Any], batch: Batch) -> Batch:
        changed = transform(*batch)
        if len(batch) == 1 and changed is not None:
            return (changed,)
        if not isinstance(changed, tuple | list) or len(changed) != len(batch):
            count = f" of {len(changed)}" if isinstance(changed, tuple | list) else ""
            what = "the same" if len(batch) == 1 else "a tuple of the same"
            raise OptionError(
                f"transform returned {type(changed).__name__}{count}; it takes "
                f"({', '.join(self._trees)}) and returns {what}"
            )
        return tuple(changed)


def open_batches(
    path: StrPath | Sequence[StrPath] | Source,
    x: ColumnSpec | None,
    y: ColumnSpec | None,
    sample_weight: ColumnSpec | None,
    options: BatchOptions,
    *,
    reader: Reader = "auto",
    allow_external: bool = False,
) -> Batches:
    """Check everything that can be checked before the first batch, and choose how to read.

    Raises:
        KerasH5Error: A file, a column or an option is not as it should be; one sentence says which.
    """
    specs = {
        role: spec
        for role, spec in zip(_ROLES, (x, y, sample_weight), strict=True)
        if spec is not None
    }
    if isinstance(path, Source):
        source, trees = _columns_of_source(path, specs)
    else:
        if "x" not in specs:
            raise ColumnError("no x: name the data set that the model takes, such as x='image'")
        flat, trees = _flatten_roles(specs)
        # Every name begins with its role, so none is taken for an option.
        source = Source(path, reader=reader, allow_external=allow_external, **flat)
    _check_numbers(source)
    return _plan_batches(source, trees, options)


def _columns_of_source(
    source: Source, specs: Mapping[str, ColumnSpec]
) -> tuple[Source, dict[str, Tree]]:
    if not specs:
        specs = {role: role for role in _ROLES if role in source.columns}
        if "x" not in specs:
            raise ColumnError(
                f"{source!r} has no column named 'x'; make it with x=..., or say which column is x"
            )
    flat, trees = _flatten_roles(specs)
    if any(isinstance(spec, Column) for spec in flat.values()):
        raise ColumnError(
            "columns of a Source are named by strings; give the Column to the Source itself"
        )
    return source.select(**{name: str(spec) for name, spec in flat.items()}), trees


def _flatten_roles(
    specs: Mapping[str, ColumnSpec],
) -> tuple[dict[str, str | Column], dict[str, Tree]]:
    flat: dict[str, str | Column] = {}
    return flat, {role: _flatten(role, spec, flat) for role, spec in specs.items()}


def _flatten(name: str, spec: ColumnSpec, flat: dict[str, str | Column]) -> Tree:
    """Put the columns of a nested form into `flat`; return the form with names in their place."""
    if isinstance(spec, str | Column):
        while name in flat:  # {"a/b": ..., "a": {"b": ...}}
            name += "'"
        flat[name] = spec
        return name
    if isinstance(spec, Mapping) and spec:
        return {key: _flatten(f"{name}/{key}", value, flat) for key, value in spec.items()}
    if isinstance(spec, Sequence) and len(spec):
        return tuple(_flatten(f"{name}/{number}", value, flat) for number, value in enumerate(spec))
    raise OptionError(
        f"{name}={spec!r}; it is a data set's path, a Column, or a tuple or dict of them"
    )


def _fill_tree(tree: Tree, columns: Mapping[str, np.ndarray]) -> object:
    if isinstance(tree, str):
        return columns[tree]
    if isinstance(tree, dict):
        return {key: _fill_tree(value, columns) for key, value in tree.items()}
    return tuple(_fill_tree(value, columns) for value in tree)


def _finish(rows: np.ndarray) -> np.ndarray:
    # JAX and torch take no foreign byte order.
    return rows if rows.dtype.isnative else rows.astype(rows.dtype.newbyteorder("="))


def _check_numbers(source: Source) -> None:
    for name, column in source.columns.items():
        if column.dtype.kind not in "biufc":
            names = column.dtype.names
            fields = f" with the fields {', '.join(names)}" if names else ""
            raise ColumnError(
                f"column {column.column.path!r} ({name}) holds {column.dtype} values{fields}; a "
                "model takes numbers: write each field as a data set of its own"
            )


def _plan_batches(
    source: Source,
    trees: Mapping[str, Tree],
    options: BatchOptions,
    shared: AbstractRows | None = None,
) -> Batches:
    rows = parse_selection(options.rows, len(source))
    blocks = _choose_blocks(source)
    demand = _Demand(source, blocks, rows, parse_cache(options.cache))
    shuffle, reason = _choose_shuffle(options.shuffle, demand)
    if shuffle == "chunks" and rows is not None:
        rows = np.sort(rows)
    is_windowed = shuffle == "chunks" or (shuffle is False and demand.suits_windows_in_order)
    plan = Plan(
        len(source),
        options.batch_size,
        shuffle,
        options.seed,
        rows,
        options.drop_last,
        _parse_shard(options.shard),
        blocks.cut(rows) if is_windowed else None,
        demand.window_blocks if is_windowed else 1,
        reason,
    )
    store = _choose_store(plan, demand)
    if isinstance(store, ResidentRows) and isinstance(shared, ResidentRows):
        store = shared.with_plan(plan) if shared.includes(rows) else store
    return Batches(source, trees, plan, store, options)


def _choose_blocks(source: Source) -> Blocks:
    """Return chunks, or several neighbours as one where they are very small or very many."""
    blocks = Blocks(source.part_starts, source.block_rows)
    small = source.block_rows * source.row_bytes
    worthwhile = len(source) * source.row_bytes // max(small, _BLOCK_BYTES)
    return blocks.coarser(min(_MAX_BLOCKS, max(_MIN_BLOCKS, worthwhile)))


def parse_selection(rows: RowSelection, num_rows: int) -> NDArray[np.int64] | None:
    """Return the selected row numbers, or None for all of them.

    Raises:
        RowError: A row is outside [0, num_rows), or a mask has another length.
    """
    if rows is None:
        return None
    if isinstance(rows, slice):
        return _parse_slice(rows, num_rows)
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise RowError(f"rows= is ragged ({error}); give a flat array of row numbers") from error
    if array.dtype == np.bool_:
        if array.shape != (num_rows,):
            raise RowError(
                f"the mask rows= has shape {array.shape}; it needs one value for each of the "
                f"{num_rows} rows"
            )
        return np.flatnonzero(array)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise RowError(
            f"rows= is {array.dtype} of shape {array.shape}; give a slice, a mask, or a flat array "
            "of row numbers"
        )
    if array.size and (array.min() < 0 or array.max() >= num_rows):
        wrong = array[(array < 0) | (array >= num_rows)][0]
        raise RowError(f"rows= selects row {wrong}, outside [0, {num_rows})")
    return array.astype(np.int64)


def _parse_slice(rows: slice, num_rows: int) -> NDArray[np.int64] | None:
    try:
        start, stop, step = rows.indices(num_rows)
    except (TypeError, ValueError) as error:
        raise RowError(f"rows={rows!r} selects nothing sensible: {error}") from error
    # Not an array of all rows, of which there may be a billion.
    return None if (start, stop, step) == (0, num_rows, 1) else np.arange(start, stop, step)


@dataclass(frozen=True, slots=True, eq=False)
class _Demand:
    """What the rows to serve take in memory, and how much of it there may be."""

    source: Source
    blocks: Blocks
    rows: NDArray[np.int64] | None
    cache_bytes: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all blocks with rows to serve, decoded."""
        if self.rows is None:
            return len(self.source) * self.source.row_bytes
        starts, stops = self.blocks.bounds(np.unique(self.blocks.of_rows(self.rows)))
        return int((stops - starts).sum()) * self.source.row_bytes

    @property
    def fits(self) -> bool:
        """Whether all of it may stay in memory."""
        return self.num_bytes <= self.cache_bytes

    @property
    def two_blocks_bytes(self) -> int:
        """Bytes of the smallest two windows."""
        return 2 * self._block_rows * self.source.row_bytes

    @property
    def two_blocks_fit(self) -> bool:
        """Whether there may be windows."""
        return self.two_blocks_bytes <= self.cache_bytes

    @property
    def suits_windows_in_order(self) -> bool:
        """Whether rows in the given order are best read window by window: a large file."""
        if self.source.is_direct or self.fits or not self.two_blocks_fit:
            return False
        return self.rows is None or bool((np.diff(self.rows) > 0).all())

    @property
    def window_blocks(self) -> int:
        """Blocks in a window, of which two may be held."""
        block_bytes = self._block_rows * (self.source.row_bytes + INDEX_BYTES)
        return max(1, self.cache_bytes // 2 // block_bytes)

    @property
    def _block_rows(self) -> int:
        return min(self.blocks.block_rows, len(self.source))

    def __str__(self) -> str:
        return f"{self.num_bytes / 1e6:.1f} MB decoded, cache {self.cache_bytes / 1e6:.1f} MB"


def _choose_shuffle(asked: Shuffle | Literal["auto"], demand: _Demand) -> tuple[Shuffle, str]:
    """Return the shuffle and, in words, why."""
    is_cheap = demand.source.is_direct or demand.fits
    if asked == "chunks" and not is_cheap and not demand.two_blocks_fit:
        raise OptionError(
            "shuffle='chunks' holds two windows of at least one chunk, "
            f"{demand.two_blocks_bytes / 1e6:.1f} MB, and cache allows "
            f"{demand.cache_bytes / 1e6:.1f} MB; raise cache="
        )
    if asked != "auto":
        return asked, "you asked for it"
    if demand.source.is_direct:
        return "rows", "single rows are cheap to reach"
    if demand.fits:
        return "rows", f"the data fit the cache ({demand})"
    if not demand.two_blocks_fit:
        return "rows", f"two chunks do not fit the cache ({demand}); this is slow, so raise cache="
    return "chunks", f"the data do not fit the cache ({demand}); raise cache= for shuffle='rows'"


def _choose_store(plan: Plan, demand: _Demand) -> AbstractRows:
    if demand.fits:  # contiguous data too: a gather in memory is some six times a read per row
        return ResidentRows(demand.source, plan, demand.blocks)
    if demand.source.is_direct:
        return DirectRows(demand.source, plan, "straight from its place in the file")
    if plan.cut is not None:
        return WindowRows(demand.source, plan, demand.blocks)
    return DirectRows(demand.source, plan, f"for not all fits in memory ({demand})")


def _parse_transform(transform: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if transform is not None and not callable(transform):
        raise OptionError(f"transform={transform!r}; it is a function of x[, y[, sample_weight]]")
    return transform


def _parse_threads(threads: int | None) -> int:
    if threads is None:
        return min(4, os.cpu_count() or 1)
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 0:
        raise OptionError(
            f"threads={threads!r}; give the number of reading threads, 0 for none, or None"
        )
    return int(threads)


def _parse_shard(shard: tuple[int, int] | Literal["auto"] | None) -> tuple[int, int]:
    if shard is None:
        return 0, 1
    if shard == "auto":
        return detect_shard()
    is_pair = isinstance(shard, tuple | list) and len(shard) == 2
    if not is_pair or not all(_is_whole(value) for value in shard):
        raise OptionError(f"shard={shard!r}; give (index, count), 'auto' or None")
    return int(shard[0]), int(shard[1])


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
