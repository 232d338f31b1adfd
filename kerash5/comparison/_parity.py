"""Parity: whether a backend computes what the others compute. Comes before any speed.

Pure functions of numbers that processes sent; nothing here computes with a backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

Setting = Literal["plain", "tuned"]  # `model.fit` as users get it, or our Trainer
Status = Literal["ok", "failed", "missing"]
CheckName = Literal["forward", "losses", "adam", "sgd"]
Numbers = Mapping[str, Any]  # name of a check -> arrays or lists of numbers

# With equal weights and batches in float32 on a CPU, sound backends differ by 1.2e-7 in a forward
# pass, 1.4e-6 over 5 steps of Adam, 5e-4 over 10, and 5.1e-6 over 64 steps of SGD of an MLP. Later
# steps of Adam differ without bound, on one backend with 1 and 2 threads as well. A ConvNet does so
# under SGD, too: three sound backends were 1e-4 apart at step 40 and 2.6e-2 at step 60, each now
# above and now below the others, and 6e-4 in the mean over 64 steps.
BOUNDS: Final[Mapping[CheckName, float]] = {
    "forward": 1e-5,
    "losses": 1e-5,
    "adam": 1e-3,
    "sgd": 1e-2,
}
_LARGEST_BOUND: Final = 0.1

# A cross-entropy near 0 is the logarithm of a number next to 1, of which float32 keeps no more than
# the difference to 1 in steps of 6e-8. Three sound backends had a loss of 4e-5 after 10 steps of
# Adam, and differed by 1.1e-3 of that. A loss below 1 % of the largest counts as 1 % of it.
_VANISHING: Final = 0.01


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCheck:
    """One comparison of a contender's numbers with the reference.

    Args:
        name: "forward": the outputs on the shared weights, largest absolute difference. The others
            are losses, largest relative difference: "losses" of the first 5 steps, "adam" of 10
            steps, "sgd" of the mean over 64. Losses that have all but vanished count as 1 % of the
            largest.
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


def judge_parity(
    found: Mapping[str, Mapping[str, Numbers]], *, precision: str = "float32", tf32: bool = False
) -> dict[tuple[str, str], tuple[str, tuple[ParityCheck, ...]]]:
    """Compare what contenders computed.

    With three or more the reference is the median of them, number by number: one that is wrong
    cannot move it. With two it is the first, and nobody can tell which of them is wrong.

    Args:
        found: Contender -> setting -> name of the check -> numbers. The first setting of each is
            the one that the reference is made of. Losses are one per step, or the mean of them
            where a setting cannot tell more; those of "sgd" are compared by their mean.
        precision: As in `Method`.
        tf32: As in `Method`.

    Returns:
        (contender, setting) -> the reference in words, and the checks.
    """
    base = [next(iter(settings.values())) for settings in found.values()]
    names = list(found)
    first = names[:1] if len(names) < 3 else names
    word = names[0] if len(first) == 1 else f"the median of {', '.join(names)}"
    reference = {
        name: np.median([np.asarray(one[name], float) for one in base[: len(first)]], axis=0)
        for name in BOUNDS
    }
    return {
        (contender, setting): (word, _judge(numbers, reference, _loosen(precision, tf32=tf32)))
        for contender, settings in found.items()
        for setting, numbers in settings.items()
    }


def _judge(
    numbers: Numbers, reference: Mapping[CheckName, NDArray[np.float64]], loosened: tuple[int, str]
) -> tuple[ParityCheck, ...]:
    factor, reason = loosened
    return tuple(
        ParityCheck(
            name=name,
            difference=_difference(np.asarray(numbers[name], float), reference[name], name),
            bound=bound if factor == 1 else min(bound * factor, _LARGEST_BOUND),
            loosened=reason,
        )
        for name, bound in BOUNDS.items()
    )


def _difference(
    found: NDArray[np.float64], reference: NDArray[np.float64], name: CheckName
) -> float:
    """Return the largest difference; NaN where a number is not finite."""
    if name == "forward":
        return float(np.max(np.abs(found - reference)))
    if name == "sgd" or len(found) != len(reference):  # one of them knows the mean alone
        found, reference = found.mean(keepdims=True), reference.mean(keepdims=True)
    size = np.abs(reference)
    scale = np.maximum(size, _VANISHING * size.max())
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = np.where(found == reference, 0.0, np.abs(found - reference) / scale)
    return float(np.max(differences))


def _loosen(precision: str, *, tf32: bool) -> tuple[int, str]:
    if precision != "float32":
        return 1000, f"{precision} keeps 8 to 11 bits of a number, float32 keeps 24"
    return (100, "TF32 keeps 11 bits of a factor, float32 keeps 24") if tf32 else (1, "")
