"""Layers that several families share, and the checks of shapes and widths.

These are functions that add layers, not custom layers: a saved model then contains only what Keras
can load in its safe mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import keras

from kerash5._checks import is_whole
from kerash5._errors import OptionError, ShapeError
from kerash5.feeds._scale import OPEN, RAW_BYTES, SCALE_LAYER, UNSCALE_LAYER

Scale: TypeAlias = float | Literal["auto"]


def scaled_input(
    input_shape: tuple[int, ...], scale: Scale
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the model's input, and the input multiplied by `scale`.

    uint8 rows are sent to the device as uint8 and cast there, by the first layers of the model.
    """
    if scale != "auto" and not _is_factor(scale):
        raise OptionError(
            f"scale={scale!r}; pass a number other than 0, such as 1/255 or 1.0, or 'auto'"
        )
    # Not dtype="uint8": Keras 3.15.1 casts inputs to the input's dtype, so float rows would
    # silently lose their fractions, and 300.0 would become 44 (255 in JAX' predict).
    inputs = keras.Input(input_shape, name="x")
    layer = keras.layers.Rescaling(RAW_BYTES if scale == "auto" else scale, name=SCALE_LAYER)
    setattr(layer, OPEN, scale == "auto")  # fixed by the first data the model is used with
    return inputs, layer(inputs)


def _is_factor(scale: object) -> bool:
    """Return whether `scale` is a finite number other than 0."""
    return isinstance(scale, int | float) and math.isfinite(scale) and scale != 0


def unscaled_output(x: keras.KerasTensor, scale: Scale) -> keras.KerasTensor:
    """Return x divided by `scale`: outputs in the unit of the stored rows, in float32."""
    factor = RAW_BYTES if scale == "auto" else scale
    return keras.layers.Rescaling(1 / factor, dtype="float32", name=UNSCALE_LAYER)(x)


def class_probabilities(x: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """Return softmax probabilities, shape (n, num_classes), in float32 under every precision."""
    output = keras.layers.Dense(num_classes, activation="softmax", dtype="float32", name="classes")
    return output(x)


def conv_norm(
    x: keras.KerasTensor,
    filters: int,
    side: int,
    *,
    name: str,
    strides: int = 1,
    activation: str | None = "relu",
) -> keras.KerasTensor:
    """Add a padded convolution without bias, batch normalization and an activation.

    Args:
        x: Images, shape (n, height, width, channels).
        filters: Number of filters.
        side: Pixels along each side of a filter.
        name: Prefix of the names of the layers.
        strides: 2 halves the image.
        activation: Name of the activation; None for none.
    """
    x = keras.layers.Conv2D(
        filters,
        side,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        data_format="channels_last",
        name=name,
    )(x)
    return _norm(x, activation, name)


def depthwise_norm(
    x: keras.KerasTensor, side: int, *, name: str, strides: int = 1, activation: str | None = "relu"
) -> keras.KerasTensor:
    """Add the same as `conv_norm`, with a filter of its own for each channel."""
    x = keras.layers.DepthwiseConv2D(
        side,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        data_format="channels_last",
        name=name,
    )(x)
    return _norm(x, activation, name)


def _norm(x: keras.KerasTensor, activation: str | None, name: str) -> keras.KerasTensor:
    # Not 0.99, Keras' default: its averages need more steps than a short training has.
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    if activation is None:
        return x
    return keras.layers.Activation(activation, name=f"{name}_{activation}")(x)


def flipped(x: keras.KerasTensor, flip: object) -> keras.KerasTensor:
    """Return images that are mirrored at random in training, left to right, if `flip` is True."""
    if not isinstance(flip, bool):
        raise OptionError(f"flip={flip!r}; pass True or False")
    if not flip:
        return x
    return keras.layers.RandomFlip("horizontal", data_format="channels_last", name="flip")(x)


def parse_widths(name: str, widths: object, meaning: str, *, least: int = 1) -> tuple[int, ...]:
    """Return a sequence of positive integers as a tuple.

    Args:
        name: Name of the option.
        widths: The value given.
        meaning: The meaning of the option with an example, for the message.
        least: The smallest number of values.

    Raises:
        OptionError: It is no such sequence.
    """
    given = tuple(widths) if isinstance(widths, Sequence) else (0,)
    if len(given) < least or not all(is_whole(each) and each > 0 for each in given):
        raise OptionError(f"{name}={widths!r}; pass {meaning}")
    return tuple(int(each) for each in given)


def require_series(input_shape: tuple[int, ...]) -> None:
    """Raise unless rows are series: (steps,) or (steps, channels).

    Raises:
        ShapeError: They are not.
    """
    if len(input_shape) in (1, 2):
        return
    is_gray = len(input_shape) == 3 and input_shape[2] == 1
    cure = (
        f"Column(path, shape={input_shape[:2]}) would fit"
        if is_gray
        else 'the model "mlp" accepts rows of any shape'
    )
    raise ShapeError(
        "this model needs series of shape (steps,) or (steps, channels), at least (1,), not "
        f"input_shape={input_shape}; {cure}"
    )


def require_points(input_shape: tuple[int, ...]) -> None:
    """Raise unless rows are sets of points: (points, features).

    Raises:
        ShapeError: They are not.
    """
    if len(input_shape) == 2:
        return
    cure = (
        f"Column(path, shape=({input_shape[0]}, 1)) would be points of one feature"
        if len(input_shape) == 1
        else 'the model "mlp" accepts rows of any shape'
    )
    raise ShapeError(
        "this model needs sets of points of shape (points, features), at least (1, 1), not "
        f"input_shape={input_shape}; {cure}"
    )


def require_image(input_shape: tuple[int, ...], *, smallest: int) -> None:
    """Raise unless rows are images, channels last, with sides of at least `smallest` pixels.

    Raises:
        ShapeError: They are not; the message names a column shape that fits, if there is one.
    """
    if _is_image(input_shape, smallest):
        return
    fitting = _fitting_shape(input_shape, smallest)
    cure = (
        f'Column("image", shape={fitting}) would fit'
        if fitting
        else 'the model "mlp" accepts rows of any shape'
    )
    raise ShapeError(
        f"this model needs images of shape (height, width, channels) with sides of at least "
        f"{smallest} pixels, not input_shape={input_shape}; {cure}"
    )


def _is_image(shape: Sequence[int], smallest: int) -> bool:
    """Return whether this is (height, width, channels), and large enough."""
    return len(shape) == 3 and min(shape[:2]) >= smallest


def _fitting_shape(input_shape: tuple[int, ...], smallest: int) -> tuple[int, ...] | None:
    """Return an image shape with the same numbers in the same order: one channel, or a square."""
    sides = tuple(side for side in input_shape if side != 1)
    if len(sides) == 1:
        sides = (math.isqrt(sides[0]),) * 2
    image = (*sides, 1) if len(sides) == 2 else sides
    same_size = math.prod(image) == math.prod(input_shape)
    return image if same_size and _is_image(image, smallest) else None
