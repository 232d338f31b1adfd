"""Format names and numbers: the same on the page, in Markdown and in the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from kerash5.comparison._parity import Setting
from kerash5.comparison._results import CompileCache
from kerash5.comparison._statistics import Estimate

SETTING_WORDS: Final[dict[Setting, str]] = {"plain": "model.fit", "tuned": "Trainer"}
CACHE_WORDS: Final[dict[CompileCache, str]] = {
    "cold": "empty compilation cache",
    "warm": "warm compilation cache",
    "none": "no compilation cache",
}
NOTHING: Final = "—"
_NAMES: Final = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "PyTorch"}


def name_of(contender: str) -> str:
    """Return a contender's display name: "PyTorch", or "JAX (2)" for "jax-2"."""
    found = re.fullmatch(r"([a-z]+?)(?:-(\d+))?", contender)
    if found is None or found[1] not in _NAMES:
        return contender
    return _NAMES[found[1]] + (f" ({found[2]})" if found[2] else "")


def number(value: float, *, digits: int = 3) -> str:
    """Return a number with `digits` significant digits and commas: "1,230"; a dash for NaN."""
    if not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")  # 9.999 becomes 10.0, which has one decimal less
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, decimals)}f}"


def seconds(value: float) -> str:
    """Return a duration with its unit: "12.3 s", "8.41 ms"."""
    if not math.isfinite(value):
        return NOTHING
    if abs(value) >= 120:
        return f"{number(value / 60)} min"
    return f"{number(value)} s" if abs(value) >= 1 else f"{number(value * 1e3)} ms"


def memory(value: float) -> str:
    """Return bytes in a suitable unit: "812 MiB"."""
    if not math.isfinite(value):
        return NOTHING
    unit, name = (2**30, "GiB") if value >= 2**30 else (2**20, "MiB")
    return f"{number(value / unit)} {name}"


def percent(value: float) -> str:
    """Return a fraction as a percentage: "4.1 %"."""
    return f"{value * 100:.1f} %" if math.isfinite(value) else NOTHING


def interval(estimate: Estimate, *, scale: float = 1.0, digits: int = 3) -> str:
    """Return the ends of an interval: "1.31 to 1.54"; "no interval" if there is none."""
    if not estimate.has_interval:
        return "no interval"
    low, high = (
        number(estimate.low * scale, digits=digits),
        number(estimate.high * scale, digits=digits),
    )
    return f"{low} to {high}"


def times_as_fast(relative: Estimate, name: str) -> str:
    """Return the lead of the fastest over `name`: "1.42 times as fast as JAX (1.31 to 1.54)"."""
    lead = relative.inverse()
    ends = f" ({interval(lead)})" if lead.has_interval else ""
    return f"{number(lead.value)} times as fast as {name}{ends}"


def listed(words: Sequence[str], *, last: str = "and") -> str:
    """Return words as a list for a sentence: "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
