"""Short ways to write down small models: parts are named now and made when a model is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import keras

Make = Callable[[], Any]


@dataclass(frozen=True)
class Part:
    """A public class of Keras with its arguments; calling it makes a new one.

    Arguments that are parts themselves are made anew each time, too.
    """

    namespace: Any
    name: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        made = [make(value) for value in self.arguments]
        options = {key: make(value) for key, value in self.options.items()}
        return getattr(self.namespace, self.name)(*made, **options)

    def __str__(self) -> str:
        words = [str_of(value) for value in self.arguments]
        words += [f"{key}={str_of(value)}" for key, value in self.options.items()]
        return f"{self.name}({', '.join(words)})"


@dataclass(frozen=True)
class Own:
    """A class of a kind's own with its arguments, made when a model is built."""

    kind: type
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        return self.kind(*self.arguments, **self.options)


def own(kind: type, *arguments: Any, **options: Any) -> Own:
    """Return a class of a kind's own with its arguments."""
    return Own(kind, arguments, options)


def make(value: Any) -> Any:
    """Return what a part stands for, also inside lists; other values as they are."""
    if isinstance(value, Part | Own):
        return value()
    return [make(item) for item in value] if isinstance(value, list) else value


def str_of(value: Any) -> str:
    """Return a value as it is written in the name of a kind."""
    if isinstance(value, list):
        return f"[{', '.join(map(str_of, value))}]"
    return str(value) if isinstance(value, Part | float) else repr(value)


class Namespace:
    """Makes parts of the classes of a namespace of Keras: `layers.Dense(3)` is a `Part`."""

    def __init__(self, namespace: Any) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> Callable[..., Part]:
        return lambda *arguments, **options: Part(self._namespace, name, arguments, options)

    def has(self, name: str) -> bool:
        """Say whether this version of Keras has such a class."""
        return hasattr(self._namespace, name)


layers: Final = Namespace(keras.layers)
losses: Final = Namespace(keras.losses)
metrics: Final = Namespace(keras.metrics)
optimizers: Final = Namespace(keras.optimizers)
schedules: Final = Namespace(keras.optimizers.schedules)
regularizers: Final = Namespace(keras.regularizers)
constraints: Final = Namespace(keras.constraints)
initializers: Final = Namespace(keras.initializers)

SOFTMAX: Final = layers.Dense(3, activation="softmax")
SGD: Final = optimizers.SGD(0.05, momentum=0.9)


def compiled(
    model: keras.Model,
    *,
    optimizer: Any = SGD,
    loss: Any = "sparse_categorical_crossentropy",
    metrics: Sequence[Any] = ("accuracy",),
    weighted_metrics: Sequence[Any] | None = None,
    **options: Any,
) -> keras.Model:
    """Compile a model with the parts named; return it."""
    weighted = None if weighted_metrics is None else make(list(weighted_metrics))
    model.compile(
        optimizer=make(optimizer),
        loss=make(loss),
        metrics=make(list(metrics)),
        weighted_metrics=weighted,
        **options,
    )
    return model


def stack(
    *parts: Make,
    shape: tuple[int, ...] = (6,),
    dtype: str | None = None,
    head: Make | None = SOFTMAX,
    **options: Any,
) -> Callable[[], keras.Model]:
    """Return a function that builds a sequential model.

    Args:
        *parts: Make its layers.
        shape: Of a row.
        dtype: Of the input.
        head: Makes the last layer; None for none.
        **options: Of `compiled`.
    """

    def build() -> keras.Model:
        tail = [] if head is None else [head()]
        rows = keras.Input(shape, dtype=dtype)
        return compiled(keras.Sequential([rows, *[part() for part in parts], *tail]), **options)

    return build


def graph(
    function: Callable[..., Any],
    *,
    shapes: Sequence[tuple[int, ...]] = ((6,),),
    dtype: str | None = None,
    **options: Any,
) -> Callable[[], keras.Model]:
    """Return a function that builds a functional model of `function(*inputs)`."""

    def build() -> keras.Model:
        inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
        outputs = function(*inputs)
        return compiled(keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs), **options)

    return build


def classify(tensor: Any) -> Any:
    """Return three probabilities for each row of a tensor of any rank."""
    flat = keras.layers.Flatten()(tensor) if len(tensor.shape) > 2 else tensor
    return keras.layers.Dense(3, activation="softmax")(flat)
