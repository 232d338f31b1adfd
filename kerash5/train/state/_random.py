"""Random state outside the model that training draws from.

Keras' layers have seeds in variables of their own, which are saved like weights. On PyTorch,
however, a Dropout without a seed draws from PyTorch's generator of the device (Keras 3.15.1), so it
would not repeat. NumPy's and Python's generators are ignored here, because no step draws from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras
import numpy as np
from numpy.typing import NDArray

RandomState = dict[str, NDArray[np.uint8]]


def random_state() -> RandomState:
    """Return the state of the backend's generators, bytes by device; empty except on PyTorch."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found = enumerate(torch.cuda.get_rng_state_all())
        states |= {f"cuda:{number}": state for number, state in found}
    return {device: state.numpy().copy() for device, state in states.items()}


def set_random_state(state: Mapping[str, NDArray[np.uint8]]) -> None:
    """Restore what `random_state` returned, so that the same numbers follow.

    Devices that are not available now are skipped.
    """
    if keras.backend.backend() != "torch":
        return
    import torch

    for device, values in state.items():
        bits = torch.from_numpy(np.array(values, np.uint8))
        if device == "cpu":
            torch.set_rng_state(bits)
        elif torch.cuda.is_available() and int(device[5:]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(bits, device)


def draw_loader_seeds(count: int) -> None:
    """Draw as many seeds as PyTorch's data loaders do in `fit`, so that dropout is as in `fit`.

    `fit` starts iterating over its loader twice before the first step, and twice more for each
    later epoch or evaluation (Keras 3.13 to 3.15.1); a loader draws a seed each time.

    Args:
        count: Number of times a loader is iterated over. On other backends nothing is drawn.
    """
    if keras.backend.backend() != "torch":
        return
    import torch

    for _ in range(count):
        torch.empty((), dtype=torch.int64).random_()


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the random state on exit, so that draws inside do not affect later ones."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
