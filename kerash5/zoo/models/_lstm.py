"""A recurrent network of LSTM cells, after Hochreiter and Schmidhuber (1997).

"Long short-term memory", Neural Computation 9 (8). For windows and sequences in which the order
matters over long distances. 24,458 parameters for 28 steps of 28 channels and 10 classes. The cells
have forget gates (Gers, Schmidhuber and Cummins, 2000), as in every library today.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kerash5.zoo.models._parts import (
    Scale,
    class_probabilities,
    parse_widths,
    require_series,
    scaled_input,
)


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    units: Sequence[int] = (64,),
    scale: Scale = "auto",
) -> keras.Model:
    """Stack one LSTM per number of units, and a softmax on the state after the last step.

    Args:
        input_shape: (steps,) or (steps, channels), any number of steps.
        num_classes: Width of the softmax.
        units: Units of each LSTM, first to last.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    widths = parse_widths("units", units, "the units of each LSTM, such as (64,)")
    require_series(input_shape)
    inputs, x = scaled_input(input_shape, scale)
    if len(input_shape) == 1:
        x = keras.layers.Reshape((*input_shape, 1), name="channel")(x)
    for index, width in enumerate(widths, start=1):
        is_last = index == len(widths)
        x = keras.layers.LSTM(width, return_sequences=not is_last, name=f"lstm{index}")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="lstm")
