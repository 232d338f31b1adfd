"""Labels with names, as an HDF5 enum: class ids that say in the file what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import h5py
import numpy as np

# An enum is stored in the header of its data set, which has 64 KiB.
MAX_CLASSES: Final = 1000


def class_dtype(names: Sequence[str]) -> np.dtype:
    """Return the type of ids of named classes: the id is the position of the name."""
    base = "u1" if len(names) <= 256 else "u2"
    dtype: np.dtype = h5py.enum_dtype({name: number for number, name in enumerate(names)}, base)
    return dtype
