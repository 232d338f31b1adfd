"""Split rows into training and validation rows, by seed. NumPy arrays only.

A split never reads a file: labels and groups are passed as arrays. The same seed gives the same
rows on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerash5._checks import is_whole, parse_count
from kerash5._errors import OptionError
from kerash5.order._permutation import make_key, parse_seed, permutation

_SPLIT: Final = 4  # purpose of the key; the plan uses 1 to 3


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Two disjoint sets of rows that together are all rows; each sorted, shape (n,)."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    def __repr__(self) -> str:
        """Return how many rows each side has."""
        return f"Split({len(self.train)} train rows, {len(self.validation)} validation rows)"

    def to_json(self) -> str:
        """Return the row numbers as JSON text."""
        return json.dumps({"train": self.train.tolist(), "validation": self.validation.tolist()})

    @classmethod
    def from_json(cls, text: str) -> Split:
        """Return the split that `to_json` wrote.

        Raises:
            OptionError: The text is not a split, or a row is on both sides.
        """
        try:
            values = json.loads(text)
            train, held_out = (
                np.asarray(values[name]).astype(np.int64, casting="safe")
                if len(values[name])
                else np.zeros(0, np.int64)
                for name in ("train", "validation")
            )
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(f"this is no split ({error!r}); Split.to_json writes one") from error
        if train.ndim != 1 or held_out.ndim != 1 or np.intersect1d(train, held_out).size:
            raise OptionError(
                "this is no split: its sides are two flat lists of row numbers that share none"
            )
        return cls(train, held_out)


def split_rows(
    num_rows: int,
    validation: float | np.integer | np.floating,
    *,
    labels: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Split:
    """Draw validation rows at random; the others are training rows.

    Args:
        num_rows: Total number of rows.
        validation: Fraction between 0 and 1, both excluded, which is rounded to whole rows; or
            number of rows: 1 is one row.
        labels: One value per row, shape (num_rows,); each value has the same fraction on both sides
            (within one row).
        groups: One value per row; rows of one group (a patient, a recording) stay on one side. The
            size of the validation set then only approximates `validation`.
        seed: Seed of the draw.

    Returns:
        The training and the validation rows; each sorted.

    Raises:
        OptionError: One side would be empty, both labels and groups are given, or one of them has
            another length.

    Examples:
        >>> split = split_rows(10, 0.2, seed=1)
        >>> len(split.train), len(split.validation)
        (8, 2)
    """
    wanted = count_validation(validation, num_rows)
    _check_one_of(labels, groups)
    if groups is not None:
        chosen = _draw_groups(groups, num_rows, wanted, seed)
    else:
        # Sorted by label, in random order within one, every stride includes each label's fraction
        # to within a row. Bresenham's rule spreads `wanted` picks evenly over all positions.
        order = _draw_order(num_rows, labels, seed)
        evenly = (np.arange(wanted) * num_rows + num_rows // 2) // wanted
        chosen = order[:wanted] if labels is None else order[evenly]
    held_out = np.zeros(num_rows, np.bool_)
    held_out[chosen] = True
    return Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))


def k_folds(
    num_rows: int,
    count: int,
    *,
    labels: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Iterator[Split]:
    """Return `count` splits whose validation sets are disjoint and together are all rows.

    Args:
        num_rows: Total number of rows.
        count: Number of folds, at least 2.
        labels: As in `split_rows`: each fold has the same fractions of labels.
        groups: As in `split_rows`: each group is in one fold.
        seed: Seed of the draw.

    Raises:
        OptionError: There are fewer rows (or groups) than folds.
    """
    count = parse_count("count", count, "the number of folds", least=2)
    _check_one_of(labels, groups)
    fold_of = np.empty(num_rows, np.int64)
    if groups is not None:
        group_of, sizes = _parse_groups(groups, num_rows)
        _check_enough(len(sizes), "groups", count)
        fold_of = _balance(sizes, count, seed)[group_of]
    else:
        _check_enough(num_rows, "rows", count)
        fold_of[_draw_order(num_rows, labels, seed)] = np.arange(num_rows) % count
    return (
        Split(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold))
        for fold in range(count)
    )


def count_validation(
    validation: float | np.integer | np.floating, num_rows: int, name: str = "validation"
) -> int:
    """Return the number of validation rows.

    Args:
        validation: Fraction between 0 and 1, or number of rows.
        num_rows: Total number of rows.
        name: Name of the option, for messages.

    Raises:
        OptionError: The value is neither a fraction nor a number of rows, or one side of the split
            would be empty.
    """
    is_fraction = isinstance(validation, float | np.floating)
    if not is_whole(validation) and not (is_fraction and 0 < validation < 1):
        raise OptionError(
            f"{name}={validation!r}; it is a fraction between 0 and 1 such as 0.2, or a number "
            "of rows"
        )
    count = round(validation * num_rows) if is_fraction else int(validation)
    if not 0 < count < num_rows:
        raise OptionError(
            f"{name}={validation!r} of {num_rows} rows is {count} rows; both sides of a split "
            "need at least one"
        )
    return count


def _check_one_of(labels: ArrayLike | None, groups: ArrayLike | None) -> None:
    if labels is not None and groups is not None:
        raise OptionError(
            "both labels= and groups= given; either the labels keep their shares or the groups "
            "stay whole: give one"
        )


def _check_enough(available: int, what: str, count: int) -> None:
    if available < count:
        raise OptionError(f"{count} folds of {available} {what}; use fewer folds")


def _draw_order(num_rows: int, labels: ArrayLike | None, seed: int) -> NDArray[np.int64]:
    """Return all rows in random order; with labels, sorted by label and random within each."""
    order = permutation(num_rows, make_key(parse_seed(seed), _SPLIT))
    if labels is None:
        return order
    return order[np.argsort(_parse_values("labels", labels, num_rows)[order], kind="stable")]


def _parse_values(name: str, values: ArrayLike, num_rows: int) -> np.ndarray:
    array = np.asarray(values)
    if array.shape != (num_rows,):
        raise OptionError(
            f"{name} of shape {array.shape} for {num_rows} rows; give one value a row"
        )
    return array


def _parse_groups(groups: ArrayLike, num_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the group number of each row, and the number of rows in each group."""
    values = _parse_values("groups", groups, num_rows)
    _, group_of, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return group_of, sizes


def _draw_groups(groups: ArrayLike, num_rows: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """Return the rows of groups whose total is nearest to `wanted`: at least one, not all."""
    group_of, sizes = _parse_groups(groups, num_rows)
    if len(sizes) < 2:
        raise OptionError("all rows are of one group, which cannot be on both sides of a split")
    order = permutation(len(sizes), make_key(parse_seed(seed), _SPLIT))
    filled = np.cumsum(sizes[order])[:-1]
    count = int(np.argmin(np.abs(filled - wanted))) + 1
    return np.flatnonzero(np.isin(group_of, order[:count]))


def _balance(sizes: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Assign each group to a fold: largest first, each to the fold with the fewest rows."""
    order = permutation(len(sizes), make_key(parse_seed(seed), _SPLIT))
    order = order[np.argsort(-sizes[order], kind="stable")]
    folds, filled = np.empty(len(sizes), np.int64), np.zeros(count, np.int64)
    for group in order:
        folds[group] = int(np.argmin(filled))
        filled[folds[group]] += sizes[group]
    return folds
