"""The objects that one fit consists of, made from the options of the trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final

import keras
from rich.console import Console

from kerash5._backends import environment
from kerash5._run import Run
from kerash5.feeds._class_names import class_names_of
from kerash5.feeds._keras import H5Dataset
from kerash5.train._determinism import make_deterministic
from kerash5.train._monitored import MonitoredMetric
from kerash5.train._record import RunRecord
from kerash5.train._settings import Settings
from kerash5.train.checkpoints._resume import Resume, ResumePoint, find_resume_point
from kerash5.train.checkpoints._run_dir import wanted_path
from kerash5.train.checkpoints._snapshot import epochs_of
from kerash5.train.engines import make_engine
from kerash5.train.engines.common._weights import ClassWeight
from kerash5.train.loop._callbacks import Hooks
from kerash5.train.loop._data import Data, describe_data, parts
from kerash5.train.loop._loop import Loop
from kerash5.train.loop._optimizer import lend_weights
from kerash5.train.loop._signals import Signals
from kerash5.train.loop._validation import StopEvaluating, Validation, make_validation
from kerash5.train.state._state import ModelState, count_parameters


@final
@dataclass(frozen=True, slots=True)
class FitParts:
    """One fit before its first step. Made by `make_parts`, which locks the folder of the run.

    Args:
        settings: The options of the trainer.
        model: A compiled model.
        train: The training data.
        validation: The evaluation of the validation data; None if there are none.
        class_weight: Class number -> weight, as in Keras' `fit`.
        signals: The signals that stop the fit.
        monitored: The metric by which the best epoch is chosen.
        hooks: The callbacks.
        loop: The loop over the batches.
        start: Where the fit begins, with the folder of the run.
        current: The state of the model.
        record: The run, in memory and in its folder.
        console: The console for messages.
    """

    settings: Settings
    model: keras.Model
    train: H5Dataset
    validation: Validation | None
    class_weight: ClassWeight | None
    signals: Signals
    monitored: MonitoredMetric
    hooks: Hooks
    loop: Loop
    start: ResumePoint
    current: ModelState
    record: RunRecord
    console: Console

    def say(self, line: str) -> None:
        """Print a message."""
        _say(self.console, line)


def make_parts(
    settings: Settings,
    model: keras.Model,
    data: Data,
    validation: H5Dataset | None = None,
    *,
    monitor: str,
    notes: Mapping[str, Any],
    console: Console,
    resume: Resume = None,
    class_weight: ClassWeight | None = None,
) -> FitParts:
    """Make the objects of a fit.

    Args:
        settings: The options of the trainer.
        model: A compiled model.
        data: Data that were checked against the model.
        validation: The validation data, if `data` is a training data set.
        monitor: The metric by which the best epoch is chosen.
        notes: Further entries of config.yaml.
        console: The console for messages.
        resume: Where to begin, as in `Trainer.fit`.
        class_weight: Class number -> weight, as in Keras' `fit`.
    """
    if settings.deterministic:
        make_deterministic()
    signals, limits = Signals(), settings.limits
    train, validated, _ = parts(data, validation)
    lend = lend_weights(model, settings.optimizer)
    evaluation = make_validation(model, validated, limits, signals, lend)
    monitored = MonitoredMetric(monitor, settings, lambda line: _say(console, line))
    hooks = Hooks(
        [*settings.callbacks, *monitored.early_stopping, StopEvaluating(signals)],
        model,
        num_epochs=limits.num_epochs(len(train)),
        num_steps=limits.steps_per_epoch(len(train)),
    )
    engine = make_engine(
        model, steps_per_dispatch=settings.steps_per_dispatch, class_weight=class_weight
    )
    loop = Loop(
        model,
        train,
        validate=None if evaluation is None else lambda: evaluation.run(hooks.list),
        engine=engine,
        hooks=hooks,
        limits=limits,
        lend=lend,
    )
    asked = tempfile.mkdtemp() if settings.is_dev_run else settings.run_dir
    start = find_resume_point(resume, wanted_path(asked, model.name))
    config = {**notes, "data": describe_data(data, validation), "trainer": dict(settings.asked)}
    checkpoint = start.checkpoint
    record = RunRecord(
        _first_run(model, train, start, monitor=monitor, config=config),
        start.run_dir,
        seconds=0.0 if checkpoint is None else checkpoint.state["seconds"],
        lend=lend_weights(model, settings.optimizer, settings.callbacks),
        mode=settings.mode,
    )
    return FitParts(
        settings=settings,
        model=model,
        train=train,
        validation=evaluation,
        class_weight=class_weight,
        signals=signals,
        monitored=monitored,
        hooks=hooks,
        loop=loop,
        start=start,
        current=ModelState(model, lambda: loop.engine.captured),
        record=record,
        console=console,
    )


def _first_run(
    model: keras.Model,
    train: H5Dataset,
    start: ResumePoint,
    *,
    monitor: str,
    config: Mapping[str, Any],
) -> Run:
    """Return the run before the first step, with the epochs of its earlier parts."""
    earlier, checkpoint = start.earlier, start.checkpoint
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(
        model=model.name,
        backend=keras.backend.backend(),
        num_parameters=count_parameters(model),
        run_dir=str(start.run_dir.path),
        started=now if earlier is None else earlier.started,
        epochs=() if checkpoint is None else epochs_of(checkpoint),
        best_epoch=None if checkpoint is None else checkpoint.state["best_epoch"],
        monitor=monitor,
        config=config,
        environment=environment(),
        class_names=dict(class_names_of(train)),
    )


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
