"""Search for a learning rate: a short training in which the rate grows with each step.

Weights, optimizer, seeds and metrics of the model are afterwards restored bit for bit. The data
have no position to restore, because a batch is a function of its step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, Final, Self

import keras
from keras.optimizers.schedules import LearningRateSchedule

from kerash5._errors import OptionError, RunError
from kerash5.batches._batches import Batch
from kerash5.feeds._keras import H5Dataset
from kerash5.report import LearningRates
from kerash5.train.engines import make_engine
from kerash5.train.loop._model_checks import check_single_optimizer
from kerash5.train.state._random import kept_random_state

_SMOOTHING: Final = 0.9  # weight of the previous average
_DIVERGED: Final = 4.0  # times the smallest smoothed loss, as Lightning has it


def find_learning_rate(
    model: keras.Model, dataset: H5Dataset, *, min_lr: float, max_lr: float, num_training: int
) -> LearningRates:
    """Train with a rate that grows from step to step, until the loss diverges.

    Args:
        model: A compiled model; it is unchanged afterwards.
        dataset: Data to train on; its epochs are repeated as needed.
        min_lr: Learning rate of the first step.
        max_lr: Learning rate of the last step.
        num_training: Number of steps.

    Raises:
        OptionError: The rates do not increase, or there are too few steps.
        RunError: The loss of the first step is not finite.
    """
    check_single_optimizer(model, "lr_find")
    rates = _parse_rates(min_lr, max_lr, num_training)
    batches = islice(_endless(dataset), num_training)
    losses: list[float] = []
    average, lowest = 0.0, math.inf
    with _restored(model, next(dataset.batches())), _Rate(model, rates) as rate:
        for step, batch in enumerate(batches):
            rate.use(step)
            loss = _loss_of(model.train_on_batch(*batch, return_dict=True))
            losses.append(loss)
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            smoothed = average / (1 - _SMOOTHING ** (step + 1))
            lowest = min(lowest, smoothed)
            if not math.isfinite(loss) or smoothed > _DIVERGED * lowest:
                break
    if not math.isfinite(losses[0]):
        raise RunError(
            f"the loss of the first step is {losses[0]}, at learning rate {rates[0]:.1e}; check "
            "for NaN in the data, or use a smaller min_lr"
        )
    return LearningRates(tuple(rates[: len(losses)]), tuple(losses))


def _loss_of(logs: Mapping[str, Any]) -> float:
    if "loss" not in logs:
        raise RunError(
            f"train_step returns {', '.join(map(repr, logs))}, but lr_find needs 'loss'; return "
            "it as well"
        )
    return float(logs["loss"])


def _parse_rates(min_lr: float, max_lr: float, num_training: int) -> list[float]:
    if not 0 < min_lr < max_lr < math.inf:
        raise OptionError(f"min_lr={min_lr!r}, max_lr={max_lr!r}; pass 0 < min_lr < max_lr")
    if num_training < 20:
        raise OptionError(f"num_training={num_training}; pass at least 20 steps")
    growth = math.log(max_lr / min_lr) / (num_training - 1)
    return [min_lr * math.exp(growth * step) for step in range(num_training)]


def _endless(dataset: H5Dataset) -> Iterator[Batch]:
    try:
        for epoch in count():
            yield from dataset.batches(epoch)
    finally:
        dataset.release()


@contextmanager
def _restored(model: keras.Model, batch: Batch) -> Iterator[None]:
    """Restore everything that a training step changes."""
    make_engine(model, is_plain=True).build(batch)
    changed = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    kept = [keras.ops.convert_to_numpy(variable.value).copy() for variable in changed]
    # On JAX a finished fit with `use_ema` has a weight and its average in one buffer, which the
    # next step cannot donate twice (Keras 3.15.1).
    for variable, value in zip(changed, kept, strict=True):
        variable.assign(value.copy())
    try:
        with kept_random_state():
            yield
    finally:
        for variable, value in zip(changed, kept, strict=True):
            variable.assign(value)


class _Rate:
    """Control the learning rate of a model's optimizer inside a `with` block."""

    def __init__(self, model: keras.Model, rates: list[float]) -> None:
        self._model = model
        self._rates = rates
        optimizer = model.optimizer
        while hasattr(optimizer, "inner_optimizer"):  # mixed precision scales the loss around it
            optimizer = optimizer.inner_optimizer
        self._optimizer = optimizer
        # Not the property, which would evaluate a schedule.
        kept: Any = getattr(optimizer, "_learning_rate", None)
        self._schedule = kept if isinstance(kept, LearningRateSchedule) else None
        if self._schedule is None and not isinstance(kept, keras.Variable):
            raise RunError(
                f"the learning rate of {optimizer.name!r} is {kept!r}, which lr_find cannot "
                "change; compile the model with a number or a schedule"
            )

    def __enter__(self) -> Self:
        if self._schedule is not None:
            first = int(keras.ops.convert_to_numpy(self._optimizer.iterations))
            self._set_schedule(_Growing(self._rates[0], self._rates[1], first))
        return self

    def use(self, step: int) -> None:
        """Set the rate of a step; a schedule does it by itself."""
        if self._schedule is None:
            self._optimizer.learning_rate = self._rates[step]

    def __exit__(self, *_: object) -> None:
        if self._schedule is not None:
            self._set_schedule(self._schedule)

    def _set_schedule(self, schedule: LearningRateSchedule) -> None:
        self._optimizer.learning_rate = schedule
        # The compiled step has the schedule that it was traced with.
        self._model.make_train_function(force=True)


class _Growing(LearningRateSchedule):
    """The growing rate as a schedule, because a variable would be a constant in a compiled step."""

    def __init__(self, first_rate: float, second_rate: float, first_step: int) -> None:
        super().__init__()
        self._first_rate = first_rate
        self._growth = math.log(second_rate / first_rate)
        self._first_step = first_step

    def __call__(self, step: Any) -> Any:  # noqa: ANN401  a tensor of the backend
        """Return the rate of an optimizer step."""
        passed = keras.ops.cast(step - self._first_step, "float32")
        return self._first_rate * keras.ops.exp(self._growth * passed)

    def get_config(self) -> dict[str, Any]:
        """Return an empty config, because it is never saved."""
        return {}
