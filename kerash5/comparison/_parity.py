"""Parity: whether backends compute the same results. Checked before speed is measured.

Pure functions of numbers that the processes sent; nothing here computes with a backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

Setting = Literal["plain", "tuned"]  # `model.fit` or `Trainer`
Status = Literal["ok", "failed", "missing"]
CheckName = Literal["forward", "losses", "adam", "sgd"]
Numbers = Mapping[str, Any]  # name of a check -> arrays or lists of numbers

# With equal weights and batches in float32 on a CPU, correct backends differ by 1.2e-7 in a forward
# pass, 1.4e-6 over 5 steps of Adam, 5e-4 over 10, and 5.1e-6 over 64 steps of SGD of an MLP. Later
# steps of Adam diverge without bound, also on one backend between 1 and 2 threads. A ConvNet
# diverges under SGD, too: three correct backends differed by 1e-4 at step 40 and by 2.6e-2 at step
# 60, with changing sign, and by 6e-4 in the mean over 64 steps.
BOUNDS: Final[Mapping[CheckName, float]] = {
    "forward": 1e-5,
    "losses": 1e-5,
    "adam": 1e-3,
    "sgd": 1e-2,
}
_LARGEST_BOUND: Final = 0.1

# Near 0, a cross-entropy is the logarithm of a number close to 1, which float32 resolves only in
# steps of 6e-8. Three correct backends had a loss of 4e-5 after 10 steps of Adam and differed by
# 1.1e-3 of it. A loss below 1 % of the largest is therefore compared as 1 % of the largest.
_VANISHING: Final = 0.01


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCheck:
    """One check of a contender's numbers against the reference.

    Args:
        name: "forward": largest absolute difference of the outputs on the common weights. The
            others are the largest relative difference of losses: "losses" of the first 5 steps,
            "adam" of 10 steps, "sgd" of the mean over 64. Losses below 1 % of the largest count as
            1 % of it.
        difference: Largest difference; NaN if a number is not finite.
        bound: Largest difference allowed.
        loosened: Why the bound is larger than usual; "" if it is not.
    """

    name: CheckName
    difference: float
    bound: float
    loosened: str = ""

    @property
    def is_passed(self) -> bool:
        """Whether the difference is finite and within the bound."""
        return self.difference <= self.bound


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Result of the parity check of one contender. A contender that fails it is not ranked.

    Args:
        contender: As in `Sample`.
        backend: As in `Sample`.
        model: As in `Sample`.
        batch_size: As in `Sample`; only the smallest batch size is checked.
        setting: As in `Sample`; both settings are checked.
        reference: Description of the reference.
        checks: The checks made; empty if the process failed.
        status: As in `Sample`; "ok" means that parity was checked, not that it passed.
        error: One sentence; "" if `status` is "ok".
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
        """Why the parity check did not pass; "" if it did."""
        if self.status != "ok" or not self.checks:
            return self.error or "parity was not measured"
        return "; ".join(
            f"{check.name} differs from {self.reference} by {check.difference:.2g}, "
            f"the bound is {check.bound:.2g}"
            for check in self.checks
            if not check.is_passed
        )


def judge_parity(
    found: Mapping[str, Mapping[str, Numbers]], *, precision: str = "float32", tf32: bool = False
) -> dict[tuple[str, str], tuple[str, tuple[ParityCheck, ...]]]:
    """Compare the numbers that contenders computed.

    With three or more contenders, the reference is their elementwise median, which one wrong
    contender cannot move. With two, the reference is the first; which of them is wrong is then
    unknown.

    Args:
        found: Maps contender -> setting -> name of the check -> numbers. The reference uses the
            first setting of each contender. Losses are one per step, or their mean if a setting
            reports only that; losses of "sgd" are compared by their mean.
        precision: As in `Method`.
        tf32: As in `Method`.

    Returns:
        Maps (contender, setting) to the description of the reference and the checks.
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
    """Return the largest difference; NaN if a number is not finite."""
    if name == "forward":
        return float(np.max(np.abs(found - reference)))
    if name == "sgd" or len(found) != len(reference):  # one of them has only the mean
        found, reference = found.mean(keepdims=True), reference.mean(keepdims=True)
    size = np.abs(reference)
    scale = np.maximum(size, _VANISHING * size.max())
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = np.where(found == reference, 0.0, np.abs(found - reference) / scale)
    return float(np.max(differences))


def _loosen(precision: str, *, tf32: bool) -> tuple[int, str]:
    if precision != "float32":
        return 1000, f"{precision} has 8 to 11 significant bits, float32 has 24"
    return (100, "TF32 has 11 significant bits, float32 has 24") if tf32 else (1, "")
