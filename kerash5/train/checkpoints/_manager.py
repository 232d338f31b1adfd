"""Decides when a checkpoint is due within a fit, and which are deleted.

`train/_fit` provides the content, and also saves at the start of a fit, at its end and after an
error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from kerash5._warnings import warn
from kerash5.train.checkpoints._checkpoint import Checkpoint, Checkpoints
from kerash5.train.checkpoints._resume import ranks_of


@final
@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """When checkpoints are written, and how many of the best are not deleted.

    Args:
        every_steps: Number of steps between checkpoints; None: not by steps.
        every_seconds: Seconds between checkpoints.
        top_k: Number of best epochs whose checkpoints are not deleted.
    """

    every_steps: int | None
    every_seconds: float
    top_k: int


# A checkpoint at the end of an epoch may take this fraction of the time since the last one.
_MAX_SHARE: Final = 0.05
_KEPT: Final = 2  # number of newest checkpoints: if one is damaged, the previous is used


@final
class CheckpointManager:
    """Writes checkpoints when they are due.

    Args:
        checkpoints: The checkpoints of the run.
        settings: When to write and what to delete.
        capture: Function that returns the current state of the fit, and the step.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        settings: CheckpointSettings,
        capture: Callable[[], tuple[Checkpoint, int]],
    ) -> None:
        self._checkpoints = checkpoints
        self._settings = settings
        self._capture = capture
        self._ranks = ranks_of(checkpoints)
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self.newest: Path | None = None

    def is_due(self, step: int) -> bool:
        """Return whether a checkpoint is due within an epoch, after this many steps of the fit."""
        every = self._settings.every_steps
        if every is not None and step % every == 0:
            return True
        return time.monotonic() - self._saved_at >= self._settings.every_seconds

    def is_worthwhile(self, rank: float) -> bool:
        """Return whether a checkpoint is due at the end of an epoch.

        Args:
            rank: Rank of the epoch: smaller is better; NaN if it has none.
        """
        return self._is_among_best(rank) or (
            self._cost <= _MAX_SHARE * (time.monotonic() - self._saved_at)
        )

    def save(self, rank: float = math.nan, *, is_truncated: bool = False) -> bool:
        """Write a checkpoint; return whether it succeeded. If not, earlier ones are unchanged.

        A failure, such as a full disk, is a warning.

        Args:
            rank: Rank of the epoch that has just ended; NaN if none has.
            is_truncated: Whether a limit has truncated the epoch, and the state is the one before
                that. A longer fit has no such epoch, so it is not ranked among the best.
        """
        began = time.monotonic()
        checkpoint, step = self._capture()
        state = {**checkpoint.state, "rank": None if math.isnan(rank) else rank}
        try:
            path = self._checkpoints.save(replace(checkpoint, state=state), step)
            self.newest = path
            if not math.isnan(rank) and not is_truncated:
                self._ranks[path] = rank
            self._checkpoints.keep([*self._checkpoints.paths()[:_KEPT], *self._best()])
        except OSError as error:
            warn(
                f"no checkpoint could be written after step {step} ({error}); training goes on, "
                f"and the checkpoints before it are as they were in "
                f"{str(self._checkpoints.folder)!r}"
            )
            return False
        finally:
            self._saved_at = time.monotonic()
            self._cost = self._saved_at - began
        return True

    def _is_among_best(self, rank: float) -> bool:
        if math.isnan(rank) or not self._settings.top_k:
            return False
        best = self._best()
        return len(best) < self._settings.top_k or any(rank < self._ranks[path] for path in best)

    def _best(self) -> list[Path]:
        """Return the checkpoints of the best epochs, best first; of equals, the earlier first."""
        found = sorted(self._ranks, key=lambda path: (self._ranks[path], path.name))
        return found[: self._settings.top_k]
