"""TensorFlow's Adam kernel in place of the dozen operations that Keras' update is spelled out in.

The same numbers to rounding at every beta; `_private` says for which optimizers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import keras
import numpy as np

# Of the dtype's own rounding; an update rounds about a dozen times. Betas of 0.9 and 0.95 keep to
# it in float32, 0.98 and those above do not.
_MAX_ROUNDINGS: Final = 4


def update_by_kernel(
    optimizer: Any,  # noqa: ANN401  an Adam
    index_of: Callable[[Any], int],
    means: Sequence[Any],
    squares: Sequence[Any],
) -> Callable[..., None]:
    """Return an `update_step` of one variable by one operation, or by a few.

    The kernel weighs what is new in a moment by 1 - beta, of a beta that is rounded already: in
    float32 that is off by 1.3e-5 at 0.999 and by 1.4e-3 at 0.99999. Such a moment is updated by
    Keras' own formula first, and the kernel, given a beta of 1, leaves it as it is.

    Args:
        optimizer: Adam or AdamW.
        index_of: Returns the index of a variable's slots.
        means: The first moments.
        squares: The second moments.
    """
    import tensorflow as tf

    plain = optimizer.update_step

    def update(gradient: Any, variable: Any, learning_rate: Any) -> None:  # noqa: ANN401  tensors
        if optimizer.amsgrad or not isinstance(gradient, tf.Tensor):
            plain(gradient, variable, learning_rate)
            return
        index, dtype = index_of(variable), variable.dtype
        mean, square = means[index], squares[index]
        first, second = beta_powers(optimizer, dtype)
        gradient = keras.ops.cast(gradient, dtype)

        def advance(moment: Any, beta: float, power: int) -> float:  # noqa: ANN401  a slot
            if _is_complement_exact(beta, dtype):
                return beta
            value = gradient if power == 1 else keras.ops.square(gradient)
            change = keras.ops.multiply(keras.ops.subtract(value, moment), 1 - beta)
            optimizer.assign_add(moment, change)
            return 1.0

        tf.raw_ops.ResourceApplyAdam(
            beta1=keras.ops.cast(advance(mean, optimizer.beta_1, 1), dtype),
            beta2=keras.ops.cast(advance(square, optimizer.beta_2, 2), dtype),
            var=_native(variable).handle,
            m=_native(mean).handle,
            v=_native(square).handle,
            beta1_power=first,
            beta2_power=second,
            lr=keras.ops.cast(learning_rate, dtype),
            epsilon=keras.ops.cast(optimizer.epsilon, dtype),
            grad=gradient,
        )

    return update


def beta_powers(optimizer: Any, dtype: Any) -> tuple[Any, Any]:  # noqa: ANN401  tensors
    """Return the two betas to the power of the step, as Keras' update computes them."""
    ops = keras.ops
    step = ops.cast(optimizer.iterations + 1, dtype)
    betas = (optimizer.beta_1, optimizer.beta_2)
    first, second = (ops.power(ops.cast(beta, dtype), step) for beta in betas)
    return first, second


def _is_complement_exact(beta: float, dtype: Any) -> bool:  # noqa: ANN401  of any kind
    """Say whether 1 - beta is the same to rounding where beta is rounded before the difference."""
    name = keras.utils.standardize_dtype(dtype)
    rounded = 1.0 - float(np.asarray(beta, name))
    most = _MAX_ROUNDINGS * float(np.finfo(name).eps) * abs(1.0 - beta)
    return abs(rounded - (1.0 - beta)) <= most


def _native(variable: Any) -> Any:  # noqa: ANN401  a variable of Keras, or TensorFlow's in it
    return variable.value if isinstance(variable, keras.Variable) else variable
