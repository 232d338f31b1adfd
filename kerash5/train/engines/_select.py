"""Select the engine of a model, and say why not a faster one."""

from __future__ import annotations

import keras

from kerash5.train.engines._plain import PlainEngine
from kerash5.train.engines.common._engine import AbstractEngine, Steps, parse_steps
from kerash5.train.engines.common._private import STATE_METHODS
from kerash5.train.engines.common._weights import ClassWeight


def why_not_fused(model: keras.Model) -> str | None:
    """Return why this model's steps must run one by one through Keras; None if they need not.

    Args:
        model: A compiled model.
    """
    if model.run_eagerly:
        return "the model was compiled with run_eagerly=True"
    if _is_overridden(model, "make_train_function"):
        return "the model overrides make_train_function"
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
            return f"the model overrides {method}"
    if keras.config.is_nnx_enabled():
        return "Keras runs under NNX"
    return None


def _why_not_tensorflow(model: keras.Model) -> str | None:
    import tensorflow as tf

    is_default = isinstance(model.distribute_strategy, type(tf.distribute.get_strategy()))
    is_distributed = tf.distribute.has_strategy() or not is_default
    return "the model was created under a tf.distribute strategy" if is_distributed else None


def _is_overridden(model: keras.Model, method: str) -> bool:
    """Return whether the model's class, or the instance, overrides a method of Keras."""
    own = getattr(keras.Model, method)
    return getattr(type(model), method) is not own or method in vars(model)


def make_engine(
    model: keras.Model,
    *,
    steps_per_dispatch: Steps = "auto",
    class_weight: ClassWeight | None = None,
    is_plain: bool = False,
) -> AbstractEngine:
    """Return the fastest engine that supports this model.

    Args:
        model: A compiled model.
        steps_per_dispatch: Steps per call of the device; "auto" grows from 1 until the overhead of
            calls is below 2 % of the time.
        class_weight: Maps a class id to its weight; other classes have weight 1.
        is_plain: Use the plain engine for every model.

    Raises:
        OptionError: An argument is invalid.
    """
    steps = parse_steps(steps_per_dispatch)
    reason = "requested" if is_plain else why_not_fused(model)
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
