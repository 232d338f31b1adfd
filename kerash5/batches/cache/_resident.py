"""The store that keeps what was read: in memory, or on disk where it does not fit the cache."""

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

_ABSENT, _COMING, _HERE = 0, 1, 2  # what is known of a block
# Decoded bytes that a thread reads at a time: more, and the others wait for it in vain.
_CLAIM_BYTES: Final = 2 << 20


class ResidentBlocks(Shared):
    """The blocks that have been read, of all that will be; shared by all plans of the same rows."""

    def __init__(
        self,
        source: Source,
        blocks: Blocks,
        rows: NDArray[np.int64] | None,
        scratch: str | None = None,
    ) -> None:
        self.scratch = scratch  # the folder they are kept in; None: in memory
        self._source = source
        self._blocks = blocks
        self._touched = np.arange(len(blocks)) if rows is None else np.unique(blocks.of_rows(rows))
        self._starts, self._stops = blocks.bounds(self._touched)
        self._places = np.concatenate([[0], np.cumsum(self._stops - self._starts)])
        block_bytes = blocks.block_rows * source.row_bytes
        self._most_at_once = max(1, _CLAIM_BYTES // max(1, block_bytes))
        self._has_all = len(self._touched) == len(blocks)  # each row's place is then its number
        self._setup()

    def _setup(self) -> None:
        self._storage: AbstractStorage | None = None  # made when the first row is read
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
        """Keep what was read; what other threads were reading stayed in the parent process."""
        self._changed = threading.Condition()
        self._state[self._state == _COMING] = _ABSENT
        if isinstance(self._storage, ScratchFile):
            self._storage.after_fork()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are held."""
        return tuple(self._source.columns)

    @property
    def num_bytes(self) -> int:
        """Bytes held when everything has been read."""
        return int(self._places[-1]) * self._source.row_bytes

    def includes(self, rows: NDArray[np.int64] | None) -> bool:
        """Whether the blocks of these rows (of all rows if None) are among those read here."""
        if self._has_all:
            return True
        return rows is not None and bool(np.isin(self._blocks.of_rows(rows), self._touched).all())

    def take(self, rows: NDArray[np.int64]) -> Arrays:
        """Return rows, reading the blocks that are not here yet.

        That the files of the others are what they were is for the caller to check.
        """
        if self.is_complete and self._has_all and self._storage is not None:
            return self._storage.take(rows)
        blocks = self._blocks.of_rows(rows)
        slots = blocks if self._has_all else np.searchsorted(self._touched, blocks)
        if not self.is_complete:
            self._ensure(np.unique(slots))
        places = rows - self._starts[slots] + self._places[slots]
        return self._known_storage().take(places)

    def _ensure(self, slots: NDArray[np.int64]) -> None:
        """Read these blocks, together with the other threads that need them."""
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
            # Another thread failed to read one: fail here too, with the file's own words.
            self._ensure(slots)

    def _claim(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return blocks that nobody reads yet, now this thread's; none if there are none."""
        with self._changed:
            mine = slots[np.flatnonzero(self._state[slots] == _ABSENT)[: self._most_at_once]]
            self._state[mine] = _COMING
            return mine

    def _read(self, slots: NDArray[np.int64]) -> None:
        runs = Runs(self._starts[slots], self._stops[slots], self._places[slots])
        self._known_storage().put(self._source, runs)
        self._state[slots] = _HERE

    def _known_storage(self) -> AbstractStorage:
        with self._changed:
            if self._storage is None:
                num_rows = int(self._places[-1])
                self._storage = (
                    MemoryStorage(self._source, num_rows)
                    if self.scratch is None
                    else ScratchFile(self._source, num_rows, self.scratch)
                )
            return self._storage


@final
class ResidentRows(AbstractRows):
    """Keeps every block it has read: in memory, or in a scratch file where they do not fit it.

    Args:
        source: The columns.
        plan: The order.
        blocks: Rows that are best read together.
        held: What other plans have read already.
        scratch: The folder for the scratch file; None for memory.
        kept: Some columns of the source that are kept in memory all the same.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        blocks: Blocks,
        held: ResidentBlocks | None = None,
        *,
        scratch: str | None = None,
        kept: ResidentBlocks | None = None,
    ) -> None:
        self._source = source
        self._kept = kept
        self._plan = plan
        self._blocks = blocks
        read = [name for name in source.columns if kept is None or name not in kept.names]
        self._held = held or ResidentBlocks(
            source.select(**{name: name for name in read}), blocks, plan.rows_to_serve, scratch
        )

    def take(self, step: int) -> Arrays:
        """Return the loaded rows of one batch."""
        rows = self._plan.rows(step)
        self._source.check_unchanged(rows)
        if self._kept is None:
            return self._held.take(rows)
        found = self._held.take(rows) | self._kept.take(rows)
        return {name: found[name] for name in self._source.columns}

    def is_in_memory(self) -> bool:
        """Whether all blocks have been read, into memory."""
        return self._held.is_complete and not self.is_spilled

    @property
    def is_spilled(self) -> bool:
        """Whether rows are kept in a scratch file."""
        return self._held.scratch is not None

    def advance(self, oldest: int, executor: Executor, helpers: int = 0) -> None:
        """Do nothing: everything is kept, and batches read what they miss."""

    def release(self) -> None:
        """Do nothing: what is held is within the budget, and will be wanted again."""

    def includes(self, rows: NDArray[np.int64] | None) -> bool:
        """Whether these rows (all rows if None) are among those this store keeps."""
        return self._held.includes(rows) and (self._kept is None or self._kept.includes(rows))

    def with_plan(self, plan: Plan) -> ResidentRows:
        """Return a store for another plan over the same rows; both share what was read."""
        return ResidentRows(self._source, plan, self._blocks, self._held, kept=self._kept)

    def describe(self) -> str:
        """Say in words where rows come from."""
        size = f"{self._held.num_bytes / 1e6:.1f} MB decoded"
        if self.is_spilled:
            kept = f"; {' and '.join(self._kept.names)} in memory" if self._kept else ""
            where = f"a scratch file in {self._held.scratch!r}"
            return f"rows are decoded once into {where} ({size}){kept}"
        return f"rows stay in memory once read ({size}, within the cache)"
