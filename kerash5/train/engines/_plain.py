"""The plain engine: Keras' own `train_on_batch`, for every model on every backend.

It is the reference for the other engines and is not optimized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import keras

from kerash5._run import Metrics
from kerash5.batches._batches import Batch
from kerash5.train.engines.common._engine import AbstractEngine
from kerash5.train.engines.common._logs import read_metrics
from kerash5.train.engines.common._private import bare_batches, running_metrics
from kerash5.train.engines.common._weights import ClassWeight


@final
class PlainEngine(AbstractEngine):
    """Run one call of `train_on_batch` per step; the model's variables are always current."""

    def __init__(
        self,
        model: keras.Model,
        class_weight: ClassWeight | None = None,
        *,
        reason: str = "",
    ) -> None:
        super().__init__(model, class_weight)
        self._reason = reason

    @property
    def why_not_faster(self) -> str | None:
        """Why no faster engine is used."""
        return self._reason or None

    def begin(self) -> None:
        """Do nothing: each step reads the current variables."""

    def train(self, batches: Sequence[Batch]) -> None:
        """Run one optimizer step per batch; synchronize after each."""
        with running_metrics(self.model), bare_batches(self.model):
            for batch in batches:
                self._logs = self.model.train_on_batch(*self._weigh(batch), return_dict=True)

    def metrics(self) -> Metrics:
        """Return the logs of the last step, which Keras has already selected."""
        return {**super().metrics(), **read_metrics(self._logs)}

    def why_not_on_device(self) -> str | None:
        """Return why rows cannot be cached on the device."""
        return "this engine reads batches from the host"

    def sync(self) -> None:
        """Do nothing: the variables are current after each step."""

    def describe(self) -> str:
        """Return the name of the engine, and why it is used."""
        why = f": {self._reason}" if self._reason else ""
        return f"plain, one train_on_batch per step{why}"
