"""The jobs that write HDF5 files from other files, and show what is in them.

A job prints its result to stdout; progress goes to stderr.
"""

# ruff: noqa: T201 a job prints its result

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kerash5._errors import escape_controls
from kerash5.h5 import Column
from kerash5.h5._look import look_at
from kerash5.h5.storage._file import find_files
from kerash5.repacking import repack


def run_repack(path: str, out: str, **options: Any) -> None:  # noqa: ANN401
    """Write a file again, and print what was done.

    Args:
        path: The file.
        out: The file to write.
        **options: As in `repack`.
    """
    # A column that is not there is enough for the file to be opened.
    look_at(find_files(path), [Column("x")], allow_external=False)
    with _progress("repacking") as show:
        done = repack(path, out, progress=show, **options)
    if done.was_continued:
        print("continued what an earlier call had begun")
    for note in done.notes:
        print(escape_controls(note))
    shuffled = f", {len(done.shuffled)} of them shuffled" if done.shuffled else ""
    print(
        f"{out}: {done.num_datasets} data sets{shuffled}, {done.num_bytes / 1e6:,.1f} MB (from "
        f"{done.source_bytes / 1e6:,.1f} MB); every row was compared with {path}"
    )


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on a terminal; yield the function that moves it, given the done and all steps."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
