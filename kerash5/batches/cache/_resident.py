"""The store that reads each row once and caches it, in memory or in a scratch file."""

from __future__ import annotations

import threading
from concurrent.futures import Executor
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from kerash5.batches.cache._storage import AbstractStorage, MemoryStorage, ScratchFile
from kerash5.batches.cache._store import AbstractRows, Arrays, Shared
from kerash5.h5 import Runs, Source
from kerash5.order._blocks import Blocks
from kerash5.order._plan import Plan

_ABSENT, _COMING, _HERE = 0, 1, 2  # states of a block
# Decoded bytes that one thread claims at a time; larger claims leave the other threads idle.
_CLAIM_BYTES: Final = 2 << 20


class ResidentBlocks(Shared):
    """The cached blocks of some rows; shared by all plans of these rows."""

    def __init__(
        self,
        source: Source,
        blocks: Blocks,
        rows: NDArray[np.int64] | None,
        scratch: str | None = None,
    ) -> None:
        self.scratch = scratch  # folder of the scratch file; None: in memory
        self._source = source
        self._blocks = blocks
        self._touched = np.arange(len(blocks)) if rows is None else np.unique(blocks.of_rows(rows))
        self._starts, self._stops = blocks.bounds(self._touched)
        self._positions = np.concatenate([[0], np.cumsum(self._stops - self._starts)])
        block_bytes = blocks.block_rows * source.row_bytes
        self._most_at_once = max(1, _CLAIM_BYTES // max(1, block_bytes))
        self._has_all = len(self._touched) == len(blocks)  # then each row's position is its number
        self._setup()

    def _setup(self) -> None:
        self._storage: AbstractStorage | None = None  # created when the first row is read
        self._state = np.full(len(self._touched), _ABSENT, np.int8)
        self._changed = threading.Condition()
        self.is_complete = False
        self._share()

    def __getstate__(self) -> dict[str, object]:
        made_anew = ("_storage", "_state", "_changed", "is_complete")
        return {name: value for name, value in self.__dict__.items() if name not in made_anew}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._setup()

    def after_fork(self) -> None:
        """Keep the cached blocks; reset those that threads of the parent process were reading."""
        self._changed = threading.Condition()
        self._state[self._state == _COMING] = _ABSENT
        if isinstance(self._storage, ScratchFile):
            self._storage.after_fork()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the cached columns."""
        return tuple(self._source.columns)

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows once everything has been read."""
        return int(self._positions[-1]) * self._source.row_bytes

    def includes(self, rows: NDArray[np.int64] | None) -> bool:
        """Return whether the blocks of these rows (all rows if None) are cached here."""
        if self._has_all:
            return True
        return rows is not None and bool(np.isin(self._blocks.of_rows(rows), self._touched).all())

    def read(self, rows: NDArray[np.int64]) -> Arrays:
        """Return rows, reading the blocks that are not cached yet.

        The caller checks that the files of cached blocks are unchanged.
        """
        if self.is_complete and self._has_all and self._storage is not None:
            return self._storage.read(rows)
        blocks = self._blocks.of_rows(rows)
        slots = blocks if self._has_all else np.searchsorted(self._touched, blocks)
        if not self.is_complete:
            self._ensure(np.unique(slots))
        positions = rows - self._starts[slots] + self._positions[slots]
        return self._known_storage().read(positions)

    def _ensure(self, slots: NDArray[np.int64]) -> None:
        """Read these blocks, sharing the work with other threads that need them."""
        self._known_storage()
        while len(mine := self._claim(slots)):
            try:
                self._read(mine)
            finally:
                with self._changed:
                    if self._state[mine[0]] == _COMING:  # after an error
                        self._state[mine] = _ABSENT
                    self._changed.notify_all()
        with self._changed:
            self._changed.wait_for(lambda: not (self._state[slots] == _COMING).any())
            self.is_complete = bool((self._state == _HERE).all())
        if (self._state[slots] == _ABSENT).any():
            # Another thread failed to read one: read it here to raise the same error.
            self._ensure(slots)

    def _claim(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Claim blocks that no thread reads yet for this thread, and return them, possibly none."""
        with self._changed:
            mine = slots[np.flatnonzero(self._state[slots] == _ABSENT)[: self._most_at_once]]
            self._state[mine] = _COMING
            return mine

    def _read(self, slots: NDArray[np.int64]) -> None:
        runs = Runs(self._starts[slots], self._stops[slots], self._positions[slots])
        self._known_storage().put(self._source, runs)
        self._state[slots] = _HERE

    def _known_storage(self) -> AbstractStorage:
        with self._changed:
            if self._storage is None:
                num_rows = int(self._positions[-1])
                self._storage = (
                    MemoryStorage(self._source, num_rows)
                    if self.scratch is None
                    else ScratchFile(self._source, num_rows, self.scratch)
                )
            return self._storage


@final
class ResidentRows(AbstractRows):
    """Caches every block it has read, in memory or in a scratch file.

    Args:
        source: The columns.
        plan: The order.
        blocks: Rows that are best read together.
        resident: The blocks that other plans have read already.
        scratch: The folder for the scratch file; None for memory.
        pinned: The columns of the source that are in memory even if `scratch` is given.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        blocks: Blocks,
        resident: ResidentBlocks | None = None,
        *,
        scratch: str | None = None,
        pinned: ResidentBlocks | None = None,
    ) -> None:
        self._source = source
        self._pinned = pinned
        self._plan = plan
        self._blocks = blocks
        read = [name for name in source.columns if pinned is None or name not in pinned.names]
        self._resident = resident or ResidentBlocks(
            source.select(**{name: name for name in read}), blocks, plan.rows_to_serve, scratch
        )

    def read(self, step: int) -> Arrays:
        """Return the loaded rows of one batch."""
        rows = self._plan.rows(step)
        self._source.check_unchanged(rows)
        if self._pinned is None:
            return self._resident.read(rows)
        found = self._resident.read(rows) | self._pinned.read(rows)
        return {name: found[name] for name in self._source.columns}

    def is_in_memory(self) -> bool:
        """Return whether all blocks have been read into memory."""
        return self._resident.is_complete and not self.is_spilled

    @property
    def is_spilled(self) -> bool:
        """Whether rows are cached in a scratch file."""
        return self._resident.scratch is not None

    def advance(self, oldest: int, executor: Executor, helpers: int = 0) -> None:
        """Do nothing: everything is cached, and batches read missing blocks."""

    def release(self) -> None:
        """Do nothing: the cached rows are within the budget, and the next epoch needs them."""

    def includes(self, rows: NDArray[np.int64] | None) -> bool:
        """Return whether this store caches these rows (all rows if None)."""
        return self._resident.includes(rows) and (
            self._pinned is None or self._pinned.includes(rows)
        )

    def with_plan(self, plan: Plan) -> ResidentRows:
        """Return a store for another plan over the same rows; both use the same cached blocks."""
        return ResidentRows(self._source, plan, self._blocks, self._resident, pinned=self._pinned)

    def describe(self) -> str:
        """Describe where rows come from."""
        size = f"{self._resident.num_bytes / 1e6:.1f} MB decoded"
        if self.is_spilled:
            pinned = f"; {' and '.join(self._pinned.names)} in memory" if self._pinned else ""
            where = f"a scratch file in {self._resident.scratch!r}"
            return f"rows are decoded once into {where} ({size}){pinned}"
        return f"rows stay in memory once read ({size}, within the cache)"
