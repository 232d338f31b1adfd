"""A small MobileNetV2, after Sandler, Howard, Zhu, Zhmoginov and Chen (2018).

"MobileNetV2: inverted residuals and linear bottlenecks", CVPR. 106,394 parameters for 28 x 28 x 1
images and 10 classes. Simplified for small images: eight bottlenecks in four stages instead of
seventeen in seven, expansion 4 instead of 6, and a first convolution that keeps the size.
"""

from __future__ import annotations

import math
from typing import Final

import keras

from kerash5._checks import is_number
from kerash5._errors import OptionError
from kerash5.zoo.models._parts import (
    Scale,
    class_probabilities,
    conv_norm,
    depthwise_norm,
    flipped,
    require_image,
    scaled_input,
)

# Of each stage: filters, and strides of its first bottleneck.
STAGES: Final = ((16, 1), (24, 2), (32, 2), (64, 2))
EXPANSION: Final = 4


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: float = 1.0,
    blocks: int = 2,
    flip: bool = False,
    scale: Scale = "auto",
) -> keras.Model:
    """Stack four stages of inverted residuals, average pooling and a softmax.

    Args:
        input_shape: (height, width, channels), sides of at least 8 pixels; three stages halve them.
        num_classes: Width of the softmax.
        width: Factor on the filters of all stages, the paper's width multiplier.
        blocks: Bottlenecks of a stage.
        flip: Mirror images at random in training, left to right; not for digits or letters.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    if not is_number(width) or not (math.isfinite(width) and width > 0):
        raise OptionError(f"width={width!r}; pass a positive factor, such as 0.5")
    require_image(input_shape, smallest=8)
    stages = [(max(1, round(width * filters)), strides) for filters, strides in STAGES]
    inputs, x = scaled_input(input_shape, scale)
    x = conv_norm(flipped(x, flip), stages[0][0], 3, activation="relu6", name="stem")
    for stage, (filters, first_strides) in enumerate(stages, start=1):
        for block in range(blocks):
            strides = first_strides if block == 0 else 1
            x = _inverted_residual(x, filters, strides, name=f"stage{stage}_block{block + 1}")
    x = conv_norm(x, 4 * stages[-1][0], 1, activation="relu6", name="head")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="pool")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="mobilenet_small")


def _inverted_residual(
    x: keras.KerasTensor, filters: int, strides: int, *, name: str
) -> keras.KerasTensor:
    """Add a bottleneck: expand, filter each channel by itself, and project without activation."""
    shortcut = x
    x = conv_norm(x, EXPANSION * x.shape[-1], 1, activation="relu6", name=f"{name}_expand")
    x = depthwise_norm(x, 3, strides=strides, activation="relu6", name=f"{name}_depthwise")
    x = conv_norm(x, filters, 1, activation=None, name=f"{name}_project")
    if x.shape == shortcut.shape:
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return x
