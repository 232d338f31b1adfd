"""Which engine a model gets, and why not a faster one."""

from __future__ import annotations

import keras

from kerash5.train.engines._plain import PlainEngine
from kerash5.train.engines.common._engine import AbstractEngine, Steps, parse_steps
from kerash5.train.engines.common._private import STATE_METHODS
from kerash5.train.engines.common._weights import ClassWeight


def why_not_fused(model: keras.Model) -> str | None:
    """Say why this model's steps can only be run one by one through Keras; None if they need not.

    Args:
        model: Compiled.
    """
    if model.run_eagerly:
        return "the model was compiled with run_eagerly=True"
    if _is_overridden(model, "make_train_function"):
        return "the model has a make_train_function of its own"
    if keras.distribution.distribution() is not None:
        return "a keras.distribution is set"
    backend = keras.backend.backend()
    if backend == "jax":
        return _why_not_jax(model)
    if backend == "tensorflow":
        return _why_not_tensorflow(model)
    return None if backend == "torch" else f"no faster engine is built for {backend}"


def _why_not_jax(model: keras.Model) -> str | None:
    if not model.jit_compile:
        return "the model was compiled with jit_compile=False"
    for method in STATE_METHODS:
        if hasattr(keras.Model, method) and _is_overridden(model, method):
            return f"the model has a {method} of its own"
    if keras.config.is_nnx_enabled():
        return "Keras runs under NNX"
    return None


def _why_not_tensorflow(model: keras.Model) -> str | None:
    import tensorflow as tf

    is_default = isinstance(model.distribute_strategy, type(tf.distribute.get_strategy()))
    is_distributed = tf.distribute.has_strategy() or not is_default
    return "the model was made under a tf.distribute strategy" if is_distributed else None


def _is_overridden(model: keras.Model, method: str) -> bool:
    """Say whether the model's class, or the model itself, has a method in place of Keras' own."""
    own = getattr(keras.Model, method)
    return getattr(type(model), method) is not own or method in vars(model)


def make_engine(
    model: keras.Model,
    *,
    steps_per_dispatch: Steps = "auto",
    class_weight: ClassWeight | None = None,
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
    steps = parse_steps(steps_per_dispatch)
    reason = "asked for" if is_plain else why_not_fused(model)
    if reason is not None:
        return PlainEngine(model, class_weight, reason=reason)
    if keras.backend.backend() == "jax":
        from kerash5.train.engines.jax._jax import JaxEngine

        return JaxEngine(model, class_weight, steps=steps)
    if keras.backend.backend() == "tensorflow":
        from kerash5.train.engines.tensorflow._tensorflow import TensorFlowEngine

        return TensorFlowEngine(model, class_weight, steps=steps)
    from kerash5.train.engines.torch._torch import TorchEngine

    return TorchEngine(model, class_weight, steps=steps)
