"""The last batch with `drop_last="pad"`: filled up with repeated rows, whose weight is 0.

Keras divides a loss by the rows of a batch, whatever their weights, and averages batches by their
rows. So the weights of the other rows are not 1:

- In training those of the last batch are batch_size / rows: its loss, its gradients and its
  weighted metrics are those of the short batch.
- In evaluation all weights are the same, padded rows / rows: the loss and weighted means over the
  whole data set are those of the rows.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import OptionError
from kerash5.batches._roles import map_tree
from kerash5.order._plan import Plan


@final
class Padding:
    """Fills up the last batch of an epoch, and adds sample weights to all batches.

    Args:
        plan: The batches.
        is_evaluated: Whether the batches are evaluated, not trained on.
    """

    def __init__(self, plan: Plan, *, is_evaluated: bool) -> None:
        self._size = plan.batch_size
        self._weight: float | None = None
        if is_evaluated:
            padded = plan.steps_per_epoch * plan.batch_size * plan.shard[1]
            self._weight = padded / plan.num_served

    def apply(self, batch: tuple[Any, ...], num_rows: int, num_read: int) -> tuple[Any, ...]:
        """Return (x, y, sample_weight) of `batch_size` rows; x alone stays alone.

        Args:
            batch: One entry per role, of `num_rows` rows.
            num_rows: Rows of the batch.
            num_read: Rows that it was made from.

        Raises:
            OptionError: A transform returned another number of rows.
        """
        if num_rows != num_read:
            raise OptionError(
                f"transform returned {num_rows} rows for {num_read}, and drop_last='pad' fills up "
                "the last batch row by row; return a row for each, or give another drop_last="
            )
        factors = self._factors(num_rows)
        x, *others = batch
        y = others[0] if others else None
        weights = others[1] if len(others) > 1 else None
        if weights is None:
            weights = factors
        else:
            weights = map_tree(weights, lambda leaf: _weigh(pad_rows(leaf, self._size), factors))
        if num_rows < self._size:
            x, y = pad_tree(x, self._size), None if y is None else pad_tree(y, self._size)
        return (x, y, weights) if others else (x,)

    def _factors(self, num_rows: int) -> NDArray[np.float32]:
        weight = self._size / num_rows if self._weight is None else self._weight
        factors = np.zeros(self._size, np.float32)
        factors[:num_rows] = weight
        return factors


def pad_tree(tree: Any, size: int) -> Any:  # noqa: ANN401  arrays
    """Return a tree of arrays with `size` rows each, as `pad_rows` makes them."""
    return map_tree(tree, lambda leaf: None if leaf is None else pad_rows(leaf, size))


def pad_rows(array: Any, size: int) -> np.ndarray:  # noqa: ANN401  of any framework
    """Return an array whose rows are repeated, one after another, until there are `size`."""
    values = np.asarray(array)
    return values if len(values) == size else values[np.arange(size) % len(values)]


def _weigh(weights: np.ndarray, factors: NDArray[np.float32]) -> np.ndarray:
    kind = weights.dtype if weights.dtype.kind == "f" else np.dtype(np.float32)
    return (weights * factors.reshape(-1, *(1,) * (weights.ndim - 1))).astype(kind)
