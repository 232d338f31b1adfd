"""Where the time of a fit went, what held it up, and which setting would help.

`SimpleProfiler` measures with a clock, `Tracer` lets the framework write a trace of some steps.
Both listen to the loop; off, they are not there.
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
_SLOW: Final = 10.0  # times the median: a call that compiles
_SAMPLES: Final = 5  # batches of which the way to the device is timed
_WAIT_SHARE: Final = 0.1  # of the time: below, the input is quick enough
_OTHER_SHARE: Final = 0.2
_TRACED_FROM: Final = 5  # the first steps compile
_TRACED_STEPS: Final = 10


@final
@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds of a fit by what they were spent on.

    Args:
        total: From the first step to the end of the last epoch.
        step: Of the device and of the calls that keep it busy, the way there included.
        compiling: Of calls far slower than usual, which compile; not part of `step`.
        transfer: Of the steps, those on the way to the device, estimated from a few batches.
        wait: In which the next batch was not there yet.
        validation: Of validation.
        reading: Of the reading threads, by kind of work, all threads together; they work beside the
            steps. "h5py" is reading and decoding in one.
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
        """The rest: callbacks, loggers, checkpoints, progress."""
        return max(0.0, self.total - self.step - self.compiling - self.wait - self.validation)

    @property
    def bottleneck(self) -> str:
        """What held the training up: a kind of reading, "transfer", "step" or "other"."""
        busy = {"step": self.step, "other": self.other, "wait": self.wait}
        trained = sum(busy.values())
        if self.wait > _WAIT_SHARE * trained and self.wait >= max(self.other, 0.3 * self.step):
            return max(self.reading, key=lambda kind: self.reading[kind], default="read")
        if self.other > _OTHER_SHARE * trained and self.other > self.wait:
            return "other"
        return "transfer" if self.transfer > 0.5 * self.step else "step"

    def describe(self) -> str:
        """Say in words where the time went, and what would help."""
        shares = {
            "step": (self.step, f"of it {self.transfer:.2f} s to the device, estimated"),
            "compiling": (self.compiling, "calls far slower than usual"),
            "input wait": (self.wait, "the next batch was not there yet"),
            "validation": (self.validation, ""),
            "other": (self.other, "callbacks, loggers, checkpoints"),
        }
        lines = [f"where the time went: {self.total:.1f} s"]
        for name, (seconds, about) in shares.items():
            share = seconds / self.total if self.total else 0.0
            lines.append(f"  {name:<10} {seconds:8.2f} s  {share:4.0%}  {about}".rstrip())
        kinds = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in self.reading.items())
        lines.append(f"  reading threads, beside it: {kinds or 'idle'}")
        lines.append(f"  bottleneck: {_ADVICE[self.bottleneck]}")
        return "\n".join(lines)

    def to_plain(self) -> dict[str, Any]:
        """Return what run.json keeps."""
        return {**asdict(self), "other": self.other, "bottleneck": self.bottleneck}


_ADVICE: Final = {
    "step": "the steps themselves; a larger batch_size, precision='bf16-mixed' or a smaller model "
    "would help, faster reading would not",
    "transfer": "the way to the device; store uint8, not float32, and let the model's first layer "
    "rescale",
    "other": "what runs between the steps; look at callbacks with hooks for each batch, "
    "log_every_n_steps and how often checkpoints are written",
    "read": "reading from the disk; a larger cache=, shuffle='chunks' or a faster disk would help",
    "decode": "decoding; a cache= that holds all, more threads=, pip install 'kerash5[fast]', or "
    "files written with compression=None or 'lzf' would help",
    "h5py": "reading through h5py, which one thread at a time can do; `kerash5 describe FILE` says "
    "why not faster, and k5.write() writes files that are",
    "transform": "the transform; let layers of the model do its work on the device, or give more "
    "threads=",
    "gather": "putting batches together; threads=0 where all is in memory, or fewer columns, would "
    "help",
}


@final
class SimpleProfiler(EventHandler):
    """Measures where the time goes. It waits for the device after each dispatch, to be exact.

    Args:
        dataset: What is trained on.
        is_held: Whether its rows are on the device, so that no batch travels there.
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
        self._calls: list[tuple[float, int]] = []  # seconds and steps of each
        self._seen = (0.0, 0.0)  # seconds and wait of this epoch that are noted
        self._first = self._last = 0

    def begin_epoch(self, progress: Progress) -> None:
        """Start the clocks; before the first epoch, time the way to the device."""
        if self._began is None:
            if not self._is_held():
                self._transfer = _time_transfer(self._dataset.read(0))
            self._reading = self._counting.enter_context(counted_seconds())
            self._first = self._last = progress.step
            self._began = time.perf_counter()
        self._seen = (progress.seconds, progress.input_wait_seconds)

    def after_steps(self, progress: Progress) -> None:
        """Wait for the device, and note what the steps took."""
        began, before = time.perf_counter(), self._step
        progress.metrics()
        seconds = progress.seconds + time.perf_counter() - began
        self._note(seconds, progress.input_wait_seconds)
        self._calls.append((self._step - before, progress.step - self._last))
        self._last = progress.step

    def end_epoch(self, epoch: Epoch) -> None:
        """Note the rest of the epoch, and validation."""
        self._note(epoch.seconds, epoch.input_wait_seconds)
        self._validation += epoch.validation_seconds

    def close(self) -> None:
        """Put the profile together."""
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
    """Return the seconds by which calls were slower than usual, where they were so by far."""
    usual = statistics.median(seconds / steps for seconds, steps in calls) if calls else 0.0
    return sum(
        seconds - usual * steps for seconds, steps in calls if seconds > _SLOW * usual * steps
    )


def _time_transfer(batch: Batch) -> float:
    """Return the seconds that a batch takes to the device: the median of a few."""
    found = []
    for _ in range(1 + _SAMPLES):
        began = time.perf_counter()
        for leaf in keras.tree.flatten(batch):
            keras.ops.convert_to_numpy(keras.ops.ravel(keras.ops.convert_to_tensor(leaf))[:1])
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])  # the first one compiles


def _by_kind(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by kind; what a batch takes besides is putting it together."""
    kinds = {kind: seconds[kind] for kind in _KINDS if kind in seconds}
    return {**kinds, "gather": max(0.0, seconds.get("batch", 0.0) - sum(kinds.values()))}


@final
class Tracer(EventHandler):
    """Lets the framework write a trace of some steps into the folder of the run.

    Args:
        get_folder: Returns the run's folder.
        say: Tells where the trace is.
    """

    def __init__(self, get_folder: Callable[[], str], say: Callable[[str], None]) -> None:
        self._get_folder = get_folder
        self._say = say
        self._first: int | None = None
        self._steps = 0  # traced so far
        self._stop: Callable[[], None] | None = None
        self._is_done = False

    def begin_epoch(self, progress: Progress) -> None:
        """Note where this process begins."""
        if self._first is None:
            self._first = progress.step

    def after_steps(self, progress: Progress) -> None:
        """Start after the first steps, which compile, and stop some steps later."""
        done = progress.step - (self._first or 0)
        if self._stop is None and not self._is_done and done >= _TRACED_FROM:
            progress.metrics()  # waits for the device
            folder = Path(self._get_folder()) / TRACE_FOLDER
            folder.mkdir(exist_ok=True)
            self._stop, self._steps = start_trace(folder), progress.step
        elif self._stop is not None and progress.step >= self._steps + _TRACED_STEPS:
            progress.metrics()
            self.close()

    def close(self) -> None:
        """Stop, and say where the trace is."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
            self._is_done = True
            self._say(f"trace: {Path(self._get_folder()) / TRACE_FOLDER}")
        elif not self._is_done and self._first is not None:
            self._say(f"no trace: the fit ended within its first {_TRACED_FROM} steps")


def start_trace(folder: Path) -> Callable[[], None]:
    """Start the trace of the backend; return what stops it and writes it into the folder."""
    if keras.backend.backend() == "jax":
        import jax

        jax.profiler.start_trace(str(folder))
        return lambda: jax.profiler.stop_trace()  # noqa: PLW0108  untyped
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.profiler.experimental.start(str(folder))
        return lambda: tf.profiler.experimental.stop()  # noqa: PLW0108  untyped
    import torch

    profiler = torch.profiler.profile()  # of the CPU, and of the GPU where there is one
    profiler.start()

    def stop_torch() -> None:
        profiler.stop()
        profiler.export_chrome_trace(str(folder / "trace.json"))

    return stop_torch
