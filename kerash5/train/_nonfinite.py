"""Ends a fit whose loss is NaN or infinite, and names the batch that produced it.

Only the loss is checked. With the precision "16-mixed", Keras' `LossScaleOptimizer` skips a step
whose gradients overflow, which is no error and is not reported.
"""

from __future__ import annotations

import math
import reprlib
import time
from typing import Final, final

from kerash5._errors import RunError
from kerash5._run import Metrics, to_scalars
from kerash5.feeds._keras import H5Dataset
from kerash5.train.checkpoints._checkpoint import Checkpoints
from kerash5.train.loop._events import Progress
from kerash5.train.loop._loop import Loop
from kerash5.train.state._state import ModelState

_LOOK_SECONDS: Final = 1.0  # reading the loss waits for the device
_MAX_ROWS: Final = 8  # named in the message


@final
class LossWatch:
    """Checks the running average of the loss periodically; a NaN stays NaN until the epoch's end.

    Args:
        loop: The loop of the fit.
        train: The training data.
        current: The state of the model.
        checkpoints: The checkpoints of the run. Steps are repeated one by one from the newest to
            find the first with a non-finite loss.

    Attributes:
        is_lost: Whether the variables are not usable any more.
    """

    def __init__(
        self, loop: Loop, train: H5Dataset, current: ModelState, checkpoints: Checkpoints
    ) -> None:
        self.is_lost = False
        self._loop = loop
        self._train = train
        self._current = current
        self._checkpoints = checkpoints
        self._looked = time.perf_counter()
        self._good_step = 0

    def look(self, progress: Progress) -> None:
        """Check the loss, at most once per second."""
        now = time.perf_counter()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self.check(progress.metrics())

    def check(self, metrics: Metrics) -> None:
        """Raise if the loss is not a finite number.

        Raises:
            RunError: The loss is NaN or infinite. The model then has the state before that step, if
                there was a checkpoint.
        """
        lost = _not_finite(metrics)
        if lost is None:
            self._good_step = self._loop.step
            return
        self.is_lost = True
        raise RunError(
            f"{_named(lost)} is {metrics[lost]}: {self._where()}; lower the learning rate, clip "
            "gradients (gradient_clip_val=1.0), or look at those rows; the last good checkpoint "
            "is kept"
        )

    def _where(self) -> str:
        end = self._loop.step
        found = self._find(end)
        if found is None:
            return f"it became so in one of the steps {self._good_step} to {end - 1}"
        rows = self._train.plan.rows(self._loop.plan_step(found))
        named = ", ".join(map(str, rows[:_MAX_ROWS])) + (", ..." if len(rows) > _MAX_ROWS else "")
        return f"step {found} made it so, on the rows {named} of {reprlib.repr(self._files())}"

    def _find(self, end: int) -> int | None:
        """Return the step after which the loss was not finite; give the model the state before it.

        Steps are repeated from the newest checkpoint. None if there is no checkpoint, if the first
        step created further variables after it, or if callbacks changed the steps' results.
        """
        checkpoint = self._checkpoints.newest()
        if checkpoint is None:
            return None
        engine = self._loop.engine
        try:
            self._current.restore(checkpoint.arrays)
        except RunError:
            return None
        engine.begin()
        found = None
        for step in range(int(checkpoint.state["step"]), end):
            engine.reset_metrics()
            engine.train([self._train.read(self._loop.plan_step(step))])
            if _not_finite(engine.metrics()) is not None:
                found = step
                break
        engine.sync()
        self._current.restore(checkpoint.arrays)
        return found

    def _files(self) -> list[str]:
        return list(self._train.source.paths)


def _not_finite(metrics: Metrics) -> str | None:
    """Return the name of a training loss that is not finite; None if all are finite.

    A model's own train_step may return several losses, such as g_loss and d_loss.
    """
    names = ["loss"] if "loss" in metrics else _losses(metrics)
    for name in names:
        if not all(map(math.isfinite, to_scalars({name: metrics[name]}).values())):
            return name
    return None


def _losses(metrics: Metrics) -> list[str]:
    return [name for name in metrics if name.endswith("loss") and not name.startswith("val_")]


def _named(name: str) -> str:
    return "the loss" if name == "loss" else f"the loss {name!r}"
