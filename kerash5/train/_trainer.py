"""The trainer: trains a Keras model on HDF5 data, and writes the run to one folder.

The model stays a `keras.Model` that can still `compile`, `fit` and `save`. Options have the names
of Lightning's Trainer if they mean the same.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, final

import keras
from rich.console import Console

from kerash5._errors import OptionError, RunError
from kerash5._keywords import FIT_WORDS, TRAINER_WORDS, documents, names_keywords, takes
from kerash5._options import TrainerOptions
from kerash5._run import Metrics, Run
from kerash5.distributed import check_single_writer
from kerash5.feeds._class_names import check_trained_classes, remember_classes
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._keras_group import check_trainer
from kerash5.feeds._keras_labels import check_labels
from kerash5.feeds._keras_structure import check_structure
from kerash5.feeds._scale import settle_scale
from kerash5.feeds._served import served_by
from kerash5.feeds.labels._keras_last_batch import check_padded_call
from kerash5.feeds.passes._keras_position import Task
from kerash5.report import BatchSizes, LearningRates
from kerash5.train._fit import Session
from kerash5.train._fit_parts import make_parts
from kerash5.train._predict import predict_padded, predict_to_file
from kerash5.train._settings import parse_settings
from kerash5.train.engines.common._logs import read_metrics
from kerash5.train.engines.common._private import bare_test_batches
from kerash5.train.engines.common._weights import ClassWeight
from kerash5.train.loop._data import (
    Data,
    balance_weights,
    call_keras,
    check_has_labels,
    choose,
    first_batches,
    parts,
)
from kerash5.train.loop._model_checks import (
    check_compiled,
    check_monitor,
    check_precision,
    check_shapes,
)
from kerash5.train.loop._optimizer import tuned
from kerash5.train.search._batch_size import SearchOptions, find_batch_size
from kerash5.train.search._lr_find import find_learning_rate


@final
@documents(TrainerOptions)
class Trainer:
    """Trains, validates and tests a Keras model on HDF5 data, and predicts with it.

    Attributes:
        settings: The options, checked and parsed.
        notes: Further entries for the run's config.yaml: plain values by name.
        console: The console for progress and messages; it writes to stderr.

    Raises:
        OptionError: An option is invalid; the message names it.

    Examples:
        >>> run = Trainer(max_epochs=2, run_dir="runs/digits").fit(model, data)
        >>> run.status, len(run.epochs)
        ('done', 2)
    """

    @takes(TrainerOptions, "Trainer", cures=TRAINER_WORDS)
    def __init__(self, options: TrainerOptions) -> None:
        self.settings = parse_settings(options)
        self.notes: dict[str, Any] = {}
        self.console = Console(stderr=True)
        self._session: Session | None = None

    def __repr__(self) -> str:
        """Return the options that were given."""
        defaults = {each.name: each.default for each in fields(TrainerOptions)}
        asked = {name: value for name, value in self.settings.asked.items() if value is not None}
        shown = [f"{name}={value!r}" for name, value in asked.items() if value != defaults[name]]
        return f"Trainer({', '.join(shown)})"

    @names_keywords("Trainer.fit", cures=FIT_WORDS)
    def fit(
        self,
        model: keras.Model,
        data: Data,
        validation: H5Dataset | None = None,
        *,
        resume: str | os.PathLike[str] | None = None,
        class_weight: ClassWeight | Literal["balanced"] | None = None,
    ) -> Run:
        """Train the model, and validate it after each epoch if there are validation data.

        The model then has the weights of the last step, or their averages with `ema_momentum`;
        `test` uses these. `load_model` and `kerash5 test` use the best epoch's.

        Args:
            model: A compiled Keras model.
            data: A data module with the training and validation data, or the training data set.
            validation: The validation data set, if `data` is a data set; None for no validation.
            resume: None starts a new run. "auto" continues the unfinished run in `run_dir`, with
                the same results as if it had not been stopped; it starts a new run if there is
                none, and does not train if the run is finished, unless `max_epochs`, `max_steps` or
                `max_time` is larger than before and no callback stopped the run. "last" and "best"
                continue from the newest or the best checkpoint in `run_dir`. The path of a
                checkpoint or a run starts a new run from that state. "force" is like "auto", but
                also continues if data or settings have changed, if that is possible.
            class_weight: A dict of class number -> weight of its rows in the loss, as in Keras'
                `fit`. "balanced" weights a class with `count` of the n training rows by n / (number
                of classes * count), as in scikit-learn; the trainer prints the weights. None
                weights all rows equally.

        Returns:
            The results of the run. They are also in the run's folder, from the first step on.

        Raises:
            RunError: The run to resume had other data or another model, or the loss has become NaN
                or infinite.
            KeyboardInterrupt, SystemExit: After SIGINT or SIGTERM, when the current step is
                finished and the state is saved; a second signal stops immediately.
            KerasH5Error: The model is not compiled, its shapes or classes do not fit the training,
                validation or test data, or reading fails. The run's folder records the progress up
                to any error.
        """
        train, validated, test = parts(data, validation)
        check_padded_call(train.plan, class_weight=class_weight)
        if class_weight == "balanced":
            class_weight = balance_weights(train)
            shown = ", ".join(f"{number}: {weight:.4g}" for number, weight in class_weight.items())
            self.console.print(f"class weights: {shown}", highlight=False, soft_wrap=True)
        elif isinstance(class_weight, str):
            raise OptionError(f"class_weight={class_weight!r}; give a dict, 'balanced' or None")
        if self.settings.limits.validation_batches == 0:
            validated = None
        monitor = self.settings.monitor or ("loss" if validated is None else "val_loss")
        check_monitor(monitor, is_validated=validated is not None)
        check_trainer("Trainer.fit", model, train, validated)
        # A test file without labels can still be predicted; `test` raises an error for it.
        is_labelled = served_by(train).has_labels
        is_tested = test is not None and (served_by(test).has_labels or not is_labelled)
        self._check(model, train, validated, test if is_tested else None)
        remember_classes(model, train)
        with tuned(model, self.settings.optimizer):
            fit = make_parts(
                self.settings,
                model,
                data,
                validation,
                monitor=monitor,
                notes=self.notes,
                console=self.console,
                resume=resume,
                class_weight=class_weight,
            )
            self._session = Session(fit)
            self._session.train()
        return self._session.run

    def validate(self, model: keras.Model, data: Data) -> Metrics:
        """Return the metrics on `data.validation`, or on `data` if it is a data set.

        It uses the batches that `fit` validates on: `limit_val_batches` of them.
        """
        dataset = choose(data, "validation")
        count = self.settings.limits.validation_steps(len(dataset))
        if not count:
            raise OptionError(
                "limit_val_batches=0 switches validation off; validate with a Trainer without it"
            )
        return self._evaluate(model, first_batches(dataset, count))

    def test(self, model: keras.Model, data: Data) -> Metrics:
        """Return the metrics on `data.test`, or on `data` if it is a data set.

        After `fit` of the same model they are also saved in the run.
        """
        dataset = choose(data, "test")
        check_has_labels(data, dataset)
        dataset = first_batches(dataset, self.settings.limits.test_steps(len(dataset)))
        metrics = self._evaluate(model, dataset)
        if self._session is not None and self._session.model is model:
            self._session.save(test=metrics)
        return metrics

    def predict(
        self,
        model: keras.Model,
        data: Data,
        *,
        out: str | os.PathLike[str] | None = None,
        name: str = "prediction",
        class_ids: bool = False,
        overwrite: bool = False,
    ) -> Any:  # noqa: ANN401  an array, nearly always
        """Return the model's predictions for `data.test`, or for `data` if it is a data set.

        Args:
            model: A Keras model; it need not be compiled.
            data: A data module or a data set.
            out: An HDF5 file to write the predictions to, batch by batch, so that they need not fit
                in memory; its path is returned instead. The file appears when it is complete.
            name: Name of the column in `out`; for a model with several outputs, of the group of
                their columns.
            class_ids: Also write the id of the largest output of each row to `out`, as NAME_class.
            overwrite: Replace an existing file.

        Returns:
            An array of shape (rows, *output_shape) in the stored order, or a list or dict of such
            arrays for a model with several outputs; the path, if `out` is given.

        Raises:
            FileError: The file exists, or cannot be written; no partial file is left.
            OptionError: Several processes would each write all rows.
        """
        dataset = choose(data, "test")
        settle_scale(model, dataset)
        check_trained_classes(model, dataset, has_y=False)
        check_structure(model, dataset, "predict")
        check_shapes(model, dataset)
        if out is None:
            if class_ids:
                raise OptionError("class_ids=True goes with out=; on arrays, .argmax(axis=-1)")
            if dataset.plan.drop_last == "pad":
                return predict_padded(model, dataset)
            return call_keras(lambda: model.predict(dataset, verbose=0), dataset)
        if dataset.plan.shard[1] == 1:  # a shard writes rows of its own
            check_single_writer("Trainer.predict(out=)")
        return predict_to_file(
            model, dataset, out, name=name, class_ids=class_ids, overwrite=overwrite
        )

    def lr_find(
        self,
        model: keras.Model,
        data: Data,
        *,
        min_lr: float = 1e-8,
        max_lr: float = 1.0,
        num_training: int = 100,
    ) -> LearningRates:
        """Search for a good learning rate: train a few steps with a rate that grows at each step.

        Afterwards the model's weights and its optimizer are restored, bit for bit.

        Args:
            model: A compiled Keras model.
            data: A data module, or the training data set.
            min_lr: Learning rate of the first step.
            max_lr: Learning rate of the last step; the search ends earlier if the loss diverges.
            num_training: Number of steps.

        Returns:
            The loss for each learning rate. `suggestion` is the suggested rate, `plot(path)` draws
            the curve.
        """
        train, _, _ = parts(data)
        check_trainer("Trainer.lr_find", model, train)
        self._check(model, train)
        return find_learning_rate(
            model, train, min_lr=min_lr, max_lr=max_lr, num_training=num_training
        )

    def batch_size_find(
        self,
        model: keras.Model,
        data: Data,
        *,
        init_val: int = 32,
        max_val: int | None = None,
        steps_per_trial: int = 3,
        max_trials: int = 20,
        memory_limit: float | str | None = None,
        seconds_per_trial: float = 600.0,
    ) -> BatchSizes:
        """Search for the largest batch size that fits in memory, and for the fastest one.

        Sizes double until one fails, then the interval is bisected. Each trial runs in its own
        process, so that running out of memory is harmless. The model is not changed.

        Args:
            model: A compiled Keras model that can be saved.
            data: A data module, or the training data set.
            init_val: The first batch size tried.
            max_val: The largest batch size tried; None: the number of training rows.
            steps_per_trial: Number of measured steps per trial, after one that compiles.
            max_trials: Maximum number of trials.
            memory_limit: Memory limit of a trial's process: bytes, "4GB", or a fraction of free
                memory; None: 90 % of free memory. The memory of a GPU is a further limit.
            seconds_per_trial: Time limit of a trial, in seconds; a trial that takes longer counts
                as failed.

        Returns:
            The trials, with `largest`, `fastest` and `plot(path)`.
        """
        train, _, _ = parts(data)
        self._check(model, train)
        options = SearchOptions(
            init_val, max_val, steps_per_trial, max_trials, memory_limit, seconds_per_trial
        )
        is_shown = self.settings.enable_progress_bar
        return find_batch_size(
            model,
            train,
            options,
            lambda trial: (
                self.console.print(trial.describe(), highlight=False, markup=False)
                if is_shown
                else None
            ),
        )

    @property
    def run(self) -> Run | None:
        """The run of the last `fit`, with the test metrics if it was tested; None before."""
        return self._session.run if self._session else None

    @property
    def callback_metrics(self) -> Metrics:
        """The metrics of the last epoch of the last `fit`, by name; empty before."""
        epochs = self._session.run.epochs if self._session else ()
        return dict(epochs[-1].metrics) if epochs else {}

    def save_checkpoint(self, path: str | os.PathLike[str]) -> str:
        """Copy the last checkpoint of the last `fit`, with everything needed for an exact resume.

        `fit(..., resume=path)` starts a new run from it. To save only the model, use `model.save`.

        Args:
            path: The folder to create; it must not exist.

        Returns:
            The path of the folder.

        Raises:
            RunError: `fit` was not called yet, or wrote no checkpoints.
            FileError: The folder exists, or cannot be written; no partial copy is left.
        """
        if self._session is None:
            raise RunError("save_checkpoint before fit: there is nothing to save; call fit first")
        return str(self._session.copy_checkpoint(Path(path)))

    def config(self) -> dict[str, Any]:
        """Return the options in their form in config.yaml."""
        return dict(self.settings.asked)

    def _check(
        self, model: keras.Model, data: H5Dataset, *others: H5Dataset | None, task: Task = "fit"
    ) -> None:
        """Check that `data` fit the model and the task, and that `others` can be evaluated."""
        check_compiled(model)
        check_precision(model, self.settings.precision)
        for dataset in (data, *others):
            if dataset is not None:
                settle_scale(model, dataset)
                check_structure(model, dataset, task if dataset is data else "evaluate")
                check_shapes(model, dataset)
                check_labels(model, dataset)

    def _evaluate(self, model: keras.Model, dataset: H5Dataset) -> Metrics:
        self._check(model, dataset, task="evaluate")
        with bare_test_batches(model):
            found = call_keras(
                lambda: model.evaluate(dataset, verbose=0, return_dict=True), dataset
            )
        return read_metrics(found)
