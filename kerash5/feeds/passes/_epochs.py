"""Determines the epoch of a pass outside Keras: a loop over the data set, or a torch DataLoader.

Each pass reads the next epoch. A DataLoader does not tell the data set when a pass begins: it
requests batches by number, possibly in worker processes. But it makes a new fetcher for each pass
of a process, and a new iterator before it starts workers, so these objects identify a pass. They
are looked up on the stack; torch is not imported here.
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any, Final, final
from weakref import WeakKeyDictionary

from kerash5._checks import parse_count
from kerash5._errors import OptionError

_FETCH: Final = "torch.utils.data._utils.fetch"
# The modules whose iterators start workers: PyTorch's, and `StatefulDataLoader` of torchdata.
_LOADERS: Final = (
    "torch.utils.data.dataloader",
    "torchdata.stateful_dataloader.stateful_dataloader",
)
_MAX_FRAMES: Final = 40  # about ten lie between the start of a process and the DataLoader


@final
class Epochs:
    """Counts the passes outside Keras; picklable, so that workers start at their parent's epoch."""

    def __init__(self, next_epoch: int = 0, indexed: int = 0) -> None:
        self.next_epoch = next_epoch
        self.indexed = indexed  # epoch of plain indexing, which begins no pass
        self._of_workers: int | None = None
        self._process = os.getpid()
        self._passes: WeakKeyDictionary[object, int] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[Epochs], tuple[int, int]]:
        """Pickle for a worker, with the epoch its DataLoader is about to read."""
        loader = _find_loader()
        if loader is not None:
            return Epochs, (self.of_pass(loader), self.indexed)
        return Epochs, (self.next_epoch, self.indexed)

    def set(self, epoch: int) -> None:
        """Set the epoch of the next pass and of plain indexing."""
        self.next_epoch = self.indexed = parse_count("epoch", epoch, "counted from 0", least=0)
        self._of_workers = None

    def begin(self) -> int:
        """Begin a pass, and return its epoch."""
        epoch = self.next_epoch
        self.next_epoch += 1
        return epoch

    def of_pass(self, key: object) -> int:
        """Return the epoch of the pass that an object identifies; begin a pass for a new object."""
        if os.getpid() != self._process:  # a forked worker: the epoch that the parent has begun
            self._process = os.getpid()
            if self._of_workers is not None:
                self.next_epoch = self._of_workers
        if key not in self._passes:
            self._passes[key] = self.begin()
        return self._passes[key]

    def begin_workers(self, loader: object) -> None:
        """Store the epoch that forked workers of this DataLoader iterator will read."""
        self._of_workers = self.of_pass(loader)

    def of_caller(self, frame: FrameType | None, batch_size: int) -> int:
        """Return the epoch of a plain `ds[index]` in the calling frame.

        Args:
            frame: The calling frame.
            batch_size: Batch size of the data set, for the message.

        Raises:
            OptionError: A DataLoader stacks batches into batches of batches.
        """
        fetcher = find_fetcher(frame, batch_size)
        return self.indexed if fetcher is None else self.of_pass(fetcher)


def find_fetcher(frame: FrameType | None, batch_size: int) -> Any:  # noqa: ANN401
    """Return what fetches batches for a DataLoader, if it calls from this frame; else None.

    Args:
        frame: The calling frame.
        batch_size: Batch size of the data set, for the message.

    Raises:
        OptionError: The DataLoader stacks batches into batches of batches.
    """
    fetcher = _find_fetcher(frame)
    collate = getattr(fetcher, "collate_fn", None)
    is_stacked = fetcher is not None and fetcher.auto_collation
    if is_stacked and getattr(collate, "__name__", "") == "default_collate":
        raise OptionError(
            f"this DataLoader stacks batches of {batch_size} rows into batches of batches; "
            "H5Dataset makes the batches: write DataLoader(ds, batch_size=None), and give "
            "batch_size= to H5Dataset"
        )
    return fetcher


def _find_fetcher(frame: FrameType | None) -> Any:  # noqa: ANN401  torch's _MapDatasetFetcher
    # Before Python 3.12 a comprehension adds a frame between the two.
    for _ in range(2):
        if frame is None or frame.f_globals.get("__name__") != _FETCH:
            return None
        if "self" in frame.f_locals:
            return frame.f_locals["self"]
        frame = frame.f_back
    return None


def _find_loader() -> Any:  # noqa: ANN401  torch's _MultiProcessingDataLoaderIter
    """Return the DataLoader iterator that is starting workers in this thread, or None."""
    frame = sys._getframe(1)  # noqa: SLF001  as `inspect.currentframe`, which may be None
    for _ in range(_MAX_FRAMES):
        if frame.f_code.co_name == "__init__" and frame.f_globals.get("__name__") in _LOADERS:
            return frame.f_locals.get("self")
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def _before_fork() -> None:
    if sys.modules.keys().isdisjoint(_LOADERS):
        return
    loader = _find_loader()
    epochs = getattr(getattr(loader, "_dataset", None), "_epochs", None)
    if isinstance(epochs, Epochs):
        epochs.begin_workers(loader)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
