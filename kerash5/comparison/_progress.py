"""Show the progress of a comparison: a live table on a terminal, else one line per process.

Writes to stderr and shows no statistics; the report has those.
"""

from __future__ import annotations

import statistics
from types import TracebackType
from typing import Final, Self, final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from kerash5.comparison._results import Method, Sample

_REFRESHES: Final = 2  # per second; frequent drawing would disturb the measurement

_Row = tuple[str, str, int]


@final
class Progress:
    """Display of the progress of a comparison.

    Args:
        method: Options of the comparison.
        console: Console to print to; None shows nothing.
    """

    def __init__(self, method: Method, console: Console | None = None) -> None:
        self._method = method
        self._console = console
        self._samples: dict[_Row, list[Sample]] = {
            (name, setting, size): []
            for size in method.batch_sizes
            for setting in method.settings
            for name in method.contenders
        }
        self._running: _Row | None = None
        self._line = ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Show the table if the console is a terminal."""
        if self._console is not None and self._console.is_terminal:
            self._live = Live(
                get_renderable=self._table,
                console=self._console,
                refresh_per_second=_REFRESHES,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the table."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def say(self, line: str) -> None:
        """Show a message that does not belong to one process."""
        self._line = line
        if self._live is None:
            self._print(line)

    def begin(self, identity: Sample) -> None:
        """Show which process starts."""
        self._running = _row(identity)
        self._line = ""

    def show(self, sample: Sample) -> None:
        """Show the result of a process."""
        self._running = None
        self._samples[_row(sample)].append(sample)
        if self._live is None and sample.status != "missing":
            total = self._method.repeats * len(self._samples)
            self._print(f"{sample.position + 1}/{total}  {sample.key}  {_outcome(sample)}")

    def _print(self, line: str) -> None:
        if self._console is not None:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> Table:
        caption = self._line or "Ctrl-C keeps the results so far; the same command continues"
        table = Table(title=f"{self._method.model} on {self._method.data}", caption=caption)
        for name in ("backend", "setting", "batch", "processes", "rows/s so far", ""):
            table.add_column(
                name, justify="right" if name in {"batch", "rows/s so far"} else "left"
            )
        for row, samples in self._samples.items():
            name, setting, size = row
            speeds = [sample.rows_per_second for sample in samples if sample.status == "ok"]
            failed = next((s.error for s in samples if s.status != "ok"), "")
            table.add_row(
                name,
                setting,
                f"{size:,}",
                f"{len(samples)}/{self._method.repeats}",
                f"{statistics.median(speeds):,.0f}" if speeds else "",
                "running" if row == self._running else failed,
                style="dim" if failed and not speeds else "",
            )
        return table


def _row(sample: Sample) -> _Row:
    return sample.contender, sample.setting, sample.batch_size


def _outcome(sample: Sample) -> str:
    if sample.status != "ok":
        return sample.error
    return (
        f"{sample.rows_per_second:,.0f} rows/s, first step after "
        f"{sample.time_to_first_step_seconds:.1f} s"
    )
