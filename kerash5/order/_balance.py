"""Balance classes: repeat rows until all classes have equally many, or weight the classes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerash5._errors import OptionError
from kerash5.order._permutation import make_key, parse_seed, permutation

_BALANCE: Final = 5  # purpose of the key; the plan uses 1 to 3, a split 4


def balance_rows(labels: ArrayLike, *, seed: int = 0) -> NDArray[np.int64]:
    """Return the row numbers that give every class as many rows as the largest has.

    With m rows in the largest class and c in another, each row of that class comes m // c times,
    and m % c of them, drawn by `seed`, once more.

    Args:
        labels: One class per row, shape (n,), of any type that can be sorted.
        seed: Seed of the draw.

    Returns:
        Row numbers, sorted, with repeats; shape (number of classes * m,).

    Raises:
        OptionError: `labels` is empty or not a flat array.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or not len(array):
        raise OptionError(
            f"labels of shape {array.shape} cannot be balanced; give one class per row"
        )
    _, class_of, counts = np.unique(array, return_inverse=True, return_counts=True)
    most = int(counts.max())
    repeats = (most // counts)[class_of]
    for number, count in enumerate(counts.tolist()):
        rows = np.flatnonzero(class_of == number)
        order = permutation(count, make_key(parse_seed(seed), _BALANCE, number))
        repeats[rows[order[: most % count]]] += 1
    return np.repeat(np.arange(len(array)), repeats)


def balanced_weights(labels: ArrayLike) -> dict[int, float]:
    """Return one weight per class id, n / (classes * count), so that all classes weigh the same.

    This is scikit-learn's `class_weight="balanced"`; the mean weight of a row is 1.

    Args:
        labels: One class id per row, whole numbers, shape (n,).

    Raises:
        OptionError: `labels` is empty or not a flat array of whole numbers.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iub":
        raise OptionError(
            f"labels are {array.dtype} of shape {array.shape}; balanced weights take one class id "
            "per row"
        )
    ids, counts = np.unique(array, return_counts=True)
    return {
        int(number): len(array) / (len(ids) * int(count))
        for number, count in zip(ids, counts, strict=True)
    }
