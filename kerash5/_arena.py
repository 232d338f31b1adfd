"""Where the rows of batches come from: straight from the file, or from memory within a budget.

Three stores, one answer. `DirectRows` reads each batch. `ResidentRows` keeps what was read, where
all of it fits. `WindowRows` holds the window being served and the next one. What to keep and what
to drop follows from the plan: nothing is guessed.
"""

from __future__ import annotations

import os
import re
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Final, final
from weakref import WeakSet

import numpy as np
import psutil
from numpy.typing import NDArray

from kerash5._blocks import Blocks
from kerash5._errors import OptionError
from kerash5._plan import Plan, Window
from kerash5.h5 import Source

Arrays = dict[str, np.ndarray]

# CIFAR-10 fits, and a fit stays within 300 MB of its model's own memory.
AUTO_CACHE_BYTES: Final = 160 << 20
INDEX_BYTES: Final = 16  # what a window knows of a row beside its data: two numbers
_AUTO_FREE_SHARE: Final = 0.25
_MAX_WINDOWS: Final = 2
_ABSENT, _COMING, _HERE = 0, 1, 2  # what is known of a block
_UNITS: Final = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)(b?)\s*", re.IGNORECASE)


def parse_cache(cache: float | str) -> int:
    """Return the bytes that `cache` allows.

    Args:
        cache: Bytes, a size such as "2GB" or "512 MiB", a fraction of free memory such as 0.5, or
            "auto": 160 MiB, or a quarter of free memory if that is less.

    Raises:
        OptionError: It is none of these.
    """
    free = psutil.virtual_memory().available
    if cache == "auto":
        return min(AUTO_CACHE_BYTES, int(free * _AUTO_FREE_SHARE))
    number = _parse_size(cache) if isinstance(cache, str) else cache
    if isinstance(number, float | np.floating) and 0 <= number <= 1:
        return int(free * float(number))
    is_number = isinstance(number, int | float | np.integer | np.floating)
    if number is None or not is_number or isinstance(number, bool) or number < 0 or number % 1:
        raise OptionError(
            f"cache={cache!r}; give bytes, a size such as '2GB', a fraction of free memory such as "
            "0.5, or 'auto'"
        )
    return int(number)


def _parse_size(text: str) -> float | None:
    """Return bytes for a text with a unit, the number itself for one without, None for others."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        return None
    if not match[2] and not match[3]:
        return float(match[1]) if "." in match[1] else int(match[1])
    return int(float(match[1]) * _UNITS[match[2].lower()])


class AbstractRows(ABC):
    """Gives the loaded rows of any step; thread-safe."""

    @abstractmethod
    def take(self, step: int) -> Arrays:
        """Return the loaded rows of one batch, one array per column, the caller's to keep."""

    @abstractmethod
    def is_in_memory(self) -> bool:
        """Whether every batch is now a gather in memory, so that reading ahead gains nothing."""

    @abstractmethod
    def advance(self, oldest: int, executor: Executor) -> None:
        """Learn that no step before `oldest` will come again; read in the background what will."""

    @abstractmethod
    def release(self) -> None:
        """Let go of what the next epoch can do without."""

    @abstractmethod
    def describe(self) -> str:
        """Say in words where rows come from."""


@final
class DirectRows(AbstractRows):
    """Reads each batch when it is asked for, and keeps nothing."""

    def __init__(self, source: Source, plan: Plan, reason: str) -> None:
        self._source = source
        self._plan = plan
        self._reason = reason

    def take(self, step: int) -> Arrays:
        """Return the loaded rows of one batch."""
        return self._source.load_rows(self._plan.rows(step))

    def is_in_memory(self) -> bool:
        """Return False: each batch is read."""
        return False

    def advance(self, oldest: int, executor: Executor) -> None:
        """Do nothing: there is nothing to drop or fetch."""

    def release(self) -> None:
        """Do nothing: nothing is held."""

    def describe(self) -> str:
        """Say in words where rows come from."""
        return f"each batch is read when it is due, {self._reason}"


class _Resident:
    """The blocks that have been read, of all that will be; shared by all plans of the same rows."""

    def __init__(self, source: Source, blocks: Blocks, rows: NDArray[np.int64] | None) -> None:
        self._source = source
        self._blocks = blocks
        self._touched = np.arange(len(blocks)) if rows is None else np.unique(blocks.of_rows(rows))
        self._starts, self._stops = blocks.bounds(self._touched)
        self._places = np.concatenate([[0], np.cumsum(self._stops - self._starts)])
        self._setup()

    def _setup(self) -> None:
        self._arrays: Arrays = {}
        self._state = np.full(len(self._touched), _ABSENT, np.int8)
        self._changed = threading.Condition()
        self.is_complete = False
        _STORES.add(self)

    def __getstate__(self) -> dict[str, object]:
        made_anew = ("_arrays", "_state", "_changed", "is_complete")
        return {name: value for name, value in self.__dict__.items() if name not in made_anew}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._setup()

    def after_fork(self) -> None:
        """Keep what was read; what other threads were reading stayed in the parent process."""
        self._changed = threading.Condition()
        self._state[self._state == _COMING] = _ABSENT

    @property
    def num_bytes(self) -> int:
        """Bytes held when everything has been read."""
        return int(self._places[-1]) * self._source.row_bytes

    def includes(self, rows: NDArray[np.int64] | None) -> bool:
        """Whether the blocks of these rows (of all rows if None) are among those read here."""
        if len(self._touched) == len(self._blocks):
            return True
        return rows is not None and bool(np.isin(self._blocks.of_rows(rows), self._touched).all())

    def take(self, rows: NDArray[np.int64]) -> Arrays:
        """Return rows, reading the blocks that are not here yet."""
        blocks = self._blocks.of_rows(rows)
        has_all = len(self._touched) == len(self._blocks)
        slots = blocks if has_all else np.searchsorted(self._touched, blocks)
        self._source.check_unchanged()
        if not self.is_complete:
            self._ensure(np.unique(slots))
        places = rows - self._starts[slots] + self._places[slots]
        return {name: np.take(array, places, axis=0) for name, array in self._arrays.items()}

    def _ensure(self, slots: NDArray[np.int64]) -> None:
        """Read these blocks, together with the other threads that need them."""
        with self._changed:
            if not self._arrays:
                self._arrays = self._source.allocate(int(self._places[-1]))
        while (slot := self._claim(slots)) is not None:
            try:
                self._read(slot)
            finally:
                with self._changed:
                    if self._state[slot] == _COMING:  # after an error
                        self._state[slot] = _ABSENT
                    self._changed.notify_all()
        with self._changed:
            self._changed.wait_for(lambda: not (self._state[slots] == _COMING).any())
            self.is_complete = bool((self._state == _HERE).all())
        if (self._state[slots] == _ABSENT).any():
            # Another thread failed to read one: fail here too, with the file's own words.
            self._ensure(slots)

    def _claim(self, slots: NDArray[np.int64]) -> int | None:
        """Return a block that nobody reads yet, now this thread's; None if there is none."""
        with self._changed:
            absent = np.flatnonzero(self._state[slots] == _ABSENT)
            if not len(absent):
                return None
            slot = int(slots[absent[0]])
            self._state[slot] = _COMING
            return slot

    def _read(self, slot: int) -> None:
        begin, end = int(self._places[slot]), int(self._places[slot + 1])
        out = {name: array[begin:end] for name, array in self._arrays.items()}
        self._source.load_range(int(self._starts[slot]), int(self._stops[slot]), out)
        self._state[slot] = _HERE


@final
class ResidentRows(AbstractRows):
    """Keeps every block it has read; for plans whose blocks all fit the budget."""

    def __init__(
        self, source: Source, plan: Plan, blocks: Blocks, held: _Resident | None = None
    ) -> None:
        self._source = source
        self._plan = plan
        self._blocks = blocks
        self._held = held or _Resident(source, blocks, plan.rows_to_serve)

    def take(self, step: int) -> Arrays:
        """Return the loaded rows of one batch."""
        return self._held.take(self._plan.rows(step))

    def is_in_memory(self) -> bool:
        """Whether all blocks have been read."""
        return self._held.is_complete

    def advance(self, oldest: int, executor: Executor) -> None:
        """Do nothing: everything is kept, and batches read what they miss."""

    def release(self) -> None:
        """Do nothing: what is held is within the budget, and will be wanted again."""

    def includes(self, rows: NDArray[np.int64] | None) -> bool:
        """Whether these rows (all rows if None) are among those this store keeps."""
        return self._held.includes(rows)

    def with_plan(self, plan: Plan) -> ResidentRows:
        """Return a store for another plan over the same rows; both share what was read."""
        return ResidentRows(self._source, plan, self._blocks, self._held)

    def describe(self) -> str:
        """Say in words where rows come from."""
        size = f"{self._held.num_bytes / 1e6:.1f} MB decoded"
        return f"rows stay in memory once read ({size}, within the cache)"


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
class WindowRows(AbstractRows):
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
        _STORES.add(self)

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
        self._source.check_unchanged()
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


# The stores of this process. A forked child inherits their locks and half-read blocks, but not the
# threads that would free and finish them.
_STORES: Final[WeakSet[_Resident | WindowRows]] = WeakSet()


def _after_fork() -> None:
    for store in list(_STORES):
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
