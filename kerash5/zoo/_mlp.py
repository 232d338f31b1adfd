"""A multi-layer perceptron: accepts rows of any shape, and is the fastest to train.

It ignores neighbourhood: permuting the pixels of all images alike does not change the results.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kerash5._checks import is_whole
from kerash5._errors import OptionError
from kerash5.zoo._parts import Scale, class_probabilities, scaled_input


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    hidden: Sequence[int] = (128, 64),
    scale: Scale = "auto",
) -> keras.Model:
    """Stack one Dense (relu) per hidden width, and a softmax.

    Args:
        input_shape: Any shape; rows are flattened.
        num_classes: Width of the softmax.
        hidden: Widths of the hidden layers, first to last; () gives logistic regression.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    widths = _parse_hidden(hidden)
    inputs, x = scaled_input(input_shape, scale)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    for index, units in enumerate(widths, start=1):
        x = keras.layers.Dense(units, activation="relu", name=f"dense{index}")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="mlp")


def _parse_hidden(hidden: object) -> tuple[int, ...]:
    """Check that the widths are positive integers."""
    widths = tuple(hidden) if isinstance(hidden, Sequence) else (0,)
    if not all(is_whole(units) and units > 0 for units in widths):
        raise OptionError(
            f"hidden={hidden!r}; pass the widths of the hidden layers, such as (128, 64)"
        )
    return widths
