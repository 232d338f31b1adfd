"""The batches of each task: the plan's order for `fit`, the stored order for the others."""

from __future__ import annotations

from typing import final

from kerash5._errors import RowError
from kerash5._warnings import warn
from kerash5.batches._batches import Batch, Batches
from kerash5.feeds.passes._keras_position import Position, Task
from kerash5.order._plan import DropLast


@final
class TaskBatches:
    """Several orders of the same rows; all use the same cache budget.

    Args:
        training: The batches of `fit`.
    """

    def __init__(self, training: Batches) -> None:
        self._training = training
        # In the stored order, by `drop_last`; made when first used.
        self._ordered: dict[DropLast, Batches] = {}

    @property
    def training(self) -> Batches:
        """The batches of `fit`; assign batches of the same rows to read them in another way."""
        return self._training

    @training.setter
    def training(self, batches: Batches) -> None:
        self._training = batches
        self._ordered = {}

    @property
    def in_order(self) -> Batches:
        """The batches of `predict`: each row once, in the stored order."""
        return self._in_order(drop_last=False)

    @property
    def evaluated(self) -> Batches:
        """The batches of `evaluate`: as `in_order`, but `drop_last` may drop or fill up the last.

        The first time it warns of rows that are left out.
        """
        plan = self._training.plan
        drop_last = False if plan.drop_last is True else plan.drop_last
        if drop_last == "all" and plan.num_short and "all" not in self._ordered:
            warn(
                f"drop_last='all' leaves the last {plan.num_short} rows out of the evaluation, "
                f"because they fill no batch of {plan.batch_size}; drop_last='pad' counts every row"
            )
        return self._in_order(drop_last=drop_last)

    def _in_order(self, *, drop_last: DropLast) -> Batches:
        if self._training.plan.shuffle is False and not self._training.plan.drop_last:
            return self._training
        if drop_last not in self._ordered:
            self._ordered[drop_last] = self._training.in_given_order(drop_last=drop_last)
        return self._ordered[drop_last]

    def of(self, task: Task) -> Batches:
        """Return the batches of a task."""
        if task == "evaluate":
            return self.evaluated
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
        for idle in self._ordered.values() if task == "fit" else (self._training,):
            idle.release()

    def release(self) -> None:
        """Free memory that the next epoch does not need."""
        for batches in (self._training, *self._ordered.values()):
            batches.release()
