"""The results of a comparison of backends: samples, parity, method. JSON both ways.

Plain values that were measured, and what follows from one process alone. Statistics over processes
are made in `_statistics`, from these; what measures is `_compare`, which starts the processes.
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
    """What one process measured: one contender, one model, one batch size, one setting.

    Args:
        contender: Its name in tables: the backend's, and "jax-2" where a backend stands twice.
        backend: jax, tensorflow or torch.
        model: The model's name.
        batch_size: Rows in a batch.
        setting: "plain" (`model.fit`, as users get it) or "tuned" (our Trainer).
        repeat: From 0. Repeats differ in the order of rows, which all contenders share.
        position: Place in the random order in which processes were started, from 0.
        status: "missing": the backend is not there; "failed": it is, and `error` says what
            happened.
        error: One sentence; "" if ok.
        num_steps: Steps in an epoch.
        num_rows: Rows in an epoch.
        epoch_seconds: Of each epoch, device waited for; the first are the warm-up.
        warm_up_epochs: How many of them.
        cached_epoch_seconds: The same, later, with one batch that is in memory for every step.
        import_seconds: From the start of the process to Keras and its backend being imported.
        build_seconds: To make the model and load its weights.
        first_step_seconds: Of `fit` on one batch: trace, compile, one step.
        compile_cache: What the backend's persistent compilation cache held before: nothing
            ("cold"), the same model ("warm"), or there is no such cache ("none").
        peak_host_bytes: Peak memory of the process until the timed epochs ended; None: not known.
        peak_host_counter: Where that number is from.
        peak_device_bytes: Peak memory on the device; None where there is no counter, as on a CPU.
        peak_device_counter: Where that number is from.
        epoch_losses: Training loss of each epoch, the warm-up first.
        final_loss: After the last epoch, on `evaluated_on`.
        final_accuracy: Likewise, a share from 0 to 1.
        engine: Which engine ran the timed steps, and why not a faster one; "" if not known.
        evaluated_on: "test", or "train" where no test file was given.
        load_before: Mean number of running processes over the last minute, before the first epoch.
        load_after: The same after the last.
        environment: Versions, processor, threads, TF32, precision, affinity; as resolved.
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
        """Name this sample within its comparison, fit for a file: "jax-plain-b50-r0"."""
        return f"{self.contender}-{self.setting}-b{self.batch_size}-r{self.repeat}"

    @property
    def step_seconds(self) -> float:
        """Seconds of a step: the median over epochs without the warm-up; NaN where none is."""
        return self._timed_seconds / self.num_steps if self.num_steps else math.nan

    @property
    def rows_per_second(self) -> float:
        """Rows trained on per second: the median over epochs without the warm-up."""
        seconds = self._timed_seconds
        return self.num_rows / seconds if seconds > 0 else math.nan

    @property
    def input_wait_share(self) -> float:
        """The share of an epoch that would be saved if input cost nothing, from 0 to 1.

        The same epoch on one cached batch against the file; 0 where the cached one was slower.
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
        """What compiling cost in all: the first step, and what the warm-up took beyond its epochs.

        A trainer that takes many steps at once compiles those in the warm-up.
        """
        if math.isnan(self._timed_seconds):
            return math.nan
        warm_up = self.epoch_seconds[: self.warm_up_epochs]
        extra = sum(warm_up) - self.warm_up_epochs * self._timed_seconds
        return self.first_step_seconds + max(0.0, extra)

    @property
    def _timed_seconds(self) -> float:
        """Of an epoch after the warm-up, the median."""
        return _median(self.epoch_seconds[self.warm_up_epochs :])

    def to_json(self) -> str:
        """Return the sample as JSON text; NaN becomes null, for JSON has none."""
        return write_values(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Sample:
        """Return the sample that `to_json` wrote.

        Raises:
            FileError: The text is no sample, or of another format.
        """
        return read_values(cls, text, "this")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What was asked for: everything that two comparisons must share to be compared.

    Args:
        model: The model's name.
        contenders: Their names, in the order asked for.
        batch_sizes: Rows in a batch, one table each.
        settings: "plain", "tuned", or both.
        repeats: Processes per contender, batch size and setting.
        num_steps: Steps in an epoch.
        num_epochs: Timed epochs in a process, beside the warm-up.
        seed: Of the random order of processes, the initial weights and the order of rows.
        threads: Threads that each backend may compute with.
        precision: "float32".
        tf32: Whether matrix products may be rounded to TF32 on a GPU.
        data: What was read, in words, without the folder.
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
    """One comparison on one machine: the method, and all that was measured.

    Args:
        method: What was asked for.
        samples: One per process, in the order in which they ran.
        parities: One per contender and setting, at the smallest batch size.
        machine: What it ran on.
        versions: Versions of packages, by contender.
        notes: Caveats in whole sentences, such as a shared environment.
        started: When, as ISO 8601 in UTC.
        seconds: From start to end; of a resumed comparison, the sum.
        is_complete: False where it was stopped before every process had run.
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

    def to_json(self) -> str:
        """Return the comparison as JSON text; NaN becomes null, for JSON has none."""
        return write_values(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Comparison:
        """Return the comparison that `to_json` wrote.

        Raises:
            FileError: The text is no comparison, or of another format.
        """
        return read_values(cls, text, "this")

    def save(self, folder: str | os.PathLike[str]) -> str:
        """Write `folder`/comparison.json, whole or not at all; return its path."""
        path = Path(folder) / COMPARISON_FILE
        replace_text(path, self.to_json())
        return str(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read a comparison from its folder or its file.

        Raises:
            FileMissingError: There is none.
            FileError: The file is no comparison.
        """
        named = Path(path)
        file = named / COMPARISON_FILE if named.is_dir() else named
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            raise FileMissingError(
                f"no comparison at {str(named)!r}: there is no {str(file)!r}; name the --out "
                "folder of kerash5 compare"
            ) from None
        except OSError as error:
            raise FileError(f"{str(file)!r} cannot be read ({error.strerror})") from error
        return read_values(cls, text, repr(str(file)))


def _median(values: tuple[float, ...]) -> float:
    return statistics.median(values) if values else math.nan
