"""Events of the loop, for handlers that record, save, log or show progress.

These are not Keras callbacks, which may change the training; `_callbacks` calls those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from kerash5._run import Epoch, Metrics


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a fit.

    Args:
        epoch: Number of the epoch, from 0.
        index: Number of completed steps of this epoch.
        steps_per_epoch: Number of steps in an epoch.
        num_epochs: Number of epochs of the fit; None if another limit ends it.
        num_rows: Number of rows of this epoch trained on so far.
        seconds: Training time in this epoch so far, without validation; the device may lag behind.
        input_wait_seconds: The part of `seconds` spent waiting for the next batch.
        metrics: Function that returns the running averages of the epoch; waits for the device.
        learning_rate: Function that returns the rate of the next step, None without an optimizer;
            waits for the device.
    """

    epoch: int
    index: int
    steps_per_epoch: int
    num_epochs: int | None
    num_rows: int
    seconds: float
    input_wait_seconds: float
    metrics: Callable[[], Metrics] = field(compare=False)
    learning_rate: Callable[[], float | None] = field(compare=False)

    @property
    def step(self) -> int:
        """Number of completed steps in all epochs."""
        return self.epoch * self.steps_per_epoch + self.index


class EventHandler:
    """Base of event handlers; the methods do nothing unless a subclass implements them.

    `every_steps` is the maximum number of steps between two calls of `after_steps`; None: the
    engine decides how many steps it runs at once.
    """

    every_steps: int | None = None

    def begin_epoch(self, progress: Progress) -> None:
        """Called when an epoch begins, or is continued by a resumed fit."""

    def after_steps(self, progress: Progress) -> None:
        """Called after steps were dispatched. It must be fast: do not read metrics at each call."""

    def after_check(self, progress: Progress, metrics: Metrics) -> None:
        """Called after a validation within the epoch; names of its metrics begin with "val_"."""

    def before_truncation(self) -> None:
        """Called when a limit of steps or time will end the epoch before its last step."""

    def end_epoch(self, epoch: Epoch) -> None:
        """Called with the results of an epoch, before the Keras callbacks' `on_epoch_end`."""

    def record_epoch(self, epoch: Epoch) -> None:
        """Called after them, with the results of the epoch and the metrics that they added."""

    def after_epoch(self, progress: Progress) -> None:
        """Called after `record_epoch`, before the next epoch."""

    def close(self) -> None:
        """Release all resources; called when the fit is over, also after an error."""
