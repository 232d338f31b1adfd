"""Writes a model's predictions for every row to a file, batch by batch, in the stored order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerash5._errors import OptionError, ShapeError
from kerash5.batches._batches import count_rows
from kerash5.batches._last_batch import pad_tree
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._keras_structure import check_batch_structure
from kerash5.feeds._served import served_by
from kerash5.h5._append import open_writer


def predict_to_file(
    model: keras.Model,
    dataset: H5Dataset,
    path: str | os.PathLike[str],
    *,
    name: str,
    class_ids: bool,
    overwrite: bool,
) -> str:
    """Write the model's predictions to a new HDF5 file, with a few batches in memory.

    Args:
        model: The model; it need not be compiled.
        dataset: The data; each row is predicted once, in the stored order.
        path: The file to write.
        name: Name of the column; for a model with several outputs, of the group of their columns.
        class_ids: Also write the id of the largest output of each row, as NAME_class.
        overwrite: Replace an existing file.

    Returns:
        The path of the file.
    """
    if not name.strip("/"):
        raise OptionError(f"name={name!r}; name the column, such as 'prediction'")
    attributes = {"model": model.name, "rows_of": ", ".join(map(str, dataset.source.paths))}
    num_rows = served_by(dataset).num_rows_in_order
    with open_writer(path, num_rows, overwrite=overwrite, attributes=attributes) as writer:
        for answer in predict_batches(model, dataset):
            columns = dict(_name_outputs(name, answer))
            if class_ids:
                columns |= {f"{key}_class": _class_ids(key, rows) for key, rows in columns.items()}
            writer.append(columns)
    return os.fspath(path)


def predict_batches(model: keras.Model, dataset: H5Dataset) -> Iterator[Any]:
    """Yield the model's predictions per batch: arrays, or lists or dicts of arrays.

    With `drop_last="pad"` the last batch is filled up, and what is predicted for its repeated rows
    is left out.
    """
    served = served_by(dataset)
    size = dataset.batch_size if dataset.plan.drop_last == "pad" else 0
    try:
        for number, batch in enumerate(served.batches_in_order()):
            if number == 0 and served.is_transformed:
                check_batch_structure(model, batch, has_y=False)
            served.check_answerable(batch, number)
            num_rows = count_rows(batch)
            answer = model.predict_on_batch(pad_tree(batch[0], max(size, num_rows)))
            yield _first_rows(answer, num_rows) if num_rows < size else answer
    finally:
        dataset.release()


def predict_padded(model: keras.Model, dataset: H5Dataset) -> Any:  # noqa: ANN401  arrays
    """Return the model's predictions for every row, in the structure of its output."""
    answers = list(predict_batches(model, dataset))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *answers)


def _first_rows(answer: Any, num_rows: int) -> Any:  # noqa: ANN401  arrays
    return keras.tree.map_structure(lambda rows: np.asarray(rows)[:num_rows], answer)


def _name_outputs(name: str, answer: object) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each output with its column name: NAME; for several outputs NAME/KEY or NAME/0, ..."""
    if isinstance(answer, Mapping):
        for key, part in answer.items():
            yield from _name_outputs(f"{name}/{key}", part)
    elif isinstance(answer, Sequence):
        for number, part in enumerate(answer):
            yield from _name_outputs(f"{name}/{number}", part)
    else:
        rows = np.asarray(answer)
        # HDF5 has no bfloat16; a bfloat16 is the upper half of a float32.
        yield name, rows.astype(np.float32) if rows.dtype.name == "bfloat16" else rows


def _class_ids(name: str, rows: np.ndarray) -> np.ndarray:
    if rows.ndim < 2 or rows.shape[-1] < 2:
        raise ShapeError(
            f"class_ids=True takes one answer per class, and rows of {name!r} have shape "
            f"{rows.shape[1:]}; leave class_ids out"
        )
    ids: np.ndarray = rows.argmax(axis=-1)
    return ids.astype(np.int32)
