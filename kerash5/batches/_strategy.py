"""Estimate the memory of the rows to serve, and choose blocks, shuffle and store from it.

Each choice is one function that also returns the reason. Nothing here reads data: see `cache`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import OptionError
from kerash5.batches.cache import (
    INDEX_BYTES,
    AbstractRows,
    DirectRows,
    ResidentBlocks,
    ResidentRows,
    WindowRows,
)
from kerash5.h5 import Source
from kerash5.order._blocks import Blocks
from kerash5.order._plan import Plan, Shuffle

# Each block costs about 50 us besides its bytes; a thousand of them mix well.
_BLOCK_BYTES: Final = 128 << 10
_KEPT_BLOCK_BYTES: Final = 1 << 20
_PINNED_DIVISOR: Final = 64  # pinned small columns may use cache / 64 if the others need windows
_LARGE_BYTES: Final = 32 << 20  # of a block; above it, two threads decode in too much memory
_NOTABLE_BYTES: Final = 1 << 20  # of a block; below it, decoding one for each batch is fast
_MIN_BLOCKS: Final = 1024
_MAX_BLOCKS: Final = 1 << 20  # whose order is one array of 8 MB per epoch


def choose_blocks(source: Source) -> Blocks:
    """Return chunks as blocks; several neighbours form one if they are very small or very many."""
    blocks = Blocks(source.part_starts, source.block_rows)
    small = source.block_rows * source.row_bytes
    worthwhile = len(source) * source.row_bytes // max(small, _BLOCK_BYTES)
    return blocks.coarser(min(_MAX_BLOCKS, max(_MIN_BLOCKS, worthwhile)))


@dataclass(frozen=True, slots=True, eq=False)
class MemoryEstimate:
    """Memory that the rows to serve need, and how much is allowed. From `estimate_memory`."""

    source: Source
    blocks: Blocks
    rows: NDArray[np.int64] | None
    cache_bytes: int
    kept: tuple[str, ...] = ()  # columns pinned in memory if not all fit

    @property
    def num_bytes(self) -> int:
        """Decoded bytes of all blocks with rows to serve."""
        if self.rows is None:
            return len(self.source) * self.source.row_bytes
        starts, stops = self.blocks.bounds(np.unique(self.blocks.of_rows(self.rows)))
        return int((stops - starts).sum()) * self.source.row_bytes

    @property
    def fits(self) -> bool:
        """Whether all rows fit in the cache."""
        return self.num_bytes <= self.cache_bytes

    @property
    def is_direct(self) -> bool:
        """Whether single rows of every column are fast to read: in the file, or in memory."""
        columns = self.source.columns
        return all(columns[name].is_direct for name in self.read)

    @property
    def read(self) -> list[str]:
        """The columns that are not pinned in memory."""
        return [name for name in self.source.columns if name not in self.kept]

    @property
    def block_bytes(self) -> int:
        """Decoded bytes of a block: the size of the smallest window."""
        rows = min(self.blocks.block_rows, len(self.source))
        return rows * _select(self.source, self.read).row_bytes

    @property
    def num_windows(self) -> int:
        """How many windows fit in memory: 2, 1 or none."""
        return min(2, self._window_bytes // max(1, self.block_bytes))

    @property
    def window_blocks(self) -> int:
        """Blocks in a window."""
        rows = min(self.blocks.block_rows, len(self.source))
        block_bytes = self.block_bytes + rows * INDEX_BYTES
        return max(1, self._window_bytes // max(1, self.num_windows) // block_bytes)

    @property
    def suits_windows_in_order(self) -> bool:
        """Whether rows in the given order are best read window by window: a large file."""
        if self.is_direct or self.fits or not self.num_windows:
            return False
        return self.rows is None or bool((np.diff(self.rows) > 0).all())

    def advise_on_mixing(self) -> str:
        """Return advice on how batches get more labels if a window has few."""
        if self.is_direct or self.fits:
            return "shuffle='rows' is as fast here and mixes all rows"
        return (
            "rows of one class are adjacent, and a window has few chunks; raise cache= (with "
            f"{self.num_bytes / 1e6:.1f} MB, shuffle='rows' mixes all rows), or write the file "
            "again with its rows in random order"
        )

    @property
    def _window_bytes(self) -> int:
        return self.cache_bytes - _bytes_of(self.source, self.kept, self.rows)

    def __str__(self) -> str:
        return f"{self.num_bytes / 1e6:.1f} MB decoded, cache {self.cache_bytes / 1e6:.1f} MB"


def estimate_memory(
    source: Source, rows: NDArray[np.int64] | None, cache_bytes: int
) -> MemoryEstimate:
    """Estimate what fits in memory: all columns, some, or none.

    If the columns that are slow to read row by row fit, the others need no memory. If they do not,
    very small columns are pinned anyway, such as labels, whose chunks have many more rows.
    """
    demand = MemoryEstimate(source, choose_blocks(source), rows, cache_bytes)
    if demand.fits:
        return demand
    columns = source.columns
    by_size = sorted(columns, key=lambda name: columns[name].loaded_row_bytes)
    by_effort = sorted(by_size, key=lambda name: columns[name].is_direct)
    half = replace(demand, kept=_first_that_fit(demand, by_effort, cache_bytes))
    if half.is_direct:
        return half
    kept = _first_that_fit(demand, by_size, cache_bytes // _PINNED_DIVISOR)
    read = _select(source, [name for name in source.columns if name not in kept])
    return replace(demand, kept=kept, blocks=choose_blocks(read))


def _first_that_fit(
    demand: MemoryEstimate, names: Sequence[str], num_bytes: int
) -> tuple[str, ...]:
    """Return the first of these columns that fit; never all, which another store handles."""
    found: list[str] = []
    for name in names[:-1]:
        if _bytes_of(demand.source, [*found, name], demand.rows) > num_bytes:
            break
        found.append(name)
    return tuple(found)


def _bytes_of(source: Source, names: Sequence[str], rows: NDArray[np.int64] | None) -> int:
    """Return the bytes that some columns need in memory."""
    found = 0
    for name in names:
        one = _select(source, [name])
        found += MemoryEstimate(one, _large_blocks(one), rows, 0).num_bytes
    return found


def _select(source: Source, names: Sequence[str]) -> Source:
    return source.select(**{name: name for name in names})


def _large_blocks(source: Source) -> Blocks:
    """Return blocks that are large enough for a read of their own; used only for estimates."""
    blocks = Blocks(source.part_starts, source.block_rows)
    return blocks.coarser(max(1, len(source) * source.row_bytes // _KEPT_BLOCK_BYTES))


def choose_shuffle(asked: Shuffle | Literal["auto"], demand: MemoryEstimate) -> tuple[Shuffle, str]:
    """Return the shuffle, and the reason as text."""
    is_cheap = demand.is_direct or demand.fits
    if asked == "chunks" and not is_cheap and not demand.num_windows:
        raise OptionError(
            "shuffle='chunks' needs at least one chunk of rows in memory, "
            f"{demand.block_bytes / 1e6:.1f} MB, but cache allows "
            f"{demand.cache_bytes / 1e6:.1f} MB; raise cache="
        )
    if asked != "auto":
        return asked, "shuffle= requests it"
    if demand.is_direct:
        return "rows", "single rows are fast to read"
    if demand.fits:
        return "rows", f"the data fit the cache ({demand})"
    if not demand.num_windows:
        return "rows", f"one chunk does not fit the cache ({demand}); this is slow, so raise cache="
    return "chunks", f"the data do not fit the cache ({demand}); raise cache= for shuffle='rows'"


def choose_store(plan: Plan, demand: MemoryEstimate, scratch: str | None = None) -> AbstractRows:
    """Return the store that serves the rows of a plan.

    Args:
        plan: The order of rows.
        demand: Memory that the rows need.
        scratch: Folder for a scratch file of rows that do not fit; does not affect the order.
    """
    # Also for contiguous data: gathering in memory is about twice as fast as a read per row.
    if demand.fits:
        return ResidentRows(demand.source, plan, demand.blocks)
    if demand.is_direct:
        reason = "directly from the file"
        return DirectRows(demand.source, plan, reason, _keep(demand))
    if plan.block_starts is not None:
        return WindowRows(demand.source, plan, demand.blocks, _keep(demand), demand.num_windows)
    is_text = any(demand.source.columns[name].loaded_dtype.hasobject for name in demand.read)
    if scratch is not None and not is_text:  # a file holds no objects
        return ResidentRows(
            demand.source, plan, demand.blocks, scratch=scratch, pinned=_keep(demand)
        )
    return DirectRows(
        demand.source,
        plan,
        _say_cost(plan, demand),
        _keep(demand),
        one_at_a_time=not demand.num_windows and demand.block_bytes > _LARGE_BYTES,
    )


def advise_on_chunks(demand: MemoryEstimate, scratch: str | None = None) -> str | None:
    """Return a warning if chunks larger than the cache are decoded for every batch.

    Args:
        demand: Memory that the rows need.
        scratch: As in `choose_store`.

    Returns:
        A warning with the cure; None if it is not needed.
    """
    is_cheap = demand.fits or demand.is_direct or demand.num_windows or scratch is not None
    if is_cheap or demand.block_bytes < _NOTABLE_BYTES:
        return None
    columns = [demand.source.columns[name] for name in demand.read]
    largest = max(columns, key=lambda c: max(part.block_rows * part.row_bytes for part in c.parts))
    return (
        f"a chunk of column {largest.column.path!r} does not fit the cache "
        f"({demand.block_bytes / 1e6:.1f} MB decoded, cache {demand.cache_bytes / 1e6:.1f} MB), so "
        f"every batch decodes whole chunks again and an epoch may take hours; pass "
        f"cache='{2 * demand.block_bytes // 10**6 + 1}MB', scratch= a folder with "
        f"{demand.num_bytes / 1e6:.1f} MB to spare, or smaller chunks: kerash5 repack OLD.h5 NEW.h5"
    )


def _say_cost(plan: Plan, demand: MemoryEstimate) -> str:
    """Return the cost of batches whose chunks do not all fit, and what avoids it."""
    num_blocks = -(-plan.num_served // demand.blocks.block_rows)
    # With this many blocks, a batch of uniformly drawn rows misses each with the same probability.
    touched = num_blocks * (1 - (1 - 1 / num_blocks) ** plan.batch_size)
    cost = f"because not all rows fit in memory ({demand})"
    if plan.shuffle is not False:
        decoded, served = touched * demand.block_bytes, plan.batch_size * demand.source.row_bytes
        cost += f": about {decoded / 1e6:.1f} MB are decoded to serve {served / 1e6:.1f} MB"
    instead = " or use shuffle='chunks'" if demand.num_windows and plan.shuffle == "rows" else ""
    return (
        f"{cost}; pass scratch= a folder with {demand.num_bytes / 1e6:.1f} MB to spare, raise "
        f"cache={instead}"
    )


def _keep(demand: MemoryEstimate) -> ResidentBlocks | None:
    """Return the store of the pinned columns."""
    if not demand.kept:
        return None
    kept = _select(demand.source, demand.kept)
    return ResidentBlocks(kept, _large_blocks(kept), demand.rows)
