"""One call of `Trainer.fit`: trains the model and writes the run to its folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from kerash5._errors import RunError
from kerash5._run import Epoch, Run, Status
from kerash5._warnings import warn
from kerash5.batches._batches import Batch
from kerash5.feeds._keras_labels import check_batch, check_labels
from kerash5.feeds._keras_structure import check_batch_structure
from kerash5.feeds._scale import describe_scale
from kerash5.feeds._served import served_by
from kerash5.train._fit_parts import FitParts
from kerash5.train._fit_state import FitState
from kerash5.train._nonfinite import LossWatch
from kerash5.train.checkpoints._checkpoint import copy_checkpoint
from kerash5.train.checkpoints._manager import CheckpointManager
from kerash5.train.checkpoints._run_dir import (
    BEST_BEFORE_TRUNCATION,
    LAST_WEIGHTS,
    unsaved,
)
from kerash5.train.checkpoints._snapshot import (
    position_of,
)
from kerash5.train.engines.common._private import bare_test_batches
from kerash5.train.loop._device_cache import put_rows_on_device
from kerash5.train.loop._events import EventHandler, Progress
from kerash5.train.loop._model_checks import check_scalar_monitor
from kerash5.train.loop._optimizer import finalize
from kerash5.train.loop._position import Position
from kerash5.train.monitors._logging import Logging
from kerash5.train.monitors._profile import Profile, SimpleProfiler, Tracer
from kerash5.train.monitors._progress import ProgressBar
from kerash5.train.state._state import count_parameters


@final
class Session(EventHandler):
    """Trains a model once.

    Args:
        parts: The objects of the fit.
    """

    def __init__(self, parts: FitParts) -> None:
        self.model = parts.model
        self._parts = parts
        self._settings = parts.settings
        self._train = parts.train
        self._signals = parts.signals
        self._hooks = parts.hooks
        self._loop = parts.loop
        self._start = parts.start
        self._run_dir = parts.start.run_dir
        self._current = parts.current
        self._record = parts.record
        self._monitored = parts.monitored
        self._say = parts.say
        self._state = FitState(parts)
        self._loss = LossWatch(self._loop, self._train, self._current, self._run_dir.checkpoints)
        kept = self._settings.checkpoints
        self._manager = (
            CheckpointManager(self._run_dir.checkpoints, kept, self._state.capture)
            if kept
            else None
        )
        self.every_steps = kept.every_steps if kept else None
        self._watchers = self._make_watchers()
        self._is_begun = False
        self._is_told = False

    @property
    def run(self) -> Run:
        """The current state of the run."""
        return self._record.run

    def train(self) -> None:
        """Train to the end, or record the error; then release the folder."""
        try:
            if not self._is_finished():
                self._refuse_another_fit()
                with self._signals, bare_test_batches(self.model):
                    self._train_noting_errors()
        finally:
            self._run_dir.lock.release()
            if self._settings.is_dev_run:
                shutil.rmtree(self._run_dir.path, ignore_errors=True)
                self._record.run = replace(self.run, run_dir="")

    def save(self, **changes: Any) -> None:  # noqa: ANN401  fields of `Run`
        """Change fields of the run, in memory and in its folder."""
        self._record.save(**changes)

    def copy_checkpoint(self, path: Path) -> Path:
        """Copy the newest checkpoint of the run to a folder of its own.

        Raises:
            RunError: The run has none.
            FileError: The folder exists, or cannot be written; no partial copy is left.
        """
        newest = None if self._manager is None else self._manager.newest
        if newest is None or self._is_begun:
            raise RunError(
                f"the run in {str(self._run_dir.path)!r} has no checkpoint to copy"
                + ("; call save_checkpoint after fit" if self._is_begun else "")
                + "; Trainer(every_n_train_steps=) writes them while it trains"
            )
        return copy_checkpoint(newest, path)

    # Event handlers of the loop.

    def after_steps(self, progress: Progress) -> None:
        """Stop after a signal or at the time limit; save a checkpoint if one is due."""
        limit = self._settings.limits.max_seconds
        if self._signals.caught is not None:
            self._loop.stop_reason = "asked"
        elif limit is not None and self._record.seconds >= limit:
            self._loop.stop_reason = self._loop.stop_reason or "max_time"
        self._print_why_not_faster()
        if not self._monitored.is_sought:
            self._settle_monitor(self._loop.engine.metrics())
        self._loss.look(progress)
        if self._manager is not None and self._manager.is_due(progress.step):
            self._loss.check(self._loop.engine.metrics())  # a non-finite state is never saved
            with self._loop.engine.synced():
                self._manager.save()

    def before_truncation(self) -> None:
        """Capture this state, so that a fit with a larger limit can continue from here exactly."""
        if self._manager is not None:
            self._state.capture_before_truncation()

    def end_epoch(self, epoch: Epoch) -> None:
        """Record the results of the epoch."""
        self._loss.check(epoch.metrics)
        is_validated = self._settings.limits.is_validated(epoch.epoch)
        is_complete = is_validated and self._loop.stop_reason != "callback"
        self._settle_monitor(epoch.metrics, is_complete=is_complete)
        self._state.freeze_counters()
        is_ranked = is_validated or not self.run.monitor.startswith("val_")
        self._record.end_epoch(self.model, epoch, is_ranked=is_ranked)

    def record_epoch(self, epoch: Epoch) -> None:
        """Record what callbacks added to the metrics."""
        self._record.amend_epoch(epoch)

    def after_epoch(self, progress: Progress) -> None:
        """Save a checkpoint if that costs little or the epoch is one of the best."""
        self._state.thaw_counters()
        if self._signals.caught is not None:
            self._loop.stop_reason = "asked"
        if self._manager is None or self._loop.is_over:  # at the end of the run one is always saved
            return
        if self._manager.is_worthwhile(self._record.rank):
            with self._loop.engine.synced():
                self._manager.save(self._record.rank)

    # The steps of a run.

    def _is_finished(self) -> bool:
        """Return whether the run is already finished; if so, load its weights into the model."""
        earlier, checkpoint = self._start.earlier, self._start.checkpoint
        if earlier is None or earlier.status != "done" or checkpoint is None:
            return False
        state = checkpoint.state
        self._loop.position = position_of(checkpoint, state["fingerprint"])
        limit = self._settings.limits.max_seconds
        is_over = (
            self._loop.is_exhausted
            or state["stop_reason"] == "callback"
            or (limit is not None and state["seconds"] >= limit)
        )
        if is_over:
            self._loop.engine.build(self._train.read(0))  # also creates the optimizer's variables
            self._run_dir.load_weights(self.model, LAST_WEIGHTS)
            self._say(f"the run in {str(self._run_dir.path)!r} is finished; nothing to train")
            self._record.run = earlier
        return is_over

    def _refuse_another_fit(self) -> None:
        """Raise if the checkpoint is of another fit, before any file of the folder is changed."""
        if self._start.checkpoint is not None:
            self._build()
            self._state.check_same_fit(self._start.checkpoint)

    def _train_noting_errors(self) -> None:
        try:
            self._run_dir.begin(self.run, self.model)
            self._begin()
            self._loop.run()
            self._finish()
        except BaseException as error:
            is_stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            self._rescue()
            self._end("stopped" if is_stopped else "failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            for watcher in self._watchers:
                watcher.close()
            self._loop.release()
            self._train.release()
        self._end("done")
        if self._signals.caught is not None:  # it came after the last step
            raise self._signals.error()

    def _end(self, status: Status, error: str = "") -> None:
        """Record the status of the run and the engine that ran it."""
        said = {"status": status, "error": error, "engine": self._loop.engine.describe()}
        self._record.keep(lambda: self._record.save_timed(**said))

    def _begin(self) -> None:
        """Create all variables, print the summary, and find the first step."""
        is_known = self.model.built
        if is_known:  # now: once the optimizer is built, its variables would count as parameters
            self._summarize()
        batch = self._build()
        if not is_known:
            self._summarize()
        self._run_dir.remove(LAST_WEIGHTS)  # of an earlier part of the run; outdated from now on
        self._run_dir.save_model(self.model)  # a model with deferred shapes has just been built
        self.save(num_parameters=count_parameters(self.model))
        if (cost := self._hooks.describe()) is not None:
            self._say(cost)
        self._print_why_not_faster()
        self._put_rows_on_device(batch)
        self._loop.event_handlers = (self, *self._watchers)
        is_validated = self._parts.validation is not None
        engine = self._loop.engine
        self._monitor(self._monitored.check(self.model, engine, is_validated=is_validated))
        self._current.python.begin()
        self._print_unsaved()
        checkpoint = self._start.checkpoint
        if checkpoint is not None:
            self._state.restore(checkpoint)
        else:
            if self._parts.validation is not None:
                self._parts.validation.try_out(self._settings.limits.sanity_steps)
            self._begin_anew()
        self._is_begun = True
        is_new = checkpoint is None or checkpoint.path not in self._run_dir.checkpoints.paths()[:1]
        if self._manager is not None and is_new:
            self._manager.save()

    def _settle_monitor(self, metrics: Iterable[str], *, is_complete: bool = False) -> None:
        self._monitor(self._monitored.settle(metrics, is_complete=is_complete))

    def _monitor(self, name: str) -> None:
        self._record.run = replace(self.run, monitor=name)

    def _print_unsaved(self) -> None:
        """Print the state that training changes and checkpoints do not contain."""
        left = self._state.unsaved()
        if left and self._manager is not None:
            named = ", ".join(left)
            verb = "is" if len(left) == 1 else "are"
            self._say(f"{named} {verb} not part of checkpoints; a resumed run starts anew there")

    def _begin_anew(self) -> None:
        """Begin at epoch 0, or where a callback says (`BackupAndRestore` does after a crash)."""
        epoch = self._hooks.begin_training()
        if epoch:
            self._loop.position = Position(epoch)
            self._say(
                f"a callback has the training begin at epoch {epoch}, as in model.fit; "
                "Trainer.fit(..., resume='auto') goes on at the very step instead"
            )

    def _put_rows_on_device(self, batch: Batch) -> None:
        """Put the rows on the device if that is possible."""
        limit, loop = self._settings.device_cache, self._loop
        loop.device_rows, said = put_rows_on_device(
            loop.engine, self._train, limit, batch, loop.most_rows
        )
        if limit:
            self._say(said)

    def _build(self) -> Batch:
        """Create all variables and the fingerprint; return the batch used for it."""
        if not self._settings.is_dev_run:
            served_by(self._train).offer_scratch(self._run_dir.path)
        batch = self._loop.first_batch()
        is_known = self.model.built
        if served_by(self._train).is_transformed:
            check_batch_structure(self.model, batch)
            check_batch(self.model, batch)
        self._loop.engine.build(batch)
        if not is_known:
            self._check_labels(batch)
        check_scalar_monitor(self.model, self.run.monitor)
        self._state.identify()
        return batch

    def _check_labels(self, batch: Batch) -> None:
        """Check labels against the outputs of a model whose output shapes were unknown before."""
        if served_by(self._train).is_transformed:
            check_batch(self.model, batch)
        else:
            check_labels(self.model, self._train)

    def _finish(self) -> None:
        if self._loop.stop_reason == "asked":
            raise self._signals.error()
        is_saved = self.run.best_epoch is not None  # as the best of the epochs that have ended
        if self._manager is not None:
            self._loop.engine.sync()
            is_saved |= self._manager.save(self._record.rank, is_truncated=self._state.is_truncated)
            self._run_dir.remove(BEST_BEFORE_TRUNCATION)
        self._is_begun = False  # averaged weights do not belong in a checkpoint
        finalize(self.model)
        self._hooks.end_training(self._loop.logs)
        is_saved |= self._record.keep(lambda: self._run_dir.save_weights(self.model, LAST_WEIGHTS))
        if not is_saved:
            raise unsaved(self._run_dir.path)

    def _rescue(self) -> None:
        """Save the last consistent state after an error."""
        is_whole = self._loop.is_between_steps and not self._loss.is_lost
        if not self._is_begun or not is_whole:
            return
        try:
            self._loss.check(self._loop.engine.metrics())
            self._loop.engine.sync()
            if self._manager is not None:
                self._manager.save()
            self._run_dir.save_weights(self.model, LAST_WEIGHTS)
        except Exception as error:  # noqa: BLE001  the first error is raised instead
            warn(f"the state could not be saved ({error})")

    # Helpers.

    def _make_watchers(self) -> list[EventHandler]:
        settings = self._settings
        watchers: list[EventHandler] = []
        if settings.profiler == "simple":
            watchers.append(SimpleProfiler(self._train, self._has_device_rows, self._keep_profile))
        elif settings.profiler == "trace":
            watchers.append(Tracer(lambda: self.run.run_dir, self._say))
        watchers.append(Logging(settings.loggers, settings.log_every_n_steps, lambda: self.run))
        if settings.enable_progress_bar:
            watchers.append(ProgressBar(self._parts.console, settings.limits.max_epochs))
        return watchers

    def _print_why_not_faster(self) -> None:
        """Print once why the steps are Keras' own."""
        if not self._is_told and self._loop.engine.why_not_faster is not None:
            self._is_told = True
            self._say(f"steps: {self._loop.engine.describe()}")

    def _has_device_rows(self) -> bool:
        return self._loop.device_rows is not None

    def _keep_profile(self, profile: Profile) -> None:
        self.save(profile=profile.to_plain())
        self._say(profile.describe())

    def _summarize(self) -> None:
        if self._settings.enable_model_summary:
            self.model.summary(print_fn=lambda line, **_: self._say(line))
            if (scale := describe_scale(self.model)) is not None:
                self._say(scale)
