"""The position of a fit, and why it ends early: the state of the loop in a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kerash5._run import Metrics

# "callback": a callback set stop_training. "asked": stopped from outside, as by a signal.
StopReason = Literal["callback", "max_steps", "max_time", "asked"]


@dataclass(slots=True)
class Position:
    """The position of a fit, always between two steps.

    Args:
        epoch: Number of the epoch, from 0.
        index: Completed steps of the epoch; all of them until the end of the epoch is processed.
        checks: Number of completed validations of the epoch.
        seconds: Training time in this epoch.
        wait_seconds: The part of `seconds` spent waiting for batches.
        check_seconds: Validation time in this epoch.
        check: The metrics of the last validation of this epoch.
    """

    epoch: int = 0
    index: int = 0
    checks: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    check_seconds: float = 0.0
    check: Metrics = field(default_factory=dict)
