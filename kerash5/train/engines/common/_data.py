"""The form in which `fit` passes a batch to `train_step`."""

from __future__ import annotations

from typing import Any

from kerash5.batches._batches import Batch


def as_fit_hands(batch: Batch) -> Any:  # noqa: ANN401  an array, or a tuple of trees of such
    """Return the batch as `fit` on arrays passes it to `train_step`: x alone is not in a tuple."""
    is_bare = len(batch) == 1 and not isinstance(batch[0], tuple | list)
    return batch[0] if is_bare else batch
