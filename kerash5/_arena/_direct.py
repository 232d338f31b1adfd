"""The store that reads each batch when it is due."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import final

from kerash5._arena._resident import HeldBlocks
from kerash5._arena._rows import AbstractRows, Arrays
from kerash5._plan import Plan
from kerash5.h5 import Source


@final
class DirectRows(AbstractRows):
    """Reads each batch when it is asked for.

    Args:
        source: The columns.
        plan: The order.
        reason: Why nothing better can be done, in words.
        kept: Some columns of the source that stay in memory, such as labels: a row of one byte
            costs a read as much as one of thousands.
    """

    def __init__(
        self, source: Source, plan: Plan, reason: str, kept: HeldBlocks | None = None
    ) -> None:
        self._names = tuple(source.columns)
        self._plan = plan
        self._reason = reason
        self._kept = kept
        read = [name for name in self._names if kept is None or name not in kept.names]
        self._source = source.select(**{name: name for name in read})

    def take(self, step: int) -> Arrays:
        """Return the loaded rows of one batch."""
        rows = self._plan.rows(step)
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
