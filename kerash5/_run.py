"""A run: the results of one training run, and their JSON form.

Reports are made from runs, not from models: a `Run` needs no Keras.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from kerash5._display import html_table
from kerash5._errors import FileError, FileMissingError
from kerash5._json import read_values, write_values
from kerash5.files import replace_text

# A number, or the values of an array: a list of floats for a vector, a list of lists for a matrix.
# Typed `float | Any`, not as a union: most code knows that its metrics are numbers.
MetricValue: TypeAlias = float | Any
Metrics: TypeAlias = dict[str, MetricValue]
Status = Literal["running", "done", "stopped", "failed"]

RUN_FILE: Final = "run.json"
_NO_RUN: Final = f"is no run ({{}}); a run is written by Trainer.fit as {RUN_FILE}"
# Modules that draw runs or load their models import this one, so they are imported on use.
_PICTURES: Final = "kerash5.report"
_MODELS: Final = "kerash5.train"
_ANSWERS: Final = "kerash5.train._answers"
_MAX_SHOWN: Final = 8  # elements of an array in a line of text


@dataclass(frozen=True, slots=True)
class Epoch:
    """The results of one epoch.

    Args:
        epoch: Number of the epoch, from 0.
        seconds: Training time, without validation.
        num_rows: Number of rows trained on.
        metrics: Keras' metrics at the end of the epoch, by name; names of validation metrics begin
            with "val_". A metric whose result is an array, such as `F1Score()`, is a list of
            floats.
        input_wait_seconds: Time that training waited for the next batch.
        validation_seconds: Validation time; 0 without validation.
        learning_rate: Learning rate at the end of the epoch; None if unknown.
    """

    epoch: int
    seconds: float
    num_rows: int
    metrics: Metrics
    input_wait_seconds: float = 0.0
    validation_seconds: float = 0.0
    learning_rate: float | None = None

    @property
    def rows_per_second(self) -> float:
        """Rows trained on per second."""
        return self.num_rows / self.seconds if self.seconds > 0 else math.nan


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one training run.

    Args:
        model: The model's name.
        backend: jax, tensorflow or torch.
        num_parameters: Number of parameters of the model.
        run_dir: The folder of the run; "" if it has none.
        status: How the run ended.
        started: Start time, ISO 8601 in UTC.
        seconds: Duration from start to end, including everything.
        epochs: The results of each epoch.
        best_epoch: Number of the epoch whose weights are saved as the best, by `monitor`; None
            before the first epoch has ended, and if none could be saved.
        monitor: The metric by which the best epoch is chosen.
        test: Metrics on the test set; empty until tested.
        config: The options of the run.
        environment: Machine, package versions and settings.
        error: The error message of a failed run; else "".
        profile: Seconds by kind of work, with `profiler="simple"`; else empty.
        engine: The engine that ran the last steps, and why no faster one was used; "" before the
            end.
        class_names: The class names of the training data, in the order of their ids, by column
            ("y", or "y/KEY" if y has several columns); empty if the classes have no names.
            `H5Dataset(..., classes_of=run)` gives other data the same ids.
    """

    model: str
    backend: str
    num_parameters: int
    run_dir: str
    status: Status = "running"
    started: str = ""
    seconds: float = 0.0
    epochs: tuple[Epoch, ...] = ()
    best_epoch: int | None = None
    monitor: str = "val_loss"
    test: Metrics = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    profile: Mapping[str, Any] = field(default_factory=dict)
    engine: str = ""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return what was trained, how it ended, the best epoch and the folder, in one line."""
        return f"Run({self._summary})"

    def _repr_html_(self) -> str:
        names = list(dict.fromkeys(name for epoch in self.epochs for name in epoch.metrics))
        head = ["epoch", "seconds", "rows/s", *names]
        rows = [
            [
                f"{epoch.epoch + 1}{' (best)' * (epoch.epoch == self.best_epoch)}",
                f"{epoch.seconds:.1f}",
                f"{epoch.rows_per_second:,.0f}",
                *(_describe_value(epoch.metrics.get(name, math.nan)) for name in names),
            ]
            for epoch in self.epochs
        ]
        return html_table(self._summary, head, rows)

    @property
    def _summary(self) -> str:
        parts = [f"{self.model} on {self.backend}", self.status, f"{len(self.epochs)} epochs"]
        best = [each for each in self.epochs if each.epoch == self.best_epoch]
        if best and self.monitor in best[0].metrics:
            value = _describe_value(best[0].metrics[self.monitor])
            parts.append(f"best {self.monitor} {value} in epoch {best[0].epoch + 1}")
        if self.test:
            parts.append(f"test: {describe_metrics(self.test)}")
        return ", ".join([*parts, *([repr(self.run_dir)] if self.run_dir else [])])

    @property
    def history(self) -> dict[str, list[MetricValue]]:
        """The metrics by name, one value per epoch (NaN if an epoch lacks the metric).

        It has the form of Keras' `History.history`, except that an array is a list of floats.
        """
        names = dict.fromkeys(name for epoch in self.epochs for name in epoch.metrics)
        return {
            name: [epoch.metrics.get(name, math.nan) for epoch in self.epochs] for name in names
        }

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:  # noqa: ANN401  matplotlib's
        """Draw the metrics of training and validation over the epochs, the best epoch marked.

        Args:
            path: The image file, PNG or SVG by its extension; None writes none.

        Returns:
            The path; without one the `matplotlib.figure.Figure`, which notebooks show.
        """
        return _load(_PICTURES).draw_curves(self, path)

    def plot_confusion(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        data: Any = None,  # noqa: ANN401  a data module or data set, which import this module
        weights: Literal["best", "last"] = "best",
    ) -> Any:  # noqa: ANN401  matplotlib's
        """Draw how often each class was predicted as each, for a classifier.

        Args:
            path: The image file, PNG or SVG by its extension; None writes none.
            data: A data module, of which the test data are taken, or a data set; None: the test
                file of the run.
            weights: "best" for the best epoch by `monitor`, or "last" for the last step.

        Returns:
            The path; without one the `matplotlib.figure.Figure`, which notebooks show.

        Raises:
            RunError: The run has no folder, or its test file cannot be opened again from there.
            OptionError: The model is no classifier, or the data have no labels.
        """
        return _load(_ANSWERS).answers_of_run(self, data, weights).plot_confusion(path)

    def plot_predictions(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        data: Any = None,  # noqa: ANN401
        weights: Literal["best", "last"] = "best",
        count: int = 30,
    ) -> Any:  # noqa: ANN401  matplotlib's
        """Draw images with the class that the model predicts; up to half of them are wrong ones.

        Args:
            path: As in `plot_confusion`.
            data: As in `plot_confusion`.
            weights: As in `plot_confusion`.
            count: Number of images.

        Returns:
            The path; without one the figure.

        Raises:
            ShapeError: The rows are no images.
        """
        return _load(_ANSWERS).answers_of_run(self, data, weights).plot_predictions(path, count)

    def class_scores(
        self,
        data: Any = None,  # noqa: ANN401
        weights: Literal["best", "last"] = "best",
    ) -> Any:  # noqa: ANN401  ClassScores, of a module that is imported on use
        """Return precision, recall and F1 of each class, as a tuple that prints as a table.

        Args:
            data: As in `plot_confusion`.
            weights: As in `plot_confusion`.
        """
        return _load(_ANSWERS).answers_of_run(self, data, weights).scores()

    def load_model(self, weights: Literal["best", "last"] = "best") -> Any:  # noqa: ANN401  Keras'
        """Read the model from the run's folder, like `kerash5.load_model`.

        Args:
            weights: "best" for the best epoch by `monitor`, or "last" for the last step.
        """
        return _load(_MODELS).load_model(self.run_dir, weights)

    @property
    def rows_per_second(self) -> float:
        """The median of rows per second over epochs; NaN if there is none.

        The first epoch, which compiles, is left out if there are others.
        """
        speeds = [epoch.rows_per_second for epoch in self.epochs[1:] or self.epochs]
        return statistics.median(speeds) if speeds else math.nan

    def to_json(self) -> str:
        """Return the run as JSON text; NaN and infinities become null, because JSON lacks them."""
        return write_values(self)

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Return the run that `to_json` wrote.

        Raises:
            FileError: The text is not a run, or has a newer format.
        """
        return read_values(cls, text, "this", _NO_RUN)

    def save(self, folder: str | os.PathLike[str]) -> str:
        """Write the run to `folder`/run.json atomically, and return the path."""
        path = Path(folder) / RUN_FILE
        replace_text(path, self.to_json())
        return str(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Run:
        """Read a run from its folder or its file.

        Raises:
            FileMissingError: The file does not exist.
            FileError: The file is not a run.
        """
        named = Path(path)
        file = named / RUN_FILE if named.is_dir() else named
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            raise FileMissingError(
                f"no run at {str(named)!r}: there is no {str(file)!r}; name the run_dir of a "
                "Trainer"
            ) from None
        except OSError as error:
            raise FileError(f"{str(file)!r} cannot be read ({error.strerror})") from error
        return read_values(cls, text, repr(str(file)), _NO_RUN)


def _load(name: str) -> Any:  # noqa: ANN401  a module
    return import_module(name)


def to_scalars(metrics: Mapping[str, MetricValue]) -> dict[str, float]:
    """Return metrics as scalars: the elements of an array `f1` are named `f1_0`, `f1_1`, ...

    The elements of a matrix are named by row and column: `f1_0_1`. If such a name is already taken
    by another metric or its elements, all elements of `f1` get one more underscore before the
    number.
    """
    found: dict[str, float] = {}
    taken = set(metrics)
    for name, value in metrics.items():
        if not isinstance(value, list):
            found[name] = value
            continue
        elements, prefix = dict(_elements(value)), name
        while not {f"{prefix}{suffix}" for suffix in elements}.isdisjoint(taken | found.keys()):
            prefix += "_"
        found.update({f"{prefix}{suffix}": element for suffix, element in elements.items()})
    return found


def describe_metrics(metrics: Metrics) -> str:
    """Return text like "loss 0.1234  f1 [0.5000 0.2500]"; large arrays are shown by their shape."""
    return "  ".join(f"{name} {_describe_value(value)}" for name, value in metrics.items())


def _elements(value: MetricValue) -> Iterator[tuple[str, float]]:
    """Yield the name suffix ("_ROW_COLUMN" in a matrix) and the value of each element."""
    if not isinstance(value, list):
        yield "", value
        return
    for number, inner in enumerate(value):
        for suffix, element in _elements(inner):
            yield f"_{number}{suffix}", element


def _describe_value(value: MetricValue) -> str:
    if not isinstance(value, list):
        return f"{value:.4f}"
    elements = [f"{element:.4f}" for _, element in _elements(value)]
    return f"[{' '.join(elements)}]" if len(elements) <= _MAX_SHOWN else _describe_shape(value)


def _describe_shape(value: MetricValue) -> str:
    lengths = []
    while isinstance(value, list):
        lengths.append(str(len(value)))
        value = value[0] if value else 0.0
    return f"({' x '.join(lengths)} values)"
