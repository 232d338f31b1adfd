"""The batch: source and plan together. Step in, arrays out.

`Batches.read(step)` is a pure function of files, plan and step. `Batches.epoch` gives the same
batches in order, a few of them read ahead on threads. No Keras here: see `feeds` for the faces
Keras and Grain look at.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, final

import numpy as np

from kerash5._errors import ColumnError, OptionError
from kerash5._warnings import warn
from kerash5.batches._labels import check_labels_fit
from kerash5.batches._last_batch import Padding
from kerash5.batches._mixing import measure_mixing
from kerash5.batches._options import (
    BatchOptions,
    ParsedOptions,
    parse_options,
)
from kerash5.batches._roles import (
    ROLES,
    ColumnSpec,
    Tree,
    check_feedable,
    check_integers,
    columns_of_source,
    fill_tree,
    find_texts,
    flatten_roles,
    names_in,
)
from kerash5.batches._row_choice import find_rows
from kerash5.batches._strategy import (
    advise_on_chunks,
    choose_shuffle,
    choose_store,
    estimate_memory,
)
from kerash5.batches._transform import Batch, Transform
from kerash5.batches._transform_result import ResultCheck
from kerash5.batches.cache import AbstractRows, DirectRows, ResidentRows
from kerash5.h5 import Source
from kerash5.h5.reading._cancel import obey
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.reading._timers import clocked
from kerash5.h5.storage._file import StrPath, find_files
from kerash5.order._plan import DropLast, Plan
from kerash5.order._selection import RowSelection, parse_selection

__all__ = [
    "Batch",
    "BatchOptions",
    "Batches",
    "ColumnSpec",
    "RowSelection",
    "Tree",
    "count_rows",
    "open_batches",
    "parse_selection",
]

_LOOK_AHEAD_BYTES: Final = 32 << 20
_LIGHT_ROW_BYTES: Final = 256  # of a column whose conversion nobody notices, such as labels


@final
class Batches:
    """All batches of a plan. Made by `open_batches`; picklable if its transform is."""

    def __init__(
        self,
        source: Source,
        trees: Mapping[str, Tree],
        plan: Plan,
        store: AbstractRows,
        options: ParsedOptions,
        *,
        warning: str | None = None,
        is_evaluated: bool = False,
    ) -> None:
        self.source = source
        self.plan = plan
        self._trees = dict(trees)  # role -> the column's name, or a tuple or dict of such
        self._store = store
        self._options = options
        function = options.transform
        self._transform = None if function is None else Transform(function, self.roles)
        self._result = ResultCheck(self.roles)
        # What a transform is called with: a model takes no text.
        self._texts = {} if function is None else find_texts(source, self._trees)
        self._threads = options.threads
        pads = plan.drop_last == "pad"
        self._padding = Padding(plan, is_evaluated=is_evaluated) if pads else None
        self._warning = warning  # due with the first epoch

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

    @clocked("batch")
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
        return self._transformed(step, self._make(step, self._store.read(step)))

    def _make(self, step: int, loaded: Mapping[str, np.ndarray]) -> Batch:
        finished = self.source.finish_rows(loaded, lambda: self.plan.rows(step))
        if self._transform is None:
            check_integers(self.source, finished)
        columns = {
            name: self._texts[name][rows] if name in self._texts else _finish(rows)
            for name, rows in finished.items()
        }
        return tuple(fill_tree(tree, columns) for tree in self._trees.values())

    def _transformed(self, step: int, batch: Batch) -> Batch:
        if self._transform is None and self._padding is None:
            return batch
        num_rows = count_rows(batch)
        made = batch
        if self._transform is not None:
            made = self._apply(self._transform, step, batch)
        if self._padding is not None:
            made = self._padding.apply(made, count_rows(made), num_rows)
        return made

    def _apply(self, transform: Transform, step: int, batch: Batch) -> Batch:
        num_rows = count_rows(batch)  # the function may change the batch
        made = transform.apply(batch, lambda: self._make(step, self._store.read(step)))
        self._result.check(made, num_rows)
        return made

    @clocked("batch")
    def _view(self, step: int) -> Batch:
        return self._transformed(step, self._make(step, self._store.view(step)))

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
        self.warn()
        first = epoch * len(self)
        steps = range(first + start, first + len(self))
        if self._threads == 0 or (self._store.is_in_memory() and self._transform is None):
            return (self.read(step) for step in steps)
        return self._ahead(steps)

    def warn(self) -> None:
        """Warn, once, of an order that mixes classes badly, or of chunks larger than the cache."""
        if self._warning is not None:
            warn(self._warning)
            self._warning = None

    def in_given_order(self, *, drop_last: DropLast = False) -> Batches:
        """Return the batches of the same rows without shuffling; what is in memory is shared.

        Args:
            drop_last: What becomes of a short last batch: False, "all" or "pad".
        """
        options = replace(self._options, shuffle=False, drop_last=drop_last)
        other = _plan_batches(self.source, self._trees, options, is_evaluated=True)
        if not isinstance(self._store, ResidentRows):
            return other
        # Not from the plan at hand: for "chunks" its rows are sorted.
        plan = other.plan.in_given_order(drop_last=drop_last)
        store = self._store.with_plan(plan)
        return Batches(self.source, self._trees, plan, store, options, is_evaluated=True)

    @property
    def options(self) -> ParsedOptions:
        """The options of these batches."""
        return self._options

    def with_rows(self, rows: RowSelection, **changes: Any) -> Batches:  # noqa: ANN401 replace's
        """Return the batches of other rows of the same source, with some `BatchOptions` changed.

        What is held in memory is shared where it includes those rows.
        """
        options = self._options.with_changes({"rows": rows, **changes})
        return _plan_batches(self.source, self._trees, options, self._store)

    @property
    def is_transformed(self) -> bool:
        """Whether a transform changes batches, so that columns do not tell what a model gets."""
        return self._transform is not None

    @property
    def fits_memory(self) -> bool:
        """Whether everything read stays in memory, within the cache."""
        return isinstance(self._store, ResidentRows) and not self._store.is_spilled

    def with_threads(self, threads: int | None) -> Batches:
        """Return the same batches, read by another number of threads."""
        return Batches(
            self.source,
            self._trees,
            self.plan,
            self._store,
            self._options.with_changes({"threads": threads}),
            warning=self._warning,
        )

    def offer_scratch(self, folder: StrPath) -> Batches:
        """Return the same batches, with a folder for decoded rows that fit no memory.

        It changes nothing where one was given, or where none is of use.
        """
        if self._options.scratch is not None or type(self._store) is not DirectRows:
            return self
        options = self._options.with_changes({"scratch": folder})
        return _plan_batches(self.source, self._trees, options)

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
        stop = threading.Event()
        # Handing a batch from one thread to another takes longer than a slice of memory.
        depth = 0 if self._store.serves_views and self._is_light else self._depth
        with ThreadPoolExecutor(self._threads, "kerash5-read", obey, (stop,)) as executor:
            try:
                for step in steps:
                    while len(waiting) < depth and (ahead := next(coming, None)) is not None:
                        waiting.append(executor.submit(self.read, ahead))
                    self._store.advance(step, executor, 0 if depth else self._threads)
                    yield waiting.popleft().result() if depth else self._view(step)
            except BaseException:  # Ctrl-C, or an epoch that is left in its middle
                stop.set()
                raise
            finally:
                executor.shutdown(wait=False, cancel_futures=True)

    @property
    def _is_light(self) -> bool:
        """Whether loaded rows make a batch with next to no work."""
        columns = self.source.columns.values()
        heavy = (c for c in columns if c.loaded_row_bytes > _LIGHT_ROW_BYTES)
        return self._transform is None and all(c.dtype == c.loaded_dtype for c in heavy)

    @property
    def _depth(self) -> int:
        """Batches in flight: enough to keep every thread busy, within a budget."""
        batch_bytes = max(1, self.source.row_bytes * self.plan.batch_size)
        return max(1, min(self._threads + 1, _LOOK_AHEAD_BYTES // batch_bytes))


def open_batches(
    path: StrPath | Sequence[StrPath] | Source | None,
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
        for role, spec in zip(ROLES, (x, y, sample_weight), strict=True)
        if spec is not None
    }
    if isinstance(path, Source):
        source, trees = columns_of_source(path, specs)
    else:
        if "x" not in specs:
            find_files(path)  # a path that is none is the first thing to say
            raise ColumnError("no x: name the data set that the model takes, such as x='image'")
        flat, trees = flatten_roles(specs)
        # Every name begins with its role, so none is taken for an option.
        columns: dict[str, Any] = dict(flat)
        source = Source(path, reader=reader, allow_external=allow_external, **columns)
    options = replace(options, rows=find_rows(options.rows, source))
    batches = _plan_batches(source, trees, parse_options(options))
    check_labels_fit(source, names_in(trees.get("y", ())), batches.plan.rows_to_serve)
    return batches


def count_rows(tree: Any) -> int:  # noqa: ANN401  a batch
    """Return the number of rows of a batch."""
    while isinstance(tree, dict | tuple):
        tree = next(iter(tree.values() if isinstance(tree, dict) else tree))
    return len(tree)


def _finish(rows: np.ndarray) -> np.ndarray:
    # JAX and torch take no foreign byte order.
    return rows if rows.dtype.isnative else rows.astype(rows.dtype.newbyteorder("="))


def _plan_batches(
    source: Source,
    trees: Mapping[str, Tree],
    options: ParsedOptions,
    shared: AbstractRows | None = None,
    *,
    is_evaluated: bool = False,
) -> Batches:
    check_feedable(source, trees, is_transformed=options.transform is not None)
    rows = parse_selection(options.rows, len(source))
    demand = estimate_memory(source, rows, options.cache_bytes)
    shuffle, reason = choose_shuffle(options.shuffle, demand)
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
        options.shard,
        demand.blocks.block_starts(rows) if is_windowed else None,
        demand.window_blocks if is_windowed else 1,
        reason,
    )
    mixing = measure_mixing(source, trees.get("y"), plan)
    if mixing is not None:
        plan = replace(plan, mixing=mixing.describe())
    store = choose_store(plan, demand, options.scratch)
    if isinstance(store, ResidentRows) and isinstance(shared, ResidentRows):
        is_better = store.is_spilled or not shared.is_spilled
        store = shared.with_plan(plan) if is_better and shared.includes(rows) else store
    warning = advise_on_chunks(demand, options.scratch)
    if mixing is not None and mixing.starves:
        warning = f"{mixing.describe()}: {demand.advise_on_mixing()}"
    return Batches(source, trees, plan, store, options, warning=warning, is_evaluated=is_evaluated)
