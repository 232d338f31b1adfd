"""The trainer: trains a plain Keras model on H5 data, and keeps all about the run in one folder.

The model stays a `keras.Model` that can still `compile`, `fit` and `save`. Names are Lightning's
where the thing is the same.
"""

from __future__ import annotations

import os
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
from kerash5.feeds._keras_position import Task
from kerash5.feeds._keras_structure import check_structure
from kerash5.feeds._scale import settle_scale
from kerash5.report import BatchSizes, LearningRates
from kerash5.train._fit import Session
from kerash5.train._predict import predict_to_file
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
    """Trains, validates, tests and predicts.

    Attributes:
        settings: The options, checked and parsed.
        notes: What else config.yaml shall say about the run, as plain values by name.
        console: Where progress goes: stderr.

    Raises:
        OptionError: An option makes no sense.

    Example:
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
        """Train the model, and validate it after each epoch if there is data to validate on.

        Args:
            model: A compiled Keras model.
            data: A data module, which holds the rows to train on and to validate on; or the data
                set to train on.
            validation: The data set to validate on, where `data` is a data set.
            resume: None begins a new run. "auto" goes on with the unfinished run in `run_dir`,
                exactly as if it had never been stopped; begins one if there is none; and says so,
                without training, if it is finished. "last" and "best" go on from the newest or the
                best checkpoint there. A path, of a checkpoint or a run, begins a new run from it.
                "force" is "auto" in spite of changed data or settings, where that is possible.
            class_weight: Class number -> weight of its rows in the loss, as in Keras' `fit`.
                "balanced": n / (number of classes * count) for a class of `count` of the n rows
                trained on, as in scikit-learn; the trainer says which they are.

        Returns:
            What the run did and measured. It is also in the run's folder, from the first step on.

        Raises:
            RunError: What shall be resumed was made with other data or another model; or the loss
                has become NaN or infinite.
            KeyboardInterrupt, SystemExit: After SIGINT or SIGTERM, once the step is finished and
                the state is saved; a second signal ends at once.
            KerasH5Error: The model is not compiled, its shapes or classes do not fit the data
                (those to test on included), or reading fails. Whatever is raised, the run's folder
                says how far it came.
        """
        train, validated, test = parts(data, validation)
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
        # A test file without labels can still be predicted; `test` says that it has none.
        is_tested = test is not None and (test.has_labels or not train.has_labels)
        self._check(model, train, validated, test if is_tested else None)
        remember_classes(model, train)
        with tuned(model, self.settings.optimizer):
            self._session = Session(
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
            self._session.train()
        return self._session.run

    def validate(self, model: keras.Model, data: Data) -> Metrics:
        """Return the metrics on `data.validation` (or on the data set given)."""
        return self._evaluate(model, choose(data, "validation"))

    def test(self, model: keras.Model, data: Data) -> Metrics:
        """Return the metrics on `data.test` (or on the data set given).

        After `fit` of this model they are kept in the run as well.
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
        """Return what the model answers for each row of `data.test` (or of the data set given).

        Args:
            model: A Keras model; it need not be compiled.
            data: A data module or a data set.
            out: Write the answers to this HDF5 file as they come, whatever their size, and return
                its path instead. The file appears when it is complete.
            name: Its column; for a model of several outputs, the group of their columns.
            class_ids: Write the id of the largest answer of each row as well, as NAME_class.
            overwrite: Replace an existing file.

        Returns:
            An array of shape (rows, *output_shape) in the stored order, or a list or dict of such
            for a model of several outputs; the path, if `out` is given.

        Raises:
            FileError: The file exists, or cannot be written; nothing is left behind.
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
        """Look for a good learning rate: train shortly, at a rate that grows with each step.

        The model is afterwards what it was before, its weights and its optimizer bit for bit.

        Args:
            model: A compiled Keras model.
            data: A data module, or a data set to train on.
            min_lr: The rate of the first step.
            max_lr: The rate of the last step; the search ends before if the loss explodes.
            num_training: Steps.

        Returns:
            The curve: `suggestion` is the rate to take, `plot(path)` draws it.
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
        """Look for the largest batch size that trains, and for the fastest.

        Sizes double until one fails, then the gap is halved. Each trial is a process of its own,
        which may run out of memory without harm; the model here stays as it is.

        Args:
            model: A compiled Keras model that can be saved.
            data: A data module, or a data set to train on.
            init_val: The first size tried.
            max_val: The largest; None: the number of training rows.
            steps_per_trial: Steps that are measured, after one that compiles.
            max_trials: Trials at the most.
            memory_limit: Of a trial's process: bytes, "4GB", or a fraction of free memory; None: 90
                % of it. (A GPU's own limit holds besides.)
            seconds_per_trial: A trial that takes longer has failed.

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
        """Copy the last checkpoint of the last `fit`: everything that exact resume needs.

        `fit(..., resume=path)` begins a new run from it. For the model alone there is `model.save`.

        Args:
            path: The folder to make; it must not exist.

        Returns:
            The path.

        Raises:
            RunError: Nothing was trained yet, or without checkpoints.
            FileError: The folder exists, or cannot be written; nothing is left behind.
        """
        if self._session is None:
            raise RunError("save_checkpoint before fit: there is nothing to save; call fit first")
        return str(self._session.copy_checkpoint(Path(path)))

    def config(self) -> dict[str, Any]:
        """Return the options as config.yaml holds them."""
        return dict(self.settings.asked)

    def _check(
        self, model: keras.Model, data: H5Dataset, *others: H5Dataset | None, task: Task = "fit"
    ) -> None:
        """Check what is done with `data`, and that `others` can be evaluated."""
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
