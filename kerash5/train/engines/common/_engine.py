"""The interface of engines to the training loop, and what engines share.

Between `begin` and `sync` the engine owns the current values; the variables of the model may have
older values, or none. Nothing here runs a step: see `train/engines/_plain`,
`train/engines/jax/_jax`, `train/engines/tensorflow/_tensorflow`, `train/engines/torch/_torch`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from kerash5._checks import parse_count
from kerash5._run import Metrics
from kerash5.batches._batches import Batch
from kerash5.train.engines.common._logs import read_metrics
from kerash5.train.engines.common._private import build_variables
from kerash5.train.engines.common._weights import ClassWeight, ClassWeights

Steps = int | Literal["auto"]


class AbstractEngine(ABC):
    """Run optimizer steps of a compiled model; all engines give equal results, up to rounding.

    On a CPU, results do not depend in any bit on how batches are grouped into calls of `train`, so
    a run that is killed and resumed in mid-epoch may group them differently.

    Attributes:
        row_counts: Numbers of rows that batches will have, as far as known.
    """

    def __init__(self, model: keras.Model, class_weight: ClassWeight | None = None) -> None:
        self.model = model
        self._weights = None if class_weight is None else ClassWeights(class_weight, model)
        self._logs: dict[str, Any] = {}  # of the last step
        self._device_rows: Batch | None = None  # rows on the device
        self.row_counts: tuple[int, ...] = ()

    @property
    def steps_per_dispatch(self) -> int:
        """Number of batches that `train` should get at once; other numbers are allowed."""
        return 1

    @property
    def why_not_faster(self) -> str | None:
        """Why steps are run by Keras; None if they are not, as far as known now."""
        return None

    def build(self, batch: Batch) -> None:
        """Create all variables of model, metrics and optimizer from the shapes of a batch.

        Runs no step. Call it before a checkpoint is loaded; `train` calls it otherwise.
        """
        build_variables(self.model, self._weigh(batch))

    @property
    def captured(self) -> list[Any]:
        """The backend's own variables that the steps use, in a reproducible order.

        Complete once `build` has been called.
        """
        return []

    @property
    def uncaptured(self) -> list[str]:
        """State that the steps change but that cannot be read, described as far as known."""
        return []

    @abstractmethod
    def begin(self) -> None:
        """Read the model's variables: at the start, or after they were changed."""

    @abstractmethod
    def train(self, batches: Sequence[Batch]) -> None:
        """Run one optimizer step per batch, in order; may return before the device has finished."""

    def why_not_on_device(self) -> str | None:
        """Return why rows cannot be cached on the device; None if they can."""
        return None

    def put_rows_on_device(self, rows: Batch) -> None:
        """Copy rows to the device, for steps that select from them by position.

        Args:
            rows: All rows that steps will use, as one batch.
        """
        raise NotImplementedError

    def train_on_device_rows(self, positions: Sequence[NDArray[np.int32]]) -> None:
        """Run steps like `train`, on rows of the device: positions per step, shape (rows,)."""
        raise NotImplementedError

    def release(self) -> None:
        """Free the rows of `put_rows_on_device`."""
        self._device_rows = None

    def free_device_bytes(self) -> int | None:
        """Return the free bytes of the device that caches rows; None: the host's memory."""
        return None

    def metrics(self) -> Metrics:
        """Return the running averages since `reset_metrics` under Keras' names, "loss" first.

        Synchronizes with the device. If the model's own `train_step` returns other names than its
        metrics, these are the logs of the last step, as in `fit`.
        """
        found = self.own_logs() or read_metrics(self.model.get_metrics_result())
        names = sorted(found, key=lambda name: name != "loss")  # Keras 3.13 sorts alphabetically
        return {name: found[name] for name in names}

    def own_logs(self) -> Metrics:
        """Return the logs of the last step, if `fit` records these instead of the averages."""
        is_own = bool(self._logs) and set(self._logs) != set(self.model.get_metrics_result())
        return read_metrics(self._logs) if is_own else {}

    def restore_own_logs(self, logs: Metrics) -> None:
        """Set what `own_logs` returned in an earlier process, until the next step."""
        self._logs = dict(logs)

    def traced(self) -> dict[str, Any]:
        """Return, as JSON, what shows whether another process traces the same step.

        Empty if the engine cannot tell.
        """
        return {}

    def expect_traced(self, traced: Mapping[str, Any], report: Callable[[str], None]) -> None:  # noqa: B027
        """Compare traces from now on with what `traced` returned in an earlier process.

        Args:
            traced: Value from a checkpoint.
            report: Called with a description of the batches whose step differs, before it runs.
        """

    def reset_metrics(self) -> None:
        """Reset the running averages."""
        self._logs = {}
        self.model.reset_metrics()

    @abstractmethod
    def sync(self) -> None:
        """Write the current values to the variables of model and optimizer."""

    @contextmanager
    def synced(self) -> Iterator[None]:
        """Let the block read and change the variables: current when it begins, taken anew after."""
        self.sync()
        try:
            yield
        finally:
            self.begin()

    @abstractmethod
    def describe(self) -> str:
        """Return a sentence with the name of the engine, and why it is not a faster one."""

    def _weigh(self, batch: Batch) -> Batch:
        """Return the batch with sample weights from the class weights, if there are any."""
        return batch if self._weights is None else self._weights.apply(batch)


def parse_steps(steps: object) -> int | None:
    """Return the number of steps per dispatch, or None for "auto".

    Raises:
        OptionError: The value is neither.
    """
    if steps == "auto":
        return None
    return parse_count("steps_per_dispatch", steps, "a number of steps, or 'auto'")
