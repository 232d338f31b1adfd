"""The store that holds the window being served and the next one, for data larger than the cache."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5._arena._rows import AbstractRows, Arrays, Shared
from kerash5._blocks import Blocks
from kerash5._plan import Plan, Window
from kerash5.h5 import Source

INDEX_BYTES: Final = 16  # what a window knows of a row beside its data: two numbers
_MAX_WINDOWS: Final = 2


@dataclass(slots=True, eq=False)
class _Held:
    """A window in memory, or on its way there. It stays as long as somebody has it pinned."""

    pins: int = 1
    is_here: bool = False
    has_failed: bool = False
    arrays: Arrays = field(default_factory=dict)
    places: NDArray[np.int64] | None = None  # of its rows in the arrays; None: one after another
    # Rows [start, stop) of the source still to be loaded, and where they go in the arrays.
    waiting: list[tuple[int, int, int]] = field(default_factory=list)
    num_loading: int = 0


@final
class WindowRows(AbstractRows, Shared):
    """Holds two windows of a plan that has windows: the one being served, and the next.

    Never more than two, whoever asks for what: a thread that needs a third waits until one of them
    is in nobody's use. A thread uses one window at a time, so that none waits for ever.
    """

    def __init__(self, source: Source, plan: Plan, blocks: Blocks) -> None:
        self._source = source
        self._plan = plan
        self._blocks = blocks
        self._setup()

    def _setup(self) -> None:
        self._changed = threading.Condition()
        self._windows: dict[Window, _Held] = {}
        self._prefetch: Future[None] | None = None
        self._failed: Window | None = None
        self._share()

    def __getstate__(self) -> dict[str, object]:
        return {"_source": self._source, "_plan": self._plan, "_blocks": self._blocks}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._setup()

    def after_fork(self) -> None:
        """Begin anew: the threads that load and use windows stayed in the parent process."""
        self._setup()

    def take(self, step: int) -> Arrays:
        """Return the loaded rows of one batch, reading the windows it draws from if need be."""
        # One file is checked whatever the rows, and finding them costs more than that.
        rows = None if len(self._source.paths) == 1 else self._plan.rows(step)
        self._source.check_unchanged(rows)
        taken = [self._gather(window, places) for window, places in self._plan.parts(step)]
        if len(taken) == 1:
            return taken[0]
        return {name: np.concatenate([part[name] for part in taken]) for name in taken[0]}

    def is_in_memory(self) -> bool:
        """Return False: windows come and go."""
        return False

    def advance(self, oldest: int, executor: Executor) -> None:
        """Drop the windows before step `oldest`, and read the one after the one it is in."""
        current = self._plan.parts(oldest)[0][0]
        following = self._following(current)
        with self._changed:
            self._drop_idle(keep=(current, following))
            is_due = current in self._windows and following not in self._windows
            is_free = self._prefetch is None or self._prefetch.done()
            # What failed to load is tried again by who needs it.
            if is_due and is_free and following != self._failed:
                self._prefetch = executor.submit(self._read_ahead, current, following)

    def release(self) -> None:
        """Drop both windows."""
        with self._changed:
            self._drop_idle()

    def describe(self) -> str:
        """Say in words where rows come from."""
        return (
            "two windows are in memory at a time: the one being served, and the next one being read"
        )

    def _following(self, window: Window) -> Window:
        if window.number + 1 < self._plan.num_windows(window.epoch):
            return Window(window.epoch, window.number + 1)
        return Window(window.epoch + 1, 0)

    def _gather(self, window: Window, rows: NDArray[np.int64]) -> Arrays:
        """Return some rows of a window, by their positions in it."""
        held = self._pin(window)
        try:
            places = rows if held.places is None else held.places[rows]
            return {name: np.take(array, places, axis=0) for name, array in held.arrays.items()}
        finally:
            self._unpin(held)

    def _pin(self, window: Window) -> _Held:
        """Return a window that stays until it is unpinned, loaded with whoever else waits."""
        with self._changed:
            self._changed.wait_for(lambda: window in self._windows or self._make_room())
            held = self._windows.get(window)
            if held is None:
                held = self._enter(window)
            else:
                held.pins += 1
        self._load(window, held)
        # Another thread failed to load it: fail here too, with the file's own words.
        return self._pin(window) if held.has_failed else held

    def _unpin(self, held: _Held) -> None:
        with self._changed:
            held.pins -= 1
            self._changed.notify_all()

    def _read_ahead(self, current: Window, following: Window) -> None:
        with self._changed:
            if following in self._windows or not self._make_room(keep=(current,)):
                return
            held = self._enter(following)
        self._load(following, held)  # after an error, whoever needs the window meets it again
        self._unpin(held)

    def _make_room(self, keep: tuple[Window, ...] = ()) -> bool:
        """Say whether there is room for a window, dropping the earliest that nobody uses."""
        if len(self._windows) < _MAX_WINDOWS:
            return True
        idle = [w for w, held in self._windows.items() if held.pins == 0 and w not in keep]
        if idle:
            self._windows.pop(min(idle))
        return bool(idle)

    def _drop_idle(self, keep: tuple[Window, ...] = ()) -> None:
        for window, held in list(self._windows.items()):
            if held.pins == 0 and window not in keep:
                self._windows.pop(window)
        self._changed.notify_all()

    def _enter(self, window: Window) -> _Held:
        """Make room for a window: block by block, each from its first row wanted to its last."""
        rows = self._plan.window_rows(window)
        changes = np.flatnonzero(np.diff(self._blocks.of_rows(rows))) + 1
        edges = np.concatenate([[0], changes, [len(rows)]])
        starts, stops = rows[edges[:-1]], rows[edges[1:] - 1] + 1
        ends = np.concatenate([[0], np.cumsum(stops - starts)])
        places = rows - np.repeat(starts - ends[:-1], np.diff(edges))
        held = self._windows[window] = _Held(
            arrays=self._source.allocate(int(ends[-1])),
            places=None if bool((np.diff(places) == 1).all()) else places,
            waiting=list(zip(starts.tolist(), stops.tolist(), ends.tolist(), strict=False))[::-1],
        )
        return held

    def _load(self, window: Window, held: _Held) -> None:
        """Load blocks of a window until none is left, then wait for those that others load."""
        while (block := self._claim(held)) is not None:
            start, stop, place = block
            try:
                end = place + stop - start
                out = {name: array[place:end] for name, array in held.arrays.items()}
                self._source.load_range(start, stop, out)
            except BaseException:
                with self._changed:
                    held.num_loading -= 1
                    held.waiting.clear()
                    held.has_failed = True
                    self._failed = window
                    if self._windows.get(window) is held:
                        self._windows.pop(window)
                    self._changed.notify_all()
                raise
            with self._changed:
                held.num_loading -= 1
                held.is_here = not held.waiting and not held.num_loading and not held.has_failed
                self._changed.notify_all()
        with self._changed:
            self._changed.wait_for(lambda: held.is_here or held.has_failed)

    def _claim(self, held: _Held) -> tuple[int, int, int] | None:
        with self._changed:
            if not held.waiting:
                return None
            held.num_loading += 1
            return held.waiting.pop()
