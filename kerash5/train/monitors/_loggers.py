"""Loggers: where the metrics of a run are written while it runs, besides run.json.

A logger never sees the model. CSV and TensorBoard write to the run's folder, MLflow and W&B through
their own packages. Their Keras callbacks are not used: that of W&B needs TensorFlow, and that of
MLflow has a hook for every step, which would make the trainer synchronize at each (both can still
be passed as `callbacks`).
"""

from __future__ import annotations

import csv
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Final, final

from kerash5._errors import BackendError
from kerash5._run import Epoch, Metrics, MetricValue, Run, to_scalars
from kerash5.files import replace_text

METRICS_FILE: Final = "metrics.csv"
STEPS_FILE: Final = "steps.csv"
EVENTS_FOLDER: Final = "tensorboard"
_MEASURED: Final = ("seconds", "rows_per_second", "input_wait_seconds", "learning_rate")


class AbstractLogger(ABC):
    """Receive the metrics of runs; names are those of Keras' metrics.

    A metric whose result is an array is passed as a list of floats (nested for a matrix). The
    loggers here write each element as a metric of its own: `NAME_0`, `NAME_1`, ..., or
    `NAME_ROW_COLUMN`.
    """

    @abstractmethod
    def begin(self, run: Run, step: int) -> None:
        """Open the output.

        Args:
            run: The run so far; `run.epochs` has the epochs before a resume.
            step: Number of steps done; entries of later steps must be discarded.
        """

    @abstractmethod
    def log_steps(self, metrics: Metrics, *, step: int, epoch: int) -> None:
        """Log the running averages of an epoch after a step.

        Args:
            metrics: The averages, including "learning_rate".
            step: Number of steps done in all epochs.
            epoch: Number of the epoch, from 0.
        """

    @abstractmethod
    def log_epoch(self, epoch: Epoch, run: Run, *, step: int) -> None:
        """Log the results of an epoch.

        Args:
            epoch: Results of the epoch.
            run: The run, including this epoch.
            step: Number of steps done in all epochs.
        """

    @abstractmethod
    def finish(self, run: Run) -> None:
        """Close the output; `run.status` and `run.error` say how the run ended."""


@final
class CSVLogger(AbstractLogger):
    """Write metrics.csv, one line per epoch, and steps.csv, one line per logged step."""

    def __init__(self) -> None:
        self._folder = Path()
        self._names: list[str] = []
        self._stream: IO[str] | None = None

    def begin(self, run: Run, step: int) -> None:
        """Discard the lines of steps that will run again."""
        self._folder = Path(run.run_dir)
        self._names = []
        path = self._folder / STEPS_FILE
        if not path.exists():
            return
        with path.open(newline="", encoding="utf-8") as stream:
            head, *rows = list(csv.reader(stream)) or [[]]
        kept = [row for row in rows if len(row) == len(head) and int(row[0]) <= step]
        self._names = head
        replace_text(path, _csv_text([head, *kept]))

    def log_steps(self, metrics: Metrics, *, step: int, epoch: int) -> None:
        """Append a line to steps.csv."""
        if self._stream is None:
            self._stream = (self._folder / STEPS_FILE).open("a", newline="", encoding="utf-8")
        if not self._names:
            self._names = ["step", "epoch", *to_scalars(metrics)]
            self._stream.write(_csv_text([self._names]))
        values: Mapping[str, float] = {"step": step, "epoch": epoch, **to_scalars(metrics)}
        self._stream.write(_csv_text([[values.get(name, "") for name in self._names]]))
        self._stream.flush()

    def log_epoch(self, epoch: Epoch, run: Run, *, step: int) -> None:
        """Write metrics.csv again, atomically."""
        metrics = [to_scalars(each.metrics) for each in run.epochs]
        names = list(dict.fromkeys(name for each in metrics for name in each))
        rows = [
            [each.epoch, *_measured(each), *[values.get(name, "") for name in names]]
            for each, values in zip(run.epochs, metrics, strict=True)
        ]
        text = _csv_text([["epoch", *_MEASURED, *names], *rows])
        replace_text(self._folder / METRICS_FILE, text)

    def finish(self, run: Run) -> None:
        """Close steps.csv."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


@final
class TensorBoardLogger(AbstractLogger):
    """Write TensorBoard events: epochs, and logged steps in a separate run "steps".

    Uses tensorboardX, because Keras' own callback needs TensorFlow (keras#19121).

    Raises:
        BackendError: tensorboardX is not installed.
    """

    def __init__(self) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise BackendError(
                "logger='tensorboard' needs tensorboardX: pip install 'kerash5[keras]'"
            ) from error
        self._make = SummaryWriter
        self._folder = ""
        self._first_step = 0
        self._epochs: Any = None
        self._steps: Any = None

    def begin(self, run: Run, step: int) -> None:
        """Open an event file."""
        self._folder = os.path.join(run.run_dir, EVENTS_FOLDER)  # noqa: PTH118  tensorboardX needs a str
        self._first_step = step
        self._epochs = self._make(self._folder, purge_step=len(run.epochs) or None)

    def log_steps(self, metrics: Metrics, *, step: int, epoch: int) -> None:
        """Write scalars over steps."""
        if self._steps is None:  # own folder: one purge_step cannot serve both
            folder = f"{self._folder}/steps"
            self._steps = self._make(folder, purge_step=self._first_step or None)
        self._write(self._steps, metrics, step)

    def log_epoch(self, epoch: Epoch, run: Run, *, step: int) -> None:
        """Write scalars over epochs."""
        self._write(self._epochs, _with_measured(epoch), epoch.epoch)

    def finish(self, run: Run) -> None:
        """Stop the writer threads and close their files."""
        for writer in (self._epochs, self._steps):
            if writer is not None:
                writer.close()
        self._epochs = self._steps = None

    def _write(self, writer: Any, metrics: Mapping[str, MetricValue], place: int) -> None:  # noqa: ANN401  untyped
        for name, value in to_scalars(metrics).items():
            writer.add_scalar(name, value, place)
        writer.flush()


@final
class MLflowLogger(AbstractLogger):
    """Log to the active MLflow run, or start one.

    Raises:
        BackendError: MLflow is not installed.
    """

    def __init__(self) -> None:
        self._mlflow = _import("mlflow")
        self._is_ours = False

    def begin(self, run: Run, step: int) -> None:
        """Start an MLflow run if none is active, and log the options of the run."""
        self._is_ours = self._mlflow.active_run() is None
        if self._is_ours:
            self._mlflow.start_run(run_name=Path(run.run_dir).name or run.model)
        asked = {"model": run.model, "backend": run.backend, **run.config.get("trainer", {})}
        if step == 0:  # a resumed run may have other options; MLflow accepts a name once
            self._mlflow.log_params(asked)

    def log_steps(self, metrics: Metrics, *, step: int, epoch: int) -> None:
        """Log metrics over steps, under "step/"."""
        logged = {f"step/{name}": value for name, value in to_scalars(metrics).items()}
        self._mlflow.log_metrics(logged, step=step)

    def log_epoch(self, epoch: Epoch, run: Run, *, step: int) -> None:
        """Log metrics over epochs."""
        self._mlflow.log_metrics(_with_measured(epoch), step=epoch.epoch)

    def finish(self, run: Run) -> None:
        """End the MLflow run if this logger started it."""
        if self._is_ours:
            names = {"failed": "FAILED", "stopped": "KILLED"}
            self._mlflow.end_run(names.get(run.status, "FINISHED"))


@final
class WandbLogger(AbstractLogger):
    """Log to the active W&B run, or start one.

    Raises:
        BackendError: wandb is not installed.
    """

    def __init__(self) -> None:
        self._wandb = _import("wandb")
        self._is_ours = False

    def begin(self, run: Run, step: int) -> None:
        """Start a W&B run if none is active."""
        self._is_ours = self._wandb.run is None
        if self._is_ours:
            name = Path(run.run_dir).name or run.model
            self._wandb.init(dir=run.run_dir, name=name, config=dict(run.config))

    def log_steps(self, metrics: Metrics, *, step: int, epoch: int) -> None:
        """Log metrics over steps, under "step/"."""
        logged = {f"step/{name}": value for name, value in to_scalars(metrics).items()}
        self._wandb.log({**logged, "epoch": epoch}, step=step)

    def log_epoch(self, epoch: Epoch, run: Run, *, step: int) -> None:
        """Log metrics at the step that ends the epoch."""
        self._wandb.log({**_with_measured(epoch), "epoch": epoch.epoch}, step=step)

    def finish(self, run: Run) -> None:
        """End the W&B run if this logger started it."""
        if self._is_ours:
            self._wandb.finish(exit_code=int(run.status == "failed"))


def _import(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise BackendError(f"logger={name!r} needs {name}: pip install {name}") from error


def _measured(epoch: Epoch) -> list[float | str]:
    return [
        round(epoch.seconds, 4),
        round(epoch.rows_per_second, 1),
        round(epoch.input_wait_seconds, 4),
        "" if epoch.learning_rate is None else epoch.learning_rate,
    ]


def _with_measured(epoch: Epoch) -> dict[str, float]:
    rate = {} if epoch.learning_rate is None else {"learning_rate": epoch.learning_rate}
    return {**to_scalars(epoch.metrics), **rate, "rows_per_second": epoch.rows_per_second}


def _csv_text(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
