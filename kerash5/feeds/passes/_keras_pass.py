"""One pass of Keras over the data: maps the batch numbers Keras requests to planned batches.

It has no state beyond the pass; `H5Dataset` tells passes apart.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, final
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from kerash5.batches._batches import Batch, Batches
from kerash5.batches._roles import map_tree
from kerash5.feeds.passes._keras_position import Position


@final
class Pass:
    """Maps the batch numbers that Keras requests in one pass to planned batches.

    `fit` requests a permutation of the batch numbers. The position of a number in that permutation
    is the index of the planned batch.
    """

    def __init__(self, indices: Sequence[int], batches: Batches, position: Position) -> None:
        self.indices = indices
        self._batches = batches
        self._position = position
        self._place_of: NDArray[np.int64] | None = None
        if isinstance(indices, list):
            self._place_of = np.empty(len(indices), np.int64)
            self._place_of[indices] = np.arange(len(indices))
        self._next = 0
        self._feed: Iterator[Batch] | None = None
        self._is_released = False

    @property
    def is_finished(self) -> bool:
        """Whether the last batch of the epoch has been served."""
        return self._next >= len(self._batches)

    def serve(self, index: int) -> Batch:
        """Return the planned batch for a requested batch number."""
        place = index if self._place_of is None else int(self._place_of[index])
        if self._is_released:
            self._next = place + 1
            return self._batches.read(self._position.epoch * len(self._batches) + place)
        if place != self._next or self._feed is None:
            self.pause()
            self._feed = self._batches.epoch(self._position.epoch, place)
            _READING.add(self)
        self._next = place + 1
        batch = next(self._feed)
        if self.is_finished:
            self.pause()
            if self._position.task != "fit":
                self._batches.release()
        return batch

    def pause(self) -> None:
        """Stop reading ahead; the next request starts it again."""
        feed, self._feed = self._feed, None
        _READING.discard(self)
        if feed is not None and hasattr(feed, "close"):
            feed.close()

    def release(self) -> None:
        """Stop reading ahead for good; further requests are read one by one.

        TensorFlow's generator thread requests batches for a while after training was stopped. If
        these started reading ahead again, no one would stop the threads.
        """
        self.pause()
        self._is_released = True


_READING: WeakSet[Pass] = WeakSet()


@atexit.register
def _pause_all() -> None:
    """Stop reading ahead in abandoned passes (as after Ctrl-C) before Python shuts down.

    JAX references the pass until modules are unloaded, and closing it then fails with a traceback.
    """
    for each in list(_READING):
        with suppress(ValueError):  # TensorFlow's thread is executing it
            each.pause()


def with_text_as_tensors(batch: Batch) -> Batch:
    """Return the batch with text arrays as TensorFlow tensors, if TensorFlow is loaded.

    Keras accepts text only as tensors of strings, not as NumPy arrays of objects.
    """
    return tuple(map_tree(part, _convert) for part in batch)


def _convert(array: Any) -> Any:  # noqa: ANN401  of any framework
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "OSU":
        return array
    tensorflow = sys.modules.get("tensorflow")
    return array if tensorflow is None else tensorflow.constant(array, tensorflow.string)
