"""The plan: the rows of every batch. Step in, row numbers out.

`step` is the global batch number; `epoch, index = divmod(step, steps_per_epoch)`. A plan never
reads a file, uses no global random state and has no counters: the rows of a step are a pure
function of the plan and the step, on every machine and with every NumPy. Cached values only save
repeated computation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from kerash5._checks import parse_count
from kerash5._display import Text
from kerash5._errors import OptionError
from kerash5.order._orders import (
    AbstractOrder,
    ChunkOrder,
    GivenOrder,
    RowOrder,
    Span,
    Window,
    Windows,
)
from kerash5.order._permutation import parse_seed

Shuffle = Literal["rows", "chunks", False]
DropLast = bool | Literal["all", "pad"]


@final
@dataclass(frozen=True, eq=False)
class Plan:
    """The order of all batches of all epochs.

    Args:
        num_rows: Rows to choose from, counted from 0.
        batch_size: Rows in a batch; the last of an epoch may have fewer.
        shuffle: "rows", a uniform permutation of all rows in each epoch; "chunks", whole blocks in
            random order and the rows of `window_blocks` of them mixed; False, the given order.
        seed: Seed of the order.
        rows_to_serve: Row numbers, shape (n,), sorted if shuffle is "chunks"; None for all rows.
            `rows_at` reads them in both cases.
        drop_last: True or "all": drop rows that do not fill a batch, so that every batch has the
            same shape. False or "pad": the last batch may have fewer rows; whoever makes batches
            of a plan with "pad" repeats rows there.
        shard: (index, count); every shard has the same number of steps, and over all shards each
            row is served once.
        block_starts: Positions where blocks begin in the rows to serve, then their number; see
            `Blocks.block_starts`. Required for "chunks". With False the rows are read in windows
            of the same blocks, one after another.
        window_blocks: Blocks in a window, where there is `block_starts`.
        reason: Why this shuffle was chosen, as text; for `describe`.
        mixing: How well batches mix, as text, if measured; for `describe`.

    Raises:
        OptionError: A value is not valid; the message names it.
    """

    num_rows: int
    batch_size: int
    shuffle: Shuffle = "rows"
    seed: int = 0
    rows_to_serve: NDArray[np.int64] | None = None
    drop_last: DropLast = False
    shard: tuple[int, int] = (0, 1)
    block_starts: NDArray[np.int64] | None = None
    window_blocks: int = 1
    reason: str = ""
    mixing: str = ""

    def __post_init__(self) -> None:
        # `is not False`, because 0 equals False and is not a valid shuffle.
        if self.shuffle is not False and self.shuffle not in ("rows", "chunks"):
            raise OptionError(f"shuffle={self.shuffle!r}; choose 'rows', 'chunks', False or 'auto'")
        if self.drop_last not in (False, True, "all", "pad"):
            raise OptionError(
                f"drop_last={self.drop_last!r}; choose False, True (in training), 'all' (in "
                "evaluation as well) or 'pad' (to fill up the last batch)"
            )
        # Plain ints, because NumPy integers in a fingerprint are not JSON.
        object.__setattr__(
            self,
            "batch_size",
            parse_count("batch_size", self.batch_size, "the number of rows in a batch"),
        )
        object.__setattr__(self, "seed", parse_seed(self.seed))
        self._check_shard()
        self._check_steps()
        if self.shuffle == "chunks" and self.block_starts is None:
            raise OptionError(
                "shuffle='chunks' needs block_starts=, the positions where chunks begin"
            )

    def __getstate__(self) -> dict[str, Any]:
        # Only the fields: cached properties are computed again.
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def _check_shard(self) -> None:
        index, count = self.shard
        if not 0 <= index < count:
            raise OptionError(f"shard={self.shard}; it is (index, count) with 0 <= index < count")
        if self.num_served == 0:
            raise OptionError("no rows to serve: rows= selects none; select at least one")
        if self.num_served < count:
            raise OptionError(
                f"{self.num_served} rows cannot be shared by {count} shards; use fewer shards"
            )

    def _check_steps(self) -> None:
        fewest = self.num_served // self.shard[1]
        if self.steps_per_epoch == 0:
            raise OptionError(
                f"drop_last={self.drop_last!r} drops everything: a shard has {fewest} rows and a "
                f"batch {self.batch_size}; use a smaller batch_size"
            )
        if self.steps_per_epoch > fewest:
            raise OptionError(
                f"{self.num_served} rows over {self.shard[1]} shards in batches of 1 would give "
                "shards different numbers of steps; use batch_size=2 or more, or drop_last=True"
            )

    @property
    def num_served(self) -> int:
        """Rows served in an epoch over all shards, before `drop_last` drops any."""
        return self.num_rows if self.rows_to_serve is None else len(self.rows_to_serve)

    def rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row numbers at positions in [0, num_served) of the rows to serve."""
        return positions if self.rows_to_serve is None else self.rows_to_serve[positions]

    @property
    def served_rows(self) -> NDArray[np.int64]:
        """All row numbers served in an epoch over all shards, unshuffled, shape (num_served,)."""
        return np.arange(self.num_rows) if self.rows_to_serve is None else self.rows_to_serve

    @property
    def drops_rows(self) -> bool:
        """Whether rows that fill no batch are dropped."""
        return self.drop_last in (True, "all")

    @property
    def num_short(self) -> int:
        """Rows of the last batch of this shard, if they are fewer than `batch_size`; else 0."""
        start, stop = self.shard_bounds
        return (stop - start) % self.batch_size

    @property
    def num_padded(self) -> int:
        """Rows that the batches of this shard lack to be full; 0 if short ones are dropped."""
        start, stop = self.shard_bounds
        return max(0, self.steps_per_epoch * self.batch_size - (stop - start))

    @cached_property
    def shard_bounds(self) -> tuple[int, int]:
        """The part of an epoch's order that this shard serves: positions [start, stop)."""
        index, count = self.shard
        return self.num_served * index // count, self.num_served * (index + 1) // count

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; equal on all shards, so that none waits for another forever."""
        count = self.shard[1]
        if self.drops_rows:
            return (self.num_served // count) // self.batch_size
        most = -(-self.num_served // count)  # rows of a shard, rounded up, as are the batches
        return -(-most // self.batch_size)

    def locate(self, step: int) -> tuple[int, int]:
        """Return (epoch, index of the batch in it) of a global step."""
        if step < 0:
            raise OptionError(f"step {step}; steps are counted from 0")
        return divmod(step, self.steps_per_epoch)

    def bounds(self, index: int) -> tuple[int, int]:
        """Return the positions [start, stop) of batch `index` of an epoch in the shard's stream."""
        start, stop = self.shard_bounds
        count, steps = stop - start, self.steps_per_epoch

        def end(number: int) -> int:
            # A shard with one row less than the others still has a row for each of its steps.
            return min(number * self.batch_size, count - (0 if self.drops_rows else steps - number))

        return end(index) if index else 0, end(index + 1)

    def rows(self, step: int) -> NDArray[np.int64]:
        """Return the row numbers of one batch, shape (rows of that batch,).

        Args:
            step: The global batch number, from 0, over all epochs.
        """
        epoch, index = self.locate(step)
        return self.rows_at(self._order.positions(epoch, *self.bounds(index)))

    def spans(self, step: int) -> list[Span]:
        """Return the rows of a batch as spans of windows.

        For plans with `block_starts`.
        """
        epoch, index = self.locate(step)
        return self._windows.spans(epoch, *self.bounds(index))

    def window_rows(self, window: Window) -> NDArray[np.int64]:
        """Return the rows of a window, sorted by file position block by block.

        For plans with `block_starts`.
        """
        return self.rows_at(self._windows.positions(window))

    def window_order(self, window: Window) -> NDArray[np.int64]:
        """Return the order in which a window's rows are served: positions in `window_rows`.

        For plans with `block_starts`.
        """
        return self._windows.order(window)

    def num_windows(self, epoch: int) -> int:
        """Return the number of windows in an epoch. For plans with `block_starts`."""
        return len(self.window_starts(epoch)) - 1

    def window_starts(self, epoch: int) -> NDArray[np.int64]:
        """Return where the windows of an epoch begin, then its end: positions as in `bounds`.

        For plans with `block_starts`.
        """
        return self._windows.starts(epoch)

    def in_given_order(self, *, drop_last: DropLast = False) -> Plan:
        """Return the plan of the same rows and shard, unshuffled: for evaluation and prediction."""
        reason = "evaluation keeps the order"
        return replace(self, shuffle=False, drop_last=drop_last, reason=reason, mixing="")

    def fingerprint(self) -> dict[str, object]:
        """Return the values that are equal for two plans with the same batches, as JSON types."""
        return {
            "num_rows": self.num_rows,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "rows": _digest(self.rows_to_serve),
            "drop_last": self.drop_last if self.drop_last == "pad" else self.drops_rows,
            "shard": list(self.shard),
            "cut": _digest(self.block_starts) if self.shuffle == "chunks" else None,
            "window_blocks": self.window_blocks if self.shuffle == "chunks" else None,
        }

    def __repr__(self) -> str:
        """Return the number of rows and batches, and the shuffle, in one line."""
        return f"Plan({self.describe().splitlines()[0]}, shuffle={self.shuffle!r})"

    def describe(self) -> str:
        """Describe the order: what it is, why it was chosen, and how well it mixes."""
        shard = "" if self.shard[1] == 1 else f", shard {self.shard[0]} of {self.shard[1]}"
        steps = self.steps_per_epoch
        dropped = self.num_served - steps * self.batch_size * self.shard[1]
        size = f"{self.num_served} rows in {steps} batches of {self.batch_size}{shard}"
        last = f", {dropped} rows of each epoch dropped" if dropped > 0 else ""
        if self.drop_last == "pad" and self.num_padded:
            last = f", filled up with {self.num_padded} repeated rows of weight 0"
        lines = [size + last]
        lines.append(
            f"  shuffle={self.shuffle!r}: {self._order.describe(self.batch_size)}"
            + (f", because {self.reason}" if self.reason else "")
        )
        if self.mixing:
            lines.append(f"  {self.mixing}")
        return Text("\n".join(lines))

    @cached_property
    def _order(self) -> AbstractOrder:
        if self.shuffle is False:
            return GivenOrder(self.shard_bounds)
        if self.shuffle == "rows":
            return RowOrder(self.num_served, self.shard_bounds, self.seed)
        return ChunkOrder(self._windows)

    @cached_property
    def _windows(self) -> Windows:
        if self.block_starts is None:
            raise OptionError(
                "this plan has no windows; pass block_starts= to create it with windows"
            )
        seed = None if self.shuffle is False else self.seed
        return Windows(self.block_starts, self.window_blocks, self.shard_bounds, seed)


def _digest(array: NDArray[np.int64] | None) -> str | None:
    if array is None:
        return None
    return hashlib.sha256(np.ascontiguousarray(array, np.int64).tobytes()).hexdigest()[:16]
