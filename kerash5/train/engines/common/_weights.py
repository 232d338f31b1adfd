"""Class weights as sample weights, with the meaning of `keras.Model.fit(class_weight=...)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, final

import keras
import numpy as np
from numpy.typing import NDArray

from kerash5._errors import OptionError
from kerash5.batches._batches import Batch
from kerash5.feeds.labels._keras_losses import OutputLabels, pair_labels
from kerash5.feeds.labels._rules import Kind

OneWeight: TypeAlias = Mapping[int, float]
ClassWeight: TypeAlias = OneWeight | Mapping[str, OneWeight]


@final
class ClassWeights:
    """Weights per class; classes without one have weight 1.

    Args:
        weights: Maps a class id to its weight; for several outputs, maps an output name to such a
            dict. Outputs without one have weight 1.
        model: The model, whose losses determine the form of labels: with a sparse loss they are
            class ids of any rank; otherwise rows with a last axis longer than 1 are one-hot.

    Raises:
        OptionError: A class is not an integer, or a weight is not a number.
    """

    def __init__(self, weights: ClassWeight, model: keras.Model) -> None:
        self._model = model
        try:
            self._is_per_output = bool(weights) and all(
                isinstance(part, Mapping) for part in weights.values()
            )
            given: Any = weights if self._is_per_output else {"": weights}
            self._weights = {str(name): _parse(part) for name, part in given.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise OptionError(
                f"class_weight={weights!r}; pass a dict such as {{0: 1.0, 1: 2.5}}, or a dict "
                "of such dicts by output name"
            ) from error

    def apply(self, batch: Batch) -> Batch:
        """Return (x, y, weights), with weights of the shape of the class ids.

        For several outputs, weights are a tuple or dict, like the model's outputs.

        Raises:
            OptionError: The batch has sample weights, y has several arrays but the weights name no
                output, or y does not show the class of each element.
        """
        if len(batch) != 2:
            raise OptionError(
                "class_weight needs batches of x and y, but these have sample_weight; multiply the "
                "weights into a sample_weight column"
            )
        outputs = pair_labels(self._model, batch[1])
        if self._is_per_output:
            return (*batch, self._of_outputs(outputs, batch[1]))
        if not isinstance(batch[1], np.ndarray):
            names = ", ".join(repr(output.name) for output in outputs)
            raise OptionError(
                "class_weight needs batches of x and one y, but these have no single y; pass a "
                f"dict per output ({names or 'by name'}), or multiply the weights into a "
                "sample_weight column"
            )
        kind = outputs[0].kind if len(outputs) == 1 else None
        return (*batch, _weigh(batch[1], kind, self._weights[""]))

    def _of_outputs(self, outputs: list[OutputLabels], y: Any) -> Any:  # noqa: ANN401  trees
        unknown = sorted(self._weights.keys() - {output.name for output in outputs})
        if unknown:
            names = ", ".join(repr(output.name) for output in outputs)
            raise OptionError(
                f"class_weight names {unknown[0]!r}, but the outputs of model "
                f"{self._model.name!r} that have a y are {names or 'unknown'}; name those"
            )
        num_rows = len(keras.tree.flatten(y)[0])
        found = {
            output.name: np.ones(num_rows, keras.config.floatx())
            if output.labels is None
            else _weigh(output.labels, output.kind, self._weights.get(output.name, {}))
            for output in outputs
        }
        if len(found) == 1:
            return next(iter(found.values()))
        is_keyed = isinstance(getattr(self._model, "output", None), Mapping)
        return found if is_keyed else tuple(found.values())


def _parse(weights: OneWeight) -> dict[int, float]:
    return {int(label): float(weight) for label, weight in weights.items()}


def _weigh(y: NDArray[Any], kind: Kind | None, weights: Mapping[int, float]) -> NDArray[Any]:
    if not weights:
        return np.ones(len(y), keras.config.floatx())
    labels = _labels(y, kind)
    found, indices = np.unique(labels, return_inverse=True)
    each = [weights.get(int(label), 1.0) for label in found]
    return np.asarray(each, dtype=keras.config.floatx())[indices.reshape(labels.shape)]


def _labels(y: NDArray[Any], kind: Kind | None) -> NDArray[Any]:
    """Return class ids: of each row, or of each element for which the loss returns a value."""
    if y.ndim > 1 and y.shape[-1] == 1:
        y = np.squeeze(y, axis=-1)
    elif kind == "probabilities" or (y.ndim == 2 and kind != "ids"):
        y = np.argmax(y, axis=-1)
    elif y.ndim > 2 and kind != "ids":
        raise OptionError(
            f"class_weight cannot infer the classes in rows of y of shape {y.shape[1:]}, because "
            "the loss is neither sparse nor categorical cross-entropy; add a last axis to binary "
            f"masks with y=Column(..., shape={(*y.shape[1:], 1)}), or pass sample_weight="
        )
    return np.round(y).astype(np.int32)
