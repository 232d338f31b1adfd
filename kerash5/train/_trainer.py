"""The trainer: trains a plain Keras model on H5 data, and keeps all about the run in one folder.

The model stays a `keras.Model` that can still `compile`, `fit` and `save`. Names are Lightning's
where the thing is the same.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, final

import keras
from rich.console import Console

from kerash5._backends import environment
from kerash5._errors import OptionError, RunError
from kerash5._run import Epoch, Metrics, Run
from kerash5.feeds._keras import H5Dataset
from kerash5.train._callbacks import ProgressBar, Recorder
from kerash5.train._checks import (
    POLICIES,
    check_compiled,
    check_labels,
    check_monitor,
    check_precision,
    check_shapes,
)
from kerash5.train._data import H5DataModule
from kerash5.train._run_dir import BEST_WEIGHTS, LAST_WEIGHTS, Events, RunDir, make_run_dir

Data = H5DataModule | H5Dataset
T = TypeVar("T")

# Words in the names of Keras' metrics; a metric with none of them is better when smaller.
_LARGER_IS_BETTER: Final = (
    *("acc", "auc", "precision", "recall", "sensitivity", "specificity", "f1", "fbeta", "iou"),
    *("io_u", "r2", "similarity", "correlation", "true_positives", "true_negatives"),
)


@final
class Trainer:
    """Trains, validates, tests and predicts.

    Args:
        max_epochs: Passes over the training rows.
        precision: "float32", "bf16-mixed" or "16-mixed", which the model must have been built for;
            None takes it as it is.
        run_dir: The folder for all the run writes: config.yaml, env.json, metrics.csv, model.json,
            run.json, last and best weights, TensorBoard events. None: runs/MODEL. A folder that
            holds a run is left alone, and a number added to the name.
        monitor: The metric that decides which weights are best; None: "val_loss", or "loss" without
            validation. Accuracies and their like are better when larger, others when smaller.
        callbacks: Keras callbacks to call besides. One with batch hooks makes Keras wait for every
            step.
        enable_progress_bar: Show progress: a bar on a terminal, a line per epoch elsewhere.
        enable_model_summary: Show the model's layers before the first epoch.

    Attributes:
        notes: What else config.yaml shall say about the run, as plain values by name.
        console: Where progress goes: stderr.

    Raises:
        OptionError: An option makes no sense.

    Example:
        >>> run = Trainer(max_epochs=2, run_dir="runs/digits").fit(model, data)
        >>> run.status, len(run.epochs)
        ('done', 2)
    """

    def __init__(
        self,
        *,
        max_epochs: int = 10,
        precision: str | None = None,
        run_dir: str | os.PathLike[str] | None = None,
        monitor: str | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        enable_progress_bar: bool = True,
        enable_model_summary: bool = True,
    ) -> None:
        if not isinstance(max_epochs, int) or isinstance(max_epochs, bool) or max_epochs < 1:
            raise OptionError(
                f"max_epochs={max_epochs!r}; it is the number of passes over the data, at least 1"
            )
        if precision is not None and precision not in POLICIES:
            raise OptionError(f"precision={precision!r}; choose {', '.join(map(repr, POLICIES))}")
        self.max_epochs = max_epochs
        self.precision = precision
        self.run_dir = run_dir
        self.monitor = monitor
        self.callbacks = tuple(callbacks)
        self.enable_progress_bar = enable_progress_bar
        self.enable_model_summary = enable_model_summary
        self.notes: dict[str, Any] = {}
        self.console = Console(stderr=True)
        self._session: _Session | None = None

    def fit(self, model: keras.Model, data: Data) -> Run:
        """Train the model on `data.train`, validating on `data.validation` after each epoch.

        Where there is no validation data, it is left out.

        Args:
            model: A compiled Keras model.
            data: A data module, or a single data set to train on.

        Returns:
            What the run did and measured. It is also in the run's folder, from the first step on.

        Raises:
            KerasH5Error: The model is not compiled, its shapes or classes do not fit the data
                (those to test on included), or reading fails. Whatever is raised, the run's folder
                says how far it came.
        """
        train, validation, test = _parts(data)
        monitor = self.monitor or ("loss" if validation is None else "val_loss")
        check_monitor(monitor, is_validated=validation is not None)
        self._check(model, train, validation, test)
        self._session = _Session(self, model, data, monitor)
        self._session.train()
        return self._session.run

    def validate(self, model: keras.Model, data: Data) -> Metrics:
        """Return the metrics on `data.validation` (or on the data set given)."""
        return self._evaluate(model, _choose(data, "validation"))

    def test(self, model: keras.Model, data: Data) -> Metrics:
        """Return the metrics on `data.test` (or on the data set given).

        After `fit` of this model they are kept in the run as well.
        """
        metrics = self._evaluate(model, _choose(data, "test"))
        if self._session is not None and self._session.model is model:
            self._session.save(test=metrics)
        return metrics

    def predict(self, model: keras.Model, data: Data) -> Any:  # noqa: ANN401  an array, nearly always
        """Return what the model answers for each row of `data.test` (or of the data set given).

        Returns:
            An array of shape (rows, *output_shape) in the stored order, or a list or dict of such
            for a model of several outputs.
        """
        dataset = _choose(data, "test")
        check_shapes(model, dataset)
        return _call(lambda: model.predict(dataset, verbose=0), dataset)

    @property
    def run(self) -> Run | None:
        """The run of the last `fit`, with the test metrics if it was tested; None before."""
        return self._session.run if self._session else None

    def config(self) -> dict[str, Any]:
        """Return the options as config.yaml holds them."""
        kept = ("max_epochs", "precision", "monitor", "enable_progress_bar", "enable_model_summary")
        run_dir = None if self.run_dir is None else os.fspath(self.run_dir)
        return {**{name: getattr(self, name) for name in kept}, "run_dir": run_dir}

    def _check(self, model: keras.Model, *datasets: H5Dataset | None) -> None:
        check_compiled(model)
        check_precision(model, self.precision)
        for dataset in datasets:
            if dataset is not None:
                check_shapes(model, dataset)
                check_labels(model, dataset)

    def _evaluate(self, model: keras.Model, dataset: H5Dataset) -> Metrics:
        self._check(model, dataset)
        found = _call(lambda: model.evaluate(dataset, verbose=0, return_dict=True), dataset)
        return {name: float(value) for name, value in found.items()}


class _Session:
    """One call of `fit`: the run as it grows, and the folder it is kept in."""

    def __init__(self, trainer: Trainer, model: keras.Model, data: Data, monitor: str) -> None:
        self.model = model
        self._trainer = trainer
        self._train, self._validation, _ = _parts(data)
        self._began = time.perf_counter()
        self._bar = ProgressBar(trainer.console, trainer.max_epochs, len(self._train))
        self._run_dir: RunDir = make_run_dir(trainer.run_dir, model.name)
        self.run = Run(
            model=model.name,
            backend=keras.backend.backend(),
            num_parameters=model.count_params() if model.built else 0,
            run_dir=str(self._run_dir.path),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            monitor=monitor,
            config={**trainer.notes, "data": _describe_data(data), "trainer": trainer.config()},
            environment=environment(),
        )

    def train(self) -> None:
        """Train to the end, or note why not."""
        self._events = Events(self._run_dir)
        try:
            self._run_dir.begin(self.run, self.model)
            self._summarize()
            _call(self._fit, self._train, self._validation)
        except BaseException as error:
            is_stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            status = "stopped" if is_stopped else "failed"
            self._save_timed(status=status, error=f"{type(error).__name__}: {error}")
            raise
        finally:
            self._bar.close()
            self._events.close()
        self._save_timed(status="done")

    def save(self, **changes: Any) -> None:  # noqa: ANN401  fields of `Run`
        """Change the run, here and in its folder."""
        self.run = replace(self.run, **changes)
        self.run.save(self._run_dir.path)

    def _save_timed(self, **changes: Any) -> None:  # noqa: ANN401  fields of `Run`
        self.save(seconds=time.perf_counter() - self._began, **changes)

    def _summarize(self) -> None:
        if self._trainer.enable_model_summary:
            console = self._trainer.console
            self.model.summary(
                print_fn=lambda line, **_: console.print(line, highlight=False, markup=False)
            )

    def _fit(self) -> None:
        num_rows = _rows_per_epoch(self._train)
        recorder = Recorder(num_rows, lambda: self._train.wait_seconds, self._end_epoch)
        shown = [self._bar] if self._trainer.enable_progress_bar else []
        self.model.fit(
            self._train,
            validation_data=self._validation,
            epochs=self._trainer.max_epochs,
            callbacks=[recorder, *self._trainer.callbacks, *shown],
            verbose=0,
        )

    def _end_epoch(self, epoch: Epoch) -> None:
        """Keep what the epoch did, then say so."""
        is_first, is_best = not self.run.epochs, self._is_best(epoch)
        self._run_dir.save_weights(self.model, LAST_WEIGHTS)
        if is_best:
            self._run_dir.copy_weights(LAST_WEIGHTS, BEST_WEIGHTS)
        if is_first:  # a model may learn its shapes from the first batch
            self._run_dir.save_model(self.model)
        self._save_timed(
            epochs=(*self.run.epochs, epoch),
            best_epoch=epoch.epoch if is_best else self.run.best_epoch,
            num_parameters=self.model.count_params(),
        )
        self._run_dir.write_metrics(self.run.epochs)
        self._events.write({**epoch.metrics, "rows_per_second": epoch.rows_per_second}, epoch.epoch)
        if self._trainer.enable_progress_bar:
            self._bar.finish_epoch(epoch)

    def _is_best(self, epoch: Epoch) -> bool:
        monitor = self.run.monitor
        if monitor not in epoch.metrics:
            known = ", ".join(map(repr, epoch.metrics))
            raise RunError(f"monitor={monitor!r} is no metric of this run; there are {known}")
        is_loss = monitor.endswith("loss")
        sign = -1 if any(word in monitor for word in _LARGER_IS_BETTER) and not is_loss else 1
        earlier = [sign * past.metrics[monitor] for past in self.run.epochs]
        known_best = min((value for value in earlier if not math.isnan(value)), default=math.nan)
        # The first is the best so far, whatever it is; after that any number is better than NaN.
        is_better = math.isnan(known_best) or sign * epoch.metrics[monitor] < known_best
        return not earlier or (is_better and not math.isnan(epoch.metrics[monitor]))


def _call(function: Callable[[], T], *datasets: H5Dataset | None) -> T:
    """Call Keras; if a data set failed, raise its own error, for which TensorFlow puts another."""
    for dataset in datasets:
        if dataset is not None:
            dataset.error = None
    try:
        return function()
    except Exception as error:
        for dataset in datasets:
            if dataset is not None and dataset.error is not None and dataset.error is not error:
                raise dataset.error from error
        raise
    finally:
        for dataset in datasets:
            if dataset is not None:
                dataset.release()  # TensorFlow keeps what it was given, threads and windows with it


def _parts(data: Data) -> tuple[H5Dataset, H5Dataset | None, H5Dataset | None]:
    """Return what to train, validate and test on."""
    if isinstance(data, H5Dataset):
        return data, None, None
    return data.train, data.validation, data.test


def _choose(data: Data, role: str) -> H5Dataset:
    if isinstance(data, H5Dataset):
        return data
    found: H5Dataset | None = getattr(data, role)
    if found is None:
        raise RunError(f"the data module has no {role} data; give H5DataModule {role}=")
    return found


def _rows_per_epoch(dataset: H5Dataset) -> int:
    start, stop = dataset.plan.shard_bounds
    return len(dataset) * dataset.batch_size if dataset.plan.drop_last else stop - start


def _describe_data(data: Data) -> dict[str, Any]:
    return data.config() if isinstance(data, H5DataModule) else {"described": data.describe()}
