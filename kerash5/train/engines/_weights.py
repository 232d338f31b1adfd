"""Class weights as sample weights, the way `keras.Model.fit(class_weight=...)` means them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import keras
import numpy as np
from numpy.typing import NDArray

from kerash5._batches import Batch
from kerash5._errors import OptionError


@final
class ClassWeights:
    """A weight per class; classes that are not named weigh 1.

    Args:
        weights: Class number -> weight.

    Raises:
        OptionError: A class is no whole number, or a weight no number.
    """

    def __init__(self, weights: Mapping[int, float]) -> None:
        try:
            self._weights = {int(label): float(weight) for label, weight in weights.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise OptionError(
                f"class_weight={weights!r}; give a dict such as {{0: 1.0, 1: 2.5}}"
            ) from error

    def apply(self, batch: Batch) -> Batch:
        """Return (x, y, weights), the weights of shape (rows,).

        Raises:
            OptionError: The batch has weights of its own, or y is not one array of labels.
        """
        if len(batch) != 2 or not isinstance(batch[1], np.ndarray):
            found = "sample_weight" if len(batch) == 3 else "no single y"
            raise OptionError(
                f"class_weight needs batches of x and one y, and these have {found}; multiply the "
                "weights into a sample_weight column"
            )
        return (*batch, self._of(_labels(batch[1])))

    def _of(self, labels: NDArray[Any]) -> NDArray[Any]:
        found, places = np.unique(labels, return_inverse=True)
        weights = [self._weights.get(int(label), 1.0) for label in found]
        return np.asarray(weights, dtype=keras.config.floatx())[places.reshape(labels.shape)]


def _labels(y: NDArray[Any]) -> NDArray[Any]:
    """Return the class of each row, shape (rows,): one-hot or not, with or without a last axis."""
    if y.ndim > 1:
        y = np.argmax(y, axis=-1) if y.shape[-1] != 1 else np.squeeze(y, axis=-1)
    return np.round(y).astype(np.int32)
