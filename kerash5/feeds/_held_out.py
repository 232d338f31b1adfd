"""Splits validation rows off the training data, and repeats training rows to balance classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kerash5._errors import OptionError
from kerash5._options import DataOptions
from kerash5.batches._batches import parse_selection
from kerash5.batches._row_choice import find_rows, read_beside
from kerash5.feeds._served import served_by
from kerash5.order._balance import balance_rows
from kerash5.order._split import count_validation, split_rows

if TYPE_CHECKING:
    from kerash5.feeds._keras import H5Dataset

# Fraction of the cache for validation and for test, which are read in order and need little.
ASIDE: Final = 0.25


def split_training_rows(
    base: H5Dataset,
    validation: Any,  # noqa: ANN401  a number or a selection; resolved here
    options: DataOptions,
    *,
    cache_bytes: int,
    changes: Mapping[str, Any],
) -> tuple[H5Dataset, H5Dataset]:
    """Split the rows of `base` in two; both use the rows in memory, or each gets part of the cache.

    Args:
        base: The data set of all rows.
        validation: The number or fraction of rows to validate on, or a selection of rows.
        options: The options of the data.
        cache_bytes: Cache of both together, in bytes.
        changes: Options that differ for the validation rows.
    """
    rows = base.plan.served_rows
    if isinstance(validation, int | float | np.integer | np.floating):
        if options.stratify and options.groups is not None:
            raise OptionError(
                f"stratify=True and groups={options.groups!r} are both given; either the labels "
                "have equal fractions or the groups are not split: give one"
            )
        _check_distinct(rows)
        labels = read_class_ids(base) if options.stratify else None
        groups = _read_groups(options.groups, base, rows)
        count = count_validation(validation, len(rows), "validation_split")
        split = split_rows(len(rows), count, labels=labels, groups=groups, seed=options.seed)
        train, held_out = rows[split.train], rows[split.validation]
    else:
        check_not_stratified(stratify=options.stratify)
        check_no_groups(options.groups)
        chosen = parse_selection(find_rows(validation, base.source), len(base.source))
        held_out = rows if chosen is None else chosen
        train = rows[~np.isin(rows, held_out)]
        if not len(train) or not len(held_out):
            raise OptionError(
                f"validation_split= leaves {len(train)} rows to train on and {len(held_out)} to "
                "validate; both need some"
            )
    in_order: dict[str, Any] = {
        "shuffle": False,
        "drop_last": False if options.drop_last is True else options.drop_last,
        **changes,
    }
    if served_by(base).fits_memory:
        return base.select_rows(train), base.select_rows(held_out, **in_order)
    aside = int(cache_bytes * ASIDE)
    return (
        base.select_rows(train, cache=cache_bytes - aside),
        base.select_rows(held_out, cache=aside, **in_order),
    )


def split_dataset(
    base: H5Dataset,
    validation: float,
    *,
    stratify: bool,
    groups: str | None,
    seed: int | None,
) -> tuple[H5Dataset, H5Dataset]:
    """Split the rows of a data set; see `H5Dataset.split`."""
    if not isinstance(validation, int | float | np.integer | np.floating):
        raise OptionError(
            f"validation={validation!r}; give a fraction between 0 and 1, or a number of rows "
            "(select_rows takes the rows themselves)"
        )
    count_validation(validation, len(base.plan.served_rows), "validation")  # named as here
    parsed = served_by(base).batches.training.options
    options = DataOptions(
        stratify=stratify,
        groups=groups,
        seed=parsed.seed if seed is None else seed,
        drop_last=parsed.drop_last,
    )
    return split_training_rows(
        base, validation, options, cache_bytes=parsed.cache_bytes, changes={}
    )


def balanced(train: H5Dataset, seed: int) -> H5Dataset:
    """Return a data set that repeats rows so that all classes have equally many."""
    if served_by(train).num_stored_classes is None:
        raise OptionError(
            "balance=True repeats rows by the class of y, and y holds no class labels; name a "
            "column of labels, or leave balance out"
        )
    rows = train.plan.served_rows
    return train.select_rows(rows[balance_rows(read_class_ids(train), seed=seed)])


def _read_groups(path: str | None, base: H5Dataset, rows: np.ndarray) -> np.ndarray | None:
    """Return the values of a column for the rows of `base`; None if `path` is None."""
    if path is None:
        return None
    values, _ = read_beside(path, base.source, "groups")
    if len(values) != len(base.source) or values.reshape(len(values), -1).shape[1] != 1:
        raise OptionError(
            f"groups={path!r} has shape {values.shape}, and the data {len(base.source)} rows; it "
            "needs one value per row"
        )
    return np.asarray(values.reshape(-1)[rows])


def check_no_groups(groups: str | None) -> None:
    if groups is not None:
        raise OptionError(
            f"groups={groups!r} needs validation_split= as a fraction or a number of rows; here it "
            "says already which rows they are"
        )


def read_class_ids(dataset: H5Dataset) -> np.ndarray:
    """Read the labels of the rows served, shape (n,); one-hot labels become class ids."""
    return as_class_ids(served_by(dataset).read_column("y"))


def as_class_ids(labels: np.ndarray) -> np.ndarray:
    """Return labels of shape (n,), (n, 1) or one-hot (n, num_classes) as class ids, shape (n,)."""
    is_one_hot = labels.ndim == 2 and labels.shape[1] > 1
    return np.asarray(labels.argmax(axis=1) if is_one_hot else labels.reshape(len(labels)))


def _check_distinct(rows: np.ndarray) -> None:
    if len(np.unique(rows)) < len(rows):
        raise OptionError(
            "rows= repeats row numbers, so validation rows drawn from them would also be trained "
            "on; say which rows are for validation, as a slice, row numbers, a mask or a file"
        )


def check_not_stratified(*, stratify: bool) -> None:
    if stratify:
        raise OptionError(
            "stratify=True needs validation_split= as a fraction or a number of rows; here it says "
            "already which rows they are"
        )
