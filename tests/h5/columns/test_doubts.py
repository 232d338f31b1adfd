"""Data that may mean something else than what is read: it is said once, or refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

import kerash5 as k5


def write_parts(folder: Path, count: int, shape: tuple[int, ...]) -> str:
    for number in range(count):
        k5.write(folder / f"part_{number}.h5", image=np.zeros(shape, "u1"), y=np.zeros(shape[0]))
    return str(folder / "part_*.h5")


def test_packed_numbers_are_warned_of_and_described(tmp_path: Path) -> None:
    path = tmp_path / "ocean.nc"
    with h5py.File(path, "w") as file:
        file["sst"] = np.arange(6, dtype="i2").reshape(3, 2)
        file["sst"].attrs.update({"scale_factor": 0.01, "add_offset": 20.0, "_FillValue": -1})
        file["label"] = np.arange(3)
    with pytest.warns(UserWarning, match="column 'sst' is read as it is stored.*scale_factor=0.01"):
        source = k5.Source(path, x="sst", y="label")
    assert source.read([1])["x"].tolist() == [[2, 3]]
    assert "scale_factor=0.01, add_offset=20.0, _FillValue=-1" in source.describe()
    assert "scale_factor=0.01, add_offset=20.0, _FillValue=-1" in k5.describe(path)


def test_a_fill_value_of_nan_is_what_it_says(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((3, 2))
        file["x"].attrs["_FillValue"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        k5.Source(tmp_path / "a.h5", x="x")


def test_files_that_may_be_a_sample_each_are_warned_of(tmp_path: Path) -> None:
    pattern = write_parts(tmp_path, 4, (16, 16, 2))
    with pytest.warns(UserWarning, match=r"4 files of 16 rows .* as 64 rows; .* \(16, 16, 2\)"):
        assert len(k5.Source(pattern, x="image")) == 64


@pytest.mark.parametrize(("count", "shape"), [(2, (16, 16)), (4, (15, 16)), (4, (16,))], ids=str)
def test_files_of_rows_are_not(tmp_path: Path, count: int, shape: tuple[int, ...]) -> None:
    pattern = write_parts(tmp_path, count, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        k5.Source(pattern, x="image")
