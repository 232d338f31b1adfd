"""First and last layers, which all families share, and the check of image shapes.

These are functions that add layers, not custom layers: a saved model then contains only what Keras
can load in its safe mode.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import keras

from kerash5._errors import OptionError, ShapeError
from kerash5.feeds._scale import OPEN, RAW_BYTES, SCALE_LAYER

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def class_probabilities(x: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """Return softmax probabilities, shape (n, num_classes), in float32 under every precision."""
    output = keras.layers.Dense(num_classes, activation="softmax", dtype="float32", name="classes")
    return output(x)


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
