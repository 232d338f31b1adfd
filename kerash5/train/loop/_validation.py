"""Validation within a fit: it does not change the training state, and a signal interrupts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import keras

from kerash5._run import Metrics
from kerash5.feeds._keras import H5Dataset
from kerash5.train.engines import AbstractEngine
from kerash5.train.engines.common._logs import read_metrics
from kerash5.train.engines.common._private import is_emptied
from kerash5.train.loop._data import call_keras, first_batches
from kerash5.train.loop._limits import Limits
from kerash5.train.loop._optimizer import Lend
from kerash5.train.loop._signals import Signals
from kerash5.train.state._random import kept_random_state


@final
class Validation:
    """Evaluates a model on the validation data.

    Args:
        model: The model in training, with current variables.
        dataset: The validation data.
        signals: The signals that interrupt it.
        lend: A context in which the model has the weights to validate.
    """

    def __init__(
        self, model: keras.Model, dataset: H5Dataset, signals: Signals, lend: Lend
    ) -> None:
        self._model = model
        self._dataset = dataset
        self._signals = signals
        self._lend = lend

    def run(self, callbacks: keras.callbacks.CallbackList) -> Metrics | None:
        """Return the metrics by Keras' names; None if a signal came."""
        # PyTorch's DataLoader draws a random number: a repeated evaluation must not change the
        # state.
        with self._lend(), kept_random_state(), _whole(self._model):
            found = call_keras(
                lambda: self._model.evaluate(
                    self._dataset, verbose=0, return_dict=True, callbacks=callbacks
                ),
                self._dataset,
            )
        if self._signals.caught is not None:  # interrupted, or about to be
            return None
        return read_metrics(found)

    def try_out(self, steps: int) -> None:
        """Validate on a few batches before training, so that errors there show early."""
        if steps:
            few = first_batches(self._dataset, steps)
            with kept_random_state(), _whole(self._model):
                call_keras(lambda: self._model.evaluate(few, verbose=0), few)


@contextmanager
def kept_metrics(model: keras.Model, engine: AbstractEngine) -> Iterator[None]:
    """Save the training averages, which evaluation resets; restore them, also after an error."""
    with engine.synced():
        kept = [
            (variable, keras.ops.convert_to_numpy(variable).copy())
            for variable in model.metrics_variables
        ]
        try:
            yield
        finally:
            for variable, value in kept:
                variable.assign(value)


@contextmanager
def _whole(model: keras.Model) -> Iterator[None]:
    """Restore the model's values if evaluation failed: on JAX it has removed them."""
    kept = []
    if keras.backend.backend() == "jax":
        kept = [(each, each.value) for each in (*model.variables, *model.metrics_variables)]
    try:
        yield
    except BaseException:
        if kept:
            model.jax_state_sync()  # values of the step before the failure
        for variable, value in kept:
            if is_emptied(variable):
                variable.assign(value)
        raise


def make_validation(
    model: keras.Model, dataset: H5Dataset | None, limits: Limits, signals: Signals, lend: Lend
) -> Validation | None:
    """Return the validation of a fit; None if there is no validation."""
    count = 0 if dataset is None else limits.validation_steps(len(dataset))
    if dataset is None or not count:
        return None
    return Validation(model, first_batches(dataset, count), signals, lend)


@final
class StopEvaluating(keras.callbacks.Callback):
    """Interrupts an evaluation after a signal; it will be repeated on resume."""

    async_safe = True  # it may be called late

    def __init__(self, signals: Signals) -> None:
        super().__init__()
        self._signals = signals

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop the evaluation if a signal has come."""
        if self._signals.caught is not None:
            self._model.stop_evaluating = True  # not `self.model`, which synchronizes on JAX
