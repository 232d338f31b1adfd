"""Capture and restore the global random generators: Python's, NumPy's, Keras' and the backend's.

This package does not draw from them; a model, a callback or a transform may.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

import keras
import numpy as np

from kerash5.train.state._random import random_state, set_random_state

_KERAS: Final = "random/keras"
_BACKEND: Final = "random/backend/"


def capture_random() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the states of the generators, as JSON and arrays."""
    version, numbers, spare = random.getstate()
    state = np.random.get_state(legacy=False)  # noqa: NPY002  a model may draw from it
    numpy_state = {"key": state["state"]["key"].tolist(), "pos": int(state["state"]["pos"])}
    numpy_state |= {"has_gauss": int(state["has_gauss"]), "gauss": float(state["gauss"])}
    arrays = {f"{_BACKEND}{device}": bits for device, bits in random_state().items()}
    if (seed := _global_seed()) is not None:
        arrays[_KERAS] = np.array(keras.ops.convert_to_numpy(seed))
    return {"python": [version, list(numbers), spare], "numpy": numpy_state}, arrays


def restore_random(states: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Restore the states of the generators."""
    if _KERAS in arrays and (seed := _global_seed(make=True)) is not None:
        seed.assign(arrays[_KERAS])
    version, numbers, spare = states["python"]  # after Keras' generator, which may draw from it
    random.setstate((version, tuple(numbers), spare))
    found = states["numpy"]
    key = np.array(found["key"], np.uint32)
    np.random.set_state(  # noqa: NPY002  the same
        ("MT19937", key, found["pos"], found["has_gauss"], found["gauss"])
    )
    set_random_state(
        {
            name.removeprefix(_BACKEND): bits
            for name, bits in arrays.items()
            if name.startswith(_BACKEND)
        }
    )


def _global_seed(*, make: bool = False) -> Any | None:  # noqa: ANN401  a variable of any backend
    """Return the seed variable of Keras' global generator, for layers that draw without a seed.

    None if it does not exist yet (unless `make` is True), or if this Keras version stores it
    elsewhere; such layers then draw other numbers after a resume.
    """
    try:
        from keras.src.backend.common.global_state import get_global_attribute
        from keras.src.random import seed_generator

        found = get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
        if found is None and make:
            found = seed_generator.global_seed_generator()
    except (ImportError, AttributeError):
        return None
    return None if found is None else found.state
