"""ConvNeXt Pico, after Liu, Mao, Wu, Feichtenhofer, Darrell and Xie (2022).

"A ConvNet for the 2020s", CVPR; the size "pico" (2, 2, 6, 2 blocks of 64, 128, 256, 512 filters) is
that of the library timm. 8,532,810 parameters for 28 x 28 x 1 images and 10 classes. Simplified: no
layer scale and no stochastic depth, which matter for deeper networks and longer training.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kerash5._errors import OptionError
from kerash5.zoo.models._parts import (
    Scale,
    class_probabilities,
    flipped,
    parse_widths,
    require_image,
    scaled_input,
)


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (2, 2, 6, 2),
    flip: bool = False,
    scale: Scale = "auto",
) -> keras.Model:
    """Stack patches of 4 x 4 pixels, stages of ConvNeXt blocks, average pooling and a softmax.

    Args:
        input_shape: (height, width, channels), sides of at least 4 pixels; all stages but the first
            halve the grid of patches.
        num_classes: Width of the softmax.
        widths: Filters of each stage.
        depths: Blocks of each stage.
        flip: Mirror images at random in training, left to right; not for digits or letters.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    widths = parse_widths("widths", widths, "the filters of each stage, such as (64, 128)")
    depths = parse_widths("depths", depths, "the blocks of each stage, such as (2, 2)")
    if len(widths) != len(depths):
        raise OptionError(
            f"widths={widths} and depths={depths} differ in length; give both for each stage"
        )
    require_image(input_shape, smallest=4)
    inputs, x = scaled_input(input_shape, scale)
    x = _patches(flipped(x, flip), widths[0], 4, name="stem")
    x = _normalize(x, name="stem_norm")
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        if stage > 1:
            x = _patches(_normalize(x, name=f"down{stage}_norm"), width, 2, name=f"down{stage}")
        for block in range(depth):
            x = _block(x, width, name=f"stage{stage}_block{block + 1}")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="pool")(x)
    x = _normalize(x, name="norm")
    return keras.Model(inputs, class_probabilities(x, num_classes), name="convnext_pico")


def _patches(x: keras.KerasTensor, width: int, side: int, *, name: str) -> keras.KerasTensor:
    """Make one pixel of `side` x `side` pixels; zeros are added at the border if some are left."""
    layer = keras.layers.Conv2D(
        width, side, strides=side, padding="same", data_format="channels_last", name=name
    )
    return layer(x)


def _normalize(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _block(x: keras.KerasTensor, width: int, *, name: str) -> keras.KerasTensor:
    """Add a block: filter each channel over 7 x 7 pixels, then mix the channels of each pixel."""
    shortcut = x
    x = keras.layers.DepthwiseConv2D(
        7, padding="same", data_format="channels_last", name=f"{name}_depthwise"
    )(x)
    x = _normalize(x, name=f"{name}_norm")
    x = keras.layers.Dense(4 * width, activation="gelu", name=f"{name}_expand")(x)
    x = keras.layers.Dense(width, name=f"{name}_project")(x)
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])
