"""Profile a fit: where the time went, the bottleneck, and which setting would help.

`SimpleProfiler` measures with a clock; `Tracer` makes the framework write a trace of some steps.
Both are event handlers of the loop, and are absent when profiling is off.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, final

import keras

from kerash5._run import Epoch
from kerash5.batches._batches import Batch
from kerash5.feeds._keras import H5Dataset
from kerash5.h5.reading._timers import counted_seconds
from kerash5.train.loop._events import EventHandler, Progress

ProfileOption = Literal["simple", "trace"]

TRACE_FOLDER: Final = "trace"
_KINDS: Final = ("read", "decode", "h5py", "transform")
_SLOW: Final = 10.0  # times the median; slower calls are taken to compile
_SAMPLES: Final = 5  # batches whose transfer to the device is timed
_WAIT_FRACTION: Final = 0.1  # of the time; below it, the input is fast enough
_OTHER_SHARE: Final = 0.2
_TRACED_FROM: Final = 5  # the first steps compile
_TRACED_STEPS: Final = 10


@final
@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds of a fit, by activity.

    Args:
        total: From the first step to the end of the last epoch.
        step: Steps on the device and the calls that dispatch them, including transfers.
        compiling: Calls far slower than usual, which compile; not part of `step`.
        transfer: Part of `step` spent on transfers to the device, estimated from a few batches.
        wait: Waiting for the next batch.
        validation: Validation.
        reading: Time of the reading threads by kind of work, summed over threads; they run in
            parallel to the steps. "h5py" reads and decodes in one.
    """

    total: float
    step: float
    compiling: float
    transfer: float
    wait: float
    validation: float
    reading: Mapping[str, float] = field(default_factory=dict)

    @property
    def other(self) -> float:
        """The remaining time: callbacks, loggers, checkpoints, progress output."""
        return max(0.0, self.total - self.step - self.compiling - self.wait - self.validation)

    @property
    def bottleneck(self) -> str:
        """What limited the speed: a kind of reading, "transfer", "step" or "other"."""
        busy = {"step": self.step, "other": self.other, "wait": self.wait}
        trained = sum(busy.values())
        if self.wait > _WAIT_FRACTION * trained and self.wait >= max(self.other, 0.3 * self.step):
            return max(self.reading, key=lambda kind: self.reading[kind], default="read")
        if self.other > _OTHER_SHARE * trained and self.other > self.wait:
            return "other"
        return "transfer" if self.transfer > 0.5 * self.step else "step"

    def describe(self) -> str:
        """Return where the time went and what would help, as text."""
        shares = {
            "step": (
                self.step,
                f"of which about {self.transfer:.2f} s for transfers to the device",
            ),
            "compiling": (self.compiling, "calls far slower than usual"),
            "input wait": (self.wait, "the next batch was not ready"),
            "validation": (self.validation, ""),
            "other": (self.other, "callbacks, loggers, checkpoints"),
        }
        lines = [f"where the time went: {self.total:.1f} s"]
        for name, (seconds, about) in shares.items():
            share = seconds / self.total if self.total else 0.0
            lines.append(f"  {name:<10} {seconds:8.2f} s  {share:4.0%}  {about}".rstrip())
        kinds = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in self.reading.items())
        lines.append(f"  reading threads, in parallel: {kinds or 'idle'}")
        lines.append(f"  bottleneck: {_ADVICE[self.bottleneck]}")
        return "\n".join(lines)

    def to_plain(self) -> dict[str, Any]:
        """Return the values stored in run.json."""
        return {**asdict(self), "other": self.other, "bottleneck": self.bottleneck}


_ADVICE: Final = {
    "step": "the steps themselves; a larger batch_size, precision='bf16-mixed' or a smaller model "
    "would help, faster reading would not",
    "transfer": "transfers to the device; store uint8, not float32, and rescale in the first "
    "layer of the model",
    "other": "work between the steps; check callbacks with hooks for each batch, "
    "log_every_n_steps and how often checkpoints are written",
    "read": "reading from the disk; a larger cache=, shuffle='chunks' or a faster disk would help",
    "decode": "decoding; a cache= large enough for all rows, more threads=, pip install "
    "'kerash5[fast]', or files written with compression=None or 'lzf' would help",
    "h5py": "reading through h5py, one thread at a time; `kerash5 describe FILE` shows "
    "the reason, and k5.write() writes files that are read faster",
    "transform": "the transform; use layers of the model on the device instead, or more threads=",
    "gather": "assembling batches; threads=0 if all rows are in memory, or fewer columns, would "
    "help",
}


@final
class SimpleProfiler(EventHandler):
    """Measure where the time goes. Synchronizes with the device after each dispatch, to be exact.

    Args:
        dataset: Training data.
        is_held: Whether its rows are on the device, so that no batch is transferred.
        done: Called with the profile at the end.
    """

    def __init__(
        self,
        dataset: H5Dataset,
        is_held: Callable[[], bool],
        done: Callable[[Profile], None],
    ) -> None:
        self._dataset = dataset
        self._is_held = is_held
        self._done = done
        self._counting = ExitStack()
        self._reading: dict[str, float] = {}
        self._began: float | None = None
        self._step = self._wait = self._validation = self._transfer = 0.0
        self._calls: list[tuple[float, int]] = []  # seconds and steps of each call
        self._seen = (0.0, 0.0)  # seconds and wait of this epoch already recorded
        self._first = self._last = 0

    def begin_epoch(self, progress: Progress) -> None:
        """Start the clocks; before the first epoch, time transfers to the device."""
        if self._began is None:
            if not self._is_held():
                self._transfer = _time_transfer(self._dataset.read(0))
            self._reading = self._counting.enter_context(counted_seconds())
            self._first = self._last = progress.step
            self._began = time.perf_counter()
        self._seen = (progress.seconds, progress.input_wait_seconds)

    def after_steps(self, progress: Progress) -> None:
        """Synchronize with the device and record the time of the steps."""
        began, before = time.perf_counter(), self._step
        progress.metrics()
        seconds = progress.seconds + time.perf_counter() - began
        self._note(seconds, progress.input_wait_seconds)
        self._calls.append((self._step - before, progress.step - self._last))
        self._last = progress.step

    def end_epoch(self, epoch: Epoch) -> None:
        """Record the rest of the epoch, and validation."""
        self._note(epoch.seconds, epoch.input_wait_seconds)
        self._validation += epoch.validation_seconds

    def close(self) -> None:
        """Assemble the profile."""
        if self._began is None:
            return
        total = time.perf_counter() - self._began
        self._began = None
        self._counting.close()
        compiling = _compiling(self._calls)
        step = self._step - compiling
        transfer = min(step, self._transfer * (self._last - self._first))
        reading = _by_kind(self._reading)
        self._done(Profile(total, step, compiling, transfer, self._wait, self._validation, reading))

    def _note(self, seconds: float, wait: float) -> None:
        known_seconds, known_wait = self._seen
        self._wait += wait - known_wait
        self._step += max(0.0, seconds - known_seconds - (wait - known_wait))
        self._seen = (max(seconds, known_seconds), wait)


def _compiling(calls: Sequence[tuple[float, int]]) -> float:
    """Return the seconds by which very slow calls exceed the usual time."""
    usual = statistics.median(seconds / steps for seconds, steps in calls) if calls else 0.0
    return sum(
        seconds - usual * steps for seconds, steps in calls if seconds > _SLOW * usual * steps
    )


def _time_transfer(batch: Batch) -> float:
    """Return the seconds to transfer a batch to the device: the median of a few."""
    found = []
    for _ in range(1 + _SAMPLES):
        began = time.perf_counter()
        for leaf in keras.tree.flatten(batch):
            keras.ops.convert_to_numpy(keras.ops.ravel(keras.ops.convert_to_tensor(leaf))[:1])
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])  # the first one compiles


def _by_kind(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by kind; the remaining time per batch is assembling it."""
    kinds = {kind: seconds[kind] for kind in _KINDS if kind in seconds}
    return {**kinds, "gather": max(0.0, seconds.get("batch", 0.0) - sum(kinds.values()))}


@final
class Tracer(EventHandler):
    """Make the framework write a trace of some steps to the folder of the run.

    Args:
        get_folder: Returns the run's folder.
        say: Called with a line that says where the trace is.
    """

    def __init__(self, get_folder: Callable[[], str], say: Callable[[str], None]) -> None:
        self._get_folder = get_folder
        self._say = say
        self._first: int | None = None
        self._steps = 0  # traced so far
        self._stop: Callable[[], None] | None = None
        self._is_done = False

    def begin_epoch(self, progress: Progress) -> None:
        """Record the first step of this process."""
        if self._first is None:
            self._first = progress.step

    def after_steps(self, progress: Progress) -> None:
        """Start after the first steps, which compile, and stop some steps later."""
        done = progress.step - (self._first or 0)
        if self._stop is None and not self._is_done and done >= _TRACED_FROM:
            progress.metrics()  # synchronizes with the device
            folder = Path(self._get_folder()) / TRACE_FOLDER
            folder.mkdir(exist_ok=True)
            self._stop, self._steps = start_trace(folder), progress.step
        elif self._stop is not None and progress.step >= self._steps + _TRACED_STEPS:
            progress.metrics()
            self.close()

    def close(self) -> None:
        """Stop the trace and print where it is."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
            self._is_done = True
            self._say(f"trace: {Path(self._get_folder()) / TRACE_FOLDER}")
        elif not self._is_done and self._first is not None:
            self._say(f"no trace: the fit ended within its first {_TRACED_FROM} steps")


def start_trace(folder: Path) -> Callable[[], None]:
    """Start the backend's trace; return a function that stops it and writes it to the folder."""
    if keras.backend.backend() == "jax":
        import jax

        jax.profiler.start_trace(str(folder))
        return lambda: jax.profiler.stop_trace()  # noqa: PLW0108  untyped
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.profiler.experimental.start(str(folder))
        return lambda: tf.profiler.experimental.stop()  # noqa: PLW0108  untyped
    import torch

    profiler = torch.profiler.profile()  # of the CPU, and of the GPU if there is one
    profiler.start()

    def stop_torch() -> None:
        profiler.stop()
        profiler.export_chrome_trace(str(folder / "trace.json"))

    return stop_torch
