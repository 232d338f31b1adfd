"""The store that holds the window being served and the next one, for data larger than the cache."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5._arena._resident import HeldBlocks
from kerash5._arena._rows import AbstractRows, Arrays, Shared
from kerash5._blocks import Blocks
from kerash5._plan import Plan, Window
from kerash5.h5 import Source

INDEX_BYTES: Final = 16  # what a window knows of a row beside its data: two numbers
# Pieces that a window is loaded in, so that no thread waits long for the last one.
_FEWEST_PIECES: Final = 16


@dataclass(frozen=True, slots=True)
class _Piece:
    """Something to load by one thread: rows [start, stop), or a share of their chunks."""

    start: int
    stop: int
    place: int  # of its first row in the window's arrays
    share: tuple[int, int]  # the how manyeth of how many


@dataclass(slots=True, eq=False)
class _Held:
    """A window in memory, or on its way there. It stays as long as somebody has it pinned."""

    arrays: Arrays
    rows: NDArray[np.int64]
    places: NDArray[np.int64] | None  # of its rows in the arrays; None: one after another
    waiting: list[_Piece]  # what is still to be loaded
    pins: int = 1
    is_here: bool = False
    has_failed: bool = False
    num_loading: int = 0


@final
class WindowRows(AbstractRows, Shared):
    """Holds two windows of a plan that has windows: the one being served, and the next.

    Never more than `most`, whoever asks for what: a thread that needs another one waits until one
    of them is in nobody's use. A thread uses one window at a time, and the earliest window that
    somebody waits for is loaded first, so that none waits for ever. The arrays of a window that is
    done with serve the next one: new memory costs a fifth of the time of decoding into it.

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
        kept: HeldBlocks | None = None,
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
        self._windows: dict[Window, _Held] = {}
        self._spare: list[Arrays] = []  # of windows that are gone
        self._wanted: Counter[Window] = Counter()  # by threads that have not taken their rows yet
        self._starting: list[int] = []  # steps of which it is not known yet what they want
        self._prefetch: Future[None] | None = None
        self._failed: Window | None = None
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
        parts = self._begin(step)
        wanted = [window for window, _ in parts]
        try:
            # One file is checked whatever the rows, and finding them costs more than that.
            self._source.check_unchanged(
                None if len(self._source.paths) == 1 else self._plan.rows(step)
            )
            rows = np.empty(sum(len(places) for _, places in parts), np.int64)
            found = {
                name: np.empty((len(rows), *column.stored_shape), column.loaded_dtype)
                for name, column in self._source.columns.items()
            }
            end = 0
            for window, places in parts:
                begin, end = end, end + len(places)
                out = {name: array[begin:end] for name, array in found.items()}
                held = self._pin(window, step)
                try:
                    _gather(held, places, out, rows[begin:end])
                finally:
                    self._unpin(held)
                self._forget([wanted.pop(0)])
        finally:
            self._forget(wanted)
        if self._kept is None:
            return found
        found |= self._kept.take(rows)
        return {name: found[name] for name in self._names}

    def _begin(self, step: int) -> list[tuple[Window, NDArray[np.int64]]]:
        """Return the parts of a step, and let everybody know which windows it wants.

        At once: a later step, on a faster thread, would take the place of an earlier one's window.
        """
        with self._changed:
            self._starting.append(step)
        parts: list[tuple[Window, NDArray[np.int64]]] = []
        try:
            parts = self._plan.parts(step)
        finally:
            with self._changed:
                self._starting.remove(step)
                self._wanted.update(window for window, _ in parts)
                self._changed.notify_all()
        return parts

    def is_in_memory(self) -> bool:
        """Return False: windows come and go."""
        return False

    def advance(self, oldest: int, executor: Executor) -> None:
        """Drop the windows before step `oldest`, and read the one after the one it is in."""
        current = self._plan.parts(oldest)[0][0]
        following = self._following(current)
        with self._changed:
            for window in list(self._windows):
                if window not in {current, following} and window not in self._wanted:
                    self._drop(window)
            is_due = current in self._windows and following not in self._windows
            is_free = self._prefetch is None or self._prefetch.done()
            # What failed to load is tried again by who needs it.
            if self._most > 1 and is_due and is_free and following != self._failed:
                self._prefetch = executor.submit(self._read_ahead, current, following)

    def release(self) -> None:
        """Drop the windows and their memory."""
        with self._changed:
            for window in list(self._windows):
                self._drop(window)
            self._spare.clear()

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

    def _unpin(self, held: _Held) -> None:
        with self._changed:
            held.pins -= 1
            self._changed.notify_all()

    def _pin(self, window: Window, step: int) -> _Held:
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

    def _read_ahead(self, current: Window, following: Window) -> None:
        with self._changed:
            if following in self._windows or not self._make_room(following, keep=current):
                return
            held = self._enter(following)
        try:
            self._load(following, held)  # after an error, whoever needs the window meets it again
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
        """Drop a window unless it is in use; its memory serves the next one."""
        held = self._windows[window]
        if held.pins == 0:
            del self._windows[window]
            self._spare.append(held.arrays)
            self._changed.notify_all()

    def _enter(self, window: Window) -> _Held:
        """Make place for a window: block by block, each from its first row wanted to its last."""
        rows = self._plan.window_rows(window)
        changes = np.flatnonzero(np.diff(self._blocks.of_rows(rows))) + 1
        edges = np.concatenate([[0], changes, [len(rows)]])
        starts, stops = rows[edges[:-1]], rows[edges[1:] - 1] + 1
        ends = np.concatenate([[0], np.cumsum(stops - starts)])
        places = rows - np.repeat(starts - ends[:-1], np.diff(edges))
        shares = min(self._source.num_shares, -(-_FEWEST_PIECES // len(starts)))
        bounds = zip(starts.tolist(), stops.tolist(), ends.tolist(), strict=False)
        pieces = [_Piece(*bound, (share, shares)) for bound in bounds for share in range(shares)]
        held = self._windows[window] = _Held(
            self._arrays(int(ends[-1])),
            rows,
            None if bool((np.diff(places) == 1).all()) else places,
            pieces[::-1],
        )
        return held

    def _arrays(self, num_rows: int) -> Arrays:
        """Return arrays with room for a window: used ones where there are such."""
        if self._spare and len(next(iter(self._spare[-1].values()))) >= num_rows:
            return self._spare.pop()
        self._spare.clear()
        largest = self._plan.window_blocks * self._blocks.block_rows
        return self._source.allocate(max(num_rows, min(largest, self._blocks.num_rows)))

    def _load(self, window: Window, held: _Held) -> None:
        """Load pieces of a window until none is left, then wait for those that others load."""
        while (piece := self._claim(held)) is not None:
            try:
                end = piece.place + piece.stop - piece.start
                out = {name: array[piece.place : end] for name, array in held.arrays.items()}
                self._source.load_range(piece.start, piece.stop, out, piece.share)
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
                if held.is_here:
                    self._changed.notify_all()
        with self._changed:
            self._changed.wait_for(lambda: held.is_here or held.has_failed)

    def _claim(self, held: _Held) -> _Piece | None:
        with self._changed:
            if not held.waiting:
                return None
            held.num_loading += 1
            return held.waiting.pop()


def _gather(
    held: _Held, positions: NDArray[np.int64], out: Arrays, numbers: NDArray[np.int64]
) -> None:
    """Take some rows of a window, by their positions in it, and their numbers in the source."""
    places = positions if held.places is None else held.places[positions]
    for name, array in out.items():
        # The places are known to be right, and with "raise" NumPy would copy twice.
        np.take(held.arrays[name], places, axis=0, out=array, mode="clip")
    np.take(held.rows, positions, out=numbers, mode="clip")
