"""`{split}` in the file that a column lies in."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from kerash5._errors import OptionError, UnknownColumnError
from kerash5.feeds._splits import Splits
from kerash5.h5 import Column


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for word in ("train", "valid", "test"):
        for name in "xy":
            with h5py.File(tmp_path / f"{word}_{name}.h5", "w") as file:
                file[name] = np.zeros(3)
    return tmp_path


def test_each_role_has_files_of_its_own(folder: Path) -> None:
    y = Column("y", file=str(folder / "{split}_y.h5"))
    splits = Splits({"x": "x", "y": y})
    assert splits.of_train()["y"].file == str(folder / "train_y.h5")
    assert splits.of_train()["x"] == "x"
    assert not splits.are_named  # the files of training hold no other rows
    found = splits.of("validation", folder / "valid_x.h5")
    assert found["y"].file == str(folder / "valid_y.h5")
    assert splits.of("test", folder / "test_x.h5")["y"].file == str(folder / "test_y.h5")


def test_a_list_of_files_is_filled_too(folder: Path) -> None:
    y = Column("y", file=[folder / "{split}_y.h5"])
    assert Splits({"y": y}).of_train()["y"].file == (str(folder / "train_y.h5"),)


def test_files_that_are_missing_are_named(folder: Path) -> None:
    (folder / "test_y.h5").unlink()
    splits = Splits({"x": "x", "y": Column("y", file=str(folder / "{split}_y.h5"))})
    with pytest.raises(UnknownColumnError, match=r"no '.*test_y\.h5', and "):
        splits.of("test", folder / "test_x.h5")


def test_one_file_for_two_roles_is_refused(folder: Path) -> None:
    splits = Splits({"x": "x", "y": Column("y", file=folder / "train_y.h5")})
    splits.of_train()
    with pytest.raises(OptionError, match="lies in the same file for training and to test on"):
        splits.of("test", folder / "test_x.h5")
