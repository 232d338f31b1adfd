"""Write MNIST to `train.hdf5` and `test.hdf5`, in the layout of the 2020 tutorial.

It is part of the zoo because Keras downloads it, and few folders may import Keras. It needs the
network once; the digits in `assets` need none. `h5._write` makes the files crash-safe.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import DownloadError, FileError
from kerash5.h5._write import write

Split: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images and labels

ATTRIBUTES: Final = {
    "title": "The MNIST database of handwritten digits",
    "authors": "Yann LeCun, Corinna Cortes, Christopher J. C. Burges",
    "license": "CC BY-SA 3.0, https://creativecommons.org/licenses/by-sa/3.0/",
}


def pack_mnist(folder: Path, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Write MNIST's 60,000 training rows and 10,000 test rows into a folder.

    Columns: `image` (n, 28, 28) uint8 and `label` (n,) int64, in gzip chunks of 64 rows.

    Args:
        folder: Folder to write to; created if missing.
        overwrite: Whether to replace existing files.

    Returns:
        The paths of `train.hdf5` and `test.hdf5`.

    Raises:
        DownloadError: MNIST is not in Keras' cache and cannot be downloaded; nothing was written.
        FileError: One of the files exists and `overwrite` is False, and nothing was written; or a
            file cannot be written, and no partial file is left.
    """
    train, test = paths = folder / "train.hdf5", folder / "test.hdf5"
    if not overwrite:
        _refuse_existing(paths)  # before the download, not after it
    splits = _load()
    _make_folder(folder)
    for path, (image, label) in zip(paths, splits, strict=True):
        write(
            path,
            overwrite=overwrite,
            chunk_rows=64,
            attributes=ATTRIBUTES,
            image=image,
            label=label,
        )
    return train, test


def _refuse_existing(paths: tuple[Path, ...]) -> None:
    """Raise if one of the paths exists."""
    for path in paths:
        if path.exists():
            raise FileError(
                f"{str(path)!r} exists; pass overwrite=True, or pack into another folder"
            )


def _load() -> tuple[Split, Split]:
    """Load MNIST through Keras, which caches it.

    Raises:
        DownloadError: MNIST is not cached and cannot be downloaded.
    """
    try:
        (image, label), (test_image, test_label) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras"), "datasets")
        raise DownloadError(
            f"Keras could not download MNIST, which needs the network once ({error}); "
            f"offline, put mnist.npz into {str(cache)!r}, or use the digits that ship with "
            'kerash5: "kerash5 demo"'
        ) from error
    return (image, label.astype(np.int64)), (test_image, test_label.astype(np.int64))


def _make_folder(folder: Path) -> None:
    """Create the folder and its parents if they are missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"the folder {str(folder)!r} cannot be created ({error}); choose another path"
        ) from error
