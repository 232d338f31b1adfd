"""The batches as an `IterableDataset` of PyTorch: tensors, in the plan's order, for any workers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final, final

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from kerash5._checks import parse_count
from kerash5._errors import OptionError
from kerash5.batches._batches import Batch, Batches
from kerash5.batches._roles import map_tree
from kerash5.feeds.passes._epochs import Epochs, find_fetcher

_TENSOR_KINDS: Final = "biufc"


class _Pass:
    """Identifies a pass over the data set in this process."""


@final
class TorchBatches(IterableDataset):
    """Yields the batches of one epoch after another as tensors.

    Args:
        batches: The batches in training order.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches
        self._epochs = Epochs()  # a DataLoader that starts workers finds it under this name
        # Where the next pass begins, and from which batch on workers take turns.
        self._start = self._first = 0
        self._state = {"epoch": 0, "step": 0, "first": 0}

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._batches)

    def __repr__(self) -> str:
        """Return the source and the number of batches."""
        return f"TorchBatches({self._batches.source!r}, {len(self)} batches)"

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, which then begins at its first batch.

        Raises:
            OptionError: `epoch` is not a whole number of at least 0.
        """
        self._epochs.set(epoch)
        self._start = self._first = 0
        self._state = {"epoch": int(epoch), "step": 0, "first": 0}

    def state_dict(self) -> dict[str, int]:
        """Return the position in this process: the epoch, and the batch that comes next."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next pass go on at a position that `state_dict` has returned.

        Raises:
            OptionError: It is no such position, or one of other data.
        """
        try:
            epoch, step, first = (int(state[name]) for name in ("epoch", "step", "first"))
        except (KeyError, TypeError, ValueError) as error:
            raise OptionError(f"state={state!r} is none that state_dict has returned") from error
        parse_count("step", step, f"at most the {len(self)} batches of an epoch", least=0)
        if step > len(self):
            raise OptionError(
                f"state={state!r}: an epoch of these data has {len(self)} batches; load the state "
                "of the same data"
            )
        self.set_epoch(epoch)
        self._start, self._first, self._state = step, first, dict(state)

    def __iter__(self) -> Iterator[Any]:
        """Return the batches of the next epoch; in a worker of a DataLoader, its share of them.

        Raises:
            OptionError: A DataLoader stacks batches; pass it batch_size=None.
        """
        find_fetcher(inspect.currentframe().f_back, self._batches.plan.batch_size)  # type: ignore[union-attr]
        return self._iterate()

    def _iterate(self) -> Iterator[Any]:
        worker = get_worker_info()
        index, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        epoch = self._epochs.of_pass(_Pass())
        start, first = self._start, self._first if count > 1 else self._start
        self._start = self._first = 0
        numbers = [step for step in range(start, len(self)) if (step - first) % count == index]
        for step, batch in zip(numbers, self._read(epoch, start, numbers, count), strict=True):
            turn = step + 1 if count == 1 else first  # whose turn is next, where workers go on
            self._state = {"epoch": epoch, "step": step + 1, "first": turn}
            yield map_tree(batch, _to_tensor)
        self._state = {"epoch": epoch + 1, "step": 0, "first": 0}

    def _read(self, epoch: int, start: int, numbers: list[int], count: int) -> Iterator[Batch]:
        if count == 1:  # threads read ahead
            yield from self._batches.epoch(epoch, start)
            return
        for number in numbers:
            yield self._batches.read(epoch * len(self) + number)


def _to_tensor(array: Any) -> Any:  # noqa: ANN401  text stays an array
    values = np.asarray(array)
    if values.dtype.kind not in _TENSOR_KINDS:
        return array
    return torch.from_numpy(values if values.flags.writeable else values.copy())
