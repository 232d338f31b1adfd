"""A small real data set that ships with the package: handwritten digits out of MNIST.

5,000 rows to train on and 1,000 to test with, classes balanced, rows in no order of class. The
`README.md` beside the files tells where they come from, under which licence, and how they were
drawn. Nothing here reads them.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["digits_test", "digits_train"]


def digits_train() -> Path:
    """Return the path of 5,000 digits out of MNIST's training file.

    Columns: `image` (n, 28, 28) uint8, `label` (n,) int64, and `row` (n,) int32, the row in MNIST.
    """
    return _path("digits-train.hdf5")


def digits_test() -> Path:
    """Return the path of 1,000 digits out of MNIST's test file, with the same columns."""
    return _path("digits-test.hdf5")


def _path(name: str) -> Path:
    """Find the file beside this module; pip always unpacks a wheel, so it is a file on disk."""
    return Path(str(files(__name__).joinpath(name)))
