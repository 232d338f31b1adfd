"""`pack_mnist`, with Keras' download replaced: what is written, what is said without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import DownloadError, FileError, KerasH5Error
from kerash5.zoo import _pack
from kerash5.zoo._pack import pack_mnist

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.one_backend

Split = tuple["NDArray[np.uint8]", "NDArray[np.uint8]"]


def draw_split(num_rows: int) -> Split:
    random = np.random.default_rng(num_rows)
    image = random.integers(0, 256, (num_rows, 28, 28), dtype=np.uint8)
    return image, random.integers(0, 10, num_rows, dtype=np.uint8)


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> tuple[Split, Split]:
    """Let Keras' `load_data` return a small training and test split."""
    splits = draw_split(130), draw_split(64)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: splits)
    return splits


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Keras' `load_data` fail as it does without a network."""

    def load_data() -> None:
        message = "URL fetch failure on https://example.org/mnist.npz: None -- no route to host"
        raise Exception(message)  # noqa: TRY002  as Keras does

    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)


def test_both_files_hold_what_keras_loaded(digits: tuple[Split, Split], tmp_path: Path) -> None:
    paths = pack_mnist(tmp_path)
    assert paths == (tmp_path / "train.hdf5", tmp_path / "test.hdf5")
    for path, (image, label) in zip(paths, digits, strict=True):
        with h5py.File(path, "r") as file:
            assert sorted(file) == ["image", "label"]
            assert (file["image"].dtype, file["label"].dtype) == (np.uint8, np.int64)
            assert_array_equal(file["image"][:], image)
            assert_array_equal(file["label"][:], label)
            assert file["image"].chunks == (64, 28, 28)
            assert "LeCun" in file.attrs["authors"]


@pytest.mark.usefixtures("digits")
def test_nothing_but_the_two_files_is_left(tmp_path: Path) -> None:
    pack_mnist(tmp_path / "deep" / "folder")
    names = sorted(path.name for path in (tmp_path / "deep" / "folder").iterdir())
    assert names == ["test.hdf5", "train.hdf5"]


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize("name", ["train.hdf5", "test.hdf5"])
def test_an_existing_file_is_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(FileError, match=f"{name}' exists; pass overwrite=True"):
        pack_mnist(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.usefixtures("digits")
def test_an_existing_file_is_replaced_when_told_so(tmp_path: Path) -> None:
    (tmp_path / "test.hdf5").write_text("old")
    _, test = pack_mnist(tmp_path, overwrite=True)
    with h5py.File(test, "r") as file:
        assert len(file["label"]) == 64


@pytest.mark.usefixtures("offline")
def test_without_network_the_error_says_what_to_do_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", "/cache/of/keras")
    with pytest.raises(
        DownloadError,
        match=r"no route to host.*put mnist\.npz into '.cache.of.keras.datasets'.*kerash5 demo",
    ) as caught:
        pack_mnist(tmp_path / "data")
    assert isinstance(caught.value, KerasH5Error)
    assert isinstance(caught.value, ConnectionError)
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("digits")
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FileError, match="taken' cannot be created"):
        pack_mnist(tmp_path / "taken")


@pytest.mark.usefixtures("digits")
def test_a_failing_write_passes_its_own_error_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_to_full_disk(*_: object, **__: object) -> None:
        raise FileError("no space left")

    monkeypatch.setattr(_pack, "write", write_to_full_disk)
    with pytest.raises(FileError, match="no space left"):
        pack_mnist(tmp_path)
