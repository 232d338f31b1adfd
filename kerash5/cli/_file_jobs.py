"""The jobs that write HDF5 files from other files, and show what is in them.

A job prints its result to stdout; progress goes to stderr.
"""

# ruff: noqa: T201 a job prints its result

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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

from kerash5._backends import use_backend
from kerash5._errors import FileMissingError, OptionError, escape_controls
from kerash5.h5 import Column, describe
from kerash5.h5._inventory_text import size_of
from kerash5.h5._look import look_at
from kerash5.h5.storage._file import find_files
from kerash5.packing import pack
from kerash5.repacking import repack
from kerash5.viewing import default_out, view


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
        f"{out}: {done.num_datasets} data sets{shuffled}, {size_of(done.num_bytes)} (from "
        f"{size_of(done.source_bytes)}); every row was compared with {path}"
    )


def run_pack(
    path: str,
    out: str,
    *,
    overwrite: bool = False,
    backend: str | None = None,
    **options: Any,  # noqa: ANN401  as in `pack`
) -> None:
    """Write images, arrays or a table as an HDF5 file, and print what to do with it.

    Args:
        path: What is packed; "mnist" is the data set of `keras.datasets`.
        out: The file to write.
        overwrite: Replace existing files.
        backend: The backend to import Keras with, for MNIST.
        **options: As in `pack`.
    """
    if path == "mnist" and not Path(path).exists():
        given = [name for name, value in options.items() if value]
        if given:
            raise OptionError(
                f"--{given[0].replace('_', '-')} does not go with mnist; leave it out"
            )
        _pack_mnist(out, overwrite=overwrite, backend=backend)
        return
    if not Path(path).exists():
        raise FileMissingError(
            f"there is no folder or file {path!r}; name a folder of images, a .npy, .npz or .csv "
            "file; of the data sets of Keras there is 'mnist'"
        )
    with _progress("packing") as show:
        step = None if show is None else lambda done: show(done, None)
        done = pack(path, out, overwrite=overwrite, progress=step, **options)
    for note in done.notes:
        print(escape_controls(note))
    print(escape_controls(f"{out}: {done.summary}, {size_of(done.num_bytes)}"))
    (found,) = json.loads(describe(glob.escape(out), as_json=True))["files"]
    suggestion = found["can_be_trained_on"]
    if suggestion is not None and suggestion["command"] is not None:
        print(escape_controls(f"train on it: {suggestion['command']}"))


def _pack_mnist(folder: str, *, overwrite: bool, backend: str | None) -> None:
    use_backend(backend)
    from kerash5.zoo._pack import pack_mnist

    for path in pack_mnist(Path(folder), overwrite=overwrite):
        print(path)


def run_view(path: str, *, out: str | None = None, **options: Any) -> None:  # noqa: ANN401
    """Draw rows of a file, and print where the picture is.

    Args:
        path: The file.
        out: The PNG; None for the name of the file with .png in the current folder.
        **options: As in `view`.
    """
    print(view(path, out=out or default_out(path), **options))


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None] | None]:
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
