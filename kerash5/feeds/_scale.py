"""`scale="auto"`: the factor by which a model of the zoo multiplies its input.

A model of the zoo built with "auto" gets its scale from the first data set passed to `fit`,
`evaluate` or a `Trainer`. The scale is fixed from then on, and part of the saved model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import DTypeLike

from kerash5.feeds._served import served_by

if TYPE_CHECKING:
    from kerash5.feeds._keras import H5Dataset

SCALE_LAYER: Final = "scale"  # its name in each model of the zoo
UNSCALE_LAYER: Final = "unscale"  # the last layer of models whose output has the unit of x
OPEN: Final = "is_scale_open"  # an attribute of that layer while the scale may still change
RAW_BYTES: Final = 1 / 255

_SCALES: Final = {"uint8": RAW_BYTES, "uint16": 1 / 65535}
# Larger values of a transform are not normalised: those lie within a few standard deviations.
_LARGEST_NORMAL: Final = 16.0


def scale_of(dtype: DTypeLike) -> float:
    """Return 1/255 for uint8, 1/65535 for uint16, and 1.0 for every other type."""
    return _SCALES.get(np.dtype(dtype).name, 1.0)


def stored_scale(dataset: H5Dataset) -> float | None:
    """Return the scale for x as it is stored; None if x is several columns.

    With a transform, the first batch decides: integers are scaled by their type, floats within
    [-16, 16] by 1, and larger floats by the stored type, whose range they still have.
    """
    served = served_by(dataset)
    names = served.column_names("x")
    if len(names) != 1:
        return None
    scale = scale_of(dataset.source.columns[names[0]].stored_dtype)
    if served.is_transformed:
        values = np.asarray(dataset.read(0)[0])
        if values.dtype.kind in "iub":
            return scale_of(values.dtype)
        return 1.0 if np.abs(values).max(initial=0.0) <= _LARGEST_NORMAL else scale
    return scale


def settle_scale(model: Any, dataset: H5Dataset) -> None:  # noqa: ANN401  Keras'
    """Set the scale of a zoo model built with scale="auto" from this data; else do nothing."""
    layer = _find_layer(model)
    if layer is None or not getattr(layer, OPEN, False):
        return
    setattr(layer, OPEN, False)
    scale = stored_scale(dataset)
    if scale is not None and scale != layer.scale:
        layer.scale = scale
        for inverse in _named(model, UNSCALE_LAYER):
            inverse.scale = 1 / scale
        for task in ("train", "test", "predict"):  # traced functions contain the old scale
            if getattr(model, f"{task}_function", None) is not None:
                getattr(model, f"make_{task}_function")(force=True)  # the loop is already running


def scale_in(model: Any) -> float | None:  # noqa: ANN401  Keras'
    """Return the scale of a zoo model; None for other models."""
    layer = _find_layer(model)
    return None if layer is None else float(layer.scale)


def describe_scale(model: Any) -> str | None:  # noqa: ANN401  Keras'
    """Return a description of the scale of a zoo model; None for other models."""
    layer = _find_layer(model)
    if layer is None:
        return None
    if layer.scale == 1:
        return "scale: 1, x enters the model as it is"
    return f"scale: x is multiplied by {layer.scale:.6g} (1/{1 / layer.scale:.6g})"


def _find_layer(model: Any) -> Any:  # noqa: ANN401  Keras'
    return next((each for each in _named(model, SCALE_LAYER) if hasattr(each, OPEN)), None)


def _named(model: Any, name: str) -> list[Any]:  # noqa: ANN401  Keras'
    return [each for each in getattr(model, "layers", None) or () if each.name == name]
