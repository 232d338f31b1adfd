"""Settings of the optimizer: gradient accumulation, clipping and averaged weights.

All three are features of Keras, enabled through the optimizer's public attributes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import keras
import numpy as np
from numpy.typing import NDArray

from kerash5._checks import is_number, parse_count
from kerash5._errors import OptionError, RunError
from kerash5.train.loop._model_checks import check_single_optimizer

# A context in which the model has the weights that are validated and saved as the best.
Lend = Callable[[], AbstractContextManager[None]]

_CLIPPING: Final = ("clipnorm", "global_clipnorm", "clipvalue")
_ALGORITHMS: Final = {"norm": "global_clipnorm", "value": "clipvalue"}


@final
@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """Settings of the optimizer. Made by `parse_optimizer`.

    Args:
        accumulate: Number of batches whose gradients are accumulated for one update; None: no
            accumulation.
        clip: Maximum to which gradients are clipped; None leaves the optimizer's setting.
        clipping: The optimizer's attribute for `clip`.
        ema_momentum: Momentum of the averaged weights; None for none.
    """

    accumulate: int | None = None
    clip: float | None = None
    clipping: str = "global_clipnorm"
    ema_momentum: float | None = None


def parse_optimizer(
    accumulate: object, clip: object, algorithm: object, ema_momentum: object
) -> OptimizerSettings:
    """Return the checked settings of the optimizer.

    Raises:
        OptionError: A setting is invalid.
    """
    num_batches = parse_count("accumulate_grad_batches", accumulate, "a number of batches")
    if algorithm not in _ALGORITHMS:
        raise OptionError(f"gradient_clip_algorithm={algorithm!r}; choose 'norm' or 'value'")
    return OptimizerSettings(
        num_batches if num_batches > 1 else None,
        _parse_number("gradient_clip_val", clip, most=None),
        _ALGORITHMS[str(algorithm)],
        _parse_number("ema_momentum", ema_momentum, most=1.0),
    )


@contextmanager
def tuned(model: keras.Model, settings: OptimizerSettings) -> Iterator[None]:
    """Apply the settings to the optimizer. Clipping is restored afterwards.

    Accumulation and averages stay enabled, because they have their own variables in the optimizer.

    Raises:
        RunError: The optimizer is already built without those variables, or is not the only one.
    """
    if settings != OptimizerSettings():
        check_single_optimizer(model, "gradient clipping, accumulation or ema_momentum")
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of a loss scale
    if settings.accumulate is not None:
        _set_before_built(model, optimizer, "gradient_accumulation_steps", settings.accumulate)
    if settings.ema_momentum is not None:
        _set_before_built(model, optimizer, "use_ema", True)
        optimizer.ema_momentum = settings.ema_momentum
    if settings.clip is None:
        yield
        return
    before = {name: getattr(optimizer, name) for name in _CLIPPING}
    try:
        _set_all(model, optimizer, {**dict.fromkeys(_CLIPPING), settings.clipping: settings.clip})
        yield
    finally:
        _set_all(model, optimizer, before)


def lend_weights(
    model: keras.Model,
    settings: OptimizerSettings,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Lend:
    """Return a context in which the model has the weights that are validated and saved as the best.

    These are averages only if `ema_momentum` is set: an optimizer with `use_ema=True` of its own is
    validated with the trained weights, as in `fit`.

    Args:
        model: A compiled model.
        settings: The settings of the optimizer.
        callbacks: Callbacks of the validation, if they are not called within the context:
            `SwapEMAWeights` uses averages for validation only.
    """
    swaps = any(isinstance(callback, keras.callbacks.SwapEMAWeights) for callback in callbacks)
    return (
        partial(averaged_weights, model)
        if swaps or settings.ema_momentum is not None
        else nullcontext
    )


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Give the model its averaged weights within the context, if the optimizer has averages.

    Afterwards the trained weights are restored, except those that were changed within the context:
    they keep the new value, as in `fit` when a callback sets weights.

    `keras.callbacks.SwapEMAWeights` is not used: on TensorFlow it swaps by adding and subtracting,
    which changes the last bits.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    if not getattr(optimizer, "use_ema", False) or averages is None:
        yield
        return
    # The variables that the optimizer was built for: a callback may have frozen some since.
    weights = getattr(optimizer, "_trainable_variables", model.trainable_variables)
    lent = [
        (weight, _copy(weight), _copy(average))
        for weight, average in zip(weights, averages, strict=True)
        if average is not None
    ]
    for weight, _, average in lent:
        weight.assign(average)
    try:
        yield
    finally:
        for weight, value, average in lent:
            if _copy(weight).tobytes() == average.tobytes():
                weight.assign(value)


def finalize(model: keras.Model) -> None:
    """Give the model its averaged weights permanently, if the optimizer has averages."""
    if model.optimizer is None:
        return
    model.optimizer.finalize_variable_values(model.trainable_variables)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not getattr(optimizer, "use_ema", False):
        return
    for weight in model.trainable_variables:
        weight.assign(_copy(weight))


def _copy(variable: Any) -> NDArray[Any]:  # noqa: ANN401  Keras'
    """Return a copy of the value.

    On JAX two variables may share an array; donating it for one variable would delete the other's.
    """
    return np.array(keras.ops.convert_to_numpy(variable))


def _set_before_built(model: keras.Model, optimizer: Any, name: str, value: object) -> None:  # noqa: ANN401  Keras'
    if getattr(optimizer, name) == value:
        return
    if optimizer.built:
        raise RunError(
            f"{name}={value} needs variables that the optimizer of model {model.name!r} was built "
            "without; call model.compile(...) with a new optimizer"
        )
    setattr(optimizer, name, value)


def _set_all(model: keras.Model, optimizer: Any, values: dict[str, Any]) -> None:  # noqa: ANN401  Keras'
    if any(getattr(optimizer, name) != value for name, value in values.items()):
        model.train_function = None  # compiled functions contain the old values
    for name, value in values.items():
        setattr(optimizer, name, value)


def _parse_number(name: str, value: object, *, most: float | None) -> float | None:
    if value is None:
        return None
    if not is_number(value) or not 0 < value < (math.inf if most is None else most):
        span = "more than 0" if most is None else f"between 0 and {most:g}"
        raise OptionError(f"{name}={value!r}; it is a number {span}")
    return float(value)
