"""Text for TensorFlow: Keras takes tensors of strings, and not arrays of objects."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from kerash5.batches._batches import Batch
from kerash5.batches._roles import map_tree


def with_text_as_tensors(batch: Batch) -> Batch:
    """Return a batch whose arrays of text are tensors of TensorFlow, if that is loaded."""
    return tuple(map_tree(part, _convert) for part in batch)


def _convert(array: Any) -> Any:  # noqa: ANN401  of any framework
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "OSU":
        return array
    tensorflow = sys.modules.get("tensorflow")
    return array if tensorflow is None else tensorflow.constant(array, tensorflow.string)
