"""The store that holds the window being served and the next one, for data larger than the cache."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Executor, Future
from functools import partial
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5.batches.cache._resident import ResidentBlocks
from kerash5.batches.cache._store import AbstractRows, Arrays, Shared
from kerash5.batches.cache._window import (
    Part,
    Piece,
    Prefetcher,
    ResidentWindow,
    copy_part,
    find_contents,
    join_parts,
    view_part,
)
from kerash5.h5 import Source
from kerash5.h5.reading._buffers import Memory, round_up
from kerash5.order._blocks import Blocks
from kerash5.order._plan import Plan, Span, Window

# What a window knows of a row beside its data, numbers and places: 24 bytes. That much is known of
# a third window, too, for each two that are in memory.
INDEX_BYTES: Final = 36


@final
class WindowRows(AbstractRows, Shared):
    """Holds two windows of a plan that has windows: the one being served, and the next.

    Whole rows are decoded to their place in the order of serving, so that a batch is a slice, which
    `hand_out` gives away without a copy: it is the caller's to keep and to change, so who asks for
    it again has the rows read again.

    There are never more than `most` windows, whoever asks for what: a thread that needs another one
    waits until one of them is in nobody's use. A thread uses one window at a time, and the earliest
    window that somebody waits for is loaded first, so that none waits for ever. The memory of a
    window serves the next one, as soon as its last batch is gone.

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
        self._changed = threading.Condition()
        self._windows: dict[Window, ResidentWindow] = {}
        self._memory = Memory(most_free=0)  # made anew when the first window comes
        self._most_rows = 0
        self._wanted: Counter[Window] = Counter()  # by threads that have not taken their rows yet
        self._starting: list[int] = []  # steps of which it is not known yet what they want
        self._helpers: list[tuple[Future[None], Window]] = []  # and what each helps with
        shares, in_order = self._source.num_shares, self.hands_out
        find = partial(find_contents, self._plan, self._blocks, shares, in_order=in_order)
        self._prefetcher = Prefetcher(find)  # asked before `_changed` is locked
        self._served: tuple[Window | None, Executor | None] = None, None  # by `advance`, last
        self._is_settled = False  # nothing is left to begin for that window and the next one
        self._failed: Window | None = None
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
        with self._changed:
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
        spans = self._begin(step)
        wanted = [span.window for span in spans]
        try:
            self._check_files(step)
            parts = []
            for span in spans:
                parts.append(self._part(span, step, gives=gives))
                self._forget([wanted.pop(0)])
        finally:
            self._forget(wanted)
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
            self._unpin(held)

    def _begin(self, step: int) -> list[Span]:
        """Return the parts of a step, and let everybody know which windows it wants.

        At once: a later step, on a faster thread, would take the place of an earlier one's window.
        """
        with self._changed:
            self._starting.append(step)
        spans: list[Span] = []
        try:
            spans = self._plan.spans(step)
        finally:
            with self._changed:
                self._starting.remove(step)
                self._wanted.update(span.window for span in spans)
                self._changed.notify_all()
        return spans

    def is_in_memory(self) -> bool:
        """Return False: windows come and go."""
        return False

    @property
    def hands_out(self) -> bool:
        """Whether a batch is a slice of what `advance` has loaded.

        Chunks that cut rows into tiles are not decoded to the order of serving: scattering small
        pieces of rows takes NumPy longer than gathering the rows afterwards.
        """
        return self._source.num_shares == 1

    def advance(self, oldest: int, executor: Executor, helpers: int = 0) -> None:
        """Drop the windows before step `oldest`; load the one it is in, and the one after it."""
        current = self._spans(oldest)[0].window
        is_same = self._served == (current, executor)
        if is_same and self._is_settled:
            return
        following = self._following(current)
        with self._changed:
            if not is_same:
                self._served, self._is_settled = (current, executor), False
                for window in list(self._windows):
                    if window not in {current, following} and window not in self._wanted:
                        self._drop(window)
            wanted = [current, following][: self._most]
            if not helpers:  # whoever takes the step loads its window
                if current not in self._windows:
                    return
                wanted = wanted[1:]
            due = self._first_not_here(wanted)
            self._is_settled = due is None
            # What failed to load is tried again by who needs it.
            if due is None or due == self._failed:
                return
            self._helpers = [each for each in self._helpers if not each[0].done()]
            num_there = sum(window == due for _, window in self._helpers)
            for _ in range(num_there, max(1, helpers)):
                future = executor.submit(self._read_ahead, current, due)
                self._helpers.append((future, due))
            # Helpers stay until all of it is loaded.
            self._is_settled = due == wanted[-1]

    def _first_not_here(self, windows: list[Window]) -> Window | None:
        known = ((window, self._windows.get(window)) for window in windows)
        return next((window for window, held in known if held is None or held.waiting), None)

    def release(self) -> None:
        """Drop the windows and their memory."""
        with self._changed:
            for window in list(self._windows):
                self._drop(window)
            self._memory.clear()
            self._served = None, None

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

    def _following(self, window: Window) -> Window:
        if window.number + 1 < self._plan.num_windows(window.epoch):
            return Window(window.epoch, window.number + 1)
        return Window(window.epoch + 1, 0)

    def _forget(self, windows: list[Window]) -> None:
        """Note that a thread has its rows of these windows."""
        with self._changed:
            self._wanted.subtract(windows)
            self._wanted += Counter()  # drops what nobody wants
            self._changed.notify_all()

    def _unpin(self, held: ResidentWindow) -> None:
        with self._changed:
            held.pins -= 1
            self._changed.notify_all()

    def _pin(self, window: Window, step: int) -> ResidentWindow:
        """Return a window that stays until it is unpinned, loaded with whoever else waits."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    window in self._windows
                    or (
                        not any(other < step for other in self._starting)
                        and self._make_room(window)
                    )
                )
            )
            held = self._windows.get(window)
            if held is None:
                held = self._enter(window)
            else:
                held.pins += 1
        self._load(window, held)
        # Another thread failed to load it: fail here too, with the file's own words.
        return self._pin(window, step) if held.has_failed else held

    def _read_ahead(self, current: Window, window: Window) -> None:
        """Load a window, with whoever else loads it."""
        if window not in self._windows:
            self._prefetcher.look_at(window)
        with self._changed:
            held = self._windows.get(window)
            if self._served[0] != current:  # it took so long to come to this that it is over
                return
            if held is not None:
                held.pins += 1
            elif self._make_room(window, keep=current):
                held = self._enter(window)
            else:
                self._is_settled = False
                return
        try:
            # After an error, whoever needs the window meets it again.
            self._load(window, held, looks_at=self._following(window))
        finally:
            self._unpin(held)

    def _make_room(self, window: Window, keep: Window | None = None) -> bool:
        """Say whether a window may come in now, dropping one that nobody needs before it.

        Room is left for earlier windows that others wait for. The earliest of all that are waited
        for can therefore always come in: what is in memory is in use, and soon is not, or is only
        wanted later.
        """
        idle = [
            other
            for other, held in self._windows.items()
            if held.pins == 0 and other != keep and (other not in self._wanted or other > window)
        ]
        earlier = sum(other < window and other not in self._windows for other in self._wanted)
        free = self._most - len(self._windows)
        if free + len(idle) <= earlier:
            return False
        if free <= 0:
            self._drop(min(idle, key=lambda other: (other in self._wanted, other)))
        return True

    def _drop(self, window: Window) -> None:
        """Drop a window unless it is in use."""
        held = self._windows[window]
        if held.pins == 0:
            self._is_settled = False
            del self._windows[window]
            held.arrays = {}  # a thread that has just let go of it may still have a name for it
            self._changed.notify_all()

    def _enter(self, window: Window) -> ResidentWindow:
        """Make place for a window."""
        contents = self._prefetcher.tell(window)
        arrays = self._arrays(len(contents.rows))
        held = ResidentWindow(arrays, contents.rows, contents.order, contents.pieces)
        self._windows[window] = held
        return held

    def _arrays(self, num_rows: int) -> Arrays:
        """Return arrays with room for a window, and memory that has room for any other."""
        if num_rows > self._most_rows:
            self._most_rows = num_rows
            columns = self._source.columns.values()
            window = sum(round_up(num_rows * column.loaded_row_bytes) for column in columns)
            # No more than the windows take, although callers may bring back a whole epoch at once.
            self._memory = Memory(most_free=self._most * window)
        return {
            name: self._memory.empty((self._most_rows, *c.stored_shape), c.loaded_dtype)[:num_rows]
            for name, c in self._source.columns.items()
        }

    def _load(self, window: Window, held: ResidentWindow, looks_at: Window | None = None) -> None:
        """Load pieces of a window until none is left, then wait for those that others load.

        In between, look at what another window consists of.
        """
        while (piece := self._claim(held)) is not None:
            try:
                self._source.load_rows_to(piece.rows, held.arrays, piece.places, piece.share)
            except BaseException:
                with self._changed:
                    held.num_loading -= 1
                    held.waiting.clear()
                    held.has_failed = True
                    self._failed = window
                    self._is_settled = False
                    if self._windows.get(window) is held:
                        self._windows.pop(window)
                    self._changed.notify_all()
                raise
            with self._changed:
                held.num_loading -= 1
                held.is_here = not held.waiting and not held.num_loading and not held.has_failed
                if held.is_here:
                    self._changed.notify_all()
            if looks_at is not None and not self._prefetcher.is_looking:
                self._prefetcher.look_at(looks_at)
        with self._changed:
            self._changed.wait_for(lambda: held.is_here or held.has_failed)

    def _claim(self, held: ResidentWindow) -> Piece | None:
        with self._changed:
            if not held.waiting:
                return None
            held.num_loading += 1
            return held.waiting.pop()
