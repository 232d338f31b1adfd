"""The store that holds the window being served and the next one, for data larger than the cache."""

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

# What a window knows of a row beside its data, numbers and places: 24 bytes. That much is known of
# a third window, too, for each two that are in memory.
INDEX_BYTES: Final = 36


@final
class WindowRows(AbstractRows, Shared):
    """Holds two windows of a plan that has windows: the one being served, and the next.

    Whole rows are decoded to their place in the order of serving, so that a batch is a slice, which
    `hand_out` gives away without a copy: it is the caller's to keep and to change, so who asks for
    it again has the rows read again.

    Which windows are in memory is for `ResidentWindows` to decide, and `WindowLoader` loads them.

    Args:
        source: The columns.
        plan: The order; it has windows.
        blocks: Rows that are best read together.
        kept: Some columns of the source that stay in memory instead.
        most: How many windows there is room for: 2, or 1, which is then loaded by all threads
            together, piece by piece, while nothing is served.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        blocks: Blocks,
        kept: ResidentBlocks | None = None,
        most: int = 2,
    ) -> None:
        self._names = tuple(source.columns)
        self._plan = plan
        self._blocks = blocks
        self._kept = kept
        self._most = most
        read = [name for name in self._names if kept is None or name not in kept.names]
        self._source = source.select(**{name: name for name in read})
        self._setup()

    def _setup(self) -> None:
        shards, in_order = self._source.num_shards, self.hands_out
        find = partial(find_contents, self._plan, self._blocks, shards, in_order=in_order)
        self._prefetcher = Prefetcher(find)
        self._windows = ResidentWindows(self._source, self._most)
        self._loader = WindowLoader(
            self._source, self._plan, self._windows, self._prefetcher, max_ahead=self._most
        )
        self._last_spans: tuple[int, list[Span]] = (-1, [])  # a step, and what it draws from
        self._share()

    def __getstate__(self) -> dict[str, object]:
        names = ("_names", "_source", "_plan", "_blocks", "_kept", "_most")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._setup()

    def after_fork(self) -> None:
        """Begin anew: the threads that load and use windows stayed in the parent process."""
        self._setup()

    def take(self, step: int) -> Arrays:
        """Return the loaded rows of one batch, reading the windows it draws from if need be."""
        return self._take(step, gives=False)

    def hand_out(self, step: int) -> Arrays:
        """Return what `take` does, as a view where one will do: it keeps its window's memory."""
        spans = self._spans(step)
        if len(spans) == 1 and (part := self._view_now(spans[0])) is not None:
            self._check_files(step)
            return self._with_kept(*part)
        return self._take(step, gives=True)

    def _spans(self, step: int) -> list[Span]:
        # Whoever serves asks twice. No lock: a thread sees a whole pair, and whichever will do.
        known_step, spans = self._last_spans
        if known_step != step:
            spans = self._plan.spans(step)
            self._last_spans = step, spans
        return spans

    def _view_now(self, span: Span) -> Part | None:
        """Return a view of rows that are here; None where that takes any more than this.

        Most batches are such, and each moment that they hold the GIL is one that other threads do
        not decode in.
        """
        with self._windows.changed:
            held = self._windows.get(span.window)
            if held is None or not held.is_here or not self._may_give(held, span):
                return None
            held.given.add(span.start)
            return view_part(held, span)

    def _may_give(self, held: ResidentWindow, span: Span) -> bool:
        """Whether rows may leave as a view of their window's memory.

        Not near the end: a loop holds its last batch when it asks for the next one, and would hold
        all this window's memory while another takes its place.
        """
        is_near_end = len(held.rows) - span.stop < self._plan.batch_size
        return held.order is None and not is_near_end and span.start not in held.given

    def _check_files(self, step: int) -> None:
        # Finding out which rows these are costs more than looking at one file.
        several = len(self._source.paths) > 1
        self._source.check_unchanged(self._plan.rows(step) if several else None)

    def _take(self, step: int, *, gives: bool) -> Arrays:
        spans = self._windows.register(step, self._plan.spans)
        wanted = [span.window for span in spans]
        try:
            self._check_files(step)
            parts = []
            for span in spans:
                parts.append(self._part(span, step, gives=gives))
                self._windows.unregister([wanted.pop(0)])
        finally:
            self._windows.unregister(wanted)
        return self._with_kept(*(parts[0] if len(parts) == 1 else join_parts(parts)))

    def _with_kept(self, found: Arrays, rows: NDArray[np.int64]) -> Arrays:
        """Add the columns that stay in memory, and put all of them in order."""
        if self._kept is None:
            return found
        found |= self._kept.take(rows)
        return {name: found[name] for name in self._names}

    def _part(self, span: Span, step: int, *, gives: bool) -> Part:
        # A call of its own: a name for the last window would keep its memory while we wait for the
        # next one.
        held = self._pin(span.window, step)
        try:
            if gives and (part := self._view_now(span)) is not None:
                return part
            if span.start in held.given:  # to somebody who may have changed it
                rows = held.rows[span.start : span.stop]
                return self._source.load_rows(rows), rows
            return copy_part(held, span)
        finally:
            self._windows.unpin(held)

    def is_in_memory(self) -> bool:
        """Return False: windows come and go."""
        return False

    @property
    def hands_out(self) -> bool:
        """Whether a batch is a slice of what `advance` has loaded.

        Chunks that cut rows into tiles are not decoded to the order of serving: scattering small
        pieces of rows takes NumPy longer than gathering the rows afterwards.
        """
        return self._source.num_shards == 1

    def advance(self, oldest: int, executor: Executor, helpers: int = 0) -> None:
        """Drop the windows before step `oldest`; load the one it is in, and the one after it."""
        self._loader.advance(self._spans(oldest)[0].window, executor, helpers)

    def release(self) -> None:
        """Drop the windows and their memory."""
        with self._windows.changed:
            self._windows.clear()
            self._loader.stop()

    def describe(self) -> str:
        """Say in words where rows come from."""
        kept = f"; {' and '.join(self._kept.names)} in memory" if self._kept else ""
        if self._most == 1:
            return (
                "one window is in memory at a time, for the cache has no room for two; all threads "
                f"decode it together{kept}"
            )
        return (
            "two windows are in memory at a time: the one being served, and the next one being "
            f"read{kept}"
        )

    def _pin(self, window: Window, step: int) -> ResidentWindow:
        """Return a window that stays until it is unpinned, loaded with whoever else waits."""
        held = self._windows.pin(window, step, self._prefetcher.tell)
        self._loader.load(window, held)
        # Another thread failed to load it: fail here too, with the file's own words.
        return self._pin(window, step) if held.has_failed else held
