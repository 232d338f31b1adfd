"""What a peer is, and the loaders of other people over the HDF5 file that is measured.

Each is written as its users write it. Libraries are imported inside, for each peer runs in a
process of its own: see `_peer_process`. The loaders of other formats are in `_peer_formats`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

BATCH: Final = 256
WORKERS: Final = 2

Batch = tuple[Any, Any]


class Peer(ABC):
    """One loader.

    `runs_in` names the environment with its libraries; `packages` are those whose versions matter;
    `reads_hdf5` says whether it reads the file that is measured, rather than a format of its own;
    `note` says how its users shuffle.
    """

    runs_in: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    reads_hdf5: ClassVar[bool] = False
    note: ClassVar[str] = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # rows.npy, labels.npy, and what `convert` writes

    def convert(self) -> None:  # noqa: B027  a peer that reads HDF5 has nothing to do
        """Write the rows in this peer's own format."""

    @abstractmethod
    def open(self, path: Path) -> None:
        """Get ready to read: the HDF5 file, or the own format in the folder."""

    @abstractmethod
    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch in a new order."""

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and labels, mapped."""
        return np.load(self.folder / "rows.npy", mmap_mode="r"), np.load(self.folder / "labels.npy")


class H5pySorted(Peer):
    """Sorted fancy indexing, the file open: the best of plain h5py for exact shuffling."""

    runs_in = "h5py"
    packages = ("h5py",)
    reads_hdf5 = True
    note = "exact shuffle; the rows of a batch are sorted, as h5py wants them"

    def open(self, path: Path) -> None:
        """Open the file once."""
        h5py = _h5py()
        self._file = h5py.File(path)

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """Yield batches."""
        images, labels = self._file["image"], self._file["label"]
        order = np.random.default_rng(number).permutation(len(images))
        for start in range(0, len(order), BATCH):
            chosen = np.sort(order[start : start + BATCH])
            yield images[chosen], labels[chosen]


class TextbookPyDataset(Peer):
    """A keras.utils.PyDataset that opens the file in __getitem__, as most answers show it."""

    runs_in = "keras"
    packages = ("keras", "h5py")
    reads_hdf5 = True
    note = "exact shuffle of indices in `on_epoch_end`; opens the file in `__getitem__`; one worker"

    def open(self, path: Path) -> None:
        """Make the data set."""
        h5py, keras = _h5py(), _keras()
        with h5py.File(path) as file:
            num_rows = len(file["label"])

        class Textbook(keras.utils.PyDataset):  # type: ignore[name-defined,misc]  # Any
            def __init__(self) -> None:
                super().__init__()
                self.indices = np.arange(num_rows)
                self.on_epoch_end()

            def __len__(self) -> int:
                return (num_rows + BATCH - 1) // BATCH

            def __getitem__(self, index: int) -> Batch:
                chosen = np.sort(self.indices[index * BATCH : (index + 1) * BATCH])
                with h5py.File(path) as file:
                    return file["image"][chosen], file["label"][chosen]

            def on_epoch_end(self) -> None:
                np.random.default_rng().shuffle(self.indices)

        self._dataset = Textbook()

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """Yield batches as Keras asks for them."""
        for index in range(len(self._dataset)):
            yield self._dataset[index]
        self._dataset.on_epoch_end()


class TorchOverH5py(Peer):
    """DataLoader over a map-style data set that opens the file in each worker."""

    runs_in = "torch"
    packages = ("torch", "h5py")
    reads_hdf5 = True
    note = f"exact shuffle; {WORKERS} workers that stay, each with a handle; one row per item"

    def open(self, path: Path) -> None:
        """Make the loader."""
        from torch.utils.data import DataLoader

        dataset = H5pyRows(path)
        self._loader: Any = DataLoader(
            dataset, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
        )

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """Yield batches."""
        yield from self._loader


class TorchOverH5pyBatched(TorchOverH5py):
    """The same, with whole batches fetched at once."""

    note = (
        f"as above, but `__getitems__` fetches a batch by sorted fancy indexing ({WORKERS} workers)"
    )

    def open(self, path: Path) -> None:
        """Make the loader."""
        from torch.utils.data import DataLoader

        dataset = H5pyBatches(path)
        self._loader = DataLoader(
            dataset,
            BATCH,
            shuffle=True,
            num_workers=WORKERS,
            persistent_workers=True,
            collate_fn=_as_tensors,
        )


class GrainOverH5py(Peer):
    """A Grain source that opens the file once in the process; Grain reads it on threads."""

    runs_in = "grain"
    packages = ("grain", "h5py")
    reads_hdf5 = True
    note = "exact shuffle; Grain's own reading threads; one row per element"

    def open(self, path: Path) -> None:
        """Make the source."""
        self._source: Any = H5pyRows(path)

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """Yield batches."""
        import grain

        dataset = grain.MapDataset.source(self._source).seed(number).shuffle()
        iterator = iter(self._parse(dataset).batch(BATCH).to_iter_dataset())
        try:
            yield from iterator
        finally:
            iterator.close()  # or its threads go on

    def _parse(self, dataset: Any) -> Any:
        return dataset


class H5pyRows:
    """Rows of a file by number, one at a time; each process opens it for itself."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _h5py().File(path) as file:
            self._num_rows = len(file["label"])
        self._opened: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return self._num_rows

    def __repr__(self) -> str:
        return f"H5pyRows({self._path.name})"  # Grain wants a stable one

    def __getitem__(self, row: int) -> Batch:
        file = self.file()
        return file["image"][row], file["label"][row]

    def file(self) -> Any:
        """Return this process' own handle."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), _h5py().File(self._path)
        return self._opened[1]


class H5pyBatches(H5pyRows):
    """The same, a batch at a time."""

    def __getitems__(self, rows: list[int]) -> Batch:
        """Return a batch."""
        chosen, file = np.sort(rows), self.file()
        return file["image"][chosen], file["label"][chosen]


def _as_tensors(batch: Batch) -> Batch:
    import torch

    return torch.from_numpy(batch[0]), torch.from_numpy(batch[1])


def _h5py() -> Any:
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  so that HDF5 finds zstd and blosc
    return h5py


def _keras() -> Any:
    import keras

    return keras
