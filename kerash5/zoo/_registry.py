"""The names of the models, and the one door through which they are built.

A `Family` names a function that is imported only when it is called, so listing the models costs no
Keras. The families say which layers there are; compiling is done here, alike for all.
"""

from __future__ import annotations

import difflib
import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, SupportsIndex

from kerash5._backends import prepare_keras
from kerash5._errors import OptionError, ShapeError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Family:
    """A way to build a model, named but not imported yet."""

    target: str  # "module:function"
    about: str  # one line, for people
    takes_images: bool = False  # rows of shape (height, width, channels)

    def load(self) -> Callable[..., keras.Model]:
        """Import the function that stacks the layers; this is what imports Keras."""
        prepare_keras()
        module, function = self.target.split(":")
        return getattr(import_module(module), function)  # type: ignore[no-any-return]  # by name


_FAMILIES: Mapping[str, Family] = {
    "convnet": Family(
        "kerash5.zoo._convnet:build",
        "three 3x3 convolutions (32, 64, 128) and Dense 128; images of at least 7 x 7 pixels",
        takes_images=True,
    ),
    "lenet5": Family(
        "kerash5.zoo._lenet5:build",
        "LeCun's LeNet-5 of 1998 with relu and max pooling; images of any size",
        takes_images=True,
    ),
    "mlp": Family(
        "kerash5.zoo._mlp:build",
        "dense layers, hidden=(128, 64) unless told otherwise; rows of any shape",
    ),
}


def names() -> tuple[str, ...]:
    """Return the names that `build` knows, in alphabetical order."""
    return tuple(sorted(_FAMILIES))


def describe(name: str) -> str:
    """Say in one line what the model of this name is.

    Raises:
        OptionError: There is no such model.
    """
    return _family(name).about


def suited_shape(name: str, row_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which rows of `row_shape` enter this model.

    Images without a channel axis get one: (28, 28) becomes (28, 28, 1). Others stay as they are.

    Raises:
        OptionError: There is no such model.
    """
    needs_axis = _family(name).takes_images and len(row_shape) == 2
    return (*row_shape, 1) if needs_axis else row_shape


def build(
    name: str,
    *,
    input_shape: Sequence[int],
    num_classes: int,
    learning_rate: float = 1e-3,
    **options: object,
) -> keras.Model:
    """Build and compile a classifier: Adam, cross-entropy, metric "accuracy".

    Labels are class ids, shape (n,) or (n, 1), or one-hot, shape (n, num_classes).

    Every model takes the stored numbers as they are, uint8 included, and multiplies them by `scale`
    on the device. It ends in a softmax: one probability per class, shape (n, num_classes), float32.

    Args:
        name: One of `names()`.
        input_shape: Shape of one row, without the batch axis; channels last.
        num_classes: How many classes there are; class ids lie in [0, num_classes).
        learning_rate: Adam's step size.
        **options: What the family takes besides: `scale` (all; a number, or "auto", the default:
            1/255 for stored uint8, 1/65535 for uint16, 1.0 for other types, taken from the first
            `H5Dataset` or `H5DataModule` that the model meets, and 1/255 until then) and `hidden`
            ("mlp"; widths of the hidden layers).

    Returns:
        A compiled `keras.Model`, which can still `compile`, `fit` and `save`.

    Raises:
        OptionError: No such model or option, or a value that makes no sense.
        ShapeError: The model cannot take rows of this shape.

    Example:
        >>> build("convnet", input_shape=(28, 28, 1), num_classes=10).count_params()
        8023946
    """
    family = _family(name)
    shape = _parse_shape(input_shape)
    classes = _parse_num_classes(num_classes)
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise OptionError(f"learning_rate must be a positive number, not {learning_rate!r}")
    stack = family.load()
    _check_options(name, stack, options)
    return _compile(stack(input_shape=shape, num_classes=classes, **options), learning_rate)


def _compile(model: keras.Model, learning_rate: float) -> keras.Model:
    """Compile in place: the same optimizer, loss and metric for every family."""
    import keras  # here, not above: listing the models needs no Keras

    is_single = model.output_shape[-1] == 1  # for which Keras would choose the binary forms
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=learning_rate),
        # Keras chooses the sparse or the categorical form by the shape of the labels.
        loss="sparse_categorical_crossentropy" if is_single else "crossentropy",
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy") if is_single else "accuracy"
        ],
    )
    return model


def _family(name: str) -> Family:
    """Look the name up, or say which names are near."""
    try:
        return _FAMILIES[name]
    except KeyError:
        raise OptionError(f"there is no model {name!r}; {_suggest(name, names())}") from None


def _suggest(word: str, known: Sequence[str]) -> str:
    """Say which of the known words were probably meant, else list them all."""
    near = difflib.get_close_matches(word, known)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"there are {', '.join(map(repr, known))}"


def _parse_shape(input_shape: Sequence[SupportsIndex]) -> tuple[int, ...]:
    """Check that the shape of a row is a sequence of at least one positive whole number."""
    try:
        shape = tuple(map(operator.index, input_shape))
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ShapeError(
            "input_shape must be the shape of one row in positive whole numbers, such as "
            f"(28, 28, 1), not {input_shape!r}"
        )
    return shape


def _parse_num_classes(num_classes: SupportsIndex) -> int:
    """Check that there is at least one class."""
    try:
        number = operator.index(num_classes)
    except TypeError:
        number = 0
    if number < 1:
        raise OptionError(f"num_classes must be a whole number of at least 1, not {num_classes!r}")
    return number


def _check_options(
    name: str, stack: Callable[..., keras.Model], options: Mapping[str, object]
) -> None:
    """Refuse an option that this family does not have."""
    known = sorted(inspect.signature(stack).parameters.keys() - {"input_shape", "num_classes"})
    for option in options:
        if option not in known:
            raise OptionError(f"model {name!r} has no option {option!r}; {_suggest(option, known)}")
