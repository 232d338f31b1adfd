"""Parity: whether a backend computes what the others compute. Comes before any speed.

Pure functions of numbers that processes sent; nothing here computes with a backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

Setting = Literal["plain", "tuned"]  # `model.fit` as users get it, or our Trainer
Status = Literal["ok", "failed", "missing"]
CheckName = Literal["forward", "losses", "adam", "sgd"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCheck:
    """One comparison of a contender's numbers with the reference.

    Args:
        name: "forward": the outputs on the shared weights, largest absolute difference. The others
            are losses, largest relative difference: "losses" of the first 5 steps, "adam" of 10
            steps, "sgd" of 64.
        difference: The largest found; NaN where a number was not finite.
        bound: The largest allowed.
        loosened: Why the bound is not the usual one; "" where it is.
    """

    name: CheckName
    difference: float
    bound: float
    loosened: str = ""

    @property
    def is_passed(self) -> bool:
        """Whether the difference is a number within the bound."""
        return self.difference <= self.bound


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Whether a contender computes what the others compute: fast and wrong is no result.

    Args:
        contender: As in `Sample`.
        backend: As in `Sample`.
        model: As in `Sample`.
        batch_size: As in `Sample`; of several, the smallest alone is compared.
        setting: As in `Sample`: a Trainer that computes something else is no faster either.
        reference: What it was compared with, in words.
        checks: What was compared; empty where the process failed.
        status: As in `Sample`; "ok" says that it was measured, not that it passed.
        error: One sentence; "" if ok.
    """

    contender: str
    backend: str
    model: str
    batch_size: int
    setting: Setting
    reference: str = ""
    checks: tuple[ParityCheck, ...] = ()
    status: Status = "ok"
    error: str = ""

    @property
    def is_passed(self) -> bool:
        """Whether every check was made and passed."""
        return self.status == "ok" and bool(self.checks) and all(c.is_passed for c in self.checks)

    @property
    def reason(self) -> str:
        """Why it is not passed, in words; "" if it is."""
        if self.status != "ok" or not self.checks:
            return self.error or "parity was not measured"
        return "; ".join(
            f"{check.name} differs from {self.reference} by {check.difference:.2g}, "
            f"allowed are {check.bound:.2g}"
            for check in self.checks
            if not check.is_passed
        )
