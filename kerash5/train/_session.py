"""One call of `Trainer.fit`: the run as it grows, and the folder it is kept in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, final

import keras
from rich.console import Console

from kerash5._backends import environment
from kerash5._run import Epoch, Metrics, Run
from kerash5.train._best import is_best
from kerash5.train._hooks import Hooks
from kerash5.train._listen import Listener
from kerash5.train._logging import Logging
from kerash5.train._loop import Loop
from kerash5.train._profile import Profile, SimpleProfiler, Tracer
from kerash5.train._progress import ProgressBar
from kerash5.train._roles import Data, call_keras, describe_data, first_batches, parts
from kerash5.train._run_dir import BEST_WEIGHTS, LAST_WEIGHTS, RunDir, make_run_dir
from kerash5.train._settings import Settings
from kerash5.train.engines import make_engine


@final
class Session(Listener):
    """Trains a model once.

    Args:
        settings: What the trainer was asked for.
        model: Compiled.
        data: Checked against the model.
        monitor: The metric that decides which weights are best.
        notes: What else config.yaml shall say.
        console: Where it speaks.
        class_weight: Class number -> weight, as in Keras' `fit`.
    """

    def __init__(
        self,
        settings: Settings,
        model: keras.Model,
        data: Data,
        *,
        monitor: str,
        notes: Mapping[str, Any],
        console: Console,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        self.model = model
        self._settings = settings
        self._console = console
        limits = settings.limits
        self._train, validation, _ = parts(data)
        self._validation = None
        if validation is not None and (count := limits.validation_steps(len(validation))):
            self._validation = first_batches(validation, count)
        self._began = time.perf_counter()
        self._run_dir: RunDir = make_run_dir(settings.run_dir, model.name)
        self._hooks = Hooks(
            settings.callbacks,
            model,
            num_epochs=limits.max_epochs,
            num_steps=limits.steps_per_epoch(len(self._train)),
        )
        self._loop = Loop(
            model,
            self._train,
            validate=None if self._validation is None else self._validate,
            engine=make_engine(
                model, steps_per_dispatch=settings.steps_per_dispatch, class_weight=class_weight
            ),
            hooks=self._hooks,
            limits=limits,
        )
        self._watchers: list[Listener] = [
            Logging(settings.loggers, settings.log_every_n_steps, lambda: self.run)
        ]
        if settings.profile == "simple":
            self._watchers.insert(0, SimpleProfiler(self._train, self._keep_profile))
        elif settings.profile == "trace":
            self._watchers.insert(0, Tracer(lambda: self.run.run_dir, self._say))
        if settings.enable_progress_bar:
            self._watchers.append(ProgressBar(console, limits.max_epochs))
        self.run = Run(
            model=model.name,
            backend=keras.backend.backend(),
            num_parameters=model.count_params() if model.built else 0,
            run_dir=str(self._run_dir.path),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            monitor=monitor,
            config={**notes, "data": describe_data(data), "trainer": dict(settings.asked)},
            environment=environment(),
        )

    def train(self) -> None:
        """Train to the end, or note why not."""
        try:
            self._run_dir.begin(self.run, self.model)
            self._begin()
            self._loop.run()
            self._finish()
        except BaseException as error:
            is_stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            status = "stopped" if is_stopped else "failed"
            self._save_timed(status=status, error=f"{type(error).__name__}: {error}")
            raise
        finally:
            for watcher in self._watchers:
                watcher.close()
            self._train.release()
        self._save_timed(status="done")

    def save(self, **changes: Any) -> None:  # noqa: ANN401  fields of `Run`
        """Change the run, here and in its folder."""
        self.run = replace(self.run, **changes)
        self.run.save(self._run_dir.path)

    def end_epoch(self, epoch: Epoch) -> None:
        """Keep what the epoch did."""
        is_better = self._is_best(epoch)
        self._run_dir.save_weights(self.model, LAST_WEIGHTS)
        if is_better:
            self._run_dir.copy_weights(LAST_WEIGHTS, BEST_WEIGHTS)
        self._save_timed(
            epochs=(*self.run.epochs, epoch),
            best_epoch=epoch.epoch if is_better else self.run.best_epoch,
        )

    def _begin(self) -> None:
        """Make every variable there will be, and say what is about to be trained."""
        is_known = self.model.built
        if is_known:  # once the optimizer is built, a summary counts its variables as parameters
            self._summarize()
        self._loop.engine.build(self._loop.first_batch())
        self._run_dir.save_model(self.model)  # one that learns its shapes has just learned them
        self.save(num_parameters=self.model.count_params())
        if not is_known:
            self._summarize()
        if (cost := self._hooks.describe()) is not None:
            self._say(cost)
        self._sanity_check()
        self._loop.listeners = (self, *self._watchers)
        self._hooks.begin_training()

    def _summarize(self) -> None:
        if self._settings.enable_model_summary:
            self.model.summary(print_fn=lambda line, **_: self._say(line))

    def _finish(self) -> None:
        optimizer = self.model.optimizer
        optimizer.finalize_variable_values(self.model.trainable_variables)
        self._hooks.end_training(self._loop.logs)

    def _sanity_check(self) -> None:
        """Validate on a few batches first, so that what is wrong there is known at once."""
        steps = self._settings.limits.sanity_steps
        if steps and self._validation is not None:
            few = first_batches(self._validation, steps)
            call_keras(lambda: self.model.evaluate(few, verbose=0), few)

    def _validate(self) -> Metrics | None:
        found = call_keras(
            lambda: self.model.evaluate(
                self._validation, verbose=0, return_dict=True, callbacks=self._hooks.list
            ),
            self._validation,
        )
        return {name: float(value) for name, value in found.items()}

    def _is_best(self, epoch: Epoch) -> bool:
        monitor, is_cut = self.run.monitor, self._loop.stop_reason == "callback"
        if is_cut and monitor not in epoch.metrics:  # stopped at once, and never validated
            return not self.run.epochs
        return is_best(monitor, epoch, self.run.epochs)

    def _keep_profile(self, profile: Profile) -> None:
        self.save(profile=profile.to_plain())
        self._say(profile.describe())

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _save_timed(self, **changes: Any) -> None:  # noqa: ANN401  fields of `Run`
        self.save(seconds=time.perf_counter() - self._began, **changes)
