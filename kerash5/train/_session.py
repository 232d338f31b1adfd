"""One call of `Trainer.fit`: the run as it grows, and the folder it is kept in."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, final

import keras
from rich.console import Console

from kerash5._backends import environment
from kerash5._run import Epoch, Metrics, Run
from kerash5.train._best import is_best, is_larger_better, rank
from kerash5.train._checkpoint import Checkpoint
from kerash5.train._determinism import make_deterministic
from kerash5.train._fingerprint import fingerprint, name_differences
from kerash5.train._hooks import Hooks
from kerash5.train._keeper import Keeper
from kerash5.train._listen import Listener, Progress
from kerash5.train._logging import Logging
from kerash5.train._loop import Loop
from kerash5.train._nonfinite import LossWatch
from kerash5.train._optimizer import averaged_weights
from kerash5.train._profile import Profile, SimpleProfiler, Tracer
from kerash5.train._progress import ProgressBar
from kerash5.train._random import kept_random_state
from kerash5.train._resume import Resume, Start, find_start
from kerash5.train._roles import Data, call_keras, describe_data, first_batches, parts
from kerash5.train._run_dir import BEST_WEIGHTS, LAST_WEIGHTS, RunDir, wanted_path
from kerash5.train._settings import Settings
from kerash5.train._signals import Signals
from kerash5.train._snapshot import (
    Record,
    compare,
    epochs_of,
    force_back,
    position_of,
    put_back,
    take_record,
    take_snapshot,
)
from kerash5.train.engines import make_engine


@final
class _StopEvaluating(keras.callbacks.Callback):
    """Breaks an evaluation off when a signal has come: it will be made again."""

    async_safe = True  # it may hear of a batch late

    def __init__(self, signals: Signals) -> None:
        super().__init__()
        self._signals = signals

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look whether one has come."""
        if self._signals.caught is not None:
            self._model.stop_evaluating = True  # not `self.model`, which JAX answers with a sync


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
        resume: Where to begin; as in `Trainer.fit`.
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
        resume: Resume = None,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        if settings.deterministic:
            make_deterministic()
        self.model = model
        self._settings = settings
        self._console = console
        self._class_weight = class_weight
        self._signals = Signals()
        self._began = time.perf_counter()
        self._seconds_before = 0.0
        self._before_hooks: Record | None = None
        self._fingerprint: dict[str, Any] = {}
        self._is_begun = False
        limits = settings.limits
        self._train, validation, _ = parts(data)
        count = 0 if validation is None else limits.validation_steps(len(validation))
        self._validation = first_batches(validation, count) if validation and count else None
        num_steps = limits.steps_per_epoch(len(self._train))
        self._hooks = Hooks(
            [*settings.callbacks, *self._early_stopping(monitor), _StopEvaluating(self._signals)],
            model,
            num_epochs=limits.max_epochs,
            num_steps=num_steps,
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
        asked = tempfile.mkdtemp() if settings.is_dev_run else settings.run_dir
        self._start = find_start(resume, wanted_path(asked, model.name))
        self._run_dir: RunDir = self._start.run_dir
        kept = settings.checkpoints
        self._keeper = Keeper(self._run_dir.checkpoints, kept, self._capture) if kept else None
        self.every_steps = kept.every_steps if kept else None
        self._loss = LossWatch(self._loop, self._train, self._run_dir.checkpoints)
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
        """Train to the end, or note why not; then let go of the folder."""
        try:
            if not self._is_finished():
                with self._signals:
                    self._train_noting_errors()
        finally:
            self._run_dir.lock.release()
            if self._settings.is_dev_run:
                shutil.rmtree(self._run_dir.path, ignore_errors=True)
                self.run = replace(self.run, run_dir="")

    def save(self, **changes: Any) -> None:  # noqa: ANN401  fields of `Run`
        """Change the run, here and in its folder."""
        self.run = replace(self.run, **changes)
        if self.run.run_dir:
            self.run.save(self._run_dir.path)

    # What the loop tells.

    def after_steps(self, progress: Progress) -> None:
        """Stop if a signal or the clock says so; save if that is due."""
        limit = self._settings.limits.max_seconds
        if self._signals.caught is not None:
            self._loop.stop_reason = "asked"
        elif limit is not None and self._seconds() >= limit:
            self._loop.stop_reason = self._loop.stop_reason or "max_time"
        self._loss.look(progress)
        if self._keeper is not None and self._keeper.is_due(progress.step):
            self._save_checkpoint()

    def end_epoch(self, epoch: Epoch) -> None:
        """Keep what the epoch did."""
        self._loss.check(epoch.metrics)
        self._before_hooks = self._record()
        is_better = self._is_best(epoch)
        if is_better:
            self._keep(self._save_best)
        self._save_timed(
            epochs=(*self.run.epochs, epoch),
            best_epoch=epoch.epoch if is_better else self.run.best_epoch,
        )

    def after_epoch(self, progress: Progress) -> None:
        """Save, if that costs little or the epoch is one of the best."""
        self._before_hooks = None
        if self._signals.caught is not None:
            self._loop.stop_reason = "asked"
        if self._keeper is None or self._loop.is_over:  # at the end one is saved in any case
            return
        if self._keeper.is_worthwhile(ranked := self._rank()):
            self._loop.engine.sync()
            self._keeper.save(ranked)

    # From beginning to end.

    def _train_noting_errors(self) -> None:
        try:
            self._run_dir.begin(self.run, self.model)
            self._begin()
            self._loop.run()
            self._finish()
        except BaseException as error:
            is_stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            self._rescue()
            status = "stopped" if is_stopped else "failed"
            said = f"{type(error).__name__}: {error}"
            self._keep(lambda: self._save_timed(status=status, error=said))
            raise
        finally:
            for watcher in self._watchers:
                watcher.close()
            self._train.release()
        self._save_timed(status="done")

    def _begin(self) -> None:
        """Make every variable there will be, say what is to be trained, and find the first step."""
        is_known = self.model.built
        if is_known:  # once the optimizer is built, a summary counts its variables as parameters
            self._summarize()
        self._loop.engine.build(self._loop.first_batch())
        if not is_known:
            self._summarize()
        self._fingerprint = fingerprint(
            self.model, self._train, self._settings.limits, self._class_weight
        )
        self._run_dir.remove(LAST_WEIGHTS)  # of an earlier part: from now on they are older ones
        self._run_dir.save_model(self.model)  # one that learns its shapes has just learned them
        self.save(num_parameters=self.model.count_params())
        if (cost := self._hooks.describe()) is not None:
            self._say(cost)
        self._loop.listeners = (self, *self._watchers)
        checkpoint = self._start.checkpoint
        if checkpoint is None:
            self._sanity_check()
            self._hooks.begin_training()
        else:
            self._go_on(self._start, checkpoint)
        self._is_begun = True
        is_new = checkpoint is None or checkpoint.path not in self._run_dir.checkpoints.paths()[:1]
        if self._keeper is not None and is_new:
            self._keeper.save()

    def _go_on(self, start: Start, checkpoint: Checkpoint) -> None:
        """Put everything back to where the checkpoint was."""
        found = compare(checkpoint, self._fingerprint, is_forced=start.is_forced)
        position = position_of(checkpoint, self._fingerprint)
        self._loop.position = position
        self._hooks.begin_training()
        if position.index:  # hooks of the epoch's begin run before, not after what they change
            self._loop.begin_epoch()
        if found:
            left = force_back(self.model, self._hooks.callbacks, checkpoint)
            anew = f"; begun anew: {', '.join(left)}" if left else ""
            self._say(f"going on in spite of differences: {name_differences(found)}{anew}")
        else:
            put_back(self.model, self._hooks.callbacks, checkpoint)
        state = checkpoint.state
        self._seconds_before = state["seconds"]
        earlier = start.earlier
        self._save_timed(
            epochs=epochs_of(checkpoint),
            best_epoch=state["best_epoch"],
            started=self.run.started if earlier is None else earlier.started,
        )
        self._say(f"going on from {str(checkpoint.path)!r}, after step {self._loop.step}")

    def _finish(self) -> None:
        if self._loop.stop_reason == "asked":
            raise self._signals.error()
        if self._keeper is not None:
            self._loop.engine.sync()
            self._keeper.save(self._rank())
        optimizer = self.model.optimizer
        optimizer.finalize_variable_values(self.model.trainable_variables)
        self._hooks.end_training(self._loop.logs)
        self._is_begun = False
        self._keep(lambda: self._run_dir.save_weights(self.model, LAST_WEIGHTS))

    def _is_finished(self) -> bool:
        """Say whether the run has nothing left to do; then the model gets its weights."""
        earlier, checkpoint = self._start.earlier, self._start.checkpoint
        if earlier is None or earlier.status != "done" or checkpoint is None:
            return False
        state = checkpoint.state
        self._loop.position = position_of(checkpoint, state["fingerprint"])
        limit = self._settings.limits.max_seconds
        is_over = (
            self._loop.is_over
            or state["stop_reason"] == "callback"
            or (limit is not None and state["seconds"] >= limit)
        )
        if is_over:
            self._say(f"the run in {str(self._run_dir.path)!r} is finished; nothing to train")
            self._loop.engine.build(self._train.read(0))  # the optimizer's weights are there too
            self._run_dir.load_weights(self.model, LAST_WEIGHTS)
            self.run = earlier
        return is_over

    def _rescue(self) -> None:
        """Save the last state that is whole, whatever has gone wrong."""
        is_whole = self._loop.is_between_steps and not self._loss.is_lost
        if not self._is_begun or not is_whole:
            return
        try:
            self._loss.check(self._loop.engine.metrics())
            self._loop.engine.sync()
            if self._keeper is not None:
                self._keeper.save()
            self._run_dir.save_weights(self.model, LAST_WEIGHTS)
        except Exception as error:  # noqa: BLE001  the first error is the one to raise
            warnings.warn(f"the state could not be saved ({error})", stacklevel=2)

    # Details.

    def _capture(self) -> tuple[Checkpoint, int]:
        record = self._before_hooks or self._record()
        stop_reason = self._loop.stop_reason
        snapshot = take_snapshot(
            self.model,
            self._loop.position,
            record,
            step=self._loop.step,
            stop_reason=stop_reason,
            fingerprint=self._fingerprint,
        )
        return snapshot, self._loop.step

    def _save_checkpoint(self) -> None:
        """Save within an epoch; never a state that is lost."""
        if self._keeper is not None:
            self._loss.check(self._loop.engine.metrics())
            self._loop.engine.sync()
            self._keeper.save()
            self._loop.engine.begin()

    def _record(self) -> Record:
        return take_record(
            self.model,
            self._hooks.callbacks,
            epochs=self.run.epochs,
            best_epoch=self.run.best_epoch,
            seconds=self._seconds(),
        )

    def _sanity_check(self) -> None:
        """Validate on a few batches first, so that what is wrong there is known at once."""
        steps = self._settings.limits.sanity_steps
        if steps and self._validation is not None:
            few = first_batches(self._validation, steps)
            with kept_random_state():
                call_keras(lambda: self.model.evaluate(few, verbose=0), few)

    def _validate(self) -> Metrics | None:
        # PyTorch's loader draws a number: an evaluation that is made again must change nothing.
        with averaged_weights(self.model), kept_random_state():
            found = call_keras(
                lambda: self.model.evaluate(
                    self._validation, verbose=0, return_dict=True, callbacks=self._hooks.list
                ),
                self._validation,
            )
        if self._signals.caught is not None:  # broken off, or about to be
            self._loop.stop_reason = "asked"
            return None
        return {name: float(value) for name, value in found.items()}

    def _save_best(self) -> None:
        with averaged_weights(self.model):
            self._run_dir.save_weights(self.model, BEST_WEIGHTS)

    def _early_stopping(self, monitor: str) -> list[keras.callbacks.Callback]:
        patience = self._settings.early_stopping
        if patience is None:
            return []
        mode = "max" if is_larger_better(monitor) else "min"
        return [keras.callbacks.EarlyStopping(monitor, patience=patience, mode=mode)]

    def _rank(self) -> float:
        """Return the rank of the last epoch; NaN where it has none."""
        last = self.run.epochs[-1:]
        has_rank = bool(last) and self.run.monitor in last[0].metrics
        return rank(self.run.monitor, last[0]) if has_rank else math.nan

    def _is_best(self, epoch: Epoch) -> bool:
        monitor, is_cut = self.run.monitor, self._loop.stop_reason == "callback"
        if is_cut and monitor not in epoch.metrics:  # stopped at once, and never validated
            return not self.run.epochs
        return is_best(monitor, epoch, self.run.epochs)

    def _keep_profile(self, profile: Profile) -> None:
        self.save(profile=profile.to_plain())
        self._say(profile.describe())

    def _keep(self, write: Callable[[], object]) -> None:
        """Write what the run can do without; where that fails, warn and train on."""
        try:
            write()
        except OSError as error:
            warnings.warn(
                f"{str(self._run_dir.path)!r} cannot be written to ({error}); training goes on",
                stacklevel=2,
            )

    def _summarize(self) -> None:
        if self._settings.enable_model_summary:
            self.model.summary(print_fn=lambda line, **_: self._say(line))

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._began

    def _save_timed(self, **changes: Any) -> None:  # noqa: ANN401  fields of `Run`
        self.save(seconds=self._seconds(), **changes)
