"""Which windows are in memory, and which threads wait for which.

What loads them is `_window_loader`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import final

from kerash5.batches.cache._store import Arrays
from kerash5.batches.cache._window import Contents, ResidentWindow
from kerash5.h5 import Source
from kerash5.h5.reading._buffers import Memory, round_up
from kerash5.order._orders import Span, Window


@final
class ResidentWindows:
    """Decides which windows are in memory, at most `max_windows`.

    A thread that needs a further window blocks until an unpinned one can be evicted. A thread uses
    one window at a time, and the earliest window that somebody waits for is admitted first, so that
    none waits for ever. The memory of a window serves the next one, as soon as its last batch is
    gone.

    Args:
        source: The columns that windows hold.
        max_windows: How many windows there is memory for.
    """

    def __init__(self, source: Source, max_windows: int) -> None:
        self._source = source
        self._max_windows = max_windows
        self.changed = threading.Condition()  # guards this object and every window in it
        # Whether the loader has nothing left to begin. A window that leaves unsets it.
        self.is_settled = False
        self.memory = Memory(most_free=0)  # made anew when the first window comes
        self._windows: dict[Window, ResidentWindow] = {}
        self._max_rows = 0
        self._wanted: Counter[Window] = Counter()  # by threads that have not taken their rows yet
        self._starting: list[int] = []  # steps of which it is not known yet what they want

    def __contains__(self, window: Window) -> bool:
        return window in self._windows

    def numbers(self) -> list[Window]:
        """Return the windows that are in memory or on their way there."""
        return list(self._windows)

    def get(self, window: Window) -> ResidentWindow | None:
        """Return a window, not pinned; None where it is not in memory. Call with `changed` held."""
        return self._windows.get(window)

    def register(self, step: int, find_spans: Callable[[int], list[Span]]) -> list[Span]:
        """Return the spans of a step, and let everybody know which windows it wants.

        At once: a later step, on a faster thread, would take the place of an earlier one's window.
        """
        with self.changed:
            self._starting.append(step)
        spans: list[Span] = []
        try:
            spans = find_spans(step)
        finally:
            with self.changed:
                self._starting.remove(step)
                self._wanted.update(span.window for span in spans)
                self.changed.notify_all()
        return spans

    def unregister(self, windows: Collection[Window]) -> None:
        """Note that a thread has its rows of these windows."""
        with self.changed:
            self._wanted.subtract(windows)
            self._wanted += Counter()  # drops what nobody wants
            self.changed.notify_all()

    def pin(
        self, window: Window, step: int, find_contents: Callable[[Window], Contents]
    ) -> ResidentWindow:
        """Wait until a window is resident; return it, pinned. It may still have to be loaded."""
        with self.changed:
            self.changed.wait_for(
                lambda: (
                    window in self._windows
                    or (
                        not any(other < step for other in self._starting)
                        and self._make_room(window)
                    )
                )
            )
            found = self._windows.get(window)
            if found is None:
                return self._admit(window, find_contents(window))
            found.pins += 1
            return found

    def try_pin(
        self, window: Window, keep: Window, find_contents: Callable[[Window], Contents]
    ) -> ResidentWindow | None:
        """Return a window, pinned; None where there is no room for it now.

        Call with `changed` held.

        Args:
            window: The window.
            keep: A window that is not evicted for it.
            find_contents: Returns what it consists of.
        """
        found = self._windows.get(window)
        if found is None:
            has_room = self._make_room(window, keep)
            return self._admit(window, find_contents(window)) if has_room else None
        found.pins += 1
        return found

    def unpin(self, resident: ResidentWindow) -> None:
        """Let a window be evicted again."""
        with self.changed:
            resident.pins -= 1
            self.changed.notify_all()

    def discard(self, window: Window, resident: ResidentWindow) -> None:
        """Drop a window that failed to load, pinned or not. Call with `changed` held."""
        self.is_settled = False
        if self._windows.get(window) is resident:
            self._windows.pop(window)
        self.changed.notify_all()

    def keep_only(self, windows: Collection[Window]) -> None:
        """Evict all other windows that nobody uses or waits for. Call with `changed` held."""
        for window in self.numbers():
            if window not in windows and window not in self._wanted:
                self._evict(window)

    def clear(self) -> None:
        """Evict the windows that nobody uses, and release their memory."""
        with self.changed:
            for window in self.numbers():
                self._evict(window)
            self.memory.clear()

    def _make_room(self, window: Window, keep: Window | None = None) -> bool:
        """Return whether a window may come in now, evicting one that nobody needs before it.

        Room is left for earlier windows that others wait for. The earliest of all that are waited
        for can therefore always come in: what is in memory is in use, and soon is not, or is only
        wanted later.
        """
        idle = [
            other
            for other, resident in self._windows.items()
            if resident.pins == 0
            and other != keep
            and (other not in self._wanted or other > window)
        ]
        earlier = sum(other < window and other not in self._windows for other in self._wanted)
        free = self._max_windows - len(self._windows)
        if free + len(idle) <= earlier:
            return False
        if free <= 0:
            self._evict(min(idle, key=lambda other: (other in self._wanted, other)))
        return True

    def _evict(self, window: Window) -> None:
        """Drop a window unless it is in use."""
        resident = self._windows[window]
        if resident.pins == 0:
            self.is_settled = False
            del self._windows[window]
            # A thread that has just unpinned it may still have a name for it.
            resident.arrays = {}
            self.changed.notify_all()

    def _admit(self, window: Window, contents: Contents) -> ResidentWindow:
        arrays = self._allocate(len(contents.rows))
        resident = ResidentWindow(arrays, contents.rows, contents.order, contents.pieces)
        self._windows[window] = resident
        return resident

    def _allocate(self, num_rows: int) -> Arrays:
        """Return arrays with room for a window, and memory that has room for any other."""
        if num_rows > self._max_rows:
            self._max_rows = num_rows
            columns = self._source.columns.values()
            window = sum(round_up(num_rows * column.loaded_row_bytes) for column in columns)
            # No more than the windows take, although callers may bring back a whole epoch at once.
            self.memory = Memory(most_free=self._max_windows * window)
        return {
            name: self.memory.empty((self._max_rows, *c.stored_shape), c.loaded_dtype)[:num_rows]
            for name, c in self._source.columns.items()
        }
