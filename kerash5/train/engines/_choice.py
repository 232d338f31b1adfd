"""Which engine a model gets, and why not a faster one."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from kerash5.train.engines._engine import AbstractEngine, Steps, parse_steps
from kerash5.train.engines._plain import PlainEngine


def why_not_fused(model: keras.Model) -> str | None:
    """Say why this model's steps can only be run one by one through Keras; None if they need not.

    Args:
        model: Compiled.
    """
    if model.run_eagerly:
        return "the model was compiled with run_eagerly=True"
    return "no faster engine is built for this backend yet"


def make_engine(
    model: keras.Model,
    *,
    steps_per_dispatch: Steps = "auto",
    class_weight: Mapping[int, float] | None = None,
    is_plain: bool = False,
) -> AbstractEngine:
    """Make the fastest engine that this model can have.

    Args:
        model: Compiled.
        steps_per_dispatch: How many steps one call of the device runs; "auto" grows from 1 until
            calling costs less than 2 % of the time.
        class_weight: Class number -> weight; those not named weigh 1.
        is_plain: Take the plain engine whatever the model is.

    Raises:
        OptionError: An argument makes no sense.
    """
    parse_steps(steps_per_dispatch)
    reason = "asked for" if is_plain else why_not_fused(model)
    return PlainEngine(model, class_weight, reason=reason or "")
