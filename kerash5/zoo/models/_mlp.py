"""A multi-layer perceptron: accepts rows of any shape, and is the fastest to train.

It ignores neighbourhood: permuting the pixels of all images alike does not change the results.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kerash5.zoo.models._parts import Scale, class_probabilities, parse_widths, scaled_input


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
    meaning = "the widths of the hidden layers, such as (128, 64)"
    widths = parse_widths("hidden", hidden, meaning, least=0)
    inputs, x = scaled_input(input_shape, scale)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    for index, units in enumerate(widths, start=1):
        x = keras.layers.Dense(units, activation="relu", name=f"dense{index}")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="mlp")
