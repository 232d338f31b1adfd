"""`compare`: find the fastest backend, measured by fresh processes. Never imports Keras.

Parses the options once. `_runner` starts the processes; `report/_findings` interprets the results.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from kerash5._backends import BACKENDS
from kerash5._checks import parse_count
from kerash5._errors import OptionError
from kerash5.assets import digits_test, digits_train
from kerash5.comparison._children import Contender
from kerash5.comparison._machine import count_cores
from kerash5.comparison._parity import Setting
from kerash5.comparison._processes import Files, Processes
from kerash5.comparison._progress import Progress
from kerash5.comparison._results import SETTINGS, Comparison, Method
from kerash5.comparison._runner import Runner
from kerash5.h5 import Source
from kerash5.h5.storage._file import StrPath
from kerash5.order._permutation import parse_seed

DEFAULT_FOLDER: Final = "runs/compare"
_PRECISIONS: Final = ("float32", "bf16-mixed", "16-mixed")


def compare(
    backends: Sequence[str] = BACKENDS,
    *,
    model: str = "convnet",
    data: StrPath | Sequence[StrPath] | None = None,
    test: StrPath | Sequence[StrPath] | None = None,
    x: str = "image",
    y: str = "label",
    batch_sizes: Sequence[int] = (50,),
    settings: Sequence[Setting] = SETTINGS,
    repeats: int = 5,
    steps: int = 100,
    epochs: int = 3,
    threads: int | None = None,
    precision: str = "float32",
    tf32: bool = False,
    seed: int = 0,
    pythons: Mapping[str, str] | None = None,
    out: StrPath = DEFAULT_FOLDER,
    timeout_seconds: float = 1800.0,
    show_progress: bool = True,
) -> Comparison:
    """Measure backends against each other in fresh processes, interleaved in random order.

    All backends use the same initial weights, batches, threads and precision. Parity of their
    results is checked before speed is measured. A backend that is missing or fails gets a table row
    with the reason. Each result is written to `out` as soon as it is measured; calling again with
    the same `out` measures only what is missing.

    Args:
        backends: "jax", "tensorflow" or "torch". A backend that is named twice is compared with
            itself.
        model: Name of a model of the zoo.
        data: HDF5 files to train on. None uses the bundled digits.
        test: HDF5 files to evaluate on. None uses the bundled test digits, or, with `data`, the
            training rows.
        x: Name of the input column.
        y: Name of the column of class labels.
        batch_sizes: Rows in a batch; each size gets its own table.
        settings: "plain" (`model.fit`), "tuned" (`Trainer`), or both.
        repeats: Processes per backend, setting and batch size.
        steps: Steps in an epoch; fewer if the data have fewer rows.
        epochs: Timed epochs in a process, after two warm-up epochs.
        threads: Threads each backend may compute with. None: one per core available to this
            process.
        precision: "float32", "bf16-mixed" or "16-mixed".
        tf32: Allow matrix products in TF32 on GPUs.
        seed: Seed of the order of processes, the initial weights and the order of rows.
        pythons: Maps a backend to the interpreter of its environment. Others use this interpreter.
        out: Folder for the results.
        timeout_seconds: Time limit of one process, in seconds.
        show_progress: Print progress to stderr: a live table on a terminal, else one line per
            process.

    Returns:
        All measurements. They are also written to comparison.json in `out`.

    Raises:
        OptionError: An option is invalid, or `out` contains a comparison with other options.
        KerasH5Error: The data cannot be read, or do not fit the model.

    Examples:
        >>> found = compare(("jax", "torch"), model="mlp", batch_sizes=(32,), repeats=3)
        >>> [(sample.key, sample.rows_per_second) for sample in found.samples]  # doctest: +SKIP
    """
    if not timeout_seconds > 0:
        raise OptionError(f"timeout_seconds={timeout_seconds!r}; it must be greater than 0")
    contenders = name_contenders(backends, pythons or {})
    files = find_files(data, test, x, y)
    method = Method(
        model=model,
        contenders=tuple(contender.name for contender in contenders),
        batch_sizes=_parse_sizes(batch_sizes, files),
        settings=_parse_settings(settings),
        repeats=parse_count("repeats", repeats, "the number of processes of each kind"),
        num_steps=parse_count("steps", steps, "a number of steps"),
        num_epochs=parse_count("epochs", epochs, "a number of epochs"),
        seed=parse_seed(seed),
        threads=count_cores()
        if threads is None
        else parse_count("threads", threads, "a number of threads"),
        precision=_parse_word("precision", precision, _PRECISIONS),
        tf32=tf32,
        data=describe_files(files),
    )
    processes = Processes(
        method=method, files=files, folder=Path(out), timeout_seconds=timeout_seconds
    )
    console = Console(stderr=True) if show_progress else None
    return Runner(processes, contenders, Progress(method, console)).run()


def name_contenders(backends: Sequence[str], pythons: Mapping[str, str]) -> tuple[Contender, ...]:
    """Return one contender per backend; the second one with the same backend is named "jax-2".

    Raises:
        OptionError: A backend is unknown, or none is named.
    """
    for name in (*backends, *pythons):
        _parse_word("backend", name, BACKENDS)
    if not backends:
        raise OptionError(f"no backend is named; name at least one of {', '.join(BACKENDS)}")
    seen: Counter[str] = Counter()
    found = []
    for backend in backends:
        seen[backend] += 1
        name = backend if seen[backend] == 1 else f"{backend}-{seen[backend]}"
        python = os.fspath(pythons.get(backend, sys.executable))
        found.append(Contender(name=name, backend=backend, python=python))
    return tuple(found)


def find_files(
    data: StrPath | Sequence[StrPath] | None,
    test: StrPath | Sequence[StrPath] | None,
    x: str,
    y: str,
) -> Files:
    """Open the files once, so that errors in them are raised before any process starts.

    Raises:
        KerasH5Error: The files cannot be read, or lack a column.
    """
    train = Source(digits_train() if data is None else data, x=x, y=y)
    if test is None and data is None:
        test = digits_test()
    tested = () if test is None else _absolute(Source(test, x=x, y=y))
    return Files(train=_absolute(train), test=tested, x=x, y=y, num_rows=len(train))


def describe_files(files: Files) -> str:
    """Return a short description of the data: file names without folders, rows and columns."""
    names = [Path(path).name for path in files.train]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown}: {files.num_rows:,} rows, x={files.x}, y={files.y}"


def _absolute(source: Source) -> tuple[str, ...]:
    return tuple(str(Path(path).absolute()) for path in source.paths)


def _parse_sizes(batch_sizes: Sequence[int], files: Files) -> tuple[int, ...]:
    sizes = tuple(parse_count("batch_sizes", size, "rows in a batch") for size in batch_sizes)
    if not sizes or len(set(sizes)) < len(sizes):
        raise OptionError(f"batch_sizes={tuple(batch_sizes)!r}; give each size once, such as (50,)")
    if max(sizes) > files.num_rows:
        raise OptionError(
            f"a batch has {max(sizes):,} rows, but the data have {files.num_rows:,}; use smaller "
            "batches, because only full batches are timed"
        )
    return sizes


def _parse_settings(settings: Sequence[Setting]) -> tuple[Setting, ...]:
    for setting in settings:
        _parse_word("setting", setting, SETTINGS)
    if not settings or len(set(settings)) < len(settings):
        raise OptionError(f"settings={tuple(settings)!r}; give plain, tuned, or both")
    return tuple(setting for setting in SETTINGS if setting in settings)


def _parse_word(what: str, word: str, known: Sequence[str]) -> str:
    if word not in known:
        raise OptionError(f"there is no {what} {word!r}; choose one of {', '.join(known)}")
    return word
