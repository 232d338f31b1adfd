"""`build`: a compiled model of a name. All models are built and compiled here, in the same way."""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, SupportsIndex

from kerash5._checks import is_number, is_whole, parse_count
from kerash5._errors import OptionError, ShapeError
from kerash5.zoo._registry import check_options, find, takes_num_classes

if TYPE_CHECKING:
    import keras


def build(
    name: str,
    *,
    input_shape: Sequence[int],
    num_classes: int | None = None,
    learning_rate: float | None = None,
    decay_steps: int | None = None,
    seed: int | None = None,
    **options: object,
) -> keras.Model:
    """Build and compile a model with the optimizer, loss and metrics of its recipe.

    Classifiers end in a softmax: one probability per class, shape (n, num_classes), float32. Their
    labels are class ids, shape (n,) or (n, 1), or one-hot, shape (n, num_classes). The labels of
    "unet_small" are masks of class ids, shape (n, height, width) or (n, height, width, 1), and
    those of "autoencoder" the rows themselves.

    Every model accepts the numbers as stored, including uint8, and multiplies them by `scale` on
    the device.

    Args:
        name: One of `names()`.
        input_shape: Shape of one row, without the batch axis; channels last.
        num_classes: Number of classes; class ids lie in [0, num_classes). Not used by models that
            reconstruct x.
        learning_rate: Learning rate, or where it decays the highest one; None: the recipe's.
        decay_steps: Number of training steps over which the learning rate decays, if it does so in
            the recipe: `len(data.train)` times the number of epochs. None: it does not change.
        seed: Seed of the weights: the same seed gives the same weights on the same backend, and
            changes no random state outside the model. None: random weights.
        **options: Options of the model, as in `info(name).options`. All models that ship have
            `scale` (a number, or "auto", the default: 1/255 for stored uint8, 1/65535 for uint16,
            1.0 for other dtypes, fixed by the first `H5Dataset` or `H5DataModule` that the model is
            used with, and 1/255 before).

    Returns:
        A compiled `keras.Model`, which can be compiled again, trained and saved as usual.

    Raises:
        OptionError: The model or an option is unknown, or a value is invalid.
        ShapeError: The model does not accept rows of this shape.

    Examples:
        >>> build("convnet", input_shape=(28, 28, 1), num_classes=10).count_params()
        8023946
    """
    model = find(name)
    given: dict[str, object] = {"input_shape": _parse_shape(input_shape)}
    if takes_num_classes(model):
        given["num_classes"] = _parse_num_classes(num_classes)
    if learning_rate is not None:
        _check_rate(learning_rate)
    if decay_steps is not None:
        parse_count("decay_steps", decay_steps, "a number of training steps")
    check_options(model, options)
    with _seeded(seed):
        built = model.build(**given, **options)
    from kerash5.zoo._compile import compile_model

    return compile_model(built, model.info, learning_rate, decay_steps)


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Let Keras draw the seeds of the layers of this seed within the context.

    Keras draws the seed of each initializer and random layer from the generator of `random`.
    """
    if seed is None:
        yield
        return
    if not is_whole(seed) or not 0 <= seed < 1 << 32:
        raise OptionError(f"seed={seed!r}; pass an integer from 0 to {(1 << 32) - 1}")
    before = random.getstate()
    random.seed(int(seed))
    try:
        yield
    finally:
        random.setstate(before)


def _check_rate(learning_rate: object) -> None:
    if not is_number(learning_rate) or not (math.isfinite(learning_rate) and learning_rate > 0):
        raise OptionError(f"learning_rate={learning_rate!r}; pass a positive number")


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


def _parse_num_classes(num_classes: SupportsIndex | None) -> int:
    """Check that there is at least one class."""
    try:
        number = 0 if num_classes is None else operator.index(num_classes)
    except TypeError:
        number = 0
    if number < 1:
        raise OptionError(f"num_classes={num_classes!r}; pass an integer of at least 1")
    return number
