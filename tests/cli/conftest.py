"""Fixtures of the tests of commands."""

from pathlib import Path

import numpy as np
import pytest

from kerash5.h5 import write


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A small file with the columns that a command expects unless told otherwise."""
    path = tmp_path / "train.h5"
    write(path, image=np.zeros((6, 8, 8), np.uint8), label=np.arange(6) % 2)
    return str(path)
