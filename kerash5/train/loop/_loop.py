"""The trainer's own loop: feeds batches of the plan, in order, to an engine.

Its whole state is a `Position`. Recording, checkpointing and progress output are done by event
handlers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any, final

import keras

from kerash5._run import Epoch, Metrics
from kerash5.batches._batches import Batch
from kerash5.feeds._keras import H5Dataset
from kerash5.train.engines import AbstractEngine
from kerash5.train.engines.common._logs import merge_logs
from kerash5.train.engines.common._private import learning_rate_of
from kerash5.train.loop._callbacks import Hooks
from kerash5.train.loop._device_cache import DeviceRows
from kerash5.train.loop._events import EventHandler, Progress
from kerash5.train.loop._limits import Limits
from kerash5.train.loop._optimizer import Lend
from kerash5.train.loop._position import Position, StopReason
from kerash5.train.loop._validation import kept_metrics
from kerash5.train.state._random import draw_loader_seeds


@final
class Loop:
    """Runs the steps of a fit.

    Args:
        model: A compiled model.
        train: The training data.
        validate: Function that returns the metrics of validation, or None if a signal came; None
            for no validation.
        engine: The engine that runs the steps.
        hooks: The Keras callbacks.
        limits: The limits of the fit; the time limit is checked elsewhere.
        lend: A context in which the model has the weights that callbacks see at the end of an
            epoch.

    Attributes:
        position: The current position; set it before `run` to begin elsewhere.
        event_handlers: Called after steps, validations and epochs.
        device_rows: The rows cached on the device; None if there are none.
        stop_reason: Why the fit ends early. If it is set from outside, the fit ends after the steps
            already dispatched.
        is_stopped: Whether a callback has stopped the fit, even if a limit ends it as well.
        is_between_steps: Whether the variables are in the state of `position`.
    """

    def __init__(
        self,
        model: keras.Model,
        train: H5Dataset,
        *,
        validate: Callable[[], Metrics | None] | None,
        engine: AbstractEngine,
        hooks: Hooks,
        limits: Limits,
        lend: Lend,
    ) -> None:
        self.position = Position()
        self.event_handlers: Sequence[EventHandler] = ()
        self.device_rows: DeviceRows | None = None
        self.stop_reason: StopReason | None = None
        self.is_stopped = False
        self.is_between_steps = True
        self.num_steps = limits.steps_per_epoch(len(train))
        self.engine = engine
        start, stop = train.plan.bounds(self.num_steps - 1)
        engine.row_counts = (train.batch_size, stop - start)
        self._model = model
        self._train = train
        self._validate = validate
        self._hooks = hooks
        self._limits = limits
        self._lend = lend
        self._check_steps = limits.check_steps(self.num_steps)
        self._logs: Metrics = {}
        self._is_fresh = True  # the epoch was not begun in this process

    @property
    def step(self) -> int:
        """Steps done in all epochs."""
        return self.position.epoch * self.num_steps + self.position.index

    @property
    def is_over(self) -> bool:
        """Whether the fit is finished."""
        if self.stop_reason is not None:
            return True
        # An epoch that was begun is ended, even without a further step.
        return self.position.index == 0 and self.is_exhausted

    @property
    def is_exhausted(self) -> bool:
        """Whether the limits allow no further step."""
        limits = self._limits
        return (limits.max_epochs is not None and self.position.epoch >= limits.max_epochs) or (
            limits.max_steps is not None and self.step >= limits.max_steps
        )

    @property
    def logs(self) -> Metrics:
        """The metrics of the last epoch that ended here."""
        return self._logs

    @property
    def most_rows(self) -> int | None:
        """Maximum number of rows that will be used, including repeats; None for no limit."""
        limits, batch_size = self._limits, self._train.batch_size
        if limits.overfit_batches is not None:
            return self.num_steps * batch_size
        epochs = limits.max_epochs
        steps = [limits.max_steps, None if epochs is None else epochs * self.num_steps]
        asked = [most - self.step for most in steps if most is not None]
        return max(0, min(asked)) * batch_size if asked else None

    def plan_step(self, step: int) -> int:
        """Return the plan's step for a step of this fit, for `train.plan.rows`."""
        epoch, index = divmod(step, self.num_steps)
        return self._plan_epoch(epoch) * len(self._train) + index

    def first_batch(self) -> Batch:
        """Return the batch of the next step, or one of the same structure."""
        index = min(self.position.index, len(self._train) - 1)
        return self._train.read(self._plan_epoch(self.position.epoch) * len(self._train) + index)

    def release(self) -> None:
        """Free the rows on the device."""
        self.device_rows = None
        self.engine.release()

    def begin_epoch(self) -> None:
        """Begin the epoch of `position`, or continue it. `run` calls this if it was not called."""
        self._is_fresh = False
        if self.position.index == 0:
            self.engine.reset_metrics()
            is_checked = self.position.epoch > 0 and self._is_validated(self.position.epoch - 1)
            draw_loader_seeds(4 if is_checked else 2)
        self._hooks.begin_epoch(self.position.epoch)

    def run(self) -> None:
        """Train until the fit is finished."""
        if self.stop_reason == "callback" and self.position.index:
            self._tell_begun()
            self._end_epoch()  # an epoch whose end was still due when the fit was resumed
        while not self.is_over:
            if self._is_fresh:
                self.begin_epoch()
            self._tell_begun()
            self._run_steps()
            if self.stop_reason != "asked":
                self._end_epoch()

    def _run_steps(self) -> None:
        self._resume_training()
        self._note_max_steps()
        if self.stop_reason is None and 0 < self.position.index < self.num_steps:
            self._check_if_due()  # a validation that was still due when the fit was resumed
        epoch = self._plan_epoch(self.position.epoch)
        start = self.position.index
        asked = self._train.batches if self.device_rows is None else self.device_rows.positions
        with _closed(asked(epoch, start=start)) as feed:
            while self.position.index < self.num_steps and self.stop_reason is None:
                self._dispatch(feed)

    def _dispatch(self, feed: Iterator[Any]) -> None:
        """Run as many steps as can run at once, then call handlers and validate if that is due."""
        position, began = self.position, time.perf_counter()
        batches = list(islice(feed, self._next_count()))
        position.wait_seconds += time.perf_counter() - began
        self._train_on(batches)
        position.seconds += time.perf_counter() - began
        self._note_stop()
        self._note_max_steps()
        progress = self.progress()
        for handler in self.event_handlers:
            handler.after_steps(progress)
        if self.stop_reason is None and position.index < self.num_steps:
            self._check_if_due()

    def _note_stop(self, *, is_complete: bool = False) -> None:
        """End the fit if a callback has requested it, and `min_epochs` and `min_steps` are done."""
        if not self._hooks.is_stopped:
            return
        limits, epochs = self._limits, self.position.epoch + is_complete
        if epochs < limits.min_epochs or self.step < limits.min_steps:
            self._hooks.withdraw_stop()
            return
        self.is_stopped = True
        self.stop_reason = self.stop_reason or "callback"

    def _note_max_steps(self) -> None:
        most = self._limits.max_steps
        if most is not None and self.step >= most and self.stop_reason is None:
            self.stop_reason = "max_steps"

    def _train_on(self, batches: Sequence[Any]) -> None:
        hooks, engine = self._hooks, self.engine
        first, count = self.position.index, len(batches)
        if hooks.wants_steps:
            hooks.begin_steps(first, count)
        if hooks.needs_every_step:  # a callback may have changed any variable
            engine.begin()
        self.is_between_steps = False
        if self.device_rows is None:
            engine.train(batches)
        else:
            engine.train_on_device_rows(batches)
        self.position.index += count
        self.is_between_steps = True
        if hooks.needs_every_step:
            engine.sync()
        if hooks.wants_steps:
            hooks.end_steps(first, count, engine.metrics())

    def _next_count(self) -> int:
        """Return the number of steps to run at once: up to the next event that is due."""
        # An epoch stopped before its first step still runs one step, as in `fit`.
        if self._hooks.needs_every_step or self._hooks.is_stopped:
            return 1
        step, index = self.step, self.position.index
        periods = [each.every_steps for each in self.event_handlers if each.every_steps]
        due = [self.num_steps - index, *(period - step % period for period in periods)]
        if self._is_validated(self.position.epoch):
            due.append(self._check_steps - index % self._check_steps)
        if self._limits.max_steps is not None:
            due.append(self._limits.max_steps - step)
        return max(1, min(self.engine.steps_per_dispatch, *due))

    def _check_if_due(self) -> None:
        """Validate within the epoch, if that is due."""
        position = self.position
        is_due = position.index // self._check_steps > position.checks
        if not is_due or not self._is_validated(position.epoch):
            return
        with kept_metrics(self._model, self.engine):
            metrics = self._check()
        self._resume_training()
        if metrics is not None:
            progress = self.progress()
            for handler in self.event_handlers:
                handler.after_check(progress, metrics)
        self._note_stop()

    def _check(self) -> Metrics | None:
        """Return the metrics of a validation; None if it was interrupted and must be repeated."""
        if self._validate is None:
            return {}
        began = time.perf_counter()
        found = self._validate()
        self.position.check_seconds += time.perf_counter() - began
        if found is None:
            self.stop_reason = "asked"
            return None
        self.position.checks += 1
        self.position.check = {f"val_{name}": value for name, value in found.items()}
        return self.position.check

    def _end_epoch(self) -> None:
        position, began = self.position, time.perf_counter()
        metrics = self.engine.metrics()
        self.engine.sync()
        position.seconds += time.perf_counter() - began
        is_truncated = position.index < self.num_steps
        if is_truncated and self.stop_reason in ("max_steps", "max_time"):
            for handler in self.event_handlers:
                handler.before_truncation()
        # A callback may have stopped the fit in that validation.
        is_checked = is_truncated and position.index == position.checks * self._check_steps > 0
        found = position.check if is_checked else self._check_at_end()
        if found is None or self.stop_reason == "asked":
            return
        self._record({**metrics, **found})

    def _check_at_end(self) -> Metrics | None:
        """Validate at the end of the epoch.

        The training averages are saved in case the validation is interrupted.
        """
        if not self._is_validated(self.position.epoch):
            return {}
        with kept_metrics(self._model, self.engine):
            return self._check()

    def _record(self, logs: Metrics) -> None:
        """Call the event handlers for the end of the epoch, and go to the next."""
        position = self.position
        self._logs = logs
        epoch = Epoch(
            position.epoch,
            position.seconds,
            self._rows(position.index),
            logs,
            position.wait_seconds,
            position.check_seconds,
            self._learning_rate(),
        )
        for handler in self.event_handlers:
            handler.end_epoch(epoch)
        with self._lend():
            self._logs = self._hooks.end_epoch(position.epoch, logs)
        epoch = replace(epoch, metrics=merge_logs(logs, self._logs))
        for handler in self.event_handlers:
            handler.record_epoch(epoch)
        self._note_stop(is_complete=True)
        self.position = Position(position.epoch + 1)
        self._is_fresh = True
        progress = self.progress()
        for handler in self.event_handlers:
            handler.after_epoch(progress)

    def progress(self) -> Progress:
        """Return the current progress."""
        position = self.position
        return Progress(
            position.epoch,
            position.index,
            self.num_steps,
            self._limits.max_epochs,
            self._rows(position.index),
            position.seconds,
            position.wait_seconds,
            self._metrics,
            self._learning_rate,
        )

    def _tell_begun(self) -> None:
        progress = self.progress()
        for handler in self.event_handlers:
            handler.begin_epoch(progress)

    def _resume_training(self) -> None:
        """Make the engine read the current variables, and set torch modules to training mode."""
        if keras.backend.backend() == "torch":  # evaluation has set the modules to eval mode
            self._model.train()
        self.engine.begin()

    def _metrics(self) -> Metrics:
        """Return the averages; the wait for the device counts as training time."""
        began = time.perf_counter()
        found = self.engine.metrics()
        self.position.seconds += time.perf_counter() - began
        return found

    def _learning_rate(self) -> float | None:
        if self._model.optimizer is None:
            return None
        with self.engine.synced():  # a schedule reads the optimizer's step counter
            return learning_rate_of(self._model.optimizer)

    def _is_validated(self, epoch: int) -> bool:
        return self._validate is not None and self._limits.is_validated(epoch)

    def _plan_epoch(self, epoch: int) -> int:
        return 0 if self._limits.overfit_batches is not None else epoch

    def _rows(self, index: int) -> int:
        return self._train.plan.bounds(index - 1)[1] if index else 0


@contextmanager
def _closed(feed: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """Close the iterator of batches at the end, which stops reading ahead."""
    try:
        yield feed
    finally:
        if isinstance(feed, Generator):
            feed.close()
