"""TensorFlow's Adam kernel, instead of the dozen operations of Keras' update.

Results are equal up to rounding at every beta; `_private` says for which optimizers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, final

import keras
import numpy as np
import tensorflow as tf

# Relative to the dtype's rounding; an update rounds about a dozen times. Betas of 0.9 and 0.95 are
# within it in float32, 0.98 and above are not.
_MAX_ROUNDINGS: Final = 4


@final
class KernelAdam:
    """Keras' `update_step` of one variable, in one or a few operations.

    The kernel weighs a new moment by 1 - beta with a beta that is already rounded: in float32 this
    is off by 1.3e-5 at 0.999 and by 1.4e-3 at 0.99999. Such a moment is first updated by Keras'
    formula, and the kernel gets a beta of 1, which leaves the moment unchanged.

    Args:
        optimizer: Adam or AdamW.
        beta_powers: Returns the betas to the power of the step, in a dtype.
        index_of: Returns the index of a variable's slots.
        means: The first moments.
        squares: The second moments.
    """

    def __init__(
        self,
        optimizer: Any,  # noqa: ANN401  an Adam
        beta_powers: Callable[[Any, str], tuple[Any, Any]],
        index_of: Callable[[Any], int],
        means: Sequence[Any],
        squares: Sequence[Any],
    ) -> None:
        self._optimizer = optimizer
        self._plain = optimizer.update_step
        self._index_of = index_of
        self._means, self._squares = means, squares
        self._beta_powers = beta_powers
        self._scalars: dict[str, dict[str, Any]] = {}  # by dtype

    def begin(self) -> None:
        """Clear the cached learning rate and step number for the next update."""
        self._scalars.clear()

    def __call__(self, gradient: Any, variable: Any, learning_rate: Any) -> None:  # noqa: ANN401  tensors
        """Update a variable and its slots."""
        if self._optimizer.amsgrad or not isinstance(gradient, tf.Tensor):
            self._plain(gradient, variable, learning_rate)
            return
        index, dtype = self._index_of(variable), keras.utils.standardize_dtype(variable.dtype)
        mean, square = _native(self._means[index]), _native(self._squares[index])
        gradient = keras.ops.cast(gradient, dtype)
        tf.raw_ops.ResourceApplyAdam(
            beta1=self._advance(mean, lambda: gradient, self._optimizer.beta_1, dtype),
            beta2=self._advance(square, lambda: tf.square(gradient), self._optimizer.beta_2, dtype),
            var=_native(variable).handle,
            m=mean.handle,
            v=square.handle,
            grad=gradient,
            **self._scalars_of(dtype, learning_rate),
        )

    def _advance(self, moment: Any, value: Callable[[], Any], beta: float, dtype: str) -> Any:  # noqa: ANN401  tensors
        """Return the beta for the kernel; 1 if the moment was updated here."""
        if _is_complement_exact(beta, dtype):
            return tf.constant(beta, dtype)
        # Same bits as adding the difference with the opposite sign, with one operation less.
        tf.raw_ops.ResourceApplyGradientDescent(
            var=moment.handle, alpha=tf.constant(1 - beta, dtype), delta=moment - value()
        )
        return tf.constant(1, dtype)

    def _scalars_of(self, dtype: str, learning_rate: Any) -> dict[str, Any]:  # noqa: ANN401  a tensor
        if dtype not in self._scalars:
            first, second = self._beta_powers(self._optimizer, dtype)
            self._scalars[dtype] = {
                "beta1_power": first,
                "beta2_power": second,
                "lr": keras.ops.cast(learning_rate, dtype),
                "epsilon": tf.constant(self._optimizer.epsilon, dtype),
            }
        return self._scalars[dtype]


def _is_complement_exact(beta: float, dtype: Any) -> bool:  # noqa: ANN401  of any kind
    """Return whether 1 - beta is equal up to rounding if beta is rounded first."""
    name = keras.utils.standardize_dtype(dtype)
    rounded = 1.0 - float(np.asarray(beta, name))
    most = _MAX_ROUNDINGS * float(np.finfo(name).eps) * abs(1.0 - beta)
    return abs(rounded - (1.0 - beta)) <= most


def _native(variable: Any) -> Any:  # noqa: ANN401  a variable of Keras, or TensorFlow's in it
    return variable.value if isinstance(variable, keras.Variable) else variable
