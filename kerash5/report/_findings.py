"""What a comparison shows: one table per batch size and setting, one row per contender.

Every page, text and terminal is written from these, so that all say the same. Numbers only; the
sentences are made in `_verdict`.
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
from kerash5.report._rows import Row, Standing, find_row

# Where code and data happen to lie in memory moves a program by some per cent, the same way in
# every process: repeats do not average that out (Mytkowicz et al., "Producing wrong data without
# doing anything obviously wrong", 2009). A smaller difference is no difference, however sure.
MINIMAL_EFFECT: Final = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """A contender that starts later and steps faster than another.

    Args:
        later: The one that starts later.
        earlier: The other.
        lead_seconds: By how much.
        steps: After how many steps it has caught up.
    """

    later: str
    earlier: str
    lead_seconds: float
    steps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The contenders at one batch size and in one setting.

    Args:
        batch_size: Rows in a batch.
        setting: "plain" or "tuned".
        rows: Ranked ones first, the fastest on top; then the unranked, as asked for.
        break_evens: Who starts later than whom and catches up.
    """

    batch_size: int
    setting: Setting
    rows: tuple[Row, ...]
    break_evens: tuple[BreakEven, ...]

    @property
    def ranked(self) -> tuple[Row, ...]:
        """The rows that are compared, the fastest first."""
        return tuple(row for row in self.rows if row.is_ranked)

    def row(self, contender: str) -> Row | None:
        """Return the row of a contender, if it has one."""
        return next((row for row in self.rows if row.contender == contender), None)


def find_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return a table for each batch size and setting, in the order they were asked for."""
    method = comparison.method
    return tuple(
        _find_table(comparison, batch_size, setting)
        for batch_size in method.batch_sizes
        for setting in method.settings
    )


def tuning_gain(tables: Sequence[Table], batch_size: int, contender: str) -> Estimate:
    """Return the speed of a contender tuned / plain, from pairs of one round; NaN if unknown."""
    found = {
        table.setting: table.row(contender) for table in tables if table.batch_size == batch_size
    }
    tuned, plain = found.get("tuned"), found.get("plain")
    if tuned is None or plain is None or not (tuned.is_ranked and plain.is_ranked):
        return Estimate(math.nan)
    return _ratio(tuned, plain, comparisons=1)


def wait_share_of_difference(row: Row, fastest: Row) -> float | None:
    """Return how much of what a slower row loses to the fastest is waiting for input.

    Returns:
        A share from 0 to 1; None where the waits do not differ beyond doubt, or it is not slower.
    """
    lost = row.step_seconds.value - fastest.step_seconds.value
    # Not the shares: of two that do little but wait, one can wait longer all the same.
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


def _rank(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with their ratio to the fastest and what follows, the fastest first."""
    # The mean logarithm, as in the ratios: the order of medians may differ within the noise.
    ordered = sorted(rows, key=_mean_log_speed, reverse=True)
    comparisons = len(list(combinations(rows, 2)))
    for fastest in ordered:
        compared = [_compare(row, fastest, comparisons) for row in ordered if row is not fastest]
        # Where rounds are missing, means are of different rounds, and pairs may say otherwise.
        if not any(row.relative.low > 1 for row in compared):
            return [_crown(fastest, compared), *compared]
    return [replace(row, relative=Estimate(math.nan)) for row in ordered]


def _mean_log_speed(row: Row) -> float:
    logs = [math.log(sample.rows_per_second) for sample in row.samples]
    return sum(logs) / len(logs)


def _compare(row: Row, fastest: Row, comparisons: int) -> Row:
    relative = _ratio(row, fastest, comparisons=comparisons)
    return replace(row, relative=relative, standing=_standing(relative))


def _standing(relative: Estimate) -> Standing:
    if not relative.has_interval:
        return "unknown"
    is_small = abs(relative.value - 1) < MINIMAL_EFFECT
    return "level" if is_small or relative.contains(1.0) else "slower"


def _crown(fastest: Row, others: Sequence[Row]) -> Row:
    standings = {row.standing for row in others}
    standing: Standing = "unknown"
    if standings == {"slower"}:
        standing = "fastest"
    elif standings and "unknown" not in standings:
        standing = "level"
    return replace(fastest, relative=Estimate(1.0, count=len(fastest.samples)), standing=standing)


def _ratio(row: Row, reference: Row, *, comparisons: int) -> Estimate:
    ours = {sample.repeat: sample.rows_per_second for sample in row.samples}
    theirs = {sample.repeat: sample.rows_per_second for sample in reference.samples}
    both = sorted(ours.keys() & theirs.keys())
    return ratio_interval(
        [ours[repeat] for repeat in both],
        [theirs[repeat] for repeat in both],
        comparisons=comparisons,
    )


def _find_break_evens(ranked: Sequence[Row]) -> Iterable[BreakEven]:
    """Yield who starts later than another and is faster beyond doubt, against the fastest."""
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
