"""Deep Sets, after Zaheer, Kottur, Ravanbakhsh, Poczos, Salakhutdinov and Smola (2017).

"Deep sets", NeurIPS; for jets also known as particle flow networks (Komiske, Metodiev and Thaler,
2019). The order of the points does not change the result. 25,802 parameters for points of 3
features and 10 classes. Points whose features are all 0 are padding and do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kerash5.zoo.models._parts import (
    Scale,
    class_probabilities,
    parse_widths,
    require_points,
    scaled_input,
)


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    point: Sequence[int] = (64, 64, 128),
    cloud: Sequence[int] = (64, 64),
    scale: Scale = "auto",
) -> keras.Model:
    """Apply the same perceptron to each point, average, and add a second one and a softmax.

    The average is over all of `points`, padding included as zeros, so that the number of points
    that are no padding enters the result, as a sum's would.

    Args:
        input_shape: (points, features).
        num_classes: Width of the softmax.
        point: Widths of the perceptron of each point.
        cloud: Widths of the perceptron behind the average.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    meaning = "the widths of its layers, such as (64, 64)"
    point_widths = parse_widths("point", point, meaning, least=0)
    cloud_widths = parse_widths("cloud", cloud, meaning, least=0)
    require_points(input_shape)
    inputs, x = scaled_input(input_shape, scale)
    is_point = keras.ops.any(keras.ops.not_equal(x, 0), axis=-1, keepdims=True)
    for index, width in enumerate(point_widths, start=1):
        x = keras.layers.Dense(width, activation="relu", name=f"point{index}")(x)
    x = keras.ops.where(is_point, x, 0.0)
    x = keras.layers.GlobalAveragePooling1D(data_format="channels_last", name="pool")(x)
    for index, width in enumerate(cloud_widths, start=1):
        x = keras.layers.Dense(width, activation="relu", name=f"cloud{index}")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="deepsets")
