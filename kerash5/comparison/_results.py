"""Results of a comparison of backends: samples, parity, method. JSON in both directions.

Contains measured values and what follows from one process alone. `_statistics` computes statistics
over processes; `_compare` starts the processes.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, final

from kerash5._errors import FileError, FileMissingError
from kerash5._json import read_values, write_values
from kerash5.comparison._machine import Machine
from kerash5.comparison._parity import Parity, Setting, Status
from kerash5.files import replace_text

CompileCache = Literal["cold", "warm", "none"]

COMPARISON_FILE: Final = "comparison.json"
SETTINGS: Final[tuple[Setting, ...]] = ("plain", "tuned")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Measurement of one process: one contender, model, batch size and setting.

    Args:
        contender: Name in tables: the backend's, or "jax-2" for the second contender with that
            backend.
        backend: "jax", "tensorflow" or "torch".
        model: Name of the model.
        batch_size: Rows in a batch.
        setting: "plain" (`model.fit`) or "tuned" (`Trainer`).
        repeat: Number of the round, from 0. Rounds differ in the order of rows; all contenders of a
            round use the same one.
        position: Position in the random order in which processes were started, from 0.
        status: "ok"; "missing" if the backend is not installed; "failed" if the process failed, see
            `error`.
        error: One sentence; "" if `status` is "ok".
        num_steps: Steps in an epoch.
        num_rows: Rows in an epoch.
        epoch_seconds: Seconds of each epoch, including the wait for the device; the first are
            warm-up.
        warm_up_epochs: How many of them are warm-up.
        cached_epoch_seconds: Seconds of later epochs that use one batch in memory for every step.
        import_seconds: Seconds from the start of the process until Keras and its backend are
            imported.
        build_seconds: Seconds to build the model and load its weights.
        first_step_seconds: Seconds of `fit` on one batch: trace, compile, one step.
        compile_cache: State of the backend's persistent compilation cache before the run: empty
            ("cold"), with the same model ("warm"), or the backend has none ("none").
        peak_host_bytes: Peak memory of the process until the timed epochs ended; None if unknown.
        peak_host_counter: Counter that `peak_host_bytes` was read from.
        peak_device_bytes: Peak memory on the device; None if there is no counter, as on a CPU.
        peak_device_counter: Counter that `peak_device_bytes` was read from.
        epoch_losses: Training loss of each epoch, warm-up first.
        final_loss: Loss after the last epoch, on `evaluated_on`.
        final_accuracy: Accuracy after the last epoch, a fraction from 0 to 1.
        engine: Engine that ran the timed steps, and why a faster one was not used; "" if unknown.
        evaluated_on: "test", or "train" if no test file was given.
        load_before: Mean number of running processes in the minute before the first epoch.
        load_after: Mean number of running processes in the minute after the last epoch.
        environment: Resolved versions, processor, threads, TF32, precision and affinity.
    """

    contender: str
    backend: str
    model: str
    batch_size: int
    setting: Setting
    repeat: int
    position: int
    status: Status = "ok"
    error: str = ""
    num_steps: int = 0
    num_rows: int = 0
    epoch_seconds: tuple[float, ...] = ()
    warm_up_epochs: int = 1
    cached_epoch_seconds: tuple[float, ...] = ()
    import_seconds: float = math.nan
    build_seconds: float = math.nan
    first_step_seconds: float = math.nan
    compile_cache: CompileCache = "none"
    peak_host_bytes: int | None = None
    peak_host_counter: str = ""
    peak_device_bytes: int | None = None
    peak_device_counter: str = ""
    epoch_losses: tuple[float, ...] = ()
    final_loss: float = math.nan
    final_accuracy: float = math.nan
    evaluated_on: str = ""
    engine: str = ""
    load_before: float = math.nan
    load_after: float = math.nan
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the sample within its comparison, usable in file names: "jax-plain-b50-r0"."""
        return f"{self.contender}-{self.setting}-b{self.batch_size}-r{self.repeat}"

    @property
    def step_seconds(self) -> float:
        """Seconds per step: median over epochs without warm-up; NaN if there is none."""
        return self._timed_seconds / self.num_steps if self.num_steps else math.nan

    @property
    def rows_per_second(self) -> float:
        """Rows trained on per second: median over epochs without warm-up."""
        seconds = self._timed_seconds
        return self.num_rows / seconds if seconds > 0 else math.nan

    @property
    def input_wait_share(self) -> float:
        """Fraction of the epoch time spent waiting for input, from 0 to 1.

        Compares epochs that read the file with epochs on one cached batch; 0 if the latter are
        slower.
        """
        from_file, cached = self._timed_seconds, _median(self.cached_epoch_seconds)
        share = 1 - cached / from_file if from_file > 0 else math.nan
        return share if math.isnan(share) else max(0.0, share)

    @property
    def time_to_first_step_seconds(self) -> float:
        """Import, build, trace, compile and one step."""
        return self.import_seconds + self.build_seconds + self.first_step_seconds

    @property
    def compile_seconds(self) -> float:
        """Seconds of compilation: the first step, plus warm-up time beyond that of normal epochs.

        A trainer that runs several steps per call compiles that program in the warm-up.
        """
        if math.isnan(self._timed_seconds):
            return math.nan
        warm_up = self.epoch_seconds[: self.warm_up_epochs]
        extra = sum(warm_up) - self.warm_up_epochs * self._timed_seconds
        return self.first_step_seconds + max(0.0, extra)

    @property
    def _timed_seconds(self) -> float:
        """Median seconds of an epoch after the warm-up."""
        return _median(self.epoch_seconds[self.warm_up_epochs :])

    def to_json(self) -> str:
        """Return the sample as JSON text; NaN becomes null, because JSON has no NaN."""
        return write_values(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Sample:
        """Return the sample that `to_json` wrote.

        Raises:
            FileError: The text is not a sample, or of another format.
        """
        return read_values(cls, text, "this")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Options of a comparison: comparisons are only compared if these are equal.

    Args:
        model: Name of the model.
        contenders: Their names, in the given order.
        batch_sizes: Rows in a batch, one table each.
        settings: "plain", "tuned", or both.
        repeats: Processes per contender, batch size and setting.
        num_steps: Steps in an epoch.
        num_epochs: Timed epochs in a process, without the warm-up.
        seed: Seed of the order of processes, the initial weights and the order of rows.
        threads: Threads that each backend may compute with.
        precision: "float32", "bf16-mixed" or "16-mixed".
        tf32: Whether matrix products may be rounded to TF32 on a GPU.
        data: Description of the data, without folders.
    """

    model: str
    contenders: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    settings: tuple[Setting, ...]
    repeats: int
    num_steps: int
    num_epochs: int
    seed: int
    threads: int
    precision: str
    tf32: bool
    data: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison on one machine: its options and all measurements.

    Args:
        method: Options of the comparison.
        samples: One per process, in the order they ran.
        parities: One per contender and setting, at the smallest batch size.
        machine: The machine it ran on.
        versions: Package versions, by contender.
        notes: Caveats in whole sentences, such as an environment with several backends.
        started: Start time, as ISO 8601 in UTC.
        seconds: Seconds from start to end; the sum for a resumed comparison.
        is_complete: False if it was interrupted before every process had run.
    """

    method: Method
    samples: tuple[Sample, ...] = ()
    parities: tuple[Parity, ...] = ()
    machine: Machine = field(default_factory=Machine)
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    started: str = ""
    seconds: float = 0.0
    is_complete: bool = True

    def __repr__(self) -> str:
        """Return what was compared, and how often, in one line."""
        names, repeats = ", ".join(self.method.contenders), self.method.repeats
        state = "" if self.is_complete else ", interrupted"
        return f"Comparison({self.method.model}: {names}; {repeats} processes each{state})"

    def to_json(self) -> str:
        """Return the comparison as JSON text; NaN becomes null, because JSON has no NaN."""
        return write_values(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Comparison:
        """Return the comparison that `to_json` wrote.

        Raises:
            FileError: The text is not a comparison, or of another format.
        """
        return read_values(cls, text, "this")

    def save(self, folder: str | os.PathLike[str]) -> str:
        """Write `folder`/comparison.json atomically and return its path."""
        path = Path(folder) / COMPARISON_FILE
        replace_text(path, self.to_json())
        return str(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read a comparison from its folder or its file.

        Raises:
            FileMissingError: There is no such file.
            FileError: The file is not a comparison.
        """
        named = Path(path)
        file = named / COMPARISON_FILE if named.is_dir() else named
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            raise FileMissingError(
                f"no comparison at {str(named)!r}: {str(file)!r} does not exist; pass the --out "
                "folder of kerash5 compare"
            ) from None
        except OSError as error:
            raise FileError(f"{str(file)!r} cannot be read ({error.strerror})") from error
        return read_values(cls, text, repr(str(file)))


def _median(values: tuple[float, ...]) -> float:
    return statistics.median(values) if values else math.nan
