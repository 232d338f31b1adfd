"""The state of a fit, as its checkpoints hold it: captured, compared, restored."""

from __future__ import annotations

from typing import Any, final

from kerash5.train._fit_parts import FitParts
from kerash5.train.checkpoints._checkpoint import Checkpoint
from kerash5.train.checkpoints._fingerprint import fingerprint, name_differences, note_times
from kerash5.train.checkpoints._run_dir import BEST_BEFORE_TRUNCATION, BEST_WEIGHTS
from kerash5.train.checkpoints._snapshot import (
    Counters,
    check_weights,
    compare,
    other_fit,
    position_of,
    read_counters,
    restore_partial,
    restore_snapshot,
    take_snapshot,
)


@final
class FitState:
    """Captures model, callbacks, position and counters together, and restores them.

    Args:
        parts: The objects of the fit.
    """

    def __init__(self, parts: FitParts) -> None:
        self._parts = parts
        self._loop = parts.loop
        self._start = parts.start
        self._current = parts.current
        self._record = parts.record
        self._fingerprint: dict[str, Any] = {}
        self._frozen: Counters | None = None
        self._truncated: tuple[Checkpoint, int] | None = None

    @property
    def is_truncated(self) -> bool:
        """Whether the state before a truncated epoch is captured."""
        return self._truncated is not None

    def identify(self) -> None:
        """Compute what must be equal in a fit that resumes this one; all variables must exist."""
        parts, checkpoint = self._parts, self._start.checkpoint
        self._fingerprint = fingerprint(
            self._current,
            parts.train,
            parts.settings.limits,
            parts.class_weight,
            None if checkpoint is None else checkpoint.state["fingerprint"],
        )

    def check_same_fit(self, checkpoint: Checkpoint) -> None:
        """Raise if the checkpoint is of another fit; by force, print the differences."""
        found = compare(checkpoint, self._fingerprint, is_forced=self._start.is_forced)
        check_weights(self._current, checkpoint)
        if (noted := note_times(checkpoint.state["fingerprint"], self._fingerprint)) is not None:
            self._parts.say(noted)
        if found:
            self._say_differences(name_differences(found))

    def unsaved(self) -> list[str]:
        """Return descriptions of the state that training changes and checkpoints do not contain."""
        return [*self._current.python.unsaved(), *self._loop.engine.uncaptured]

    def freeze_counters(self) -> None:
        """Capture the current counters from now on, as the epoch has ended but is not recorded."""
        self._frozen = self._count()

    def thaw_counters(self) -> None:
        """Capture the counters as they are at that time again."""
        self._frozen = None

    def capture(self, best: str = BEST_WEIGHTS) -> tuple[Checkpoint, int]:
        """Return the state and the step; after `capture_before_truncation` the state it captured.

        Args:
            best: The file of the best weights, in the folder of the run.
        """
        if self._truncated is not None:
            return self._truncated
        file = self._start.run_dir.path / best
        has_best = self._record.run.best_epoch is not None and file.exists()
        snapshot = take_snapshot(
            self._current,
            self._loop.position,
            self._frozen or self._count(),
            {BEST_WEIGHTS: file} if has_best else {},
            step=self._loop.step,
            stop_reason="callback" if self._loop.is_stopped else self._loop.stop_reason,
            own_logs=self._loop.engine.own_logs(),
            traced=self._loop.engine.traced(),
            fingerprint=self._fingerprint,
        )
        return snapshot, self._loop.step

    def capture_before_truncation(self) -> None:
        """Capture this state, so that a fit with a larger limit can continue from here exactly."""
        if self._record.run.best_epoch is not None:
            run_dir = self._start.run_dir
            self._record.keep(lambda: run_dir.link(BEST_WEIGHTS, BEST_BEFORE_TRUNCATION))
        self._truncated = self.capture(BEST_BEFORE_TRUNCATION)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Begin the training at a checkpoint, and restore its state."""
        hooks = self._parts.hooks
        self._loop.position = position_of(checkpoint, self._fingerprint)
        best = checkpoint.files.get(BEST_WEIGHTS)
        if best is not None or checkpoint.state["best_epoch"] is None:
            self._record.keep(lambda: self._start.run_dir.replace(BEST_WEIGHTS, best))
        hooks.begin_training()
        if self._loop.position.index:  # on_epoch_begin first: the state restored below wins
            self._loop.begin_epoch()
        if self._start.is_forced:
            left = restore_partial(self._current, hooks.callbacks, checkpoint)
        else:
            left = restore_snapshot(self._current, hooks.callbacks, checkpoint)
        self._loop.engine.restore_own_logs(checkpoint.state.get("own_logs", {}))
        self._loop.engine.expect_traced(
            checkpoint.state.get("traced", {}),
            lambda what: self._note_other_trace(what, str(checkpoint.path)),
        )
        if self._start.earlier is not None and checkpoint.state["stop_reason"] == "callback":
            self._loop.stop_reason = "callback"  # killed between the stop and the end of the epoch
            self._loop.is_stopped = True
        anew = f"; begun anew: {', '.join(left)}" if left else ""
        self._parts.say(
            f"going on from {str(checkpoint.path)!r}, after step {self._loop.step}{anew}"
        )

    def _note_other_trace(self, what: str, path: str) -> None:
        found = (
            f"for {what}, train_step was traced with other code or other values in Python "
            "(attributes, closures, variables outside the model)"
        )
        if not self._start.is_forced:
            raise other_fit(path, found, "give it the code and values it was traced with")
        self._say_differences(found)

    def _say_differences(self, found: str) -> None:
        self._parts.say(f"going on in spite of differences: {found}")

    def _count(self) -> Counters:
        return read_counters(
            self._parts.model,
            self._parts.hooks.callbacks,
            epochs=self._record.run.epochs,
            best_epoch=self._record.run.best_epoch,
            seconds=self._record.seconds,
        )
