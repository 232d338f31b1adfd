"""The batches as a `tf.data.Dataset`, with static types and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from kerash5.batches._batches import Batch, Batches
from kerash5.batches._roles import map_tree
from kerash5.feeds.passes._epochs import Epochs


def tf_batches(batches: Batches) -> Any:  # noqa: ANN401  TensorFlow has no types
    """Return the batches of one epoch after another.

    Args:
        batches: The batches in training order.
    """
    plan, epochs = batches.plan, Epochs()
    first = batches.read(0)
    is_full = len(batches) > 0 and not batches.is_transformed
    is_full = is_full and all(
        len(plan.rows(step)) == plan.batch_size for step in (0, len(batches) - 1)
    )

    def describe(array: Any) -> Any:  # noqa: ANN401
        values = np.asarray(array)
        is_text = values.dtype.kind in "OSU"
        rows = plan.batch_size if is_full else None
        return tf.TensorSpec((rows, *values.shape[1:]), tf.string if is_text else values.dtype)

    def generate() -> Iterator[Batch]:
        return batches.epoch(epochs.begin())

    dataset = tf.data.Dataset.from_generator(generate, output_signature=map_tree(first, describe))
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
