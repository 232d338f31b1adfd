"""Progress output of a fit: a bar on a terminal, and a line per epoch elsewhere."""

from __future__ import annotations

import time
from typing import Final, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)

from kerash5._run import Epoch, Metrics, describe_metrics
from kerash5.train.loop._events import EventHandler, Progress

_REFRESH_SECONDS: Final = 0.2


@final
class ProgressBar(EventHandler):
    """Show a bar on a terminal, and a line per epoch elsewhere."""

    def __init__(self, console: Console, num_epochs: int | None) -> None:
        self._console = console
        self._of = "" if num_epochs is None else f"/{num_epochs}"
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def begin_epoch(self, progress: Progress) -> None:
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
            TextColumn("{task.fields[state]}"),
        )
        self._bar = Bar(*columns, console=self._console, transient=True)
        self._bar.start()
        self._task = self._bar.add_task(
            f"epoch {progress.epoch + 1}{self._of}",
            total=progress.steps_per_epoch,
            completed=progress.index,
            state="",
        )

    def after_steps(self, progress: Progress) -> None:
        """Move the bar, at most a few times per second, because reading the loss synchronizes."""
        now = time.perf_counter()
        bar, task = self._bar, self._task
        is_last = progress.index == progress.steps_per_epoch  # it stays while validation runs
        if bar is None or task is None or (now - self._shown < _REFRESH_SECONDS and not is_last):
            return
        self._shown = now
        bar.update(task, completed=progress.index, state=_state(progress))

    def after_check(self, progress: Progress, metrics: Metrics) -> None:
        """Print the line of a validation within an epoch."""
        self._print(f"step {progress.step}  {describe_metrics(metrics)}")

    def end_epoch(self, epoch: Epoch) -> None:
        """Remove the bar, below which callbacks may print."""
        self.close()

    def record_epoch(self, epoch: Epoch) -> None:
        """Print the line of the epoch."""
        waited = epoch.input_wait_seconds / epoch.seconds if epoch.seconds else 0.0
        self._print(
            f"epoch {epoch.epoch + 1}{self._of}  {describe_metrics(epoch.metrics)}  "
            f"{epoch.rows_per_second:,.0f} rows/s  {epoch.seconds:.1f} s  input wait {waited:.0%}"
        )

    def close(self) -> None:
        """Remove the bar."""
        bar, self._bar, self._task = self._bar, None, None
        if bar is not None:
            bar.stop()

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _state(progress: Progress) -> str:
    """Return loss, speed and input wait as text."""
    loss = progress.metrics().get("loss")
    said = [] if loss is None else [describe_metrics({"loss": loss})]
    if progress.seconds > 0:
        said.append(f"{progress.num_rows / progress.seconds:,.0f} rows/s")
        said.append(f"wait {progress.input_wait_seconds / progress.seconds:.0%}")
    return "  ".join(said)
