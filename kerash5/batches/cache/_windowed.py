"""The store that caches the window being served and the next one: data larger than the cache."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5.batches.cache._resident import ResidentBlocks
from kerash5.batches.cache._resident_windows import ResidentWindows
from kerash5.batches.cache._store import AbstractRows, Arrays, Shared
from kerash5.batches.cache._window import (
    Part,
    Prefetcher,
    ResidentWindow,
    copy_part,
    find_contents,
    join_parts,
    view_part,
)
from kerash5.batches.cache._window_loader import WindowLoader
from kerash5.h5 import Source
from kerash5.order._blocks import Blocks
from kerash5.order._orders import Span, Window
from kerash5.order._plan import Plan

# A window has 24 bytes of index per row: row numbers and positions. For every two windows in memory
# the index of a third exists, too.
INDEX_BYTES: Final = 36


@final
class WindowRows(AbstractRows, Shared):
    """Caches two windows of a plan: the one being served, and the next.

    Whole rows are decoded to their position in the order of serving, so that a batch is a slice.
    `view` returns this slice without a copy. The caller may change it, so if the same batch is
    requested again, its rows are read again.

    `ResidentWindows` admits and evicts windows, and `WindowLoader` loads them.

    Args:
        source: The columns.
        plan: The order; it has windows.
        blocks: Rows that are best read together.
        pinned: Columns of the source that stay in memory instead.
        max_windows: Maximum number of windows in memory: 2 or 1. A single window is loaded by all
            threads together, in pieces, while nothing is served.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        blocks: Blocks,
        pinned: ResidentBlocks | None = None,
        max_windows: int = 2,
    ) -> None:
        self._names = tuple(source.columns)
        self._plan = plan
        self._blocks = blocks
        self._pinned = pinned
        self._max_windows = max_windows
        read = [name for name in self._names if pinned is None or name not in pinned.names]
        self._source = source.select(**{name: name for name in read})
        self._setup()

    def _setup(self) -> None:
        shards, in_order = self._source.num_shards, self.serves_views
        find = partial(find_contents, self._plan, self._blocks, shards, in_order=in_order)
        self._prefetcher = Prefetcher(find)
        self._windows = ResidentWindows(self._source, self._max_windows)
        self._loader = WindowLoader(
            self._source, self._plan, self._windows, self._prefetcher, max_ahead=self._max_windows
        )
        self._last_spans: tuple[int, list[Span]] = (-1, [])  # a step, and its spans
        self._share()

    def __getstate__(self) -> dict[str, object]:
        names = ("_names", "_source", "_plan", "_blocks", "_pinned", "_max_windows")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._setup()

    def after_fork(self) -> None:
        """Start again without windows: their threads do not exist in a forked child."""
        self._setup()

    def read(self, step: int) -> Arrays:
        """Return the loaded rows of one batch, reading its windows if necessary."""
        return self._read(step, as_view=False)

    def view(self, step: int) -> Arrays:
        """Return the rows of `read`, as views of their window's memory where possible."""
        spans = self._spans(step)
        if len(spans) == 1 and (part := self._view_now(spans[0])) is not None:
            self._check_files(step)
            return self._with_pinned(*part)
        return self._read(step, as_view=True)

    def _spans(self, step: int) -> list[Span]:
        # Each step is requested twice. No lock: a thread sees a complete pair, and either is right.
        known_step, spans = self._last_spans
        if known_step != step:
            spans = self._plan.spans(step)
            self._last_spans = step, spans
        return spans

    def _view_now(self, span: Span) -> Part | None:
        """Return views of rows that are loaded; None if the rows must be loaded or copied.

        This is the path of most batches. It is short because other threads cannot decode while it
        has the GIL.
        """
        with self._windows.changed:
            resident = self._windows.get(span.window)
            if resident is None or not resident.is_here or not self._may_view(resident, span):
                return None
            resident.viewed.add(span.start)
            return view_part(resident, span)

    def _may_view(self, resident: ResidentWindow, span: Span) -> bool:
        """Return whether rows can be returned as views of their window's memory.

        Near the end of the window they cannot: a loop still has its last batch when it requests the
        next one, and a view would keep the memory of the whole window while another is loaded.
        """
        is_near_end = len(resident.rows) - span.stop < self._plan.batch_size
        return resident.order is None and not is_near_end and span.start not in resident.viewed

    def _check_files(self, step: int) -> None:
        # Computing the rows costs more than checking a single file.
        several = len(self._source.paths) > 1
        self._source.check_unchanged(self._plan.rows(step) if several else None)

    def _read(self, step: int, *, as_view: bool) -> Arrays:
        spans = self._windows.register(step, self._plan.spans)
        wanted = [span.window for span in spans]
        try:
            self._check_files(step)
            parts = []
            for span in spans:
                parts.append(self._part(span, step, as_view=as_view))
                self._windows.unregister([wanted.pop(0)])
        finally:
            self._windows.unregister(wanted)
        return self._with_pinned(*(parts[0] if len(parts) == 1 else join_parts(parts)))

    def _with_pinned(self, found: Arrays, rows: NDArray[np.int64]) -> Arrays:
        """Return the columns with the pinned ones added, in the order of the source."""
        if self._pinned is None:
            return found
        found |= self._pinned.read(rows)
        return {name: found[name] for name in self._names}

    def _part(self, span: Span, step: int, *, as_view: bool) -> Part:
        # A separate function, because a local reference to the last window would keep its memory
        # while this thread waits for the next one.
        resident = self._pin(span.window, step)
        try:
            if as_view and (part := self._view_now(span)) is not None:
                return part
            if span.start in resident.viewed:  # a caller has this view and may have changed it
                rows = resident.rows[span.start : span.stop]
                return self._source.load_rows(rows), rows
            return copy_part(resident, span)
        finally:
            self._windows.unpin(resident)

    def is_in_memory(self) -> bool:
        """Return False, because windows are evicted."""
        return False

    @property
    def serves_views(self) -> bool:
        """Whether a batch is a slice of the window that `advance` has loaded.

        If chunks divide rows into tiles, rows are not decoded in the order of serving: in NumPy,
        scattering small tiles takes longer than gathering the rows afterwards.
        """
        return self._source.num_shards == 1

    def advance(self, oldest: int, executor: Executor, helpers: int = 0) -> None:
        """Evict the windows before step `oldest`; load its window and the next one on threads."""
        self._loader.advance(self._spans(oldest)[0].window, executor, helpers)

    def release(self) -> None:
        """Evict the windows and free their memory."""
        with self._windows.changed:
            self._windows.clear()
            self._loader.stop()

    def describe(self) -> str:
        """Describe where rows come from."""
        pinned = f"; {' and '.join(self._pinned.names)} in memory" if self._pinned else ""
        if self._max_windows == 1:
            return (
                "one window is in memory at a time, for the cache has no room for two; all threads "
                f"decode it together{pinned}"
            )
        return (
            "two windows are in memory at a time: the one being served, and the next one being "
            f"read{pinned}"
        )

    def _pin(self, window: Window, step: int) -> ResidentWindow:
        """Pin, load and return a window; other threads that wait for it help to load it."""
        resident = self._windows.pin(window, step, self._prefetcher.tell)
        self._loader.load(window, resident)
        # Another thread failed to load it: load it here to raise the same error.
        return self._pin(window, step) if resident.has_failed else resident
