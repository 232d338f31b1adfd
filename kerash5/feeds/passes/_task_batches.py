"""The batches of each task: the plan's order for `fit`, the stored order for the others."""

from __future__ import annotations

from typing import final

from kerash5._errors import RowError
from kerash5.batches._batches import Batch, Batches
from kerash5.feeds.passes._keras_position import Position, Task


@final
class TaskBatches:
    """Two orders of the same rows; both use the same cache budget.

    Args:
        training: The batches of `fit`.
    """

    def __init__(self, training: Batches) -> None:
        self._training = training
        self._in_order: Batches | None = None  # made when first evaluated

    @property
    def training(self) -> Batches:
        """The batches of `fit`; assign batches of the same rows to read them in another way."""
        return self._training

    @training.setter
    def training(self, batches: Batches) -> None:
        self._training = batches
        self._in_order = None

    @property
    def in_order(self) -> Batches:
        """The batches of `evaluate` and `predict`: each row once, in the stored order."""
        if self._training.plan.shuffle is False and not self._training.plan.drop_last:
            return self._training
        if self._in_order is None:
            self._in_order = self._training.in_given_order()
        return self._in_order

    def of(self, task: Task) -> Batches:
        """Return the batches of a task."""
        return self._training if task == "fit" else self.in_order

    def read(self, position: Position, index: int) -> Batch:
        """Return batch `index` of the epoch at a position; it may count from the end.

        Raises:
            RowError: There is no such batch.
        """
        batches = self.of(position.task)
        count = len(batches)
        if not -count <= index < count:
            raise RowError(
                f"batch {index} is outside [0, {count}), the batches of an epoch; read(step) takes "
                "any step"
            )
        return batches.read(position.epoch * count + index % count)

    def release_idle(self, task: Task) -> None:
        """Free the windows of training before evaluation, and those of evaluation before training.

        Args:
            task: What begins.
        """
        idle = self._in_order if task == "fit" else self._training
        if idle is not None:
            idle.release()

    def release(self) -> None:
        """Free memory that the next epoch does not need."""
        for batches in (self._training, self._in_order):
            if batches is not None:
                batches.release()
