"""Batches of one shape as one stack, so that they travel together.

NumPy and arithmetic; what runs the steps of a stack is the engines' affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import numpy as np

from kerash5._batches import Batch

Shapes = tuple[Any, ...]  # what batches must have in common to be stacked
MAX_STACK_BYTES: Final = 32 << 20


def leaves_of(tree: Any) -> list[Any]:  # noqa: ANN401  a batch, or a part of one
    """Return the arrays of a batch in order. `keras.tree` does it too, in 30 times the time."""
    if isinstance(tree, dict):
        return [leaf for name in tree for leaf in leaves_of(tree[name])]
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in leaves_of(part)]
    return [tree]


def fill(batch: Batch, leaves: Iterable[Any]) -> Batch:
    """Return the batch with these in the places of its arrays."""
    rest = iter(leaves)

    def filled(tree: Any) -> Any:  # noqa: ANN401  a batch, or a part of one
        if isinstance(tree, dict):
            return {name: filled(part) for name, part in tree.items()}
        if isinstance(tree, tuple | list):
            return type(tree)(map(filled, tree))
        return next(rest)

    return tuple(map(filled, batch))


def shapes_of(batch: Batch) -> Shapes:
    """Return the shape and dtype of every array of a batch, in order."""
    return (len(batch), *((leaf.shape, leaf.dtype) for leaf in leaves_of(batch)))


def count_bytes(batch: Batch) -> int:
    """Return the bytes of a batch's arrays."""
    return sum(leaf.nbytes for leaf in leaves_of(batch))


def split_alike(batches: Sequence[Batch]) -> Iterator[tuple[Shapes, list[Batch]]]:
    """Yield runs of neighbours of the same shapes."""
    for shapes, alike in groupby(batches, key=shapes_of):
        yield shapes, list(alike)


def in_groups(batches: list[Batch], longest: int) -> list[list[Batch]]:
    """Split batches, in order, into groups of at most `longest`."""
    return [batches[start : start + longest] for start in range(0, len(batches), longest)]


def stack(batches: Sequence[Batch], size: int) -> Batch:
    """Return one batch whose arrays have shape (size, *shape); those past the last are zeros."""
    columns = zip(*map(leaves_of, batches), strict=True)
    return fill(batches[0], [_stack_arrays(arrays, size) for arrays in columns])


def _stack_arrays(arrays: Sequence[Any], size: int) -> Any:  # noqa: ANN401  an array
    if len(arrays) == size:
        return np.stack(arrays)
    found = np.zeros((size, *arrays[0].shape), arrays[0].dtype)
    np.stack(arrays, out=found[: len(arrays)])
    return found
