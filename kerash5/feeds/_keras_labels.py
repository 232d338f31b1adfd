"""Checks labels against the loss and the output of a model, before the first step.

`check_labels` checks the columns of a data set, `check_batch` a batch that a transform returned,
whose labels may differ from the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from kerash5._errors import ColumnError, OptionError
from kerash5.batches._roles import map_tree
from kerash5.feeds._served import served_by
from kerash5.feeds.labels._facts import find_facts, is_one_hot
from kerash5.feeds.labels._keras_losses import needs_y, read_targets
from kerash5.feeds.labels._rules import LabelView, check_target

if TYPE_CHECKING:
    from kerash5.batches._batches import Batch
    from kerash5.feeds._keras import H5Dataset

_MADE: Final = "the first batch of y, as transform= returns it,"


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column or an array of y, with the shape of one row."""

    value: Any
    shape: tuple[int, ...]


def check_labels(model: keras.Model, data: H5Dataset) -> None:
    """Raise if y does not fit the losses of the model, in any row served.

    Labels of up to 16 bytes per row are all read; larger ones are read up to 256 MiB, and beyond
    that only in part (see `read_facts`). Transformed labels are checked by `check_batch`.

    Raises:
        LabelError: A label is not a class of the model, or not valid for its loss.
        ShapeError: Rows of y have another shape than the model's output.
        ColumnError: The model has a loss, but the data have no y.
    """
    served = served_by(data)
    if served.is_transformed:
        return
    tree = served.columns_of("y")
    if tree is None:
        _refuse_no_y(model, repr(data.source))
        return
    columns = data.source.columns
    leaves = map_tree(tree, lambda name: _Leaf(name, columns[name].shape))
    for leaf, target in read_targets(model, leaves):
        check_target(target, _view_column(data, leaf.value))


def check_batch(model: keras.Model, batch: Batch) -> None:
    """Raise like `check_labels`, for the labels of one batch."""
    y = batch[1] if len(batch) > 1 else None
    if y is None:
        _refuse_no_y(model, "the first batch, as transform= returns it,")
        return
    leaves = map_tree(y, lambda array: _Leaf(np.asarray(array), np.shape(array)[1:]))
    for leaf, target in read_targets(model, leaves):
        check_target(target, _view_array(leaf.value))


def check_class_weight(model: keras.Model, data: H5Dataset) -> None:
    """Raise `OptionError` if `class_weight` of Keras' `fit` would weight the wrong classes.

    Keras treats the last axis of y as one-hot classes, even if a sparse loss makes it an axis of
    class ids, as in sequences and masks.
    """
    served = served_by(data)
    tree = served.columns_of("y")
    if tree is None or served.is_transformed:
        return
    columns = data.source.columns
    leaves = map_tree(tree, lambda name: _Leaf(name, columns[name].shape))
    for leaf, target in read_targets(model, leaves):
        if target.kind == "ids" and leaf.shape not in ((), (1,)):
            raise OptionError(
                f"class_weight of model.fit takes rows of y of shape {leaf.shape} for one-hot "
                f"classes, and to loss {target.loss!r} they are class ids; use "
                "kerash5.Trainer.fit(class_weight=), or pass sample_weight="
            )


def _refuse_no_y(model: keras.Model, subject: str) -> None:
    loss = needs_y(model)
    if loss is not None:
        raise ColumnError(
            f"{subject} has no y, and model {model.name!r} was compiled with loss {loss!r}, which "
            "compares with y; name the column, y='label', or compile the model without a loss"
        )


def _view_column(data: H5Dataset, name: str) -> LabelView:
    column, served = data.source.columns[name], served_by(data)
    return LabelView(
        column.shape,
        column.dtype,
        repr(data.source.paths[0]),
        column.column.path,
        lambda ignored: served.label_facts(name, ignored),
        lambda: served.is_one_hot(name),
    )


def _view_array(array: np.ndarray) -> LabelView:
    rows = np.arange(len(array))
    return LabelView(
        array.shape[1:],
        array.dtype,
        _MADE,
        None,
        lambda ignored: find_facts(array, rows, ignored),
        lambda: is_one_hot(array),
    )
