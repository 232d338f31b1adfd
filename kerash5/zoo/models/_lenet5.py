"""LeNet-5, after LeCun, Bottou, Bengio and Haffner (1998).

"Gradient-based learning applied to document recognition", Proceedings of the IEEE 86 (11). This is
the modern variant: relu instead of tanh, max pooling instead of trained averages, all maps
connected, and a softmax instead of radial units. The layer sizes are those of the paper.
"""

from __future__ import annotations

import keras

from kerash5.zoo.models._parts import Scale, class_probabilities, require_image, scaled_input

# Pixels. The paper centres its 28 x 28 digits on this field, so that strokes near the border are
# whole.
FIELD = 32


def build(*, input_shape: tuple[int, ...], num_classes: int, scale: Scale = "auto") -> keras.Model:
    """Stack Conv 6 (5x5), pool, Conv 16 (5x5), pool, Dense 120, Dense 84 and a softmax.

    Args:
        input_shape: (height, width, channels); sides below 32 are padded with zeros to 32.
        num_classes: Width of the softmax.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    require_image(input_shape, smallest=1)
    inputs, x = scaled_input(input_shape, scale)
    padding = tuple(_margins(side) for side in input_shape[:2])
    x = keras.layers.ZeroPadding2D(padding, data_format="channels_last", name="pad")(x)
    for index, filters in enumerate((6, 16), start=1):
        x = keras.layers.Conv2D(
            filters, 5, activation="relu", data_format="channels_last", name=f"conv{index}"
        )(x)
        x = keras.layers.MaxPooling2D(2, data_format="channels_last", name=f"pool{index}")(x)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    for index, units in enumerate((120, 84), start=1):
        x = keras.layers.Dense(units, activation="relu", name=f"dense{index}")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="lenet5")


def _margins(side: int) -> tuple[int, int]:
    """Return the numbers of zeros before and after a side that centre it on the field."""
    missing = max(0, FIELD - side)
    return missing // 2, missing - missing // 2
