"""Memory for batches, used again as soon as nobody holds the batch.

A fresh array of a few MB is new pages from the kernel, each of them cleared on its first touch, and
given back when the array goes: on reading threads that took as long as decoding into it. A batch is
the caller's to keep all the same: its memory comes back only when the last view of it is gone.
"""

from __future__ import annotations

import math
from typing import Any, Final, final

import numpy as np
from numpy.typing import DTypeLike

_SMALLEST: Final = 128 << 10  # bytes; below it the C library keeps memory by itself
_GRAIN: Final = 64 << 10  # sizes are rounded up to it: a short last batch fits where another was


def round_up(num_bytes: int) -> int:
    """Return how much memory is taken for an array of so many bytes."""
    return -(-num_bytes // _GRAIN) * _GRAIN


@final
class Memory:
    """Lends arrays, and takes their memory back when they are gone.

    There is no lock: the collector may give memory back at any moment, in any thread, and a child
    may be forked at any moment. Each step is one step of a dict or a list.

    Args:
        most_free: Bytes that may lie about unused.
    """

    def __init__(self, most_free: int) -> None:
        self._most_free = most_free
        self._free: dict[int, list[np.ndarray]] = {}  # by size

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Return an uninitialised array, as `numpy.empty` does."""
        kind = np.dtype(dtype)
        num_bytes = math.prod(shape) * kind.itemsize
        if num_bytes < _SMALLEST or kind.hasobject:
            return np.empty(shape, kind)
        size = round_up(num_bytes)
        try:
            memory = self._free[size].pop()
        except (KeyError, IndexError):
            memory = np.empty(size, np.uint8)
        return np.asarray(_Loan(memory, self))[:num_bytes].view(kind).reshape(shape)

    def give_back(self, memory: np.ndarray) -> None:
        """Keep memory for the next who asks, if there is not too much of it."""
        free = sum(size * len(same) for size, same in list(self._free.items()))
        if free + memory.size <= self._most_free:
            self._free.setdefault(memory.size, []).append(memory)

    def clear(self) -> None:
        """Let go of what is free."""
        self._free.clear()


@final
class _Loan:
    """Lends memory to arrays, all of which hold this; it goes with the last of them."""

    __slots__ = ("_memory", "_owner")

    def __init__(self, memory: np.ndarray, owner: Memory) -> None:
        self._memory = memory
        self._owner = owner

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._memory.__array_interface__

    def __del__(self) -> None:
        self._owner.give_back(self._memory)


_BATCHES: Final = Memory(most_free=64 << 20)


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Return an uninitialised array for a batch, as `numpy.empty` does."""
    return _BATCHES.empty(shape, dtype)
