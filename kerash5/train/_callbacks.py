"""The callbacks of the trainer: one records, one shows progress.

Neither has a batch hook that would stop Keras from dispatching ahead: `ProgressBar` says that its
own may run late (`async_safe`), and the recorder has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, final

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kerash5._run import Epoch

_REFRESH_SECONDS: Final = 0.2


@final
class Recorder(keras.callbacks.Callback):
    """Times each epoch and hands it on, with its metrics, when it ends."""

    def __init__(
        self, num_rows: int, waited: Callable[[], float], done: Callable[[Epoch], None]
    ) -> None:
        super().__init__()
        self._num_rows = num_rows
        self._waited = waited
        self._done = done
        self._began = self._trained = self._wait = 0.0
        self._wait_end: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clocks."""
        self._began, self._wait, self._wait_end = time.perf_counter(), self._waited(), None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stop the clocks of training: validation begins."""
        self._wait_for_device()
        self._trained, self._wait_end = time.perf_counter(), self._waited()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Hand the epoch on."""
        self._wait_for_device()
        now = time.perf_counter()
        trained = now if self._wait_end is None else self._trained
        waited = (self._waited() if self._wait_end is None else self._wait_end) - self._wait
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        self._done(
            Epoch(epoch, trained - self._began, self._num_rows, metrics, waited, now - trained)
        )

    def _wait_for_device(self) -> None:
        """Wait until the last step is done: backends return from a step before the device does."""
        for variable in self.model.trainable_variables[-1:]:
            keras.ops.convert_to_numpy(variable)


@final
class ProgressBar(keras.callbacks.Callback):
    """Shows a bar on a terminal, and a line per epoch elsewhere."""

    async_safe = True  # its batch hook may run late, so Keras goes on dispatching

    def __init__(self, console: Console, num_epochs: int, num_steps: int) -> None:
        super().__init__()
        self._console = console
        self._num_epochs = num_epochs
        self._num_steps = num_steps
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the bar of an epoch."""
        if not self._console.is_terminal:
            return
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
        )
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.start()
        self._task = self._bar.add_task(
            f"epoch {epoch + 1}/{self._num_epochs}", total=self._num_steps, loss=""
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the bar, a few times a second at most: reading the loss waits for the device."""
        now = time.perf_counter()
        bar, task = self._bar, self._task
        if bar is None or task is None or now - self._shown < _REFRESH_SECONDS:
            return
        self._shown = now
        loss = (logs or {}).get("loss")
        bar.update(
            task, completed=batch + 1, loss="" if loss is None else f"loss {float(loss):.4f}"
        )

    def finish_epoch(self, epoch: Epoch) -> None:
        """Take the bar away and print the line of the epoch."""
        self.close()
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in epoch.metrics.items())
        waited = epoch.input_wait_seconds / epoch.seconds if epoch.seconds else 0.0
        self._console.print(
            f"epoch {epoch.epoch + 1}/{self._num_epochs}  {metrics}  "
            f"{epoch.rows_per_second:,.0f} rows/s  {epoch.seconds:.1f} s  input wait {waited:.0%}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        """Take the bar away."""
        bar, self._bar, self._task = self._bar, None, None
        if bar is not None:
            bar.stop()
