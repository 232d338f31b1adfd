"""PyTorch: a step as recorded Python code, or Keras' own step around a fused update.

Both change the variables in place, so these are current after every step. What can be recorded is
said by `why_not_recorded`; recording is done by `_torch_trace`, writing by `_torch_code`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

import keras
import numpy as np
import torch
from numpy.typing import NDArray

from kerash5._batches import Batch
from kerash5.train.engines._engine import AbstractEngine
from kerash5.train.engines._private import build_variables, fused_update, why_not_fused_adam
from kerash5.train.engines._stack import Shapes, fill, leaves_of, shapes_of
from kerash5.train.engines._torch_code import write_code
from kerash5.train.engines._torch_trace import flatten, record_step, values_of

# One crossing from the training loop costs little here: a few steps at a time are enough.
_STEPS: Final = 16
_DIRECT: Final = frozenset("?bhilBqefd")  # NumPy's types that torch takes as they are


@final
class TorchEngine(AbstractEngine):
    """Runs the recorded code of a step for each batch, where the model lets itself be recorded."""

    def __init__(
        self,
        model: keras.Model,
        class_weight: Mapping[int, float] | None = None,
        *,
        steps: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(model, class_weight)
        self._steps = steps or _STEPS
        self._reason = reason  # why no step is recorded
        self._codes: dict[Shapes, Callable[..., None]] = {}
        self._values: list[torch.Tensor] = []

    @property
    def steps_per_dispatch(self) -> int:
        """How many batches `train` wants at once."""
        return self._steps

    def begin(self) -> None:
        """Do nothing: each call of `train` takes the variables as they are."""

    def train(self, batches: Sequence[Batch]) -> None:
        """Run one optimizer step per batch."""
        device = None
        for batch in map(self._weigh, batches):
            if device is None:
                device = self._prepare(batch)
            shapes = shapes_of(batch)
            self._step(shapes, batch, [_tensor(array, device) for array in leaves_of(batch)])
        self._values = []

    def hold(self, rows: Batch) -> None:
        """Put rows on the device."""
        rows = self._weigh(rows)
        device = _device(self.model)
        # Not through pinned memory: PyTorch would keep it, rounded up, to the end of the process.
        self._held = fill(rows, [_host_tensor(array).to(device) for array in leaves_of(rows)])

    def free_device_bytes(self) -> int | None:
        """Return the free memory of the model's GPU, None without one."""
        device = _device(self.model)
        return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None

    def train_held(self, places: Sequence[NDArray[np.int32]]) -> None:
        """As `train`, on rows that are on the device."""
        held = self._held or ()
        columns, device = leaves_of(held), None
        for one in places:
            if device is None:
                device = self._prepare(fill(held, [column[: len(one)] for column in columns]))
            chosen = _tensor(one, device)
            tensors = [column.index_select(0, chosen) for column in columns]
            self._step((True, len(one)), held, tensors)
        self._values = []

    def _prepare(self, batch: Batch) -> torch.device:
        """Make variables where there are none; return where they are."""
        build_variables(self.model, batch)
        self._values = flatten(values_of(self.model))
        return _device(self.model)

    def _step(self, shapes: Shapes, like: Batch, tensors: list[torch.Tensor]) -> None:
        """Run a step on the batch of these tensors, which is built like another."""
        if self._reason is None and shapes not in self._codes:
            self._record(shapes, fill(like, tensors))
        if self._reason is None:
            with torch.inference_mode():
                self._codes[shapes](*self._values, *tensors)
        else:
            self._run_eagerly(fill(like, tensors))

    def sync(self) -> None:
        """Do nothing: the variables are changed in place."""

    def describe(self) -> str:
        """Say what runs a step, and why not something faster."""
        adam = why_not_fused_adam(self.model.optimizer)
        update = "a fused Adam" if adam is None else f"Keras' update, because {adam}"
        if self._reason is None:
            return f"PyTorch, recorded steps with {update}"
        return f"PyTorch, Keras' train_step with {update}; not recorded, because {self._reason}"

    def _record(self, shapes: Shapes, batch: Batch) -> None:
        values = values_of(self.model)
        flat = flatten(values)
        try:
            module = record_step(self.model, values, batch)
            inputs = [*flat, *leaves_of(batch)]
            with torch.random.fork_rng():
                self._codes[shapes] = write_code(module, inputs, len(flat))
        except Exception as error:  # noqa: BLE001  a tracer fails in more ways than can be named
            self._reason = f"recording failed ({str(error).strip().partition(chr(10))[0]})"

    def _run_eagerly(self, batch: Batch) -> None:
        self.model.train()
        with fused_update(self.model.optimizer):
            self._logs = self.model.train_step(batch)
        self.model.eval()


def why_not_recorded(model: keras.Model) -> str | None:
    """Say why a step of this model cannot be recorded and played back; None if it can be tried.

    Layers from elsewhere may hold Python that decides anew in each step, which a recording would
    freeze; `jit_compile=True` says that they hold none.
    """
    if type(model).train_step is not keras.Model.train_step:
        return "the model has a train_step of its own"
    if model.jit_compile:
        return None
    for layer in [model, *_layers(model)]:
        if not type(layer).__module__.startswith("keras."):
            return (
                f"{type(layer).__name__} is no layer of Keras; compile with jit_compile=True to "
                "say that its Python does the same in each step"
            )
    return None


def _layers(model: Any) -> list[Any]:  # noqa: ANN401  a layer
    found = list(getattr(model, "layers", []))
    return [*found, *(inner for layer in found for inner in _layers(layer))]


def _device(model: keras.Model) -> torch.device:
    device: torch.device = model.optimizer.variables[0].value.device
    return device


def _tensor(array: Any, device: torch.device) -> torch.Tensor:  # noqa: ANN401  an array
    tensor = _host_tensor(array)
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _host_tensor(array: Any) -> torch.Tensor:  # noqa: ANN401  an array
    """Return the tensor of an array, where it lies if torch knows its type."""
    if not isinstance(array, np.ndarray) or array.dtype.char not in _DIRECT:
        tensor: torch.Tensor = keras.ops.convert_to_tensor(array)
        return tensor
    return torch.from_numpy(array if array.flags.writeable else array.copy())
