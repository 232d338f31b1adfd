"""The fully convolutional network for series of Wang, Yan and Oates (2017).

"Time series classification from scratch with deep neural networks: a strong baseline", IJCNN. For
windows of sensors, spectra and other curves. 294,154 parameters for 28 steps of 28 channels and 10
classes. The layers are those of the paper, without the biases that the normalization removes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import keras

from kerash5._errors import OptionError
from kerash5.zoo.models._parts import (
    Scale,
    class_probabilities,
    parse_widths,
    require_series,
    scaled_input,
)

KERNELS: Final = (8, 5, 3)


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    filters: Sequence[int] = (128, 256, 128),
    scale: Scale = "auto",
) -> keras.Model:
    """Stack convolutions over 8, 5 and 3 steps, average over all steps, and add a softmax.

    Args:
        input_shape: (steps,) or (steps, channels), any number of steps.
        num_classes: Width of the softmax.
        filters: Filters of the three convolutions.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    widths = parse_widths("filters", filters, "three numbers, such as (128, 256, 128)")
    if len(widths) != len(KERNELS):
        raise OptionError(f"filters={filters!r}; pass three numbers, such as (128, 256, 128)")
    require_series(input_shape)
    inputs, x = scaled_input(input_shape, scale)
    if len(input_shape) == 1:
        x = keras.layers.Reshape((*input_shape, 1), name="channel")(x)
    for index, (width, kernel) in enumerate(zip(widths, KERNELS, strict=True), start=1):
        x = keras.layers.Conv1D(
            width,
            kernel,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            name=f"conv{index}",
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm{index}")(x)
        x = keras.layers.Activation("relu", name=f"relu{index}")(x)
    x = keras.layers.GlobalAveragePooling1D(data_format="channels_last", name="pool")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="conv1d")
