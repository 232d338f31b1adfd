"""ResNet-20, after He, Zhang, Ren and Sun (2016).

"Deep residual learning for image recognition", CVPR, section 4.2: the network for CIFAR-10, three
stages of three blocks. 274,042 parameters for 32 x 32 x 3 images and 10 classes. Simplified: where
the shape changes, the shortcut is a 1x1 convolution (the paper's option B) and not padded with
zeros; images are not shifted at random in training.
"""

from __future__ import annotations

import keras

from kerash5.zoo.models._parts import (
    Scale,
    class_probabilities,
    conv_norm,
    flipped,
    require_image,
    scaled_input,
)


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 16,
    blocks: int = 3,
    flip: bool = False,
    scale: Scale = "auto",
) -> keras.Model:
    """Stack a convolution, three stages of residual blocks, average pooling and a softmax.

    Args:
        input_shape: (height, width, channels), sides of at least 4 pixels; the second and the
            third stage halve them.
        num_classes: Width of the softmax.
        width: Filters of the first stage; each further stage has twice as many.
        blocks: Blocks of a stage; the network has 6 * blocks + 2 layers.
        flip: Mirror images at random in training, left to right; not for digits or letters.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    require_image(input_shape, smallest=4)
    inputs, x = scaled_input(input_shape, scale)
    x = conv_norm(flipped(x, flip), width, 3, name="stem")
    for stage in range(3):
        for block in range(blocks):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _residual_block(
                x, width << stage, strides, name=f"stage{stage + 1}_block{block + 1}"
            )
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="pool")(x)
    return keras.Model(inputs, class_probabilities(x, num_classes), name="resnet20")


def _residual_block(
    x: keras.KerasTensor, filters: int, strides: int, *, name: str
) -> keras.KerasTensor:
    """Add two convolutions and their shortcut."""
    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = conv_norm(
            x, filters, 1, strides=strides, activation=None, name=f"{name}_shortcut"
        )
    x = conv_norm(x, filters, 3, strides=strides, name=f"{name}_conv1")
    x = conv_norm(x, filters, 3, activation=None, name=f"{name}_conv2")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)
