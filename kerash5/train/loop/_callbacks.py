"""Calls the methods of Keras callbacks from our loop, as `fit` would.

It also decides which callbacks must be called after every step, and describes what that costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import keras

from kerash5._run import Metrics
from kerash5.train.engines.common._logs import to_arrays
from kerash5.train.engines.common._private import pop_initial_epoch

# `on_batch_*` are old names, which Keras' own methods call.
_STEP_HOOKS: Final = (
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_batch_begin",
    "on_batch_end",
)


@final
class Hooks:
    """The callbacks of one fit.

    Args:
        callbacks: Callbacks of the user.
        model: Their `self.model`.
        num_epochs: Their `self.params["epochs"]`.
        num_steps: Steps per epoch: their `self.params["steps"]`.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        *,
        num_epochs: int | None,
        num_steps: int,
    ) -> None:
        watching = [callback for callback in callbacks if _watches_steps(callback)]
        self.waiting = [each for each in watching if not getattr(each, "async_safe", False)]
        self.wants_steps = bool(watching)
        self.needs_every_step = bool(self.waiting)
        self._model = model
        self.list = keras.callbacks.CallbackList(
            list(callbacks),
            add_history=True,
            model=model,
            epochs=num_epochs,
            steps=num_steps,
            verbose=0,
        )

    @property
    def callbacks(self) -> list[keras.callbacks.Callback]:
        """All callbacks, including the `History` that Keras adds."""
        return list(self.list.callbacks)

    @property
    def is_stopped(self) -> bool:
        """Whether a callback has set `stop_training`."""
        return bool(self._model.stop_training)

    def withdraw_stop(self) -> None:
        """Reset `stop_training`; a callback may set it again."""
        self._model.stop_training = False

    def describe(self) -> str | None:
        """Return a description of the callbacks that need every step; None if none does."""
        if not self.waiting:
            return None
        names = ", ".join(sorted({type(callback).__name__ for callback in self.waiting}))
        return (
            f"{names} sees every step, so the trainer runs one step at a time and waits for the "
            "device after each; set async_safe = True on a callback that may be told of several "
            "steps at once"
        )

    def begin_training(self) -> int:
        """Call `on_train_begin`; return the initial epoch that a callback has set, or 0."""
        self._model.stop_training = False
        pop_initial_epoch(self._model)  # of an earlier fit; Keras does not delete it
        self.list.on_train_begin()
        return pop_initial_epoch(self._model)

    def end_training(self, logs: Metrics) -> None:
        """Call `on_train_end`."""
        self.list.on_train_end(to_arrays(logs))

    def begin_epoch(self, epoch: int) -> None:
        """Call `on_epoch_begin`."""
        self.list.on_epoch_begin(epoch)

    def end_epoch(self, epoch: int, logs: Metrics) -> Metrics:
        """Call `on_epoch_end`; return the logs as Keras' `History` has them.

        Callbacks share a copy of the logs, which Keras makes, and may add entries to it.
        """
        history = next(each for each in self.callbacks if isinstance(each, keras.callbacks.History))
        before = {name: len(values) for name, values in history.history.items()}
        self.list.on_epoch_end(epoch, to_arrays(logs))
        return {
            name: values[-1]
            for name, values in history.history.items()
            if len(values) > before.get(name, 0)
        }

    def begin_steps(self, first: int, count: int) -> None:
        """Call `on_train_batch_begin` for each of these steps of the epoch."""
        for index in range(first, first + count):
            self.list.on_train_batch_begin(index)

    def end_steps(self, first: int, count: int, logs: Metrics) -> None:
        """Call `on_train_batch_end` for each of these steps of the epoch.

        All of them get the averages after the last step.
        """
        for index in range(first, first + count):
            self.list.on_train_batch_end(index, to_arrays(logs))


@final
class SparseEarlyStopping(keras.callbacks.EarlyStopping):
    """Counts only validated epochs; Keras' own class warns for each epoch that is not."""

    def on_epoch_end(self, epoch: int, logs: Metrics | None = None) -> None:
        """Count an epoch whose logs have the metric."""
        if self.monitor in (logs or {}):
            super().on_epoch_end(epoch, logs)


def _watches_steps(callback: keras.callbacks.Callback) -> bool:
    """Return whether a callback overrides a method that is called for each step."""
    base = keras.callbacks.Callback
    return any(
        getattr(getattr(callback, name), "__func__", None) is not getattr(base, name)
        for name in _STEP_HOOKS
    )
