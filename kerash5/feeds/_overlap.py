"""Finds rows that are both trained on and validated or tested on.

Two rows are the same if x is the same HDF5 data set: the same file, whatever its path (another
spelling, a hard or symbolic link, a pattern), and the same object in it, also through soft or
external links. Copies of a file and virtual data sets over it are other objects and are not found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from kerash5._errors import OptionError
from kerash5._warnings import warn
from kerash5.feeds._served import served_by

if TYPE_CHECKING:
    from kerash5.feeds._keras import H5Dataset
    from kerash5.h5.reading._readers import Origin

_NAMED_ROWS: Final = 5  # in a message
_Key = frozenset["Origin"]


def check_no_overlap(train: H5Dataset, other: H5Dataset, *, task: str, cure: str) -> None:
    """Check that no row of `other` is a row of `train`.

    Only row numbers and object addresses in files are compared; no data are read.

    Args:
        train: The training data.
        other: The validation or test data.
        task: "validate" or "test", for the message.
        cure: What the user can do, for the message.

    Raises:
        OptionError: Some rows are the same; the message gives their number and the first few.
    """
    same = describe_overlap(train, other, task=task)
    if same is not None:
        raise OptionError(
            f"{same} are trained on as well, so the metrics would not be those of new rows; {cure}"
        )


def warn_of_validated_rows(validation: H5Dataset, test: H5Dataset) -> None:
    """Warn if rows are both validated and tested on.

    This is no error: the rows are not trained on, and many published results report such a metric.
    But the metric is too good, because the best epoch was chosen by the same rows.
    """
    same = describe_overlap(validation, test, task="test")
    if same is not None:
        warn(
            f"{same} are validated on as well, so the best epoch is chosen by them and test "
            "metrics are better than on new rows; give validation_split= a fraction of the "
            "training rows, such as 0.2, or rows of its own"
        )


def describe_overlap(first: H5Dataset, other: H5Dataset, *, task: str) -> str | None:
    """Return a description of the rows of `other` that are rows of `first`; None if none are.

    Args:
        first: A data set.
        other: Another data set, whose rows are named.
        task: What `other` is for: "validate" or "test".
    """
    same = find_overlap(first, other)
    if not len(same):
        return None
    named = ", ".join(map(str, same[:_NAMED_ROWS].tolist()))
    more = f" and {len(same) - _NAMED_ROWS} more" if len(same) > _NAMED_ROWS else ""
    rows = "row" if len(same) == 1 else "rows"
    return (
        f"{len(same)} of the {other.num_rows} rows to {task} on ({rows} {named}{more} of "
        f"{served_by(other).column_path('x')!r} in {_name_file(other, same[0])!r})"
    )


def find_overlap(train: H5Dataset, other: H5Dataset) -> NDArray[np.int64]:
    """Return the source row numbers of `other` that `train` serves too; sorted."""
    trained: dict[Origin, list[int]] = {}
    train_keys, other_keys = _keys(train), _keys(other)
    for part, key in enumerate(train_keys):
        for origin in key:
            trained.setdefault(origin, []).append(part)
    found: list[NDArray[np.int64]] = []
    for part, key in enumerate(other_keys):
        near = sorted({number for origin in key for number in trained.get(origin, ())})
        # Rows are not the same if only some inputs are the same data set (a table, a mask).
        same = [n for n in near if key <= train_keys[n] or train_keys[n] <= key]
        if same:
            rows = _rows_of_part(other, part)
            seen = np.zeros(int(np.diff(other.source.part_starts)[part]), np.bool_)
            for number in same:
                seen[_rows_of_part(train, number)] = True
            found.append(rows[seen[rows]] + other.source.part_starts[part])
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def _keys(dataset: H5Dataset) -> list[_Key]:
    """Return the origins of x for each part of a source."""
    columns = [dataset.source.columns[name] for name in served_by(dataset).column_names("x")]
    origins = [[part.origin for part in column.parts] for column in columns]
    return [
        frozenset(key for key in keys if key is not None) for keys in zip(*origins, strict=True)
    ]


def _rows_of_part(dataset: H5Dataset, part: int) -> NDArray[np.int64]:
    """Return the served rows of one part, numbered from the part's first row."""
    start, stop = dataset.source.part_starts[part : part + 2].tolist()
    rows = dataset.plan.rows_to_serve
    if rows is None:
        return np.arange(stop - start)
    here: NDArray[np.int64] = rows[(rows >= start) & (rows < stop)] - start
    return here


def _name_file(dataset: H5Dataset, row: int) -> str:
    paths, starts = dataset.source.part_paths, dataset.source.part_starts
    return paths[int(np.searchsorted(starts, row, side="right")) - 1]
