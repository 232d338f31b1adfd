"""Files and batches that several tests of batches open, and what their rows must be."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kerash5.batches._batches import Batch, Batches, BatchOptions, open_batches
from kerash5.batches.cache import INDEX_BYTES, DirectRows, ResidentRows, WindowRows
from kerash5.h5 import write

NUM_ROWS: Final = 203


X: Final = np.arange(NUM_ROWS * 6, dtype=np.uint16).reshape(NUM_ROWS, 3, 2)


Y: Final = np.arange(NUM_ROWS, dtype=np.int64) * 3


W: Final = np.linspace(0, 1, NUM_ROWS, dtype=np.float32)


ROW_BYTES: Final = 12 + 8 + 4


CHUNK_ROWS: Final = 8


@dataclass(frozen=True)
class Kind:
    """A way in which batches can come about."""

    store: type
    compression: Any
    cache: Any
    shuffle: Any = "auto"
    spills: bool = False


WINDOW_CACHE: Final = 4 * CHUNK_ROWS * (ROW_BYTES + INDEX_BYTES)


KINDS: Final = {
    "contiguous": Kind(DirectRows, None, 1024),
    "contiguous in memory": Kind(ResidentRows, None, "auto"),
    "contiguous in chunks": Kind(DirectRows, None, 4096, "chunks"),
    "resident": Kind(ResidentRows, "gzip", "auto"),
    "resident in chunks": Kind(ResidentRows, "gzip", "auto", "chunks"),
    "resident in order": Kind(ResidentRows, "gzip", "auto", shuffle=False),
    "windows": Kind(WindowRows, "gzip", WINDOW_CACHE),
    "windows in order": Kind(WindowRows, "gzip", WINDOW_CACHE, shuffle=False),
    "spilled": Kind(ResidentRows, "gzip", 0, spills=True),
    "spilled in order": Kind(ResidentRows, "gzip", 0, shuffle=False, spills=True),
    "spilled though windows fit": Kind(ResidentRows, "gzip", WINDOW_CACHE, "rows", spills=True),
    "no cache": Kind(DirectRows, "gzip", 0),
    "no cache in order": Kind(DirectRows, "gzip", 0, shuffle=False),
}


every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def make_file(folder: Path, compression: Any = "gzip", name: str = "data.h5") -> Path:
    path = folder / name
    chunk_rows = CHUNK_ROWS if compression else None
    write(path, compression=compression, chunk_rows=chunk_rows, x=X, y=Y, w=W)
    return path


def open_kind(folder: Path, kind: Kind, **options: Any) -> Batches:
    """Write the file of a kind, and open it."""
    path = make_file(folder, kind.compression)
    options = {"batch_size": 10, "cache": kind.cache, "shuffle": kind.shuffle, **options}
    if kind.spills:
        options["scratch"] = folder
    batches = open_batches(path, "x", "y", "w", BatchOptions(**options))
    assert type(batches._store) is kind.store
    return batches


def open_plain(folder: Path, x: Any = "x", y: Any = "y", w: Any = None, **options: Any) -> Batches:
    """Open a compressed file that fits the cache."""
    return open_batches(make_file(folder), x, y, w, BatchOptions(**{"batch_size": 10, **options}))


def assert_rows(batch: Batch, rows: NDArray[np.int64]) -> None:
    x, y, w = batch
    assert_array_equal(x, X[rows])
    assert_array_equal(y, Y[rows])
    assert_array_equal(w, W[rows])
    assert (x.dtype, y.dtype, w.dtype) == (X.dtype, Y.dtype, W.dtype)


def assert_batches(found: Iterable[Batch], batches: Batches, steps: range) -> None:
    """Check that these are the batches of these steps, and no more."""
    for step, batch in zip(steps, found, strict=True):
        assert_rows(batch, batches.plan.rows(step))


def reading_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("kerash5")]
