"""The passes of Keras' loops over one data set: which one is under way, and at which position."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final, final
from weakref import ref

from kerash5._warnings import warn
from kerash5.batches._batches import Batch
from kerash5.feeds.passes._keras_pass import Pass
from kerash5.feeds.passes._keras_position import Loop, Position
from kerash5.feeds.passes._task_batches import TaskBatches

# One pass of training, one of validation, and passes that were abandoned before their end.
_MAX_PASSES: Final = 4


@final
class Passes:
    """Serves the loops of Keras that read one data set.

    Args:
        batches: The batches of each task.
    """

    def __init__(self, batches: TaskBatches) -> None:
        self._batches = batches
        self._position = Position("fit", 0)
        self._passes: list[Pass] = []
        self._lock = threading.Lock()
        self._hook_calls = 0
        self._fitted: ref[Any] | None = None  # the model of the last fit
        self._first_of: ref[Any] | None = None  # that model, if the last epoch was its first
        self._is_repeat_told = False

    @property
    def position(self) -> Position:
        """The task and epoch that Keras began last."""
        return self._position

    def count(self) -> Position:
        """Return the next epoch of `fit`: for a loop whose position cannot be found."""
        self._hook_calls += 1
        if self._hook_calls == 1:
            warn(
                "this Keras does not tell what it does: epochs are counted by its hooks, and "
                "evaluate and predict get the order of training; give them shuffle=False data"
            )
        return Position("fit", self._hook_calls - 1)

    def begin(self, position: Position, loop: Loop | None) -> None:
        """Begin an epoch of a loop: passes that begin from now on are at this position."""
        is_epoch = loop is not None and loop.task == "fit" and loop.is_begun
        self._fitted = ref(loop.model) if loop is not None and is_epoch else None
        self._warn_of_repeats(position)
        with self._lock:
            if (position.task == "fit") != (self._position.task == "fit"):
                for each in self._passes:
                    each.pause()
                self._batches.release_idle(position.task)
            self._position = position

    def serve(self, indices: Sequence[int], index: int) -> Batch:
        """Return the next batch of a pass.

        Args:
            indices: The batch numbers that the pass requests, in order; they identify the pass.
            index: The requested number.
        """
        with self._lock:
            here = next((p for p in self._passes if p.indices is indices), None)
            if here is None:
                here = Pass(indices, self._batches.of(self._position.task), self._position)
                self._passes = [*self._passes[1 - _MAX_PASSES :], here]
            for other in self._passes:
                if other is not here:
                    other.pause()
            batch = here.serve(index)
            if here.is_finished:
                self._passes.remove(here)
                is_first = self._position == Position("fit", 0)
                self._first_of = self._fitted if is_first else None
            return batch

    def release(self) -> None:
        """Stop reading ahead, and free memory that the next epoch does not need."""
        with self._lock:
            for each in self._passes:
                each.release()
            self._batches.release()

    def _warn_of_repeats(self, position: Position) -> None:
        """Warn, once, of repeated `fit(epochs=1)`: each call serves epoch 0, in the same order.

        Not when the first batch is requested, which TensorFlow does in a thread of its own.
        """
        if position != Position("fit", 0):
            return
        model = None if self._fitted is None else self._fitted()
        first = None if self._first_of is None else self._first_of()
        is_shuffled = self._batches.training.plan.shuffle is not False
        is_again = model is not None and first is model and is_shuffled
        if is_again and not self._is_repeat_told:
            self._is_repeat_told = True
            warn(
                "fit begins at epoch 0 again, as the fit before of this model and data, which was "
                "one epoch: the rows come in the same order; for another order give fit(epochs=n), "
                "or fit(initial_epoch=e, epochs=e + 1)"
            )
