"""Checks the structure of x and y against a model: how many arrays, under which names.

Only functional and sequential models declare their inputs; other models, and models with their own
train_step, are not checked. The values of labels are checked in `_keras_labels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from kerash5._errors import OptionError, ShapeError
from kerash5.batches._transform_result import describe_tree
from kerash5.feeds._served import served_by
from kerash5.feeds.labels._keras_last_batch import check_batch_size, check_padding, takes_rows
from kerash5.feeds.labels._keras_losses import find_compared, has_own_steps
from kerash5.feeds.passes._keras_position import Task

if TYPE_CHECKING:
    from kerash5.batches._batches import Batch
    from kerash5.feeds._keras import H5Dataset

_MADE: Final = "the first batch, as transform= returns it,"
_STEPS: Final = ("train_step", "test_step", "predict_step")
Shape = tuple[int | None, ...]


def check_structure(model: keras.Model, data: H5Dataset, task: Task) -> None:
    """Raise if the number or the names of a data set's columns do not fit the model.

    Transformed batches are checked by `check_batch_structure`.

    Args:
        model: Any model.
        data: The data for training, evaluation or prediction.
        task: "fit", "evaluate" or "predict"; "predict" does not check y.

    Raises:
        ShapeError: x or y has other keys or another number of columns, or the batch size is not
            that of the model.
        OptionError: `drop_last` does not suit the task or the model.
    """
    served = served_by(data)
    roles = [role for role in ("x", "y", "sample_weight") if served.column_names(role)]
    check_padding(model, data.plan, roles, task)
    if served.is_transformed:
        return
    found = _find_inputs(model)
    if found is not None:
        check_batch_size(model, found[1], data.plan, task)
    x, y = served.columns_of("x"), served.columns_of("y")
    _check_x(model, x, repr(data.source))
    if task != "predict" and y is not None:
        _check_y(model, y, repr(data.source))


def check_keras_predict(model: keras.Model, data: H5Dataset) -> None:
    """Raise if Keras' `predict` would need padded rows, for which it would return answers.

    Raises:
        OptionError: The last batch is short, and the model takes full batches alone.
    """
    found, rest = _find_inputs(model), data.plan.num_short
    if data.plan.drop_last == "pad" and found and rest and not takes_rows(model, found[1], rest):
        raise OptionError(
            f"model.predict would return answers for the {data.plan.num_padded} repeated rows of "
            "drop_last='pad' as well; call kerash5.Trainer().predict(model, data), which leaves "
            "them out"
        )


def check_batch_structure(model: keras.Model, batch: Batch, *, has_y: bool = True) -> None:
    """Raise like `check_structure`, for a batch that a transform returned.

    Raises:
        ShapeError: x or y has other keys or another number of arrays, or rows of x have another
            shape.
        OptionError: An array has a type that the backend does not support.
    """
    x, y = batch[0], batch[1] if len(batch) > 1 and has_y else None
    for role, tree in (("x", x), ("y", y)):
        for leaf in keras.tree.flatten(tree):
            _check_type(role, leaf)
    _check_x(model, x, _MADE)
    _check_row_shapes(model, x)
    if y is not None:
        _check_y(model, y, _MADE)


def _check_type(role: str, array: Any) -> None:  # noqa: ANN401  an array of any framework, or None
    dtype, backend = getattr(array, "dtype", None), keras.backend.backend()
    if not isinstance(dtype, np.dtype):
        return
    cure = None
    if dtype.kind in "OSU":
        is_taken = backend == "tensorflow"
        cure = None if is_taken else "encode text as numbers in the transform"
    elif dtype.char == "g":
        cure = "return x.astype('float64')"
    elif dtype.name == "uint64" and backend == "torch":
        cure = "return x.astype('int64')"
    elif dtype.kind in "mM" or dtype.names is not None:
        cure = "return numbers, such as times.astype('int64')"
    if cure is not None:
        raise OptionError(
            f"transform returned {dtype} values for {role}, which {backend} does not take; {cure}"
        )


def _find_inputs(model: keras.Model) -> tuple[Any, list[keras.KerasTensor]] | None:
    """Return the inputs of a model in their structure, and as a flat list."""
    if any(getattr(type(model), name) is not getattr(keras.Model, name) for name in _STEPS):
        return None
    if not model.built or not _calls_its_layers(model):
        return None
    try:
        inputs: Any = model.inputs if isinstance(model, keras.Sequential) else model.input
        if isinstance(model, keras.Sequential) and len(inputs or ()) == 1:
            inputs = inputs[0]
        flat: list[Any] = keras.tree.flatten(inputs)
    except (AttributeError, ValueError):  # a subclassed model, or one not called yet
        return None
    is_known = bool(flat) and all(isinstance(one, keras.KerasTensor) for one in flat)
    return (inputs, flat) if is_known else None


def _calls_its_layers(model: keras.Model) -> bool:
    """Return whether `call` is Keras' own; a subclass's `call` may accept other inputs."""
    return str(getattr(type(model).call, "__module__", "")).startswith("keras.")


def _check_x(model: keras.Model, x: Any, subject: str) -> None:  # noqa: ANN401  a tree
    found = _find_inputs(model)
    if found is None:
        return
    inputs, flat = found
    names = [*inputs] if isinstance(inputs, Mapping) else [one.name for one in flat]
    taken = f"model {model.name!r} takes {_describe_inputs(inputs, names)}"
    if isinstance(x, Mapping):
        is_alone = not isinstance(inputs, Mapping) and len(flat) == 1
        if {*names} <= x.keys():
            return
        cure = "return the array itself" if is_alone and subject == _MADE else None
        cure = cure or ("give x the one column" if is_alone else "name those of x so")
        raise ShapeError(f"{subject} has for x {describe_tree(x)}, and {taken}; {cure}")
    count = len(keras.tree.flatten(x))
    if count != len(flat):
        what = "array" if subject == _MADE else "column"
        cure = "give the model an Input for each, or leave the others out"
        if count < len(flat):
            cure = f"add the other {what}s, in this order, or as a dict with these names"
        raise ShapeError(
            f"{subject} has {count} {what}{'s' if count > 1 else ''} in x, and {taken}; {cure}"
        )


def _describe_inputs(inputs: Any, names: list[Any]) -> str:  # noqa: ANN401  a tree
    if isinstance(inputs, Mapping):
        return describe_tree(dict(inputs))
    if len(names) == 1:
        return "one array"
    return f"{len(names)} arrays ({', '.join(map(repr, names))})"


def _check_row_shapes(model: keras.Model, x: Any) -> None:  # noqa: ANN401  a tree of arrays
    found = _find_inputs(model)
    if found is None:
        return
    inputs, flat = found
    if isinstance(x, Mapping):
        keyed = inputs if isinstance(inputs, Mapping) else {one.name: one for one in flat}
        pairs = [(f"x[{key!r}]", x[key], keyed[key]) for key in keyed]
    elif isinstance(inputs, Mapping):
        return  # matched by the order of keys, which differs between versions of Keras
    else:
        arrays = keras.tree.flatten(x)
        is_one = len(flat) == 1
        pairs = [
            ("x" if is_one else f"x[{number}]", array, tensor)
            for number, (array, tensor) in enumerate(zip(arrays, flat, strict=True))
        ]
    for name, array, tensor in pairs:
        if not isinstance(tensor, keras.KerasTensor):  # a nested structure
            continue
        taken, row = tuple(tensor.shape[1:]), tuple(array.shape[1:])
        if not _fits(row, taken):
            raise ShapeError(
                f"transform returned rows of shape {row} for {name}, and model {model.name!r} "
                f"takes {taken}; return that shape, or build the model with Input({row})"
            )


def _fits(row: Shape, taken: Shape) -> bool:
    """Return whether Keras accepts such rows; it adds and drops a last axis of length 1."""
    forms = [row, (*row, 1)]
    if row[-1:] == (1,):
        forms.append(row[:-1])
    return any(
        len(form) == len(taken)
        and all(b is None or a is None or a == b for a, b in zip(form, taken, strict=True))
        for form in forms
    )


def _check_y(model: keras.Model, y: Any, subject: str) -> None:  # noqa: ANN401  a tree
    if has_own_steps(model) or (found := find_compared(model)) is None:
        return
    names, compared = found
    what = "array" if subject == _MADE else "column"
    count = len(keras.tree.flatten(y))
    has = f"{count} {what}{'s' if count > 1 else ''} in y"
    if len(names) == 1:
        if count > 1:
            raise ShapeError(
                f"{subject} has {has}, and model {model.name!r} has one output; give y the one "
                f"{what} that its loss compares with it"
            )
        return
    known = ", ".join(map(repr, names))
    outputs = f"model {model.name!r} has the outputs {known}"
    if isinstance(y, Mapping):
        if not {*compared} <= y.keys() <= {*names}:
            raise ShapeError(
                f"{subject} has for y {describe_tree(y)}, and {outputs}; name them so, one for "
                "each output that has a loss"
            )
    elif count not in (len(names), len(compared)):
        raise ShapeError(
            f"{subject} has {has}, and {outputs}; give one for each output that has a loss, in "
            "this order or as a dict with these names"
        )
