"""PyTorch: a step captured as Python code, or Keras' own step with a fused update.

Both change variables in place, so these are current after every step. `_torch_captured` decides
which steps are captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import keras
import numpy as np
import torch
from numpy.typing import NDArray

from kerash5._warnings import warn
from kerash5.batches._batches import Batch
from kerash5.train.engines.common._data import as_fit_hands
from kerash5.train.engines.common._engine import AbstractEngine
from kerash5.train.engines.common._private import build_variables, fused_update, why_not_fused_adam
from kerash5.train.engines.common._stack import Shapes, fill, leaves_of, shapes_of
from kerash5.train.engines.common._weights import ClassWeight
from kerash5.train.engines.torch._torch_captured import (
    MAX_SHORT_LIVED,
    CapturedSteps,
    CaptureError,
    DifferenceError,
    why_not_captured,
)
from kerash5.train.engines.torch._torch_parts import read_parts

# A call from the training loop costs little here, so a few steps at a time are enough.
_STEPS: Final = 16
_DIRECT: Final = frozenset("?bhilBqefd")  # NumPy dtypes that torch supports


@final
class TorchEngine(AbstractEngine):
    """Run captured steps if these are known to equal Keras' step, else Keras' own step."""

    def __init__(
        self,
        model: keras.Model,
        class_weight: ClassWeight | None = None,
        *,
        steps: int | None = None,
    ) -> None:
        super().__init__(model, class_weight)
        self._steps = steps or _STEPS
        self._is_built = False
        self._captured: CapturedSteps | None = None
        self._reason: str | None = None  # why no step is captured, now or for the whole run
        self._num_short_lived = 0
        self._next: int | None = None  # number of the optimizer's next step, if known

    @property
    def steps_per_dispatch(self) -> int:
        """Number of batches that `train` should get at once."""
        return self._steps

    @property
    def why_not_faster(self) -> str | None:
        """Why no step is captured; a capture may still fail at the first step of a shape."""
        return self._reason

    def build(self, batch: Batch) -> None:
        """Create all variables, and decide how steps are run."""
        self._build(self._weigh(batch))

    def begin(self) -> None:
        """Reset the step number; each call of `train` reads the current variables."""
        self._next = None

    def train(self, batches: Sequence[Batch]) -> None:
        """Run one optimizer step per batch."""
        device = None
        for batch in map(self._weigh, batches):
            if device is None:
                device = self._prepare(batch)
            shapes = shapes_of(batch)
            tensors = [_tensor(array, device) for array in leaves_of(batch)]
            self._step(shapes, fill(batch, tensors))

    def put_rows_on_device(self, rows: Batch) -> None:
        """Copy rows to the device."""
        rows = self._weigh(rows)
        device = _device(self.model)
        # Not through pinned memory, which PyTorch would keep, rounded up, until the process ends.
        self._device_rows = fill(
            rows, [_host_tensor(array).to(device) for array in leaves_of(rows)]
        )

    def free_device_bytes(self) -> int | None:
        """Return the free memory of the model's GPU in bytes; None without one."""
        device = _device(self.model)
        return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None

    def train_on_device_rows(self, positions: Sequence[NDArray[np.int32]]) -> None:
        """Run steps like `train` on rows that are on the device."""
        device_rows = self._device_rows or ()
        columns, device = leaves_of(device_rows), None
        for one in positions:
            if device is None:
                device = self._prepare(
                    fill(device_rows, [column[: len(one)] for column in columns])
                )
            chosen = _tensor(one, device)
            tensors = [column.index_select(0, chosen) for column in columns]
            self._step((True, len(one)), fill(device_rows, tensors))

    def _prepare(self, batch: Batch) -> torch.device:
        """Create variables if needed, and check that captured steps are current."""
        is_current = self._captured is not None and self._captured.is_current()
        if not self._is_built or not (is_current or self._reason):
            self._build(batch)
        return _device(self.model)

    def _build(self, batch: Batch) -> None:
        build_variables(self.model, batch)
        self._is_built = True
        if self._reason is None:
            self._look()

    def _look(self) -> None:
        """Capture steps again if a value that one read from Python has changed."""
        parts, old = read_parts(self.model), self._captured
        if old is not None and old.adopt(parts):
            return
        self._num_short_lived += old is not None and old.is_short_lived
        self._reason = why_not_captured(self.model, parts)
        if self._num_short_lived >= MAX_SHORT_LIVED:
            self._reason = self._reason or "values that a step reads from Python change too often"
        self._captured = None if self._reason else CapturedSteps(self.model, parts)

    def _step(self, shapes: Shapes, batch: Batch) -> None:
        """Run a step on a batch of tensors."""
        if self._captured is not None:
            if self._next is None:
                self._next = int(self.model.optimizer.iterations)
            step, self._next = self._next, self._next + 1
            try:
                self._captured.run(shapes, batch, step, self._run_keras_step)
            except CaptureError as error:
                self._captured, self._reason = None, str(error)
                if isinstance(error, DifferenceError):  # Keras' own step was run instead
                    self._tell_difference(error, step)
                    return
            else:
                return
        with fused_update(self.model.optimizer):
            self._run_keras_step(batch)

    def _tell_difference(self, error: DifferenceError, step: int) -> None:
        if not error.is_new:
            warn(
                f"the captured step {step} differs from Keras' step ({error}); this and all "
                "further steps are run by Keras. Earlier steps may have differed as well: train "
                "again with Trainer(steps_per_dispatch=1), and please report the model",
                RuntimeWarning,
            )

    def sync(self) -> None:
        """Do nothing: the variables are changed in place."""

    def describe(self) -> str:
        """Return how steps are run, and why not faster."""
        adam = why_not_fused_adam(self.model.optimizer)
        update = "a fused Adam" if adam is None else f"Keras' update, because {adam}"
        if self._reason is None:
            return f"PyTorch, captured steps with {update}"
        return f"PyTorch, Keras' train_step with {update}; not captured, because {self._reason}"

    def _run_keras_step(self, batch: Batch) -> None:
        model = self.model
        model.train()
        if model.jit_compile:  # as in `fit`: by torch.compile, which guards what it reads
            model.make_train_function()
            self._logs = model.train_function([as_fit_hands(batch)])
        else:
            self._logs = model.train_step(as_fit_hands(batch))
        model.eval()


def _device(model: keras.Model) -> torch.device:
    """Return the device of the variables, or, without any, the one Keras would use."""
    optimizer = model.optimizer
    variables = [*model.variables, *(() if optimizer is None else optimizer.variables)]
    some = variables[-1].value if variables else keras.ops.zeros(())
    device: torch.device = some.device
    return device


def _tensor(array: Any, device: torch.device) -> torch.Tensor:  # noqa: ANN401  an array
    tensor = _host_tensor(array)
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _host_tensor(array: Any) -> torch.Tensor:  # noqa: ANN401  an array
    """Return the tensor of an array, sharing its memory if torch supports its dtype."""
    if not isinstance(array, np.ndarray) or array.dtype.char not in _DIRECT:
        tensor: torch.Tensor = keras.ops.convert_to_tensor(array)
        return tensor
    return torch.from_numpy(array if array.flags.writeable else array.copy())
