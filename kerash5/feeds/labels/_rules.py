"""Rules on which labels a loss accepts: their shape against the output's, and their values.

A rule rejects only labels that Keras would train on wrongly, or fail on without naming them. Custom
losses have no rules, because their meaning of labels is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from kerash5._errors import LabelError, ShapeError
from kerash5.feeds.labels._facts import LabelFacts, Number

Kind = Literal["ids", "probabilities", "binary", "hinge", "numbers"]
Shape = tuple[int | None, ...]

_TOLERANCE: Final = 1e-3  # float16 and JPEG-like rounding of values between 0 and 1


@dataclass(frozen=True, slots=True)
class Target:
    """The loss and output that labels are compared with.

    Attributes:
        kind: "ids": class ids; "probabilities": one number per class; "binary": numbers from 0 to
            1; "hinge": -1 and +1; "numbers": any numbers of the output's shape.
        loss: Name of the loss.
        output_shape: Shape of one row of the output; None if unknown.
        where: The model or its output, for messages.
        ignored: The class that the loss ignores.
        is_only_range: Whether a custom step of the model may change labels before the loss; then
            only class ids stored as integers are checked.
    """

    kind: Kind
    loss: str
    output_shape: Shape | None
    where: str
    ignored: int | None = None
    is_only_range: bool = False


@dataclass(frozen=True, slots=True)
class LabelView:
    """The labels of one output, as seen by the rules.

    Attributes:
        shape: Shape of one row.
        dtype: Dtype the model receives.
        subject: Origin of the labels, for messages: a file, or the batches of a transform.
        column: Path of the data set; None if a transform made the labels.
        facts: Returns the facts, ignoring the given class.
        is_one_hot: Returns whether they are one-hot along the last axis.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    subject: str
    column: str | None
    facts: Callable[[int | None], LabelFacts]
    is_one_hot: Callable[[], bool]


def check_target(target: Target, labels: LabelView) -> None:
    """Raise if the labels do not suit this loss and output.

    Raises:
        LabelError: The loss does not accept the values.
        ShapeError: Shape of rows differs from the output's.
    """
    if labels.dtype.kind not in "biuf":
        return
    if target.is_only_range:
        is_plain = labels.dtype.kind in "biu" and labels.shape in ((), (1,))
        if target.kind == "ids" and is_plain and target.output_shape:
            _check_ids(target, labels)
        return
    if target.kind == "ids":
        _check_shape_of_ids(target, labels)
        _check_ids(target, labels)
        return
    _check_shape(target, labels)
    if target.kind == "numbers":
        return
    facts = labels.facts(None)
    _check_finite(target, labels, facts)
    low = -1 if target.kind == "hinge" else 0
    for found in (facts.smallest, facts.largest):
        if found is not None and not low - _TOLERANCE <= found[0] <= 1 + _TOLERANCE:
            raise LabelError(
                f"{labels.subject} has {_format(found[0])} in row {found[1]} of y, but loss "
                f"{target.loss!r} of {target.where} expects {_describe_range(target.kind)}; "
                f"{_range_cure(target, labels, facts)}"
            )


def takes_shape(labels: tuple[int, ...], output: Shape) -> bool:
    """Return whether rows of labels have the output's shape, up to a last axis of 1."""
    if len(labels) == len(output) + 1 and labels[-1] == 1:
        labels = labels[:-1]
    elif len(output) == len(labels) + 1 and output[-1] in (1, None):
        output = output[:-1]
    return _is_like(labels, output)


def _is_like(labels: tuple[int, ...], output: Shape) -> bool:
    return len(labels) == len(output) and all(
        wanted is None or found == wanted for found, wanted in zip(labels, output, strict=True)
    )


# Class ids.


def _check_shape_of_ids(target: Target, labels: LabelView) -> None:
    output = target.output_shape
    if not output:
        return
    wanted = output[:-1]
    ids = labels.shape[:-1] if labels.shape[-1:] == (1,) else labels.shape
    if _is_like(ids, wanted) or _is_like(labels.shape, wanted):
        return
    if len(labels.shape) == len(output) and labels.is_one_hot():
        cure = "transform=lambda x, y: (x, y.argmax(-1))"
        if labels.column is not None:
            cure = f"y=Column({labels.column!r}, labels='one_hot')"
        raise LabelError(
            f"{labels.subject} has one-hot labels, rows of shape {labels.shape}, but loss "
            f"{target.loss!r} of {target.where} expects class ids; compile the model with "
            f"loss='categorical_crossentropy', or pass {cure}"
        )
    cure = f"pass y with rows of shape {wanted}"
    if _is_like(labels.shape, output):
        cure = "compile the model with loss='categorical_crossentropy' if they are probabilities"
    elif math.prod(labels.shape) == 1 and labels.shape != () and labels.column is not None:
        cure = f"pass y=Column({labels.column!r}, shape=())"
    raise ShapeError(
        f"rows of y have shape {labels.shape} in {labels.subject}, but loss {target.loss!r} of "
        f"{target.where} expects class ids of shape {wanted} for outputs of shape {output}; {cure}"
    )


def _check_ids(target: Target, labels: LabelView) -> None:
    facts = labels.facts(target.ignored)
    _check_finite(target, labels, facts)
    if facts.fraction is not None:
        value, row = facts.fraction
        raise LabelError(
            f"{labels.subject} has {_format(value)} in row {row} of y, but loss {target.loss!r} "
            f"of {target.where} expects class ids, integers from 0; {_mapping(labels)}, or "
            "compile the model with a loss for numbers, such as 'mse'"
        )
    if facts.smallest is None or facts.largest is None:
        return
    smallest, largest = facts.smallest[0], facts.largest[0]
    if smallest < 0:
        hint = " (labels=[-1, 1])" if (smallest, largest) == (-1, 1) else ""
        raise LabelError(
            f"{labels.subject} has label {_format(smallest)}, but class ids start at 0; "
            f"{_mapping(labels)}{hint}, or pass ignore_class={int(smallest)} to the loss if it "
            "marks missing labels"
        )
    classes = target.output_shape[-1] if target.output_shape else None
    if classes is not None and largest >= classes:
        what = f"the {classes} class{'es' if classes > 1 else ''} of {target.where}"
        from_one = smallest == 1 and largest == classes
        hint = f" (they start at 1: labels={_shorten(1, classes)})" if from_one else ""
        raise LabelError(
            f"{labels.subject} has label {_format(largest)}, outside {what}; build it with "
            f"num_classes={int(largest) + 1}, or {_mapping(labels)}{hint}"
        )


def _shorten(first: int, last: int) -> str:
    return f"range({first}, {last + 1})" if last - first > 8 else str([*range(first, last + 1)])


# One number per number of the output.


def _check_shape(target: Target, labels: LabelView) -> None:
    output = target.output_shape
    if output is None or takes_shape(labels.shape, output):
        return
    is_id = labels.shape in ((), (1,))
    classes = output[-1] if output else None
    if target.kind in ("probabilities", "binary") and is_id and classes not in (1, None):
        is_file = labels.column is not None and labels.dtype.kind in "biu"
        one_hot = f"y=Column({labels.column!r}, one_hot={classes})" if is_file else "one-hot y"
        raise LabelError(
            f"{labels.subject} has one label per row, but loss {target.loss!r} of {target.where} "
            f"expects one number for each of its {classes} classes; compile the model with "
            f"loss='sparse_categorical_crossentropy', or pass {one_hot}"
        )
    cure = f"build the model with an output of shape {labels.shape}"
    if labels.column is not None and None not in output:
        same = math.prod(labels.shape) == math.prod(length or 0 for length in output)
        if same:
            cure = f"y=Column({labels.column!r}, shape={output}) would fit"
    raise ShapeError(
        f"rows of y have shape {labels.shape} in {labels.subject}, but {target.where} returns rows "
        f"of shape {output}, which loss {target.loss!r} cannot compare elementwise; {cure}"
    )


def _describe_range(kind: Kind) -> str:
    if kind == "hinge":
        return "-1 and +1"
    return "numbers from 0 to 1"


def _range_cure(target: Target, labels: LabelView, facts: LabelFacts) -> str:
    smallest = facts.smallest[0] if facts.smallest else 0
    largest = facts.largest[0] if facts.largest else 0
    if target.kind == "binary" and facts.fraction is None:
        if (smallest, largest) in ((-1, 1), (1, 2)):
            values = [int(smallest), int(largest)]
            return (
                f"pass y=Column({labels.column!r}, labels={values})"
                if labels.column
                else "return 0 and 1 from the transform"
            )
        if smallest >= 0 and largest < 100:
            return (
                "for more than two classes, end the model in a softmax and compile it with "
                "loss='sparse_categorical_crossentropy'"
            )
    if smallest >= 0 and target.kind != "hinge":
        return f"scale them, with transform=lambda x, y: (x, y / {_format(largest)})"
    return f"{_mapping(labels)}, or use a loss for such numbers, such as 'mse'"


def _check_finite(target: Target, labels: LabelView, facts: LabelFacts) -> None:
    if facts.nonfinite is None:
        return
    value, row = facts.nonfinite
    raise LabelError(
        f"{labels.subject} has {_format(value)} in row {row} of y, but loss {target.loss!r} of "
        f"{target.where} does not accept it; exclude such rows with rows="
    )


def _mapping(labels: LabelView) -> str:
    if labels.column is None:
        return "map the labels in the transform"
    return "map the labels with Column(labels=...)"


def _format(value: Number) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}" if value % 1 else f"{value:.1f}"
