"""What every store can do, and what its threads share in a process that may fork."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from concurrent.futures import Executor
from typing import Final
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from kerash5.h5.reading._buffers import empty

Arrays = dict[str, np.ndarray]


def gather_rows(array: np.ndarray, places: NDArray[np.int64]) -> np.ndarray:
    """Return the rows at some places, all of which are there, in memory that is used again."""
    out = empty((len(places), *array.shape[1:]), array.dtype)
    # With "raise" NumPy would copy twice.
    return np.take(array, places, axis=0, out=out, mode="clip")


class AbstractRows(ABC):
    """Gives the loaded rows of any step; thread-safe."""

    @abstractmethod
    def take(self, step: int) -> Arrays:
        """Return the loaded rows of one batch, one array per column, the caller's to keep."""

    @abstractmethod
    def is_in_memory(self) -> bool:
        """Whether every batch is now a gather in memory, so that reading ahead gains nothing."""

    def hand_out(self, step: int) -> Arrays:
        """Return what `take` does; it may be a view of more memory than its own."""
        return self.take(step)

    @property
    def hands_out(self) -> bool:
        """Whether `advance` does the work on threads, and `hand_out` next to none."""
        return False

    @abstractmethod
    def advance(self, oldest: int, executor: Executor, helpers: int = 0) -> None:
        """Learn that no step before `oldest` will come again; read in the background what will.

        Args:
            oldest: The first step that is still to come, or is taken now.
            executor: Its threads may be used.
            helpers: How many of them, if `hand_out` is called next; 0 where other threads call
                `take`, a few steps ahead.
        """

    @abstractmethod
    def release(self) -> None:
        """Let go of what the next epoch can do without."""

    @abstractmethod
    def describe(self) -> str:
        """Say in words where rows come from."""


class Shared(ABC):
    """What several threads of a process hold in common, and a forked child inherits half-done."""

    def _share(self) -> None:
        """Have `after_fork` called in every forked child."""
        _SHARED.add(self)

    @abstractmethod
    def after_fork(self) -> None:
        """Undo what the threads of the parent process, which are not here, had begun."""


_SHARED: Final[WeakSet[Shared]] = WeakSet()


def _after_fork() -> None:
    for shared in list(_SHARED):
        shared.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
