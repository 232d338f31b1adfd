"""A deep autoencoder, after Hinton and Salakhutdinov (2006).

"Reducing the dimensionality of data with neural networks", Science 313. The target is the input:
y = x. 222,384 parameters for 784 numbers. Simplified: relu instead of logistic units, narrower
layers, and no pre-training of each layer; the code layer has no activation, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from kerash5._checks import parse_count
from kerash5.zoo.models._parts import Scale, parse_widths, scaled_input, unscaled_output


def build(
    *,
    input_shape: tuple[int, ...],
    hidden: Sequence[int] = (128, 64),
    code: int = 32,
    scale: Scale = "auto",
) -> keras.Model:
    """Stack Dense layers down to the code, and the same layers back up to the input's shape.

    The output has the shape and the unit of the stored rows: for uint8 images it is about 0 to 255.

    Args:
        input_shape: Any shape; rows are flattened, and the output has this shape again.
        hidden: Widths of the layers before the code, first to last; behind it they are reversed.
        code: Number of values in the code, the output of the layer "code".
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    meaning = "the widths of the hidden layers, such as (128, 64)"
    widths = parse_widths("hidden", hidden, meaning, least=0)
    parse_count("code", code, "the number of values in the code")
    inputs, x = scaled_input(input_shape, scale)
    x = keras.layers.Flatten(data_format="channels_last", name="flatten")(x)
    for index, width in enumerate(widths, start=1):
        x = keras.layers.Dense(width, activation="relu", name=f"encode{index}")(x)
    x = keras.layers.Dense(code, name="code")(x)
    for index, width in reversed(list(enumerate(widths, start=1))):
        x = keras.layers.Dense(width, activation="relu", name=f"decode{index}")(x)
    x = keras.layers.Dense(math.prod(input_shape), dtype="float32", name="flat")(x)
    x = keras.layers.Reshape(input_shape, dtype="float32", name="rows")(x)
    return keras.Model(inputs, unscaled_output(x, scale), name="autoencoder")
