"""What every engine promises to the training loop, and what they share.

Between `begin` and `sync` the current values are the engine's own: variables of the model may hold
older ones, or none at all. Nothing here runs a step: see `train/engines/_plain`,
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
    """Runs optimizer steps of a compiled model; every engine gives the same numbers, to rounding.

    How batches are grouped into calls of `train` does not change a bit of them on a CPU, so a run
    that was killed and resumed in mid-epoch may group them in another way.

    Attributes:
        row_counts: Numbers of rows that batches will have, as far as they are known.
    """

    def __init__(self, model: keras.Model, class_weight: ClassWeight | None = None) -> None:
        self.model = model
        self._weights = None if class_weight is None else ClassWeights(class_weight, model)
        self._logs: dict[str, Any] = {}  # of the last step
        self._held: Batch | None = None  # rows on the device
        self.row_counts: tuple[int, ...] = ()

    @property
    def steps_per_dispatch(self) -> int:
        """How many batches `train` wants at once now; it takes more or fewer all the same."""
        return 1

    @property
    def why_not_faster(self) -> str | None:
        """Why steps are Keras' own; None where they are not, as far as is known now."""
        return None

    def build(self, batch: Batch) -> None:
        """Make every variable of model, metrics and optimizer from the shapes of a batch.

        Runs no step. Call it before a checkpoint is loaded; `train` does it by itself.
        """
        build_variables(self.model, self._weigh(batch))

    @property
    def captured(self) -> list[Any]:
        """The backend's own variables that the steps use, in an order that stays; if it is known.

        Known once `build` has been called.
        """
        return []

    @property
    def uncaptured(self) -> list[str]:
        """What the steps change and nobody can read, in words; as far as that is known."""
        return []

    @abstractmethod
    def begin(self) -> None:
        """Take the model's variables as they are now: at the start, or after they were changed."""

    @abstractmethod
    def train(self, batches: Sequence[Batch]) -> None:
        """Run one optimizer step per batch, in order; may return before the device is done."""

    def why_not_held(self) -> str | None:
        """Say why rows cannot live on the device, where steps would pick them; None if they can."""
        return None

    def hold(self, rows: Batch) -> None:
        """Put rows on the device, for steps that are given their places alone.

        Args:
            rows: All that steps will ask for, as one batch.
        """
        raise NotImplementedError

    def train_held(self, places: Sequence[NDArray[np.int32]]) -> None:
        """As `train`, on rows that `hold` was given: for each step their places, shape (rows,)."""
        raise NotImplementedError

    def release(self) -> None:
        """Forget the rows that `hold` was given."""
        self._held = None

    def free_device_bytes(self) -> int | None:
        """Return the free memory of the device that rows would be held on; None: the host's."""
        return None

    def metrics(self) -> Metrics:
        """Return the running averages since `reset_metrics` under Keras' names, "loss" first.

        Waits for the device. A model whose own `train_step` returns other names than its metrics
        has those of the last step here, as in `fit`.
        """
        found = self.own_logs() or read_metrics(self.model.get_metrics_result())
        names = sorted(found, key=lambda name: name != "loss")  # Keras 3.13 sorts by the alphabet
        return {name: found[name] for name in names}

    def own_logs(self) -> Metrics:
        """Return what the last step returned, where `fit` records that and not the averages."""
        is_own = bool(self._logs) and set(self._logs) != set(self.model.get_metrics_result())
        return read_metrics(self._logs) if is_own else {}

    def restore_own_logs(self, logs: Metrics) -> None:
        """Take what `own_logs` returned in an earlier process, up to the next step."""
        self._logs = dict(logs)

    def traced(self) -> dict[str, Any]:
        """Return, as JSON has it, what tells whether another process traces the same step.

        Empty where no engine of this kind can tell.
        """
        return {}

    def expect_traced(self, traced: Mapping[str, Any], report: Callable[[str], None]) -> None:  # noqa: B027
        """Compare what is traced from now on with what `traced` returned in an earlier process.

        Args:
            traced: From a checkpoint.
            report: Called with words for the batches whose step is another one, before it is run.
        """

    def reset_metrics(self) -> None:
        """Begin the averages anew."""
        self._logs = {}
        self.model.reset_metrics()

    @abstractmethod
    def sync(self) -> None:
        """Put the current values into the model's and the optimizer's variables."""

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
        """Say in a sentence which engine this is, and why not a faster one."""

    def _weigh(self, batch: Batch) -> Batch:
        """Return the batch with the weights that its classes have, if they have any."""
        return batch if self._weights is None else self._weights.apply(batch)


def parse_steps(steps: object) -> int | None:
    """Return a number of steps per dispatch, or None for "auto".

    Raises:
        OptionError: It is neither.
    """
    if steps == "auto":
        return None
    return parse_count("steps_per_dispatch", steps, "a number of steps, or 'auto'")
