"""The digits that ship: what they promise in their README, and that they are rows of MNIST."""

from __future__ import annotations

import hashlib
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5.assets import digits_test, digits_train

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "make_digits_asset.py"
FILES = [
    pytest.param(digits_train(), "train.hdf5", 5000, id="train"),
    pytest.param(digits_test(), "test.hdf5", 1000, id="test"),
]


def read_columns(path: Path, *names: str) -> tuple[NDArray[Any], ...]:
    """Read whole columns by h5py."""
    with h5py.File(path, "r") as file:
        return tuple(file[name][:] for name in names)


@pytest.mark.parametrize(("path", "_original", "num_rows"), FILES)
def test_columns_have_the_layout_of_the_tutorial(path: Path, _original: str, num_rows: int) -> None:
    image, label, row = read_columns(path, "image", "label", "row")
    assert image.shape == (num_rows, 28, 28)
    assert image.dtype == np.uint8
    assert label.shape == (num_rows,)
    assert label.dtype == np.int64
    assert row.shape == (num_rows,)
    assert row.dtype == np.int32


@pytest.mark.parametrize(("path", "_original", "num_rows"), FILES)
def test_every_class_has_equally_many_rows(path: Path, _original: str, num_rows: int) -> None:
    (label,) = read_columns(path, "label")
    assert_array_equal(np.bincount(label), np.full(10, num_rows // 10))


@pytest.mark.parametrize(("path", "_original", "num_rows"), FILES)
def test_rows_are_in_no_order_of_class(path: Path, _original: str, num_rows: int) -> None:
    (label,) = read_columns(path, "label")
    for part in np.split(label, 4):
        assert np.bincount(part, minlength=10).min() > num_rows // 4 // 10 / 2


@pytest.mark.parametrize(("path", "_original", "num_rows"), FILES)
def test_images_are_digits_and_not_blank(path: Path, _original: str, num_rows: int) -> None:
    (image,) = read_columns(path, "image")
    ink = image.reshape(num_rows, -1)
    assert ink.max(axis=1).min() > 128
    assert len(np.unique(ink, axis=0)) == num_rows


@pytest.mark.parametrize(("path", "_original", "_num_rows"), FILES)
def test_no_row_was_drawn_twice(path: Path, _original: str, _num_rows: int) -> None:
    (row,) = read_columns(path, "row")
    assert len(np.unique(row)) == len(row)


@pytest.mark.parametrize(("path", "_original", "_num_rows"), FILES)
def test_image_chunks_hold_whole_rows_and_fill_the_file(
    path: Path, _original: str, _num_rows: int
) -> None:
    with h5py.File(path, "r") as file:
        image = file["image"]
        assert image.chunks == (100, 28, 28)
        assert len(image) % image.chunks[0] == 0


@pytest.mark.parametrize(("path", "_original", "_num_rows"), FILES)
def test_file_names_its_origin_licence_and_seed(path: Path, _original: str, _num_rows: int) -> None:
    with h5py.File(path, "r") as file:
        assert "LeCun" in file.attrs["authors"]
        assert "CC BY-SA 3.0" in file.attrs["license"]
        assert file.attrs["seed"] == 1998


def test_both_files_together_stay_below_1_5_megabytes() -> None:
    assert sum(path.stat().st_size for path in (digits_train(), digits_test())) < 1_500_000


def test_readme_states_size_and_checksum_of_both_files() -> None:
    readme = (digits_train().parent / "README.md").read_text(encoding="utf-8")
    stated = re.findall(r"`(\S+\.hdf5)` \|.*\| ([\d,]+) \| `([0-9a-f]{64})`", readme)
    actual = [
        (path.name, f"{len(content):,}", hashlib.sha256(content).hexdigest())
        for path in (digits_train(), digits_test())
        for content in [path.read_bytes()]
    ]
    assert stated == actual


@pytest.mark.parametrize(("path", "original", "_num_rows"), FILES)
def test_every_row_is_the_recorded_row_of_mnist(
    path: Path, original: str, _num_rows: int, mnist_dir: Path
) -> None:
    image, label, row = read_columns(path, "image", "label", "row")
    images, labels = read_columns(mnist_dir / original, "image", "label")
    assert_array_equal(image, images[row])
    assert_array_equal(label, labels[row])


def test_script_draws_the_same_rows_again(mnist_dir: Path, tmp_path: Path) -> None:
    # The arrays, not the bytes: those also depend on the zlib that h5py was built with.
    write_sample = runpy.run_path(str(SCRIPT))["write_sample"]
    for split, path in (("train", digits_train()), ("test", digits_test())):
        again = write_sample(mnist_dir, tmp_path, split)
        for column, expected in zip(
            read_columns(again, "image", "label", "row"),
            read_columns(path, "image", "label", "row"),
            strict=True,
        ):
            assert_array_equal(column, expected)


def test_script_writes_the_same_bytes_twice(mnist_dir: Path, tmp_path: Path) -> None:
    write_sample = runpy.run_path(str(SCRIPT))["write_sample"]
    first = write_sample(mnist_dir, tmp_path, "test").read_bytes()
    assert write_sample(mnist_dir, tmp_path, "test").read_bytes() == first
