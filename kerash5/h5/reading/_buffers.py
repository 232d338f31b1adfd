"""Memory for batches, reused once a batch has been freed.

A new array of a few MB consists of new pages, which the kernel clears on first use and reclaims
when the array is freed. On reading threads that took as long as decoding into the array. A caller
can keep a batch as long as it likes: its memory is reused only after the last view is freed.
"""

from __future__ import annotations

import math
from typing import Any, Final, final

import numpy as np
from numpy.typing import DTypeLike

_SMALLEST: Final = 128 << 10  # bytes; the C library reuses smaller blocks itself
_GRAIN: Final = (
    64 << 10
)  # sizes are rounded up to this, so that a short last batch can reuse the memory of others


def round_up(num_bytes: int) -> int:
    """Return the bytes allocated for an array of `num_bytes`."""
    return -(-num_bytes // _GRAIN) * _GRAIN


@final
class Memory:
    """Allocates arrays, and reuses their memory after they are freed.

    There is no lock, because the garbage collector may return memory and a child may be forked at
    any time, in any thread. Each operation is one atomic operation of a dict or a list.

    Args:
        most_free: Maximum number of unused bytes to keep.
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
        """Store memory for reuse, unless more than `most_free` bytes would be unused."""
        free = sum(size * len(same) for size, same in list(self._free.items()))
        if free + memory.size <= self._most_free:
            self._free.setdefault(memory.size, []).append(memory)

    def clear(self) -> None:
        """Free all unused memory."""
        self._free.clear()


@final
class _Loan:
    """The base object of arrays; it returns their memory when the last of them is freed."""

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
