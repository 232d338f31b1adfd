"""The batches as a Grain data set: the index is the global step, the element is a whole batch.

Grain does the mapping, prefetching and checkpointing of iterators; the order is the plan's.
"""

from __future__ import annotations

from kerash5._errors import BackendError, OptionError, RowError
from kerash5.batches._batches import Batch
from kerash5.feeds._keras import H5Dataset

try:
    from grain import MapDataset
except ImportError as error:
    raise BackendError("grain_dataset needs Grain: pip install 'kerash5[grain]'") from error


class _StepDataset(MapDataset):
    """Maps the running index to the plan's step.

    Not `MapDataset.source`: it takes the index modulo the length, so that every epoch would be
    epoch 0.
    """

    def __init__(self, dataset: H5Dataset) -> None:
        super().__init__()
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __repr__(self) -> str:
        return f"grain_dataset({self._dataset!r})"

    __str__ = __repr__

    def __getitem__(self, index: int | slice) -> Batch | MapDataset[Batch]:
        if isinstance(index, slice):
            return self.slice(index)
        if index < 0:
            raise RowError(f"step {index}; steps are counted from 0")
        return self._dataset.read(index)


def grain_dataset(dataset: H5Dataset) -> MapDataset[Batch]:
    """Return the batches of an `H5Dataset` as a `grain.MapDataset`.

    The element at index i is the batch of global step i, as in `dataset.read(i)`, so that
    `.repeat()` gives each epoch its own order. Do not shuffle it again. Limit what Grain reads
    ahead, because an element is a whole batch:
    `grain_dataset(ds).to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))`.

    Args:
        dataset: The data set. With Grain's worker processes it must be picklable, including its
            transform.

    Raises:
        BackendError: Grain is not installed.
        OptionError: `dataset` is not an `H5Dataset`.
    """
    if not isinstance(dataset, H5Dataset):
        raise OptionError(f"grain_dataset({dataset!r}); it takes an H5Dataset")
    return _StepDataset(dataset)
