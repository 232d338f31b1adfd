"""The interface of stores, and the base class of objects that threads share across a fork."""

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


def gather_rows(array: np.ndarray, positions: NDArray[np.int64]) -> np.ndarray:
    """Return rows of an array, in memory that is reused; all positions must be in range."""
    out = empty((len(positions), *array.shape[1:]), array.dtype)
    # With mode="raise" NumPy would copy twice.
    return np.take(array, positions, axis=0, out=out, mode="clip")


class AbstractRows(ABC):
    """Returns the loaded rows of any step; thread-safe."""

    @abstractmethod
    def read(self, step: int) -> Arrays:
        """Return the loaded rows of one batch, one new array per column."""

    @abstractmethod
    def is_in_memory(self) -> bool:
        """Return whether all rows are in memory, so that reading ahead gains nothing."""

    def view(self, step: int) -> Arrays:
        """Return the rows of `read`, possibly as views, which keep a larger array in memory."""
        return self.read(step)

    @property
    def serves_views(self) -> bool:
        """Whether `advance` loads rows on threads, so that `view` only returns views of them."""
        return False

    @abstractmethod
    def advance(self, oldest: int, executor: Executor, helpers: int = 0) -> None:
        """Free rows that only steps before `oldest` need; read those of later steps ahead.

        Args:
            oldest: The earliest step that will still be read.
            executor: Its threads read ahead.
            helpers: Number of threads to use if `view` is called next; 0 if other threads call
                `read` for the next steps.
        """

    @abstractmethod
    def release(self) -> None:
        """Free the memory that the next epoch does not need."""

    @abstractmethod
    def describe(self) -> str:
        """Describe where rows come from."""


class Shared(ABC):
    """An object that threads share, and that a fork may copy in the middle of a change."""

    def _share(self) -> None:
        """Register this object, so that `after_fork` is called in every forked child."""
        _SHARED.add(self)

    @abstractmethod
    def after_fork(self) -> None:
        """Reset what threads of the parent process had begun; they do not exist in the child."""


_SHARED: Final[WeakSet[Shared]] = WeakSet()


def _after_fork() -> None:
    for shared in list(_SHARED):
        shared.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
