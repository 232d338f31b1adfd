"""What the loop tells those who record, save, log or show: after steps, validations and epochs.

Not Keras callbacks: those may change the training and are called through `_callbacks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from kerash5._run import Epoch, Metrics


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fit has come.

    Args:
        epoch: From 0.
        index: Steps of this epoch that are done.
        steps_per_epoch: Of all that are due.
        num_epochs: Epochs that are due; None where something else ends the fit.
        num_rows: Rows of this epoch trained on so far.
        seconds: Of training in this epoch so far, without validation; the device may be behind.
        input_wait_seconds: Of them, those in which the next batch was not there yet.
        metrics: Returns the running averages of the epoch; waits for the device.
        learning_rate: Returns the rate of the next step, None without an optimizer; waits for the
            device.
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
        """Steps done in all epochs."""
        return self.epoch * self.steps_per_epoch + self.index


class EventHandler:
    """Is told what has happened; every method does nothing unless a child says otherwise.

    `every_steps` is a number of steps after which it must be told, whatever the engine would
    rather run at once; None takes what comes.
    """

    every_steps: int | None = None

    def begin_epoch(self, progress: Progress) -> None:
        """Hear that an epoch begins, or goes on where an earlier process left it."""

    def after_steps(self, progress: Progress) -> None:
        """Hear that some steps have been dispatched. Called often: be quick, ask for no metrics."""

    def after_check(self, progress: Progress, metrics: Metrics) -> None:
        """Hear the metrics of a validation within the epoch; their names begin with "val_"."""

    def before_truncation(self) -> None:
        """Hear that steps or time are used up, and the epoch will be ended before its last step."""

    def end_epoch(self, epoch: Epoch) -> None:
        """Hear what an epoch did, before Keras callbacks do."""

    def after_epoch(self, progress: Progress) -> None:
        """Hear that Keras callbacks have had their say: the next epoch is due."""

    def close(self) -> None:
        """Let go of everything: the fit is over, well or not."""
