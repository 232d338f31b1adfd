"""Blocks: runs of rows that are best read together, because they are in the same chunk.

A block never extends over two parts (files). Nothing here reads files; blocks are numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Blocks:
    """Rows divided into blocks of `block_rows` in each part; its last block may be shorter.

    Args:
        part_starts: First row of each part, then the number of rows; shape (num_parts + 1,).
        block_rows: Rows in a full block.
    """

    part_starts: NDArray[np.int64]
    block_rows: int

    @property
    def num_rows(self) -> int:
        """Total number of rows."""
        return int(self.part_starts[-1])

    @property
    def first_blocks(self) -> NDArray[np.int64]:
        """First block of each part, then the number of blocks; shape (num_parts + 1,)."""
        counts = -(-np.diff(self.part_starts) // self.block_rows)
        return np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        """Return the number of blocks."""
        return int(self.first_blocks[-1])

    def of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the block number of each row, shape (n,)."""
        if len(self.part_starts) == 2:
            return rows // self.block_rows
        part = np.searchsorted(self.part_starts, rows, side="right") - 1
        return self.first_blocks[part] + (rows - self.part_starts[part]) // self.block_rows

    def bounds(self, blocks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first row of each block, and the row after its last; shape (n,) each."""
        part = np.searchsorted(self.first_blocks, blocks, side="right") - 1
        starts = self.part_starts[part] + (blocks - self.first_blocks[part]) * self.block_rows
        return starts, np.minimum(starts + self.block_rows, self.part_starts[part + 1])

    def coarser(self, max_blocks: int) -> Blocks:
        """Return larger blocks that merge neighbours, about `max_blocks` at most."""
        factor = -(-len(self) // max_blocks)
        return self if factor <= 1 else Blocks(self.part_starts, self.block_rows * factor)

    def block_starts(self, rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Return the positions in sorted rows (all rows if None) where blocks begin.

        Returns:
            Positions, shape (num_blocks + 1,): the first is 0, the last the number of rows.
        """
        if rows is None:
            starts, _ = self.bounds(np.arange(len(self)))
            return np.append(starts, self.num_rows)
        changes = np.flatnonzero(np.diff(self.of_rows(rows))) + 1
        return np.concatenate([[0], changes, [len(rows)]])
