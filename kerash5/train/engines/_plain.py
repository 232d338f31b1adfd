"""The plain engine: Keras' own `train_on_batch`, for every model on every backend.

It is what the others must equal. Nothing here is fast.
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
    """One call of `train_on_batch` per step; the variables are always current."""

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
        """Why this is the engine."""
        return self._reason or None

    def begin(self) -> None:
        """Do nothing: each step takes the variables as they are."""

    def train(self, batches: Sequence[Batch]) -> None:
        """Run one optimizer step per batch; waits for each."""
        with running_metrics(self.model), bare_batches(self.model):
            for batch in batches:
                self._logs = self.model.train_on_batch(*self._weigh(batch), return_dict=True)

    def metrics(self) -> Metrics:
        """Return what Keras says after the last step: it has made its choice in there."""
        return {**super().metrics(), **read_metrics(self._logs)}

    def why_not_held(self) -> str | None:
        """Say why rows do not live on the device."""
        return "this engine takes batches from the host"

    def sync(self) -> None:
        """Do nothing: the variables are current after each step."""

    def describe(self) -> str:
        """Say that this is the plain engine, and why."""
        why = f": {self._reason}" if self._reason else ""
        return f"plain, one train_on_batch per step{why}"
