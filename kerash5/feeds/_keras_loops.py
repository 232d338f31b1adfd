"""Keras' own loops over one data set: its checks against model and validation data, its batches.

The checks that import Keras are imported when they run: `H5Dataset` can be used without Keras.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, final

from kerash5.feeds._class_names import check_classes, check_trained_classes, remember_classes
from kerash5.feeds._overlap import check_no_overlap
from kerash5.feeds._scale import settle_scale
from kerash5.feeds._served import is_h5dataset, served_by
from kerash5.feeds.passes._keras_pass import with_text_as_tensors
from kerash5.feeds.passes._keras_passes import Passes
from kerash5.feeds.passes._keras_position import (
    Loop,
    Position,
    Task,
    find_indices,
    find_loop,
    find_position,
)
from kerash5.feeds.passes._task_batches import TaskBatches

if TYPE_CHECKING:
    from kerash5.batches._batches import Batch
    from kerash5.feeds._keras import H5Dataset

OWN_ROWS: Final = (
    "give validation_data= rows of its own, such as H5Dataset(..., rows=...) of one side of "
    "split_rows, and evaluate(train) for metrics on the training rows"
)


@final
class KerasLoops:
    """Serves `fit`, `evaluate` and `predict` of Keras; what was compared is not compared again.

    Args:
        batches: The batches of each task.

    Attributes:
        wait_seconds: Time that the loops have waited for batches.
    """

    def __init__(self, batches: TaskBatches) -> None:
        self.wait_seconds = 0.0
        self._batches = batches
        self._passes = Passes(batches)
        self._compared: H5Dataset | None = None  # the validation data already compared
        self._is_group_checked = False  # whether the process group was checked
        # A model whose first transformed batch comes next, and whether its y is checked.
        self._model: tuple[Any, bool] | None = None

    @property
    def num_batches(self) -> int:
        """Number of batches in an epoch of the loop around the caller."""
        return len(self._batches.of(self._find_position(find_loop()).task))

    def begin_epoch(self, data: H5Dataset) -> None:
        """Check the data against the loop around the caller, which begins an epoch or may do so."""
        loop = find_loop()
        self._check_loop(loop, data)
        position = find_position(loop) or self._passes.count()
        self._check_group(position.task, loop, data)
        self._passes.begin(position, loop)

    def serve(self, data: H5Dataset, caller: FrameType | None, index: int) -> Batch:
        """Return what a loop requests.

        Args:
            data: The data set.
            caller: The frame of Keras that requests it.
            index: The requested batch number.
        """
        began = time.perf_counter()
        try:
            batch = self._next_batch(data, find_indices(caller), index)
            self._check_batch(batch)
            return with_text_as_tensors(batch)
        except BaseException as error:
            served_by(data).loop_error = error
            raise
        finally:
            self.wait_seconds += time.perf_counter() - began

    def release(self) -> None:
        """Stop reading ahead, and free memory that the next epoch does not need."""
        self._passes.release()

    def _find_position(self, loop: Loop | None) -> Position:
        return find_position(loop) or self._passes.position

    def _next_batch(self, data: H5Dataset, indices: Sequence[int] | None, index: int) -> Batch:
        if indices is None:  # TensorFlow reads one batch ahead to build its step
            loop = find_loop()
            self._note_model(loop, data)
            return self._batches.read(self._find_position(loop), index)
        batch = self._passes.serve(indices, index)
        if self._passes.position.task == "predict":
            served_by(data).check_answerable(batch, index)
        return batch

    # The checks, in the order in which they are due.

    def _check_loop(self, loop: Loop | None, data: H5Dataset) -> None:
        """Raise if the data do not fit the model or the validation data of a loop."""
        if loop is None or loop.model is None:
            return
        from kerash5.feeds._keras_structure import check_keras_predict, check_structure  # Keras

        check_structure(loop.model, data, loop.task)
        self._note_model(loop, data)
        if loop.task == "predict":
            check_keras_predict(loop.model, data)
            check_trained_classes(loop.model, data, has_y=False)
            return
        if loop.data is data:
            self._check_data(loop, data)
        _check_labels(loop, data)

    def _note_model(self, loop: Loop | None, data: H5Dataset) -> None:
        """Schedule a check of the next batch against the model, if a transform makes it."""
        if loop is not None and loop.model is not None and served_by(data).is_transformed:
            self._model = (loop.model, loop.task != "predict")

    def _check_data(self, loop: Loop, data: H5Dataset) -> None:
        settle_scale(loop.model, data)
        if loop.task == "evaluate":
            check_trained_classes(loop.model, data)
            return
        remember_classes(loop.model, data)
        other = loop.validation_data
        if is_h5dataset(other) and self._compared is not other:
            check_classes(data, other)
            check_no_overlap(data, other, task="validate", cure=OWN_ROWS)
            self._compared = other

    def _check_group(self, task: Task, loop: Loop | None, data: H5Dataset) -> None:
        if self._is_group_checked:
            return
        self._is_group_checked = task == "fit"
        from kerash5.feeds._keras_group import check_keras_loop  # imports Keras

        check_keras_loop(data, task, None if loop is None else loop.model)

    def _check_batch(self, batch: Batch) -> None:
        """Check a batch if it is the first that a transform makes for a model."""
        due, self._model = self._model, None
        if due is None:
            return
        from kerash5.feeds._keras_labels import check_batch  # import Keras
        from kerash5.feeds._keras_structure import check_batch_structure

        model, is_compared = due
        check_batch_structure(model, batch, has_y=is_compared)
        if is_compared:
            check_batch(model, batch)


def _check_labels(loop: Loop, data: H5Dataset) -> None:
    from kerash5.feeds._keras_labels import check_class_weight, check_labels  # import Keras
    from kerash5.feeds._keras_structure import check_structure
    from kerash5.feeds.labels._keras_last_batch import check_padded_call

    check_padded_call(data.plan, class_weight=loop.class_weight, steps=loop.steps)
    check_labels(loop.model, data)
    if loop.class_weight is not None:
        check_class_weight(loop.model, data)
    if is_h5dataset(loop.validation_data):
        check_structure(loop.model, loop.validation_data, "evaluate")
        check_labels(loop.model, loop.validation_data)
