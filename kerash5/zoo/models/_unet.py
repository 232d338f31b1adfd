"""A small U-Net for masks, after Ronneberger, Fischer and Brox (2015).

"U-Net: convolutional networks for biomedical image segmentation", MICCAI. 483,874 parameters for 1
channel and 2 classes. Simplified: 16 filters at the first level instead of 64, three halvings
instead of four, batch normalization, and padded convolutions, so that the mask has the size of the
image. Images are not augmented, because their masks would have to follow.
"""

from __future__ import annotations

import keras

from kerash5._checks import parse_count
from kerash5._errors import OptionError
from kerash5.zoo.models._parts import Scale, conv_norm, require_image, scaled_input


def build(
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    width: int = 16,
    depth: int = 3,
    scale: Scale = "auto",
) -> keras.Model:
    """Stack levels that halve the image, levels that double it again, and a softmax per pixel.

    The output has shape (n, height, width, num_classes).

    Args:
        input_shape: (height, width, channels), sides of at least 8 pixels; zeros are added at the
            right and at the bottom up to a multiple of 2**depth, and removed from the output.
        num_classes: Width of the softmax, at least 2.
        width: Filters of the first level; each further level has twice as many.
        depth: How often the image is halved.
        scale: Factor on the stored numbers; "auto" depends on their dtype.
    """
    if num_classes < 2:
        raise OptionError(
            f"num_classes={num_classes}; a mask has at least 2 classes, the background is one"
        )
    parse_count("width", width, "the number of filters of the first level")
    parse_count("depth", depth, "how often the image is halved")
    require_image(input_shape, smallest=8)
    inputs, x = scaled_input(input_shape, scale)
    missing = tuple((0, -side % (1 << depth)) for side in input_shape[:2])
    x = keras.layers.ZeroPadding2D(missing, data_format="channels_last", name="pad")(x)
    skips = []
    for level in range(depth):
        x = _two_convolutions(x, width << level, name=f"down{level + 1}")
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, data_format="channels_last", name=f"pool{level + 1}")(x)
    x = _two_convolutions(x, width << depth, name="bottom")
    for level in reversed(range(depth)):
        x = _double(x, width << level, name=f"up{level + 1}")
        x = keras.layers.Concatenate(name=f"skip{level + 1}")([skips[level], x])
        x = _two_convolutions(x, width << level, name=f"up{level + 1}")
    x = keras.layers.Cropping2D(missing, data_format="channels_last", name="crop")(x)
    classes = keras.layers.Conv2D(
        num_classes,
        1,
        activation="softmax",
        data_format="channels_last",
        dtype="float32",
        name="classes",
    )
    return keras.Model(inputs, _with_planes(classes(x)), name="unet_small")


def _with_planes(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return the same values, in memory one plane per class.

    Keras' cross-entropy of class ids calls PyTorch's `nll_loss`, whose gradient for images fails
    otherwise: "grad_input must be contiguous" (Keras 3.15.1, PyTorch 2.13.0).
    """
    _, height, width, classes = x.shape
    x = keras.layers.Permute((3, 1, 2), dtype="float32", name="planes")(x)
    # Flattening permuted values makes a copy, which is what matters.
    x = keras.layers.Reshape((classes * height * width,), dtype="float32", name="copy")(x)
    x = keras.layers.Reshape((classes, height, width), dtype="float32", name="sides")(x)
    return keras.layers.Permute((2, 3, 1), dtype="float32", name="pixels")(x)


def _two_convolutions(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    for index in (1, 2):
        x = conv_norm(x, filters, 3, name=f"{name}_conv{index}")
    return x


def _double(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    """Make 2 x 2 pixels of each."""
    layer = keras.layers.Conv2DTranspose(
        filters, 2, strides=2, data_format="channels_last", name=f"{name}_double"
    )
    return layer(x)
