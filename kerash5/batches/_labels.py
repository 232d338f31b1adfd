"""Check, before the first batch, that labels survive the cast their column requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kerash5.h5._source import Source

_SCAN_ROWS: Final = 1 << 18  # rows per read
_MAX_ROW_BYTES: Final = 64  # per row of labels; larger rows are images, checked as they are read
_MAX_ROWS: Final = 1 << 24


def check_labels_fit(
    source: Source, names: Iterable[str], rows: NDArray[np.int64] | None = None
) -> None:
    """Raise `ColumnError` if a label does not fit the dtype its column is cast to.

    Columns whose cast is always exact are not read, nor are those with more than 64 bytes per row
    or 2^24 rows, which are checked batch by batch.

    Args:
        source: The columns.
        names: Names of the label columns.
        rows: Row numbers to check; None for all.
    """
    columns = source.columns
    asked = [name for name in names if columns[name].may_lose]
    labels = [name for name in asked if columns[name].loaded_row_bytes <= _MAX_ROW_BYTES]
    count = len(source) if rows is None else len(rows)
    if not labels or count > _MAX_ROWS:
        return
    chosen = source.select(**{name: name for name in labels})
    # In the order of the file, so that each chunk is decoded once.
    ordered = None if rows is None else np.unique(rows)
    for start in range(0, count if ordered is None else len(ordered), _SCAN_ROWS):
        stop = min(start + _SCAN_ROWS, count)
        chosen.read(np.arange(start, stop) if ordered is None else ordered[start:stop])
