"""Rank the contenders of a comparison: one table per batch size and setting, one row each.

The page, the text and the terminal output are all made from these tables. They contain numbers
only; `_verdict` writes the sentences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

from kerash5.comparison._parity import Setting
from kerash5.comparison._results import Comparison
from kerash5.comparison._statistics import Estimate, break_even_steps, ratio_interval
from kerash5.report._rows import ContenderStats, Standing, find_row

# The layout of code and data in memory changes a program's speed by some per cent, equally in every
# process, so repeats do not average it out (Mytkowicz et al., "Producing wrong data without doing
# anything obviously wrong", 2009). A smaller difference counts as none, however certain.
MINIMAL_EFFECT: Final = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """A contender that starts later than another but has faster steps.

    Args:
        later: The contender that starts later.
        earlier: The contender that starts earlier.
        lead_seconds: Difference of their starts, in seconds.
        steps: Number of steps after which the later one has caught up.
    """

    later: str
    earlier: str
    lead_seconds: float
    steps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The contenders at one batch size and with one setting.

    Args:
        batch_size: Rows in a batch.
        setting: "plain" or "tuned".
        rows: Ranked contenders, fastest first; then the unranked ones, in the given order.
        break_evens: Contenders that start later than another and catch up.
    """

    batch_size: int
    setting: Setting
    rows: tuple[ContenderStats, ...]
    break_evens: tuple[BreakEven, ...]

    @property
    def ranked(self) -> tuple[ContenderStats, ...]:
        """The ranked rows, fastest first."""
        return tuple(row for row in self.rows if row.is_ranked)

    def row(self, contender: str) -> ContenderStats | None:
        """Return the row of a contender, if it has one."""
        return next((row for row in self.rows if row.contender == contender), None)


def find_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return a table for each batch size and setting, in the order of the options."""
    method = comparison.method
    return tuple(
        _find_table(comparison, batch_size, setting)
        for batch_size in method.batch_sizes
        for setting in method.settings
    )


def tuning_gain(tables: Sequence[Table], batch_size: int, contender: str) -> Estimate:
    """Return the speed with Trainer / with model.fit, over pairs of one round; NaN if unknown."""
    found = {
        table.setting: table.row(contender) for table in tables if table.batch_size == batch_size
    }
    tuned, plain = found.get("tuned"), found.get("plain")
    if tuned is None or plain is None or not (tuned.is_ranked and plain.is_ranked):
        return Estimate(math.nan)
    return _ratio(tuned, plain, comparisons=1)


def wait_fraction_of_difference(row: ContenderStats, fastest: ContenderStats) -> float | None:
    """Return the fraction of a slower row's extra time that is waiting for input.

    Returns:
        A fraction from 0 to 1; None if the waits do not differ significantly, or the row is not
        slower.
    """
    lost = row.step_seconds.value - fastest.step_seconds.value
    # Compare seconds, not fractions: rows that do little but wait can still wait for different
    # times.
    mine, least = row.wait_seconds, fastest.wait_seconds
    if row.standing != "slower" or not lost > 0 or not mine.low > least.high:
        return None
    return min(1.0, (mine.value - least.value) / lost)


def _find_table(comparison: Comparison, batch_size: int, setting: Setting) -> Table:
    rows = [
        find_row(comparison, name, batch_size, setting) for name in comparison.method.contenders
    ]
    ranked = _rank([row for row in rows if row.is_ranked])
    return Table(
        batch_size=batch_size,
        setting=setting,
        rows=(*ranked, *(row for row in rows if not row.is_ranked)),
        break_evens=tuple(_find_break_evens(ranked)),
    )


def _rank(rows: Sequence[ContenderStats]) -> list[ContenderStats]:
    """Return the rows with their ratio to the fastest and their standing, fastest first."""
    # Order by the mean logarithm, as in the ratios; the order of medians may differ within the
    # noise.
    ordered = sorted(rows, key=_mean_log_speed, reverse=True)
    comparisons = len(list(combinations(rows, 2)))
    for fastest in ordered:
        compared = [_compare(row, fastest, comparisons) for row in ordered if row is not fastest]
        # If rounds are missing, the means are over different rounds, and the pairs may disagree.
        if not any(row.relative.low > 1 for row in compared):
            return [_crown(fastest, compared), *compared]
    return [replace(row, relative=Estimate(math.nan)) for row in ordered]


def _mean_log_speed(row: ContenderStats) -> float:
    logs = [math.log(sample.rows_per_second) for sample in row.samples]
    return sum(logs) / len(logs)


def _compare(row: ContenderStats, fastest: ContenderStats, comparisons: int) -> ContenderStats:
    relative = _ratio(row, fastest, comparisons=comparisons)
    return replace(row, relative=relative, standing=_standing(relative))


def _standing(relative: Estimate) -> Standing:
    if not relative.has_interval:
        return "unknown"
    is_small = abs(relative.value - 1) < MINIMAL_EFFECT
    return "level" if is_small or relative.contains(1.0) else "slower"


def _crown(fastest: ContenderStats, others: Sequence[ContenderStats]) -> ContenderStats:
    standings = {row.standing for row in others}
    standing: Standing = "unknown"
    if standings == {"slower"}:
        standing = "fastest"
    elif standings and "unknown" not in standings:
        standing = "level"
    return replace(fastest, relative=Estimate(1.0, count=len(fastest.samples)), standing=standing)


def _ratio(row: ContenderStats, reference: ContenderStats, *, comparisons: int) -> Estimate:
    ours = {sample.repeat: sample.rows_per_second for sample in row.samples}
    theirs = {sample.repeat: sample.rows_per_second for sample in reference.samples}
    both = sorted(ours.keys() & theirs.keys())
    return ratio_interval(
        [ours[repeat] for repeat in both],
        [theirs[repeat] for repeat in both],
        comparisons=comparisons,
    )


def _find_break_evens(ranked: Sequence[ContenderStats]) -> Iterable[BreakEven]:
    """Yield the contenders that start later than the fastest-starting one but step faster."""
    for other in ranked[1:]:
        fastest = ranked[0]
        steps = break_even_steps(
            (fastest.start_seconds, fastest.step_seconds.value),
            (other.start_seconds, other.step_seconds.value),
        )
        if other.standing == "slower" and steps is not None and steps > 0:
            yield BreakEven(
                later=fastest.contender,
                earlier=other.contender,
                lead_seconds=fastest.start_seconds - other.start_seconds,
                steps=steps,
            )
