"""What the rows to serve take in memory, and what follows: the blocks, the shuffle, the store.

Each choice is one function that also says why. Nothing here reads: see `_arena`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from kerash5._arena import (
    INDEX_BYTES,
    AbstractRows,
    DirectRows,
    HeldBlocks,
    ResidentRows,
    WindowRows,
)
from kerash5._blocks import Blocks
from kerash5._errors import OptionError
from kerash5._plan import Plan, Shuffle
from kerash5.h5 import Source

# Each block costs some 50 us besides its bytes; a thousand of them mix well.
_BLOCK_BYTES: Final = 128 << 10
_KEPT_BLOCK_BYTES: Final = 1 << 20
_MIN_BLOCKS: Final = 1024
_MAX_BLOCKS: Final = 1 << 20  # of which the order is one array of 8 MB per epoch


def choose_blocks(source: Source) -> Blocks:
    """Return chunks, or several neighbours as one where they are very small or very many."""
    blocks = Blocks(source.part_starts, source.block_rows)
    small = source.block_rows * source.row_bytes
    worthwhile = len(source) * source.row_bytes // max(small, _BLOCK_BYTES)
    return blocks.coarser(min(_MAX_BLOCKS, max(_MIN_BLOCKS, worthwhile)))


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What the rows to serve take in memory, and how much of it there may be."""

    source: Source
    blocks: Blocks
    rows: NDArray[np.int64] | None
    cache_bytes: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all blocks with rows to serve, decoded."""
        if self.rows is None:
            return len(self.source) * self.source.row_bytes
        starts, stops = self.blocks.bounds(np.unique(self.blocks.of_rows(self.rows)))
        return int((stops - starts).sum()) * self.source.row_bytes

    @property
    def fits(self) -> bool:
        """Whether all of it may stay in memory."""
        return self.num_bytes <= self.cache_bytes

    @property
    def is_direct(self) -> bool:
        """Whether single rows of every column are cheap to reach: in the file, or in memory."""
        kept = self.kept_columns
        return all(c.is_direct for name, c in self.source.columns.items() if name not in kept)

    @property
    def kept_columns(self) -> list[str]:
        """Columns that may stay in memory where not all can: those hard to reach, then small."""
        columns, left, names = self.source.columns, self.cache_bytes, []
        by_size = sorted(columns, key=lambda n: (columns[n].is_direct, columns[n].loaded_row_bytes))
        for name in by_size[:-1]:  # never all of them: that would be another store
            one = self.source.select(**{name: name})
            left -= Demand(one, _large_blocks(one), self.rows, left).num_bytes
            if left < 0:
                break
            names.append(name)
        return names

    @property
    def two_blocks_bytes(self) -> int:
        """Bytes of the smallest two windows."""
        return 2 * self._block_rows * self.source.row_bytes

    @property
    def two_blocks_fit(self) -> bool:
        """Whether there may be windows."""
        return self.two_blocks_bytes <= self.cache_bytes

    @property
    def suits_windows_in_order(self) -> bool:
        """Whether rows in the given order are best read window by window: a large file."""
        if self.is_direct or self.fits or not self.two_blocks_fit:
            return False
        return self.rows is None or bool((np.diff(self.rows) > 0).all())

    @property
    def window_blocks(self) -> int:
        """Blocks in a window, of which two may be held."""
        block_bytes = self._block_rows * (self.source.row_bytes + INDEX_BYTES)
        return max(1, self.cache_bytes // 2 // block_bytes)

    def advise_on_mixing(self) -> str:
        """Say what lets batches hold more labels where a window holds few."""
        if self.is_direct or self.fits:
            return "shuffle='rows' is as fast here, and mixes all rows"
        return (
            "rows of one class lie together, and a window holds few chunks; raise cache= (with "
            f"{self.num_bytes / 1e6:.1f} MB shuffle='rows' mixes all rows), or write the file "
            "again with its rows in random order"
        )

    @property
    def _block_rows(self) -> int:
        return min(self.blocks.block_rows, len(self.source))

    def __str__(self) -> str:
        return f"{self.num_bytes / 1e6:.1f} MB decoded, cache {self.cache_bytes / 1e6:.1f} MB"


def choose_shuffle(asked: Shuffle | Literal["auto"], demand: Demand) -> tuple[Shuffle, str]:
    """Return the shuffle and, in words, why."""
    is_cheap = demand.is_direct or demand.fits
    if asked == "chunks" and not is_cheap and not demand.two_blocks_fit:
        raise OptionError(
            "shuffle='chunks' holds two windows of at least one chunk, "
            f"{demand.two_blocks_bytes / 1e6:.1f} MB, and cache allows "
            f"{demand.cache_bytes / 1e6:.1f} MB; raise cache="
        )
    if asked != "auto":
        return asked, "you asked for it"
    if demand.is_direct:
        return "rows", "single rows are cheap to reach"
    if demand.fits:
        return "rows", f"the data fit the cache ({demand})"
    if not demand.two_blocks_fit:
        return "rows", f"two chunks do not fit the cache ({demand}); this is slow, so raise cache="
    return "chunks", f"the data do not fit the cache ({demand}); raise cache= for shuffle='rows'"


def choose_store(plan: Plan, demand: Demand) -> AbstractRows:
    if demand.fits:  # contiguous data too: a gather in memory is some six times a read per row
        return ResidentRows(demand.source, plan, demand.blocks)
    if demand.is_direct:
        reason = "straight from its place in the file"
        return DirectRows(demand.source, plan, reason, _choose_kept(demand))
    if plan.cut is not None:
        return WindowRows(demand.source, plan, demand.blocks)
    return DirectRows(demand.source, plan, f"for not all fits in memory ({demand})")


def _choose_kept(demand: Demand) -> HeldBlocks | None:
    """Return the columns that stay in memory where not all of them can."""
    if not (names := demand.kept_columns):
        return None
    kept = demand.source.select(**{name: name for name in names})
    return HeldBlocks(kept, _large_blocks(kept), demand.rows)


def _large_blocks(source: Source) -> Blocks:
    """Return blocks that are worth a read of their own; no order is made of them."""
    blocks = Blocks(source.part_starts, source.block_rows)
    return blocks.coarser(max(1, len(source) * source.row_bytes // _KEPT_BLOCK_BYTES))
