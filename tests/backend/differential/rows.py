"""The rows that every kind trains on, as arrays for `fit` and as an HDF5 file for the trainer.

There are 44 of them: in batches of 8 the last one of an epoch has 4 rows.
"""

import atexit
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

NUM_ROWS: Final = 44
BATCH_SIZE: Final = 8
STEPS: Final = 6  # in an epoch
TRAINING: Final = slice(0, 30)  # where a kind validates: three whole batches and one of 6 rows
VALIDATION: Final = slice(30, NUM_ROWS)

# Names of columns: one, a name for each input or output, or one for each in order.
Columns = str | Mapping[str, str] | tuple[str, ...] | None


def make_columns() -> dict[str, NDArray[Any]]:
    """Return the columns by name; the same in each process."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, NUM_ROWS)
    classes = random.integers(0, 3, (NUM_ROWS, 5))
    binary = random.integers(0, 2, (NUM_ROWS, 1))
    one_hot = np.eye(3, dtype=np.float32)
    sequence = random.normal(size=(NUM_ROWS, 5, 3)).astype(np.float32)
    sequence[::2, 3:] = 0  # padding, for masks
    token = random.integers(1, 9, (NUM_ROWS, 6))
    token[:, 4:] = 0
    return {
        "vector": random.normal(size=(NUM_ROWS, 6)).astype(np.float32),
        "other": random.normal(size=(NUM_ROWS, 6)).astype(np.float32),
        "positive": random.uniform(size=(NUM_ROWS, 6)).astype(np.float32),
        "double": random.normal(size=(NUM_ROWS, 6)),
        "image": random.uniform(size=(NUM_ROWS, 8, 8, 3)).astype(np.float32),
        "bytes": random.integers(0, 256, (NUM_ROWS, 8, 8, 3), dtype=np.uint8),
        "volume": random.uniform(size=(NUM_ROWS, 4, 4, 4, 2)).astype(np.float32),
        "video": random.uniform(size=(NUM_ROWS, 3, 5, 5, 2)).astype(np.float32),
        "films": random.uniform(size=(NUM_ROWS, 2, 4, 4, 4, 1)).astype(np.float32),
        "sequence": sequence,
        "signal": random.normal(size=(NUM_ROWS, 64)).astype(np.float32),
        "token": token.astype(np.int32),
        "label": labels.astype(np.int32),
        "binary": binary.astype(np.float32),
        "sign": (binary * 2 - 1).astype(np.float32),
        "target": random.normal(size=(NUM_ROWS, 1)).astype(np.float32),
        "targets": random.normal(size=(NUM_ROWS, 2)).astype(np.float32),
        "target_double": random.normal(size=(NUM_ROWS, 1)),
        "amounts": (random.uniform(size=(NUM_ROWS, 3)) + 0.1).astype(np.float32),
        "one_hot": one_hot[labels],
        "several": random.integers(0, 2, (NUM_ROWS, 3)).astype(np.float32),
        "label_sequence": classes.astype(np.int32),
        "label_sequence_from_one": (classes + 1).astype(np.int32),  # 0 is CTC's blank
        "one_hot_sequence": one_hot[classes],
        "label_image": random.integers(0, 3, (NUM_ROWS, 8, 8)).astype(np.int32),
        "weight": random.uniform(0.1, 2.0, NUM_ROWS).astype(np.float32),
        "weight_zeros": random.integers(0, 2, NUM_ROWS).astype(np.float32),
        "weight_sequence": random.uniform(0.1, 2.0, (NUM_ROWS, 5)).astype(np.float32),
    }


COLUMNS: Final = make_columns()


def pick(names: Columns, rows: slice = slice(None)) -> Any:
    """Return arrays in the structure of `names`, as `fit` takes them."""
    if names is None:
        return None
    if isinstance(names, str):
        return COLUMNS[names][rows]
    if isinstance(names, tuple):
        return tuple(COLUMNS[name][rows] for name in names)
    return {key: COLUMNS[name][rows] for key, name in names.items()}


@cache
def scratch_folder() -> Path:
    """Return a folder of this process that is removed at its end."""
    folder = tempfile.TemporaryDirectory(prefix="kerash5-differential-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def row_file() -> str:
    """Write the columns as an HDF5 file, once in a process; return its path."""
    path = scratch_folder() / "rows.h5"
    with h5py.File(path, "w") as file:
        for name, array in COLUMNS.items():
            file[name] = array
    return str(path)
