"""Names of the models, and the function that builds them.

A `Family` names a function that is imported only when it is called, so listing the models does not
import Keras. Families add the layers; all models are compiled here, in the same way.
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
    """A model family: names the function that builds it, without importing it."""

    target: str  # "module:function"
    about: str  # one-line description
    takes_images: bool = False  # rows of shape (height, width, channels)

    def load(self) -> Callable[..., keras.Model]:
        """Import the function that adds the layers; this imports Keras."""
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
        "dense layers, hidden=(128, 64) by default; rows of any shape",
    ),
}


def names() -> tuple[str, ...]:
    """Return the names that `build` accepts, in alphabetical order."""
    return tuple(sorted(_FAMILIES))


def describe(name: str) -> str:
    """Return a one-line description of a model.

    Raises:
        OptionError: There is no such model.
    """
    return _family(name).about


def suited_shape(name: str, row_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which rows of `row_shape` enter this model.

    Images without a channel axis get one: (28, 28) becomes (28, 28, 1). Other shapes are unchanged.

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

    Every model accepts the numbers as stored, including uint8, and multiplies them by `scale` on
    the device. It ends in a softmax: one probability per class, shape (n, num_classes), float32.

    Args:
        name: One of `names()`.
        input_shape: Shape of one row, without the batch axis; channels last.
        num_classes: Number of classes; class ids lie in [0, num_classes).
        learning_rate: Learning rate of Adam.
        **options: Options of the family: `scale` (all models; a number, or "auto", the default:
            1/255 for stored uint8, 1/65535 for uint16, 1.0 for other dtypes, fixed by the first
            `H5Dataset` or `H5DataModule` that the model is used with, and 1/255 before) and
            `hidden` ("mlp"; widths of the hidden layers).

    Returns:
        A compiled `keras.Model`, which can be compiled again, trained and saved as usual.

    Raises:
        OptionError: The model or an option is unknown, or a value is invalid.
        ShapeError: The model does not accept rows of this shape.

    Examples:
        >>> build("convnet", input_shape=(28, 28, 1), num_classes=10).count_params()
        8023946
    """
    family = _family(name)
    shape = _parse_shape(input_shape)
    classes = _parse_num_classes(num_classes)
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise OptionError(f"learning_rate={learning_rate!r}; pass a positive number")
    stack = family.load()
    _check_options(name, stack, options)
    return _compile(stack(input_shape=shape, num_classes=classes, **options), learning_rate)


def _compile(model: keras.Model, learning_rate: float) -> keras.Model:
    """Compile the model in place: the same optimizer, loss and metric for every family."""
    import keras  # here, not above: listing the models needs no Keras

    is_single = model.output_shape[-1] == 1  # for it Keras would choose the binary loss and metric
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=learning_rate),
        # Keras chooses the sparse or categorical variant by the shape of the labels.
        loss="sparse_categorical_crossentropy" if is_single else "crossentropy",
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy") if is_single else "accuracy"
        ],
    )
    return model


def _family(name: str) -> Family:
    """Return the family of a name, or raise with the closest names."""
    try:
        return _FAMILIES[name]
    except KeyError:
        raise OptionError(f"there is no model {name!r}; {_suggest(name, names())}") from None


def _suggest(word: str, known: Sequence[str]) -> str:
    """Return the known words closest to this one, or else all of them, as a sentence."""
    near = difflib.get_close_matches(word, known)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"there are {', '.join(map(repr, known))}"


def _parse_shape(input_shape: Sequence[SupportsIndex]) -> tuple[int, ...]:
    """Check that the shape of a row is a sequence of one or more positive integers."""
    try:
        shape = tuple(map(operator.index, input_shape))
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ShapeError(
            f"input_shape={input_shape!r}; pass the shape of one row in positive integers, such "
            "as (28, 28, 1)"
        )
    return shape


def _parse_num_classes(num_classes: SupportsIndex) -> int:
    """Check that there is at least one class."""
    try:
        number = operator.index(num_classes)
    except TypeError:
        number = 0
    if number < 1:
        raise OptionError(f"num_classes={num_classes!r}; pass an integer of at least 1")
    return number


def _check_options(
    name: str, stack: Callable[..., keras.Model], options: Mapping[str, object]
) -> None:
    """Raise if the family does not have an option."""
    known = sorted(inspect.signature(stack).parameters.keys() - {"input_shape", "num_classes"})
    for option in options:
        if option not in known:
            raise OptionError(f"model {name!r} has no option {option!r}; {_suggest(option, known)}")
