"""Loading of windows: by the threads that need them, and ahead by helper threads."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import final

from kerash5.batches.cache._resident_windows import ResidentWindows
from kerash5.batches.cache._window import Piece, Prefetcher, ResidentWindow, next_window
from kerash5.h5 import Source
from kerash5.order._orders import Window
from kerash5.order._plan import Plan


@final
class WindowLoader:
    """Loads windows in pieces, on all threads that need the window or help to load it.

    Args:
        source: The columns of the windows.
        plan: The order; it has windows.
        windows: The windows in memory.
        prefetcher: Computes the contents of windows, before `windows.changed` is locked.
        max_ahead: How many windows `advance` loads, including the one being served.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        windows: ResidentWindows,
        prefetcher: Prefetcher,
        *,
        max_ahead: int,
    ) -> None:
        self._source = source
        self._plan = plan
        self._windows = windows
        self._prefetcher = prefetcher
        self._max_ahead = max_ahead
        self._helpers: list[tuple[Future[None], Window]] = []  # with the window that each loads
        self._served: tuple[Window | None, Executor | None] = None, None  # by `advance`, last
        self._failed: Window | None = None

    def advance(self, current: Window, executor: Executor, helpers: int) -> None:
        """Evict the windows before `current`, and load it and the one after it on threads.

        Args:
            current: The window being served.
            executor: Its threads load the windows.
            helpers: How many threads to use; 0 if the thread that reads a step loads its window.
        """
        windows = self._windows
        is_same = self._served == (current, executor)
        if is_same and windows.is_settled:
            return
        following = next_window(self._plan, current)
        with windows.changed:
            if not is_same:
                self._served, windows.is_settled = (current, executor), False
                windows.keep_only({current, following})
            wanted = [current, following][: self._max_ahead]
            if not helpers:  # the thread that reads the step loads its window
                if current not in windows:
                    return
                wanted = wanted[1:]
            due = self._first_not_here(wanted)
            windows.is_settled = due is None
            # A window that failed to load is retried by the thread that needs it.
            if due is None or due == self._failed:
                return
            self._helpers = [each for each in self._helpers if not each[0].done()]
            num_there = sum(window == due for _, window in self._helpers)
            for _ in range(num_there, max(1, helpers)):
                future = executor.submit(self._read_ahead, current, due)
                self._helpers.append((future, due))
            # Helpers run until the whole window is loaded.
            windows.is_settled = due == wanted[-1]

    def _first_not_here(self, windows: list[Window]) -> Window | None:
        known = ((window, self._windows.get(window)) for window in windows)
        return next(
            (window for window, resident in known if resident is None or resident.waiting), None
        )

    def stop(self) -> None:
        """Make helpers that have not begun do nothing. Requires the lock `windows.changed`."""
        self._served = None, None

    def _read_ahead(self, current: Window, window: Window) -> None:
        """Load a window, together with other threads that load it."""
        if window not in self._windows:
            self._prefetcher.look_at(window)
        with self._windows.changed:
            if self._served[0] != current:  # the task started too late: another window is served
                return
            resident = self._windows.try_pin(window, current, self._prefetcher.tell)
            if resident is None:
                self._windows.is_settled = False
                return
        try:
            # After an error, the thread that needs the window raises it again.
            self.load(window, resident, looks_at=next_window(self._plan, window))
        finally:
            self._windows.unpin(resident)

    def load(
        self, window: Window, resident: ResidentWindow, looks_at: Window | None = None
    ) -> None:
        """Load pieces of a pinned window until none is left, then wait for those of other threads.

        If another thread failed, `resident.has_failed` is set and nothing is raised.

        Args:
            window: Which window it is.
            resident: The window.
            looks_at: A window whose contents are computed in between.
        """
        changed = self._windows.changed
        while (piece := self._claim(resident)) is not None:
            try:
                self._source.load_rows_to(piece.rows, resident.arrays, piece.positions, piece.shard)
            except BaseException:
                with changed:
                    resident.num_loading -= 1
                    resident.waiting.clear()
                    resident.has_failed = True
                    self._failed = window
                    self._windows.discard(window, resident)
                raise
            with changed:
                resident.num_loading -= 1
                resident.is_here = not (
                    resident.waiting or resident.num_loading or resident.has_failed
                )
                if resident.is_here:
                    changed.notify_all()
            if looks_at is not None and not self._prefetcher.is_looking:
                self._prefetcher.look_at(looks_at)
        with changed:
            changed.wait_for(lambda: resident.is_here or resident.has_failed)

    def _claim(self, resident: ResidentWindow) -> Piece | None:
        with self._windows.changed:
            if not resident.waiting:
                return None
            resident.num_loading += 1
            return resident.waiting.pop()
