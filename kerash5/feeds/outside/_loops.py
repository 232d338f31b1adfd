"""The methods of `H5Dataset` for loops outside Keras. Frameworks are imported on use."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from kerash5._checks import parse_count
from kerash5._errors import BackendError
from kerash5.batches._batches import Batch, Batches


class OutsideLoops:
    """Batches of several epochs, and the forms that PyTorch and TensorFlow have for data."""

    @abstractmethod
    def _training_batches(self) -> Batches:
        """Return the batches in training order."""

    def epochs(self, count: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of several epochs, one after another, as NumPy arrays.

        Args:
            count: Number of epochs.
            start: Number of the first epoch, from 0.

        Raises:
            OptionError: `count` or `start` is not a whole number, or `count` is less than 1.
        """
        count = parse_count("count", count, "the number of epochs")
        start = parse_count("start", start, "the number of the first epoch, from 0", least=0)
        return _chain(self._training_batches(), range(start, start + count))

    def to_torch(self) -> Any:  # noqa: ANN401  torch is imported on use
        """Return the batches as a `torch.utils.data.IterableDataset` of tensors.

        Each pass over it is the next epoch. Pass it to `DataLoader(..., batch_size=None)`, with or
        without workers: the order of batches is the same. `set_epoch(epoch)` sets the epoch of the
        next pass; `state_dict()` and `load_state_dict(state)` resume within an epoch, as
        `StatefulDataLoader` of torchdata does. With workers that end after a pass, that loader
        restores the workers of one pass alone: call `set_epoch` before the next.

        Raises:
            BackendError: PyTorch is not installed.
        """
        try:
            from kerash5.feeds.outside._torch import TorchBatches
        except ImportError as error:
            raise BackendError("to_torch needs PyTorch: pip install 'kerash5[torch]'") from error
        return TorchBatches(self._training_batches())

    def to_tf(self) -> Any:  # noqa: ANN401  TensorFlow is imported on use
        """Return the batches as a `tf.data.Dataset`, with their types, shapes and number.

        Each pass over it is the next epoch. The number of rows of a batch is static if every batch
        is full.

        Raises:
            BackendError: TensorFlow is not installed.
        """
        try:
            from kerash5.feeds.outside._tensorflow import tf_batches
        except ImportError as error:
            raise BackendError(
                "to_tf needs TensorFlow: pip install 'kerash5[tensorflow]'"
            ) from error
        return tf_batches(self._training_batches())


def _chain(batches: Batches, epochs: range) -> Iterator[Batch]:
    for epoch in epochs:
        yield from batches.epoch(epoch)
