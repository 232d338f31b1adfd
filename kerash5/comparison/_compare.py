"""`compare`: which backend is fastest, measured by fresh processes. Never imports Keras.

Parses what was asked for, once; the work is the `_runner`'s, what it means is for
`report/_findings`.
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
    """Measure backends against each other: fresh processes, interleaved in random order.

    All get the same initial weights, the same batches, and the same threads and precision. Whether
    they compute the same is measured first. A backend that is missing or fails is a row with its
    reason. Results lie in `out` as soon as they are there, and are not measured again.

    Args:
        backends: Of jax, tensorflow and torch. One that is named twice runs against itself.
        model: A name of the zoo.
        data: The files to train on; None: the digits on board.
        test: The files to evaluate on; None: those on board, or the rows trained on.
        x: The column the model takes.
        y: The column of class labels.
        batch_sizes: Rows in a batch; each makes a table of its own.
        settings: "plain", `model.fit` as users get it; "tuned", our Trainer.
        repeats: Processes for each backend, setting and batch size.
        steps: Steps in an epoch; fewer where the data have fewer rows.
        epochs: Timed epochs in a process; two more go before, as warm-up.
        threads: Threads each backend may compute with; None: one per core this process may use.
        precision: "float32", "bf16-mixed" or "16-mixed".
        tf32: Allow matrix products in TF32 on GPUs.
        seed: Of the order of processes, the initial weights and the order of rows.
        pythons: Backend -> the interpreter of its own environment; others run in this one.
        out: The folder for results.
        timeout_seconds: How long one process may take.
        show_progress: Show a live table on a terminal, a line per process elsewhere; on stderr.

    Returns:
        All that was measured. It also lies in `out`, as comparison.json.

    Raises:
        OptionError: An option makes no sense, or `out` holds another comparison.
        KerasH5Error: The data cannot be read, or the model cannot take them.

    Example:
        >>> found = compare(("jax", "torch"), model="mlp", batch_sizes=(32,), repeats=3)
        >>> [(sample.key, sample.rows_per_second) for sample in found.samples]  # doctest: +SKIP
    """
    if not timeout_seconds > 0:
        raise OptionError(f"timeout_seconds={timeout_seconds!r}; it must be more than 0")
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
    """Make a contender of each backend; the second of a kind is "jax-2".

    Raises:
        OptionError: There is no such backend, or none at all.
    """
    for name in (*backends, *pythons):
        _parse_word("backend", name, BACKENDS)
    if not backends:
        raise OptionError(f"no backend to measure; name some of {', '.join(BACKENDS)}")
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
    """Open what is to be read, once, so that what is wrong is said before any process starts.

    Raises:
        KerasH5Error: It cannot be read, or holds no such columns.
    """
    train = Source(digits_train() if data is None else data, x=x, y=y)
    if test is None and data is None:
        test = digits_test()
    tested = () if test is None else _absolute(Source(test, x=x, y=y))
    return Files(train=_absolute(train), test=tested, x=x, y=y, num_rows=len(train))


def describe_files(files: Files) -> str:
    """Say in words what is read; names of files alone, for folders are nobody's business."""
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
            f"a batch of {max(sizes):,} rows, and the data have {files.num_rows:,}; take smaller "
            "batches, for only whole ones are timed"
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
        raise OptionError(f"there is no {what} {word!r}; choose of {', '.join(known)}")
    return word
