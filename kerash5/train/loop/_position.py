"""Where a fit is, and why it ends early: what a checkpoint stores of the loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kerash5._run import Metrics

# "callback": one has set stop_training. "asked": from outside, as by a signal; nothing more is run.
StopReason = Literal["callback", "max_steps", "max_time", "asked"]


@dataclass(slots=True)
class Position:
    """Where a fit is: between two steps, always.

    Args:
        epoch: From 0.
        index: Steps of the epoch that are done; all of them before the epoch has been ended.
        checks: Validations of the epoch that are done.
        seconds: Of training in this epoch.
        wait_seconds: Of them, those of waiting for batches.
        check_seconds: Of validation in this epoch.
        check: What the last validation of this epoch gave.
    """

    epoch: int = 0
    index: int = 0
    checks: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    check_seconds: float = 0.0
    check: Metrics = field(default_factory=dict)
