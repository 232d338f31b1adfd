"""Check labels before the first batch: they survive the cast that their column asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kerash5.h5._source import Source

_SCAN_ROWS: Final = 1 << 18  # read at a time
_MAX_ROW_BYTES: Final = 64  # of labels; larger rows are pictures, checked as they are read
_MAX_ROWS: Final = 1 << 24


def check_labels_fit(
    source: Source, names: Iterable[str], rows: NDArray[np.int64] | None = None
) -> None:
    """Raise `ColumnError` if a label does not fit the type that its column is cast to.

    Columns whose types alone prove the cast are not read, nor are those with more than 64 bytes a
    row or 2^24 rows: these are checked batch by batch.

    Args:
        source: The columns.
        names: Which of them are labels.
        rows: The rows to look at; None for all.
    """
    columns = source.columns
    asked = [name for name in names if columns[name].may_lose]
    labels = [name for name in asked if columns[name].loaded_row_bytes <= _MAX_ROW_BYTES]
    count = len(source) if rows is None else len(rows)
    if not labels or count > _MAX_ROWS:
        return
    chosen = source.select(**{name: name for name in labels})
    # In the order of the file: each chunk is then decoded once.
    ordered = None if rows is None else np.unique(rows)
    for start in range(0, count if ordered is None else len(ordered), _SCAN_ROWS):
        stop = min(start + _SCAN_ROWS, count)
        chosen.read(np.arange(start, stop) if ordered is None else ordered[start:stop])
