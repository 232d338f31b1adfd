"""One call of `Trainer.fit`: trains the model and writes the run to its folder."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import keras
from rich.console import Console

from kerash5._backends import environment
from kerash5._errors import RunError
from kerash5._run import Epoch, Metrics, Run, Status
from kerash5.batches._batches import Batch
from kerash5.feeds._class_names import class_names_of
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._keras_labels import check_batch, check_labels
from kerash5.feeds._keras_structure import check_batch_structure
from kerash5.feeds._scale import describe_scale
from kerash5.feeds._served import served_by
from kerash5.train._determinism import make_deterministic
from kerash5.train._nonfinite import LossWatch
from kerash5.train._record import RunRecord
from kerash5.train._settings import Settings
from kerash5.train.checkpoints._checkpoint import Checkpoint, copy_checkpoint
from kerash5.train.checkpoints._fingerprint import fingerprint, name_differences, note_times
from kerash5.train.checkpoints._manager import CheckpointManager
from kerash5.train.checkpoints._resume import Resume, find_resume_point
from kerash5.train.checkpoints._run_dir import (
    BEST_BEFORE_TRUNCATION,
    BEST_WEIGHTS,
    LAST_WEIGHTS,
    RunDir,
    unsaved,
    wanted_path,
)
from kerash5.train.checkpoints._snapshot import (
    Counters,
    check_weights,
    compare,
    epochs_of,
    other_fit,
    position_of,
    read_counters,
    restore_partial,
    restore_snapshot,
    take_snapshot,
)
from kerash5.train.engines import make_engine
from kerash5.train.engines.common._private import bare_test_batches
from kerash5.train.engines.common._weights import ClassWeight
from kerash5.train.loop._best import choose_monitor, is_larger_better
from kerash5.train.loop._callbacks import Hooks, SparseEarlyStopping
from kerash5.train.loop._data import Data, describe_data, parts
from kerash5.train.loop._device_cache import put_rows_on_device
from kerash5.train.loop._events import EventHandler, Progress
from kerash5.train.loop._loop import Loop
from kerash5.train.loop._model_checks import check_monitor_known, check_scalar_monitor
from kerash5.train.loop._optimizer import finalize, lend_weights
from kerash5.train.loop._position import Position
from kerash5.train.loop._signals import Signals
from kerash5.train.loop._validation import StopEvaluating, make_validation
from kerash5.train.monitors._logging import Logging
from kerash5.train.monitors._profile import Profile, SimpleProfiler, Tracer
from kerash5.train.monitors._progress import ProgressBar
from kerash5.train.state._state import ModelState, count_parameters


@final
class Session(EventHandler):
    """Trains a model once.

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

    def __init__(
        self,
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
    ) -> None:
        if settings.deterministic:
            make_deterministic()
        self.model = model
        self._settings = settings
        self._console = console
        self._class_weight = class_weight
        self._signals = Signals()
        self._before_hooks: Counters | None = None
        self._truncated: tuple[Checkpoint, int] | None = None
        self._fingerprint: dict[str, Any] = {}
        self._is_begun = False
        self._is_told = False
        self._is_monitor_sought = False
        limits = settings.limits
        self._train, validated, _ = parts(data, validation)
        lend = lend_weights(model, settings.optimizer)
        self._validation = make_validation(model, validated, limits, self._signals, lend)
        self._early = self._early_stopping(monitor)
        self._hooks = Hooks(
            [*settings.callbacks, *self._early, StopEvaluating(self._signals)],
            model,
            num_epochs=limits.num_epochs(len(self._train)),
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
            lend=lend,
        )
        asked = tempfile.mkdtemp() if settings.is_dev_run else settings.run_dir
        self._start = find_resume_point(resume, wanted_path(asked, model.name))
        self._run_dir: RunDir = self._start.run_dir
        kept = settings.checkpoints
        self._manager = (
            CheckpointManager(self._run_dir.checkpoints, kept, self._capture) if kept else None
        )
        self.every_steps = kept.every_steps if kept else None
        self._current = ModelState(model, lambda: self._loop.engine.captured)
        self._loss = LossWatch(self._loop, self._train, self._current, self._run_dir.checkpoints)
        checkpoint = self._start.checkpoint
        self._record = RunRecord(
            self._first_run(monitor, {**notes, "data": describe_data(data, validation)}),
            self._run_dir,
            seconds=0.0 if checkpoint is None else checkpoint.state["seconds"],
            lend=lend_weights(model, settings.optimizer, settings.callbacks),
            mode=settings.mode,
        )
        self._watchers = self._make_watchers()

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
        if not self._is_monitor_sought:
            self._settle_monitor(self._loop.engine.metrics())
        self._loss.look(progress)
        if self._manager is not None and self._manager.is_due(progress.step):
            self._loss.check(self._loop.engine.metrics())  # a non-finite state is never saved
            with self._loop.engine.synced():
                self._manager.save()

    def before_truncation(self) -> None:
        """Capture this state, so that a fit with a larger limit can continue from here exactly."""
        if self._manager is None:
            return
        if self.run.best_epoch is not None:
            self._record.keep(lambda: self._run_dir.link(BEST_WEIGHTS, BEST_BEFORE_TRUNCATION))
        self._truncated = self._capture(BEST_BEFORE_TRUNCATION)

    def end_epoch(self, epoch: Epoch) -> None:
        """Record the results of the epoch."""
        self._loss.check(epoch.metrics)
        is_validated = self._settings.limits.is_validated(epoch.epoch)
        is_complete = is_validated and self._loop.stop_reason != "callback"
        self._settle_monitor(epoch.metrics, is_complete=is_complete)
        self._before_hooks = self._count()
        is_ranked = is_validated or not self.run.monitor.startswith("val_")
        self._record.end_epoch(self.model, epoch, is_ranked=is_ranked)

    def after_epoch(self, progress: Progress) -> None:
        """Save a checkpoint if that costs little or the epoch is one of the best."""
        self._before_hooks = None
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
        start, checkpoint = self._start, self._start.checkpoint
        if checkpoint is None:
            return
        self._build()
        found = compare(checkpoint, self._fingerprint, is_forced=start.is_forced)
        check_weights(self._current, checkpoint)
        if (noted := note_times(checkpoint.state["fingerprint"], self._fingerprint)) is not None:
            self._say(noted)
        if found:
            self._say(f"going on in spite of differences: {name_differences(found)}")

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
        self._check_monitor()
        self._current.python.begin()
        self._print_unsaved()
        checkpoint = self._start.checkpoint
        if checkpoint is not None:
            self._go_on(checkpoint)
        else:
            if self._validation is not None:
                self._validation.try_out(self._settings.limits.sanity_steps)
            self._begin_anew()
        self._is_begun = True
        is_new = checkpoint is None or checkpoint.path not in self._run_dir.checkpoints.paths()[:1]
        if self._manager is not None and is_new:
            self._manager.save()

    def _check_monitor(self) -> None:
        """Raise before the first step if Keras' own steps will not report the monitored metric."""
        model, kind = self.model, type(self.model)
        is_stock = kind.train_step is keras.Model.train_step
        if not is_stock or kind.test_step is not keras.Model.test_step:
            return
        try:
            names = list(self._loop.engine.metrics())
        except Exception:  # noqa: BLE001  a custom metric may need data for its result
            return
        finally:
            model.reset_metrics()
        validated = [] if self._validation is None else [f"val_{name}" for name in names]
        self._settle_monitor([*names, *validated], is_complete=True)

    def _settle_monitor(self, metrics: Iterable[str], *, is_complete: bool = False) -> None:
        """Choose the monitored metric, or raise if the given one is not reported.

        Args:
            metrics: Names of the reported metrics.
            is_complete: Whether validation metrics are among them.
        """
        self._is_monitor_sought = True
        monitor, names = self.run.monitor, list(metrics)
        if monitor in names or (monitor.startswith("val_") and not is_complete):
            return
        if self._settings.monitor is not None:
            check_monitor_known(monitor, names)
        chosen = choose_monitor(monitor, names)
        self._record.run = replace(self.run, monitor=chosen)
        for callback in self._early:
            callback.monitor, callback.mode = chosen, self._mode_of(chosen)
        self._say(
            f"the model reports no {monitor!r}, so {chosen!r} decides which weights are best; pass "
            "monitor= to choose another"
        )

    def _print_unsaved(self) -> None:
        """Print the state that training changes and checkpoints do not contain."""
        left = [*self._current.python.unsaved(), *self._loop.engine.uncaptured]
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
        checkpoint = self._start.checkpoint
        self._fingerprint = fingerprint(
            self._current,
            self._train,
            self._settings.limits,
            self._class_weight,
            None if checkpoint is None else checkpoint.state["fingerprint"],
        )
        return batch

    def _check_labels(self, batch: Batch) -> None:
        """Check labels against the outputs of a model whose output shapes were unknown before."""
        if served_by(self._train).is_transformed:
            check_batch(self.model, batch)
        else:
            check_labels(self.model, self._train)

    def _go_on(self, checkpoint: Checkpoint) -> None:
        """Restore the state of the checkpoint."""
        self._loop.position = position_of(checkpoint, self._fingerprint)
        best = checkpoint.files.get(BEST_WEIGHTS)
        if best is not None or checkpoint.state["best_epoch"] is None:
            self._record.keep(lambda: self._run_dir.replace(BEST_WEIGHTS, best))
        self._hooks.begin_training()
        if self._loop.position.index:  # on_epoch_begin first: the state restored below wins
            self._loop.begin_epoch()
        if self._start.is_forced:
            left = restore_partial(self._current, self._hooks.callbacks, checkpoint)
        else:
            left = restore_snapshot(self._current, self._hooks.callbacks, checkpoint)
        self._loop.engine.restore_own_logs(checkpoint.state.get("own_logs", {}))
        self._loop.engine.expect_traced(
            checkpoint.state.get("traced", {}),
            lambda what: self._note_other_trace(what, str(checkpoint.path)),
        )
        if self._start.earlier is not None and checkpoint.state["stop_reason"] == "callback":
            self._loop.stop_reason = "callback"  # killed between the stop and the end of the epoch
            self._loop.is_stopped = True
        anew = f"; begun anew: {', '.join(left)}" if left else ""
        self._say(f"going on from {str(checkpoint.path)!r}, after step {self._loop.step}{anew}")

    def _note_other_trace(self, what: str, path: str) -> None:
        found = (
            f"for {what}, train_step was traced with other code or other values in Python "
            "(attributes, closures, variables outside the model)"
        )
        if self._start.is_forced:
            self._say(f"going on in spite of differences: {found}")
        else:
            raise other_fit(path, found, "give it the code and values it was traced with")

    def _finish(self) -> None:
        if self._loop.stop_reason == "asked":
            raise self._signals.error()
        is_saved = self.run.best_epoch is not None  # as the best of the epochs that have ended
        if self._manager is not None:
            self._loop.engine.sync()
            is_saved |= self._manager.save(
                self._record.rank, is_truncated=self._truncated is not None
            )
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
            warnings.warn(f"the state could not be saved ({error})", stacklevel=2)

    # Helpers.

    def _validate(self) -> Metrics | None:
        found = self._validation.run(self._hooks.list) if self._validation is not None else {}
        if found is None:
            self._loop.stop_reason = "asked"
        return found

    def _capture(self, best: str = BEST_WEIGHTS) -> tuple[Checkpoint, int]:
        if self._truncated is not None:
            return self._truncated
        file = self._run_dir.path / best
        has_best = self.run.best_epoch is not None and file.exists()
        snapshot = take_snapshot(
            self._current,
            self._loop.position,
            self._before_hooks or self._count(),
            {BEST_WEIGHTS: file} if has_best else {},
            step=self._loop.step,
            stop_reason="callback" if self._loop.is_stopped else self._loop.stop_reason,
            own_logs=self._loop.engine.own_logs(),
            traced=self._loop.engine.traced(),
            fingerprint=self._fingerprint,
        )
        return snapshot, self._loop.step

    def _count(self) -> Counters:
        return read_counters(
            self.model,
            self._hooks.callbacks,
            epochs=self.run.epochs,
            best_epoch=self.run.best_epoch,
            seconds=self._record.seconds,
        )

    def _first_run(self, monitor: str, notes: Mapping[str, Any]) -> Run:
        """Return the run before the first step, with the epochs of its earlier parts."""
        model, earlier, checkpoint = self.model, self._start.earlier, self._start.checkpoint
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Run(
            model=model.name,
            backend=keras.backend.backend(),
            num_parameters=count_parameters(model),
            run_dir=str(self._run_dir.path),
            started=now if earlier is None else earlier.started,
            epochs=() if checkpoint is None else epochs_of(checkpoint),
            best_epoch=None if checkpoint is None else checkpoint.state["best_epoch"],
            monitor=monitor,
            config={**notes, "trainer": dict(self._settings.asked)},
            environment=environment(),
            class_names=dict(class_names_of(self._train)),
        )

    def _make_watchers(self) -> list[EventHandler]:
        settings = self._settings
        watchers: list[EventHandler] = []
        if settings.profiler == "simple":
            watchers.append(SimpleProfiler(self._train, self._has_device_rows, self._keep_profile))
        elif settings.profiler == "trace":
            watchers.append(Tracer(lambda: self.run.run_dir, self._say))
        watchers.append(Logging(settings.loggers, settings.log_every_n_steps, lambda: self.run))
        if settings.enable_progress_bar:
            watchers.append(ProgressBar(self._console, settings.limits.max_epochs))
        return watchers

    def _early_stopping(self, monitor: str) -> list[keras.callbacks.EarlyStopping]:
        patience = self._settings.early_stopping
        if patience is None:
            return []
        mode = self._mode_of(monitor)
        is_sparse = self._settings.limits.epochs_per_check > 1
        kind = SparseEarlyStopping if is_sparse else keras.callbacks.EarlyStopping
        return [kind(monitor, patience=patience, mode=mode)]

    def _mode_of(self, monitor: str) -> str:
        return "max" if is_larger_better(monitor, self._settings.mode) else "min"

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

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
