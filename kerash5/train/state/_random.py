"""The random state that lies outside the model and that training draws from.

Keras' layers keep seeds in variables of their own, which are saved as weights are. But on PyTorch
a Dropout without a seed draws from PyTorch's generator of the device (Keras 3.15.1), and so would
not repeat. NumPy's and Python's generators are left alone: no step draws from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras
import numpy as np
from numpy.typing import NDArray

RandomState = dict[str, NDArray[np.uint8]]


def random_state() -> RandomState:
    """Return the state of the backend's generators: bytes by device; empty but for PyTorch."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found = enumerate(torch.cuda.get_rng_state_all())
        states |= {f"cuda:{number}": state for number, state in found}
    return {device: state.numpy().copy() for device, state in states.items()}


def set_random_state(state: Mapping[str, NDArray[np.uint8]]) -> None:
    """Go on with the numbers that came next when `random_state` was called.

    Devices that are not there now are left out.
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
    """Draw what PyTorch's data loaders draw in `fit`, so that dropout after it is that of `fit`.

    `fit` begins to iterate over its loader twice before the first step, and twice more for each
    epoch or evaluation that follows (Keras 3.13 to 3.15.1); a loader draws a seed each time.

    Args:
        count: How often a loader is iterated over. Nothing is drawn but on PyTorch.
    """
    if keras.backend.backend() != "torch":
        return
    import torch

    for _ in range(count):
        torch.empty((), dtype=torch.int64).random_()


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Let nothing that is drawn inside change what is drawn afterwards."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
