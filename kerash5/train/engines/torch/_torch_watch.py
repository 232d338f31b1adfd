"""PyTorch: compare a captured step with Keras' own, on copies of the same state and batch.

Two runs of the same step differ at most by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

import torch

from kerash5.train.engines.torch._torch_trace import Variables, flatten

# For a tiny model, Keras' step takes about ten times as long as its captured form, and copies as
# long again; at this interval it costs less than 1 % of the time.
_PERIOD: Final = 2048
_EARLY: Final = frozenset({1, 8, 64, 512})
# Relative to the change by Keras' step; and, in units of the last place, to the values.
_SHARE: Final = 1e-4
_LAST_PLACES: Final = 64
# With so few digits another order of operations can double a value, so they must be equal.
_COARSE: Final = (torch.bfloat16, torch.float16)
_MIN_COPY_SHARE: Final = 4  # copies may use 1 / this of the GPU's free memory


@final
class Watch:
    """Run a captured step and Keras' own from one state, and compare the results.

    Args:
        variables: Variables that a step may change, from `variables_of`.
        values: Their tensors, flat, in the same order.
    """

    def __init__(self, variables: Variables, values: Sequence[torch.Tensor]) -> None:
        self._paths = [variable.path for variable in flatten(variables)]
        self._values = values

    @staticmethod
    def is_due(step: int) -> bool:
        """Return whether the captured step is to be compared at this step of the optimizer."""
        return step % _PERIOD == 0 or step in _EARLY

    def compare(self, captured: Callable[[], None], keras_step: Callable[[], None]) -> str | None:
        """Run both steps; keep the captured one's state if they agree, else that of Keras.

        Returns:
            None, or a description of the variable that differs, and by how much.
        """
        before = self._take()
        captured()
        fast = self._take()
        self._put(before)
        keras_step()
        own = self._take()
        found = self._difference(before, fast, own)
        if found is not None and self._is_noise(before, fast, own, keras_step):
            found = None
        self._put(fast if found is None else own)
        return found

    def _is_noise(
        self, before: _State, fast: _State, own: _State, keras_step: Callable[[], None]
    ) -> bool:
        """Return whether Keras' own step, run again, differs from itself by as much."""
        self._put(before)
        keras_step()
        again = self._take()
        pairs = zip(before[0], fast[0], own[0], again[0], strict=True)
        return all(_is_close(*some[:3], noise=_distance(some[2], some[3])) for some in pairs)

    def _difference(self, before: _State, fast: _State, own: _State) -> str | None:
        for path, *some in zip(self._paths, before[0], fast[0], own[0], strict=True):
            if not _is_close(*some):
                distance = _distance(some[1], some[2])
                return f"{path} differs by {distance:.2g} from the result of Keras' step"
        if not all(map(torch.equal, fast[1], own[1])):
            return "it draws other random numbers than Keras' step"
        return None

    def _take(self) -> _State:
        on_host = _is_short_of_memory(self._values)
        copies = [
            value.to("cpu", copy=True) if on_host else value.clone() for value in self._values
        ]
        return copies, _random_states(self._values)

    def _put(self, state: _State) -> None:
        values, random_states = state
        with torch.no_grad():
            for value, kept in zip(self._values, values, strict=True):
                value.copy_(kept)
        _set_random_states(self._values, random_states)


_State = tuple[list[torch.Tensor], list[torch.Tensor]]


def _is_close(
    before: torch.Tensor, fast: torch.Tensor, own: torch.Tensor, *, noise: float = 0.0
) -> bool:
    """Return whether two results of a step are equal up to rounding and ten times the noise."""
    if not own.is_floating_point() or own.dtype in _COARSE:
        return bool(torch.equal(fast, own))
    if torch.equal(fast, own) or own.numel() == 0:
        return True
    if not torch.equal(fast.isnan(), own.isnan()):
        return False
    changed = _distance(own, before)
    largest = float(own.nan_to_num(0.0, 0.0, 0.0).abs().max())
    rounding = _LAST_PLACES * torch.finfo(own.dtype).eps * largest
    allowed = _SHARE * changed + rounding + 10 * noise
    return bool(_distance(fast, own) <= allowed)


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    if one.numel() == 0 or not one.is_floating_point():
        return 0.0 if torch.equal(one, other) else float("inf")
    return float((one - other).nan_to_num(0.0).abs().max())


def _is_short_of_memory(values: Sequence[torch.Tensor]) -> bool:
    """Return whether three copies of the state would use too much of the GPU's memory."""
    device = next((value.device for value in values if value.is_cuda), None)
    if device is None:
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return bool(3 * _MIN_COPY_SHARE * sum(value.nbytes for value in values) > free)


def _devices(values: Sequence[torch.Tensor]) -> list[torch.device]:
    return sorted({value.device for value in values if value.is_cuda}, key=str)


def _random_states(values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    on_gpus = [torch.cuda.get_rng_state(device) for device in _devices(values)]
    return [torch.get_rng_state(), *on_gpus]


def _set_random_states(values: Sequence[torch.Tensor], states: Sequence[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    for device, state in zip(_devices(values), states[1:], strict=True):
        torch.cuda.set_rng_state(state, device)
