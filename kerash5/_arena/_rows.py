"""What every store can do, and the one that keeps nothing."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from concurrent.futures import Executor
from typing import Final, final
from weakref import WeakSet

import numpy as np

from kerash5._plan import Plan
from kerash5.h5 import Source

Arrays = dict[str, np.ndarray]


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
