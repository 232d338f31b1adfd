"""The base class of `H5Dataset`: Keras' `PyDataset`, whose workers are threads that read."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from kerash5._backends import prepare_keras
from kerash5._warnings import warn

if TYPE_CHECKING:
    PyDataset = object
elif prepare_keras():
    from keras.utils import PyDataset
else:  # without Keras, `batches` and `read` still serve
    PyDataset = object


class ThreadedPyDataset(PyDataset):
    """A `PyDataset` that Keras serves on one thread, because its own threads read ahead."""

    @property
    def workers(self) -> int:
        """Always 1, because Keras' own workers repeat and lose batches.

        Setting it sets the number of reading threads.
        """
        return 1

    @workers.setter
    def workers(self, value: int) -> None:
        self._set_threads(value)

    @property
    def use_multiprocessing(self) -> bool:
        """Always False: threads read without the GIL, and processes would copy every batch."""
        return False

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        if value:
            warn_of_processes()

    @abstractmethod
    def _set_threads(self, count: int) -> None:
        """Read on so many threads from now on."""


def warn_of_processes() -> None:
    """Warn that Keras' worker processes are not used."""
    warn(
        "use_multiprocessing has no effect on an H5Dataset: its own threads read, and every row "
        "comes once"
    )
