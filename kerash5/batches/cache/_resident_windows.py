"""The windows in memory, and the threads that wait for windows.

`_window_loader` loads them.
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
    """Admits and evicts windows; at most `max_windows` are in memory.

    A thread that needs a further window blocks until an unpinned one can be evicted. A thread uses
    one window at a time, and the earliest window that a thread waits for is admitted first, so that
    no thread waits forever. The memory of a window is reused for the next one once its last batch
    has been freed.

    Args:
        source: The columns of the windows.
        max_windows: Maximum number of windows in memory.
    """

    def __init__(self, source: Source, max_windows: int) -> None:
        self._source = source
        self._max_windows = max_windows
        self.changed = threading.Condition()  # guards this object and every window in it
        # Whether the loader has nothing left to begin. Evicting a window resets it.
        self.is_settled = False
        self.memory = Memory(most_free=0)  # replaced when the first window is admitted
        self._windows: dict[Window, ResidentWindow] = {}
        self._max_rows = 0
        self._wanted: Counter[Window] = Counter()  # by threads that have not read their rows yet
        self._starting: list[int] = []  # steps whose windows are not known yet

    def __contains__(self, window: Window) -> bool:
        return window in self._windows

    def numbers(self) -> list[Window]:
        """Return the windows that are in memory or being loaded."""
        return list(self._windows)

    def get(self, window: Window) -> ResidentWindow | None:
        """Return a window, not pinned; None if not in memory. Requires the lock `changed`."""
        return self._windows.get(window)

    def register(self, step: int, find_spans: Callable[[int], list[Span]]) -> list[Span]:
        """Return the spans of a step, and register the windows that it needs.

        The step is registered before its spans are computed. Otherwise a faster thread with a later
        step could have its window admitted instead of the one of the earlier step.
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
        """Record that a thread has read its rows of these windows."""
        with self.changed:
            self._wanted.subtract(windows)
            self._wanted += Counter()  # drops zero counts
            self.changed.notify_all()

    def pin(
        self, window: Window, step: int, find_contents: Callable[[Window], Contents]
    ) -> ResidentWindow:
        """Wait until a window is resident, then pin and return it. It may not be loaded yet."""
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
        """Pin and return a window; None if it cannot be admitted now.

        Requires the lock `changed`.

        Args:
            window: The window.
            keep: A window that must not be evicted for it.
            find_contents: Returns the contents of a window.
        """
        found = self._windows.get(window)
        if found is None:
            has_room = self._make_room(window, keep)
            return self._admit(window, find_contents(window)) if has_room else None
        found.pins += 1
        return found

    def unpin(self, resident: ResidentWindow) -> None:
        """Unpin a window, so that it can be evicted."""
        with self.changed:
            resident.pins -= 1
            self.changed.notify_all()

    def discard(self, window: Window, resident: ResidentWindow) -> None:
        """Remove a window that failed to load, pinned or not. Requires the lock `changed`."""
        self.is_settled = False
        if self._windows.get(window) is resident:
            self._windows.pop(window)
        self.changed.notify_all()

    def keep_only(self, windows: Collection[Window]) -> None:
        """Evict all other windows that no thread uses or waits for. Requires the lock `changed`."""
        for window in self.numbers():
            if window not in windows and window not in self._wanted:
                self._evict(window)

    def clear(self) -> None:
        """Evict all unpinned windows, and release their memory."""
        with self.changed:
            for window in self.numbers():
                self._evict(window)
            self.memory.clear()

    def _make_room(self, window: Window, keep: Window | None = None) -> bool:
        """Return whether a window can be admitted now; evict one that is not needed sooner.

        One free slot is reserved for each earlier window that a thread waits for. So the earliest
        of these can always be admitted: each window in memory is either pinned for a short time, or
        only needed later.
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
        """Remove a window unless it is pinned."""
        resident = self._windows[window]
        if resident.pins == 0:
            self.is_settled = False
            del self._windows[window]
            # A thread that has just unpinned it may still have a reference to it.
            resident.arrays = {}
            self.changed.notify_all()

    def _admit(self, window: Window, contents: Contents) -> ResidentWindow:
        arrays = self._allocate(len(contents.rows))
        resident = ResidentWindow(arrays, contents.rows, contents.order, contents.pieces)
        self._windows[window] = resident
        return resident

    def _allocate(self, num_rows: int) -> Arrays:
        """Return arrays for a window, in memory that is large enough to be reused for any other."""
        if num_rows > self._max_rows:
            self._max_rows = num_rows
            columns = self._source.columns.values()
            window = sum(round_up(num_rows * column.loaded_row_bytes) for column in columns)
            # Limited to the size of the windows, although callers may free a whole epoch at once.
            self.memory = Memory(most_free=self._max_windows * window)
        return {
            name: self.memory.empty((self._max_rows, *c.stored_shape), c.loaded_dtype)[:num_rows]
            for name, c in self._source.columns.items()
        }
