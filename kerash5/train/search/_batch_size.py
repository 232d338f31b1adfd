"""Search for a batch size: one process per trial, so that running out of memory ends only it.

Sizes double until one fails; then the gap is halved. The caller's model and optimizer are only
read.
"""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final, final

import keras
import psutil

from kerash5._checks import parse_count
from kerash5._errors import OptionError, RunError
from kerash5.batches.cache import parse_cache
from kerash5.feeds._keras import H5Dataset
from kerash5.report import BatchSizes, Trial
from kerash5.train.search._trial import run_trial

_POLL_SECONDS: Final = 0.05
_FREE_FRACTION: Final = 0.9  # of the memory that is free at the start
_PRECISION: Final = 8  # stop when the gap between success and failure is 1/8


@final
@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of the search. Names as in `Trainer.batch_size_find`."""

    init_val: int
    max_val: int | None
    steps_per_trial: int
    max_trials: int
    memory_limit: float | str | None
    seconds_per_trial: float


def find_batch_size(
    model: keras.Model,
    dataset: H5Dataset,
    options: SearchOptions,
    tell: Callable[[Trial], None],
) -> BatchSizes:
    """Try batch sizes, each in its own process.

    Args:
        model: A compiled model; it is saved, and loaded by the child processes.
        dataset: Data to train on; picklable.
        options: Options of the search.
        tell: Called with each `Trial`.

    Raises:
        OptionError: An option is invalid.
        RunError: The model cannot be saved, the data cannot be pickled, or no process can start.
    """
    most = _parse_most(options, dataset)
    limit = _parse_limit(options.memory_limit)
    trials: dict[int, Trial] = {}
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        path = _save_model(model, Path(folder) / "model.keras")
        size: int | None = min(options.init_val, most)
        while size is not None and len(trials) < options.max_trials:
            trials[size] = _try_size(path, dataset, size, options, limit)
            tell(trials[size])
            size = next_size(trials, most)
    return BatchSizes(tuple(trials[each] for each in sorted(trials)))


def next_size(trials: dict[int, Trial], most: int) -> int | None:
    """Return the batch size to try next; None if the result is precise enough."""
    trained = max((size for size, trial in trials.items() if trial.is_trained), default=0)
    failed = min((size for size, trial in trials.items() if not trial.is_trained), default=None)
    if failed is None:
        return None if trained >= most else min(2 * trained, most)
    middle = (trained + failed) // 2
    is_close = failed - trained <= max(1, trained // _PRECISION)
    return None if is_close or middle in (trained, failed) else middle


def _parse_most(options: SearchOptions, dataset: H5Dataset) -> int:
    counts = {
        name: getattr(options, name) for name in ("init_val", "steps_per_trial", "max_trials")
    }
    if options.max_val is not None:
        counts["max_val"] = options.max_val
    for name, value in counts.items():
        parse_count(name, value, "a count")
    rows = dataset.num_rows
    return rows if options.max_val is None else min(rows, options.max_val)


def _parse_limit(memory_limit: float | str | None) -> int:
    if memory_limit is None:
        return int(psutil.virtual_memory().available * _FREE_FRACTION)
    try:
        return parse_cache(memory_limit)
    except OptionError:
        raise OptionError(
            f"memory_limit={memory_limit!r}; pass bytes, a size such as '4GB', or a fraction of "
            "free memory"
        ) from None


def _save_model(model: keras.Model, path: Path) -> Path:
    try:
        model.save(path)
    except Exception as error:
        raise RunError(
            f"model {model.name!r} cannot be saved ({error}), but batch_size_find must save it to "
            "train in other processes; add get_config to its layers, or use a model of layers"
        ) from error
    return path


def _try_size(
    path: Path, dataset: H5Dataset, size: int, options: SearchOptions, limit: int
) -> Trial:
    # spawn, not fork: a forked child would inherit the threads and locks of the backend.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(
        target=run_trial, args=(theirs, str(path), dataset, size, options.steps_per_trial)
    )
    try:
        child.start()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise RunError(
            f"the data cannot be sent to another process ({error}); a transform must be a function "
            "at module level"
        ) from error
    theirs.close()
    try:
        return _watch(child, ours, size, limit, options.seconds_per_trial)
    finally:
        if child.is_alive():
            child.kill()
        child.join()
        ours.close()


def _watch(child: SpawnProcess, pipe: Connection, size: int, limit: int, patience: float) -> Trial:
    """Wait for a child process; end it if it needs too much memory or time."""
    deadline = time.monotonic() + patience
    messages: list[Any] = []
    while True:
        if pipe.poll(_POLL_SECONDS):
            try:
                messages.append(pipe.recv())
            except EOFError:
                child.join()
                return _judge(messages, child.exitcode, size)
            continue
        if _memory_of(child) > limit:
            return Trial(size, error=f"it needed more than {limit / 1e6:,.0f} MB of memory")
        if time.monotonic() > deadline:
            return Trial(size, error=f"it took longer than {patience:.0f} s")


def _judge(messages: list[Any], exit_code: int | None, size: int) -> Trial:
    if not messages:
        raise RunError(
            "no process for a trial could start; in a script, call batch_size_find under "
            "`if __name__ == '__main__':`"
        )
    if len(messages) == 1:
        how = f"exit code {exit_code}" if (exit_code or 0) >= 0 else f"signal {-(exit_code or 0)}"
        memory = ", as when memory runs out" if exit_code == -9 else ""
        return Trial(size, error=f"its process ended early ({how}{memory})")
    return Trial(size, **messages[1])


def _memory_of(child: SpawnProcess) -> int:
    try:
        return int(psutil.Process(child.pid).memory_info().rss)
    except psutil.Error:
        return 0
