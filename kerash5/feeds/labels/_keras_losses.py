"""Find what a compiled model compares y with: per output, the kind of loss and the shape.

Only losses of Keras are known, given by name, as an object, a function or a `functools.partial` of
one; a custom loss is not checked. Outputs are paired with y as Keras' `compile` does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras

from kerash5.feeds.labels._rules import Kind, Shape, Target

_NAMES: Final[dict[Kind, tuple[str, ...]]] = {
    "ids": ("sparse_categorical_crossentropy", "categorical_generalized_cross_entropy"),
    "probabilities": ("categorical_crossentropy", "categorical_focal_crossentropy"),
    "binary": ("binary_crossentropy", "binary_focal_crossentropy"),
    "hinge": ("hinge", "squared_hinge"),
    "numbers": (
        "categorical_hinge",
        "cosine_similarity",
        "dice",
        "huber",
        "kl_divergence",
        "log_cosh",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "poisson",
        "tversky",
    ),
}
_KINDS: Final[dict[Any, tuple[Kind, str]]] = {
    getattr(keras.losses, name): (kind, name)
    for kind, names in _NAMES.items()
    for name in names
    if hasattr(keras.losses, name)
}
_WRAPPER: Final = keras.losses.MeanSquaredError.__bases__[0]  # wraps a loss function
_OWN_STEPS: Final = ("train_step", "test_step", "compute_loss")


@dataclass(frozen=True, slots=True)
class _Loss:
    name: str
    kind: Kind | None  # None: "crossentropy", whose kind Keras chooses by shapes
    ignored: int | None = None
    is_along_last_axis: bool = True


@dataclass(frozen=True, slots=True)
class _Output:
    name: str
    shape: Shape | None


def read_targets(model: keras.Model, y: Any) -> Iterator[tuple[Any, Target]]:  # noqa: ANN401  a tree
    """Yield each leaf of y with its output and loss; skip leaves whose loss is unknown.

    Args:
        model: A compiled model.
        y: Labels of a data set or a batch: a leaf, or a dict, tuple or list of leaves. Each leaf
            has a `shape`, that of one row.
    """
    is_own = any(
        getattr(type(model), name) is not getattr(keras.Model, name) for name in _OWN_STEPS
    )
    outputs = _read_outputs(model)
    for leaf, output, given in _pair(y, outputs, getattr(model, "loss", None)):
        loss = _parse_loss(given)
        kind = None if loss is None else loss.kind or _choose_kind(leaf.shape, output.shape)
        if loss is None or kind is None:
            continue
        where = f"model {model.name!r}"
        if outputs is None or len(outputs) > 1:
            where = f"output {output.name!r} of {where}" if output.name else where
        shape = output.shape if loss.is_along_last_axis else None
        yield leaf, Target(kind, loss.name, shape, where, loss.ignored, is_only_range=is_own)


@dataclass(frozen=True, slots=True)
class OutputLabels:
    """An output by name, its labels (None if it has none), and how its loss interprets them."""

    name: str
    labels: Any
    kind: Kind | None


def pair_labels(model: keras.Model, y: Any) -> list[OutputLabels]:  # noqa: ANN401  a tree of arrays
    """Return every output of a model with its labels in a batch; empty if the structures differ.

    Args:
        model: A compiled model.
        y: Labels of a batch.
    """
    outputs, given = _read_outputs(model), getattr(model, "loss", None)
    found = {
        output.name: OutputLabels(output.name, leaf, _kind_of(loss, leaf, output))
        for leaf, output, loss in _pair(y, outputs, given)
    }
    if not found:
        return []
    names = list(found) if outputs is None else [output.name for output in outputs]
    return [found.get(name, OutputLabels(name, None, None)) for name in names]


def _kind_of(given: Any, leaf: Any, output: _Output) -> Kind | None:  # noqa: ANN401
    loss = _parse_loss(given)
    if loss is None:
        return None
    return loss.kind or _choose_kind(leaf.shape[1:], output.shape)


def has_own_steps(model: keras.Model) -> bool:
    """Return whether a custom train_step or loss of the model processes y before the loss."""
    return any(getattr(type(model), name) is not getattr(keras.Model, name) for name in _OWN_STEPS)


def find_compared(model: keras.Model) -> tuple[list[str], list[str]] | None:
    """Return the names of a model's outputs, and of those that a loss compares with y.

    Returns None if its outputs or losses are unknown.
    """
    outputs, loss = _read_outputs(model), getattr(model, "loss", None)
    if outputs is None or loss is None:
        return None
    names = [output.name for output in outputs]
    losses = _losses_of_many(loss, outputs)
    if losses is None or len({*names}) < len(names):
        return None
    return names, [name for name, each in zip(names, losses, strict=True) if each is not None]


def needs_y(model: keras.Model) -> str | None:
    """Return a Keras loss that compares with y, unless custom steps of the model replace it."""
    if has_own_steps(model):
        return None
    given: list[Any] = keras.tree.flatten(getattr(model, "loss", None))
    return next((loss.name for loss in map(_parse_loss, given) if loss is not None), None)


def _read_outputs(model: keras.Model) -> list[_Output] | None:
    """Return the outputs of a model, in the order of its `compile`; None if unknown."""
    if not model.built:
        return None
    try:
        found: Any = model.outputs if isinstance(model, keras.Sequential) else model.output
    except (AttributeError, ValueError):  # a subclassed model, or one not called yet
        return None
    if isinstance(model, keras.Sequential) and found and len(found) == 1:
        found = found[0]
    if isinstance(found, Mapping):
        named = list(found.items())
    elif isinstance(found, list | tuple):
        named = list(zip(getattr(model, "output_names", ()), found, strict=False))
        if len(named) != len(found):
            return None
    else:
        named = [(_sole_name(model), found)]
    if not all(isinstance(tensor, keras.KerasTensor) for _, tensor in named):
        return None
    return [_Output(str(name), tuple(tensor.shape[1:])) for name, tensor in named]


def _sole_name(model: keras.Model) -> str:
    names = getattr(model, "output_names", None) or [""]
    return str(names[0])


def _pair(
    y: Any,  # noqa: ANN401  a tree
    outputs: list[_Output] | None,
    loss: Any,  # noqa: ANN401  any argument of compile
) -> Iterator[tuple[Any, _Output, Any]]:
    """Yield (leaf of y, output, loss) as far as their structures agree."""
    if outputs is None:
        yield from _pair_unknown(y, loss)
        return
    if len(outputs) == 1:
        leaf = _sole(y)
        for each in _losses_of_one(loss, outputs[0]):
            if leaf is not None:
                yield leaf, outputs[0], each
        return
    losses = _losses_of_many(loss, outputs)
    if losses is None:
        return
    for output, leaf, each in zip(outputs, _leaves(y, outputs, losses), losses, strict=True):
        if leaf is not None and each is not None:
            yield leaf, output, each


def _pair_unknown(y: Any, loss: Any) -> Iterator[tuple[Any, _Output, Any]]:  # noqa: ANN401  trees
    if not _is_nested(loss):
        leaf = _sole(y)
        if leaf is not None:
            yield leaf, _Output("", None), loss
    elif isinstance(loss, Mapping) and isinstance(y, Mapping):
        for name in loss.keys() & y.keys():
            if not _is_nested(y[name]):
                yield y[name], _Output(str(name), None), loss[name]


def _losses_of_one(loss: Any, output: _Output) -> list[Any]:  # noqa: ANN401  see above
    if isinstance(loss, Mapping):
        return [loss[output.name]] if output.name in loss else list(loss.values())[:1]
    return list(loss) if isinstance(loss, list | tuple) else [loss]


def _losses_of_many(loss: Any, outputs: Sequence[_Output]) -> list[Any] | None:  # noqa: ANN401
    if isinstance(loss, Mapping):
        return [loss.get(output.name) for output in outputs]
    if isinstance(loss, list | tuple):
        return list(loss) if len(loss) == len(outputs) else None
    return [loss] * len(outputs)


def _leaves(y: Any, outputs: Sequence[_Output], losses: Sequence[Any]) -> list[Any]:  # noqa: ANN401
    """Return the leaf of y for each output; None if it is missing or has another structure."""
    found: list[Any] = [None] * len(outputs)
    if isinstance(y, Mapping):
        found = [y.get(output.name) for output in outputs]
    elif isinstance(y, list | tuple):
        compared = [place for place, loss in enumerate(losses) if loss is not None]
        positions = range(len(outputs)) if len(y) == len(outputs) else compared
        if len(positions) == len(y):
            for place, leaf in zip(positions, y, strict=True):
                found[place] = leaf
    return [None if _is_nested(leaf) else leaf for leaf in found]


def _sole(y: Any) -> Any:  # noqa: ANN401  a tree
    while _is_nested(y):
        if len(y) != 1:
            return None
        y = next(iter(y.values() if isinstance(y, Mapping) else y))
    return y


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _parse_loss(given: Any) -> _Loss | None:  # noqa: ANN401  any argument of compile
    """Return the known properties of a loss; None for a custom loss, or none."""
    if isinstance(given, str):
        if given.lower() in ("crossentropy", "ce"):
            return _Loss("crossentropy", None)
        try:
            given = keras.losses.get(given)
        except ValueError:  # compile or the first step raises it
            return None
    options: dict[str, Any] = {}
    for _ in range(3):  # a loss object can wrap a partial of a function
        if isinstance(given, keras.losses.Loss):
            if not _is_unchanged(given):
                return None
            options |= getattr(given, "_fn_kwargs", {})
            given = getattr(given, "fn", None)
        elif isinstance(given, functools.partial):
            options |= given.keywords
            given = given.func if not given.args else None
    return _known(given, options)


def _known(function: Callable[..., Any] | None, options: Mapping[str, Any]) -> _Loss | None:
    try:
        known = _KINDS.get(function)
    except TypeError:  # cannot be hashed
        return None
    if known is None:
        return None
    ignored = options.get("ignore_class")
    return _Loss(known[1], known[0], ignored, options.get("axis", -1) in (-1, None))


def _is_unchanged(loss: keras.losses.Loss) -> bool:
    kind = type(loss)
    return (
        isinstance(loss, _WRAPPER)
        and kind.call is _WRAPPER.call
        and kind.__call__ is keras.losses.Loss.__call__
    )


def _choose_kind(labels: Sequence[int], output: Shape | None) -> Kind | None:
    """Return the kind of "crossentropy" that Keras chooses from the shapes of rows."""
    if not output:
        return None
    if output[-1] == 1:
        return "binary"
    is_sparse = len(labels) < len(output) or tuple(labels[-1:]) == (1,)
    return "ids" if is_sparse else "probabilities"
