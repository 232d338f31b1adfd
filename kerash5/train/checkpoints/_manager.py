"""When a checkpoint is due, and which are kept. What is in one, `train/_fit` knows."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from kerash5.train.checkpoints._checkpoint import Checkpoint, Checkpoints
from kerash5.train.checkpoints._resume import ranks_of


@final
@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """When checkpoints are written, and which are kept.

    Args:
        every_steps: Optimizer steps from one to the next; None: no matter how many.
        every_seconds: From one to the next.
        top_k: How many of the best epochs keep theirs.
    """

    every_steps: int | None
    every_seconds: float
    top_k: int


# At the end of an epoch one is written if that takes at most this share of the time since the last.
_MAX_SHARE: Final = 0.05
_KEPT: Final = 2  # of the newest: if one is damaged, there is the one before


@final
class CheckpointManager:
    """Writes checkpoints when they are due.

    Args:
        checkpoints: Where they lie.
        settings: What the trainer was asked for.
        capture: Returns the state of the fit as it is now, and the step.
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
        """Say whether one is due within an epoch, after so many steps of the fit."""
        every = self._settings.every_steps
        if every is not None and step % every == 0:
            return True
        return time.monotonic() - self._saved_at >= self._settings.every_seconds

    def is_worthwhile(self, rank: float) -> bool:
        """Say whether one is due at the end of an epoch.

        Args:
            rank: Of the epoch: smaller is better, NaN is none.
        """
        return self._is_among_best(rank) or (
            self._cost <= _MAX_SHARE * (time.monotonic() - self._saved_at)
        )

    def save(self, rank: float = math.nan, *, is_truncated: bool = False) -> bool:
        """Write one; say whether that went well. If not, the ones before are untouched.

        Warns when the disk is full, or whatever else the system says.

        Args:
            rank: Of the epoch that has just ended, NaN where none has.
            is_truncated: Whether a limit has ended it, and the state is that of before: a longer
                fit has no such epoch, so it takes no other's place among the best.
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
            warnings.warn(
                f"no checkpoint could be written after step {step} ({error}); training goes on, "
                f"and the checkpoints before it are as they were in "
                f"{str(self._checkpoints.folder)!r}",
                stacklevel=2,
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
        """Return the checkpoints of the best epochs, the best first, the earlier of equals."""
        found = sorted(self._ranks, key=lambda path: (self._ranks[path], path.name))
        return found[: self._settings.top_k]
