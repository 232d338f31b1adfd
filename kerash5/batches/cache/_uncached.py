"""The store that reads each batch when it is due."""

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
    """Reads each batch when it is asked for.

    Args:
        source: The columns.
        plan: The order.
        reason: Why nothing better can be done, in words.
        kept: Some columns of the source that stay in memory, such as labels: a row of one byte
            costs a read as much as one of thousands.
        one_at_a_time: Have one thread read at a time, for each holds a decoded chunk that is larger
            than the cache.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        reason: str,
        kept: ResidentBlocks | None = None,
        *,
        one_at_a_time: bool = False,
    ) -> None:
        self._names = tuple(source.columns)
        self._plan = plan
        self._reason = reason
        self._kept = kept
        read = [name for name in self._names if kept is None or name not in kept.names]
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
        """Start over in a forked child, where another thread's lock would never open."""
        self._turn = threading.Lock()

    def take(self, step: int) -> Arrays:
        """Return the loaded rows of one batch."""
        rows = self._plan.rows(step)
        with self._turn if self._one_at_a_time else nullcontext():
            found = self._source.load_rows(rows)  # checks the files
        if self._kept is None:
            return found
        found |= self._kept.take(rows)
        return {name: found[name] for name in self._names}

    def is_in_memory(self) -> bool:
        """Return False: each batch is read."""
        return False

    def advance(self, oldest: int, executor: Executor, helpers: int = 0) -> None:
        """Do nothing: there is nothing to drop or fetch."""

    def release(self) -> None:
        """Do nothing: nothing is held."""

    def describe(self) -> str:
        """Say in words where rows come from."""
        kept = f"; {' and '.join(self._kept.names)} in memory" if self._kept else ""
        return f"each batch is read when it is due, {self._reason}{kept}"
