"""The ConvNet of the 2020 tutorial: three convolutions, no pooling, one large dense layer.

The comparison of backends uses it, so it must not change: 8,023,946 parameters for 28 x 28 x 1
images and 10 classes. Smaller models reach the same accuracy.
"""

from __future__ import annotations

import keras

from kerash5.zoo.models._parts import Scale, class_probabilities, require_image, scaled_input

FILTERS = (32, 64, 128)


def build(*, input_shape: tuple[int, ...], num_classes: int, scale: Scale = "auto") -> keras.Model:
    """Stack Conv 32-64-128 (3x3, relu, no padding), Dense 128 (relu) and a softmax.

    Args:
        input_shape: (height, width, channels); each convolution removes one pixel at every border.
        num_classes: Width of the softmax.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    require_image(input_shape, smallest=2 * len(FILTERS) + 1)
    inputs, x = scaled_input(input_shape, scale)
    for index, filters in enumerate(FILTERS, start=1):
        x = keras.layers.Conv2D(
            filters, 3, activation="relu", data_format="channels_last", name=f"conv{index}"
        )(x)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    x = keras.layers.Dense(128, activation="relu", name="dense")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="convnet")
