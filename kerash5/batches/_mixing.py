"""Measure how well the batches of a plan mix the labels.

An exact shuffle draws a batch from all rows, a plan with windows from the rows of one window. If
the file is sorted by class and a window has few chunks, batches lack labels. The expected number of
labels in a batch is computed, not sampled: it is a draw without replacement. Only labels are read
from the file, and only if they are few and fast to read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import KerasH5Error
from kerash5.batches._roles import Tree
from kerash5.h5 import Source
from kerash5.order._orders import Window
from kerash5.order._plan import Plan

STARVING: Final = 0.7  # of the labels in a batch of an exact shuffle

_MAX_ROWS: Final = 1 << 22  # of labels read
_MAX_FILES: Final = 100  # one millisecond each
_MAX_CHUNKS: Final = 10_000  # about 20 microseconds each
_MAX_LABELS: Final = 10_000  # more are not classes
_NUM_BATCHES: Final = 64  # examined
_MAX_WINDOW_ROWS: Final = 1 << 22  # over all windows examined

Draw = tuple[NDArray[np.int64], int]  # number of rows with each label, number of rows drawn


@dataclass(frozen=True, slots=True)
class Mixing:
    """Expected number of labels in a batch, compared with an exact shuffle."""

    num_labels: int
    batch_size: int
    found: float  # different labels in a batch of the plan
    exact: float  # in a batch of an exact shuffle

    @property
    def share(self) -> float:
        """Labels in a batch, as a fraction of those in a batch of an exact shuffle."""
        return self.found / self.exact

    @property
    def starves(self) -> bool:
        """Whether batches lack many of the labels they should have."""
        return self.share < STARVING

    def describe(self) -> str:
        """Return a sentence on how well the batches mix."""
        return (
            f"a batch of {self.batch_size} has {self.found:.1f} of {self.num_labels} labels on "
            f"average, but {self.exact:.1f} after an exact shuffle"
        )


def measure_mixing(source: Source, tree: Tree | None, plan: Plan) -> Mixing | None:
    """Measure how well a plan mixes the labels of y.

    Args:
        source: The columns.
        tree: Names of the columns of y.
        plan: The plan.

    Returns:
        The measurement. None if the plan has no windows, if y is not a single column of integers or
        classes, or if reading the labels would take too long.
    """
    if plan.shuffle != "chunks" or not isinstance(tree, str) or not _is_soon_read(source, tree):
        return None
    with suppress(KerasH5Error):  # reading the batches raises it again
        labels = source.select(y=tree).load_rows(np.arange(len(source)))["y"].reshape(-1)
        return compare_labels(plan, labels[plan.served_rows])
    return None


def _is_soon_read(source: Source, name: str) -> bool:
    column = source.columns[name]
    if column.loaded_dtype.kind not in "iub" or column.stored_shape not in ((), (1,)):
        return False
    num_chunks = sum(part.num_rows // part.block_rows for part in column.parts)
    is_few = len(source) <= _MAX_ROWS and len(source.paths) <= _MAX_FILES
    return is_few and (column.is_direct or num_chunks <= _MAX_CHUNKS)


def compare_labels(plan: Plan, labels: NDArray[np.generic]) -> Mixing | None:
    """Compare the labels in the batches of a plan with those in batches of an exact shuffle.

    Args:
        plan: A plan whose shuffle is "chunks".
        labels: Labels of the rows to serve, in order, shape (plan.num_served,).

    Returns:
        Means over some batches of epoch 0; None if there are too many labels to be classes, or only
        one.
    """
    names, ids = np.unique(labels, return_inverse=True)
    if not 1 < len(names) <= _MAX_LABELS:
        return None
    counts = np.bincount(ids, minlength=len(names))
    exact = expected_labels([(counts, min(plan.batch_size, plan.num_served))])
    found = [expected_labels(draws) for draws in _draws(plan, ids, len(names))]
    return Mixing(len(names), plan.batch_size, math.fsum(found) / len(found), exact)


def _draws(plan: Plan, ids: NDArray[np.int64], num_labels: int) -> Iterator[list[Draw]]:
    """Yield, for some batches, the counts of labels in each window and the rows drawn from it."""
    edges, known = plan.window_starts(0), dict[int, NDArray[np.int64]]()
    last = max(0, plan.steps_per_epoch - 2)  # the last batch may be short
    for index in np.unique(np.linspace(0, last, _NUM_BATCHES).astype(np.int64)).tolist():
        start, stop = plan.bounds(index)
        first, end = np.searchsorted(edges, [start, stop - 1], side="right").tolist()
        for number in range(first - 1, end):
            if number not in known:
                known[number] = _count_labels(plan, number, ids, num_labels)
        yield [
            (known[number], int(min(stop, edges[number + 1]) - max(start, edges[number])))
            for number in range(first - 1, end)
        ]
        if sum(int(counts.sum()) for counts in known.values()) > _MAX_WINDOW_ROWS:
            return


def _count_labels(
    plan: Plan, window: int, ids: NDArray[np.int64], num_labels: int
) -> NDArray[np.int64]:
    rows = plan.window_rows(Window(0, window))
    positions = rows if plan.rows_to_serve is None else np.searchsorted(plan.rows_to_serve, rows)
    return np.bincount(ids[positions], minlength=num_labels)


def expected_labels(draws: Sequence[Draw]) -> float:
    """Return the expected number of different labels in a batch.

    Args:
        draws: Draws without replacement: the number of rows with each label, shape (num_labels,),
            and the number of rows drawn.
    """
    absent = np.ones(len(draws[0][0]))
    for counts, size in draws:
        different, which = np.unique(counts, return_inverse=True)
        chances = [_chance_of_none(int(counts.sum()), count, size) for count in different.tolist()]
        absent *= np.array(chances)[which]
    return float((1.0 - absent).sum())


def _chance_of_none(total: int, count: int, size: int) -> float:
    """Return the probability that `size` rows drawn from `total` miss `count` given rows."""
    others = total - count
    if others < size:
        return 0.0
    if count == 0:
        return 1.0  # exact: a rounding error would count as part of a label
    ways = math.lgamma(others + 1) - math.lgamma(others - size + 1)
    return math.exp(ways - math.lgamma(total + 1) + math.lgamma(total - size + 1))
