"""The store that reads each batch from the file when it is requested."""

from __future__ import annotations

import threading
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import final

from kerash5.batches.cache._resident import ResidentBlocks
from kerash5.batches.cache._store import AbstractRows, Arrays, Shared
from kerash5.h5 import Source
from kerash5.order._plan import Plan


@final
class DirectRows(AbstractRows, Shared):
    """Reads each batch from the file when it is requested.

    Args:
        source: The columns.
        plan: The order.
        reason: Why rows are not cached, as text.
        pinned: Columns of the source that stay in memory, such as labels: reading a row of one byte
            costs as much as reading one of thousands.
        one_at_a_time: Let one thread read at a time, because each needs memory for a decoded chunk
            that is larger than the cache.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        reason: str,
        pinned: ResidentBlocks | None = None,
        *,
        one_at_a_time: bool = False,
    ) -> None:
        self._names = tuple(source.columns)
        self._plan = plan
        self._reason = reason
        self._pinned = pinned
        read = [name for name in self._names if pinned is None or name not in pinned.names]
        self._source = source.select(**{name: name for name in read})
        self._one_at_a_time = one_at_a_time
        self._turn = threading.Lock()
        self._share()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_turn"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.after_fork()
        self._share()

    def after_fork(self) -> None:
        """Create a new lock in a forked child, where a lock of another thread is never released."""
        self._turn = threading.Lock()

    def read(self, step: int) -> Arrays:
        """Return the loaded rows of one batch."""
        rows = self._plan.rows(step)
        with self._turn if self._one_at_a_time else nullcontext():
            found = self._source.load_rows(rows)  # checks the files
        if self._pinned is None:
            return found
        found |= self._pinned.read(rows)
        return {name: found[name] for name in self._names}

    def is_in_memory(self) -> bool:
        """Return False, because each batch is read."""
        return False

    def advance(self, oldest: int, executor: Executor, helpers: int = 0) -> None:
        """Do nothing: there is nothing to free or to read ahead."""

    def release(self) -> None:
        """Do nothing: nothing is cached."""

    def describe(self) -> str:
        """Describe where rows come from."""
        pinned = f"; {' and '.join(self._pinned.names)} in memory" if self._pinned else ""
        return f"each batch is read when it is due, {self._reason}{pinned}"
