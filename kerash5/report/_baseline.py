"""Compare with an older comparison: what became slower, beyond noise.

A machine's speed changes from day to day, and no measurement within one day shows by how much. A
contender is therefore measured relative to the other contenders of its table: its time in each
round, divided by the others' mean in that round, now against then. Effects of the machine on a
round or a day cancel. The interval is Welch's, on logarithms, with degrees of freedom rounded down.

If all contenders became slower alike, or there is only one, the machine and the program cannot be
distinguished. Such a slowdown counts only from `SHARED_SLOWDOWN` on, and the report says so.
Simulated with machines that drift within and between days, an unchanged contender is called slower
in 1 to 3 of 100 cases, and one of three backends that became slower by 30 % is found in 66 to 90
(reproduced by the tests).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from kerash5._errors import OptionError
from kerash5.comparison._parity import Setting
from kerash5.comparison._results import Comparison, Method
from kerash5.comparison._statistics import LEVEL, Estimate, t_quantile
from kerash5.report._findings import Table, find_tables
from kerash5.report._rows import ContenderStats
from kerash5.report._wording import SETTING_WORDS, interval, name_of, number

# A slowdown smaller than the first is not reported, however certain. The second applies if nothing
# tells whether the machine became slower.
MINIMAL_SLOWDOWN: Final = 1.05
SHARED_SLOWDOWN: Final = 1.25
# Fields of the method in which two comparisons may differ: repeats, seed and contenders.
_FREE: Final = frozenset({"contenders", "batch_sizes", "settings", "repeats", "num_epochs", "seed"})
_MACHINE: Final = ("processor", "cores", "gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slower:
    """A contender that became slower, or no longer gives a result.

    Args:
        contender: Name of the contender.
        batch_size: Rows in a batch.
        setting: "plain" or "tuned".
        ratio: Seconds per step now / then; NaN if there is no result now.
        against_others: The same ratio relative to the other contenders of its table; NaN if there
            are none.
        reason: Why there is no result now; "" if there is one.
        changes: Package versions that changed, as text.
        is_shared: Whether the others became slower as well, so that the machine may be the cause.
    """

    contender: str
    batch_size: int
    setting: Setting
    ratio: Estimate
    against_others: Estimate
    reason: str = ""
    changes: tuple[str, ...] = ()
    is_shared: bool = False

    @property
    def sentence(self) -> str:
        """One sentence: what became slower, by how much, and the possible cause."""
        place = f"at batch size {self.batch_size} with {SETTING_WORDS[self.setting]}"
        if self.reason:
            return f"{name_of(self.contender)} {place} no longer gives a result: {self.reason}"
        changes = f"; changed since: {', '.join(self.changes)}" if self.changes else ""
        others = self.against_others
        if self.is_shared or not others.has_interval:
            told = (
                f"({interval(self.ratio)}); no other backend kept its speed, so the machine may "
                "have become slower"
            )
        else:
            told = f"and {number(others.value)} times relative to the others ({interval(others)})"
        return (
            f"{name_of(self.contender)} {place} takes {number(self.ratio.value)} times as long as "
            f"before {told}{changes}"
        )


def slower_than_baseline(new: Comparison, old: Comparison) -> list[Slower]:
    """Return what became slower than in `old`, beyond noise, or no longer gives a result.

    Args:
        new: The comparison measured now.
        old: The baseline: of the same machine, model, data and number of threads.

    Returns:
        The worst first; contenders that are not in both comparisons are ignored.

    Raises:
        OptionError: Machine or method differ, or the comparisons have no contender in common.
    """
    _check_comparable(new, old)
    before = {(table.batch_size, table.setting): table for table in find_tables(old)}
    found = [
        pair
        for table in find_tables(new)
        for pair in _pair_rows(table, before.get((table.batch_size, table.setting)))
    ]
    if not found:
        raise OptionError(
            "the baseline and this comparison have no backend, batch size and setting with a "
            "result in common; compare the backends of the baseline"
        )
    judged = (_judge(pair, new, old, comparisons=len(found)) for pair in found)
    return sorted(
        (slower for slower in judged if slower is not None),
        key=lambda slower: -math.inf if slower.reason else -slower.ratio.value,
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """One contender of one table, now and then, and the others with a result in both."""

    table: Table
    now: ContenderStats
    then: ContenderStats
    others: tuple[tuple[ContenderStats, ContenderStats], ...]


def _pair_rows(table: Table, before: Table | None) -> Iterator[_Pair]:
    """Yield each row of the new table with its row in the old table, if that has a result."""
    rows = [(row, before.row(row.contender)) for row in table.rows] if before else []
    pairs = [(now, then) for now, then in rows if then is not None and then.is_ranked]
    for now, then in pairs:
        others = (pair for pair in pairs if pair[0] is not now and pair[0].is_ranked)
        yield _Pair(table, now, then, tuple(others))


def _judge(pair: _Pair, new: Comparison, old: Comparison, *, comparisons: int) -> Slower | None:
    """Return the slowdown of a pair if it is beyond noise, else None."""
    now, then = pair.now, pair.then
    about = Slower(
        contender=now.contender,
        batch_size=pair.table.batch_size,
        setting=pair.table.setting,
        ratio=Estimate(math.nan),
        against_others=Estimate(math.nan),
        reason=now.reason,
        changes=tuple(_changes(new, old, now.contender)),
    )
    if now.reason:
        return about
    ratio = welch_ratio(_log_steps(now), _log_steps(then), comparisons=comparisons)
    against = welch_ratio(
        _log_steps_beyond(now, [other for other, _ in pair.others]),
        _log_steps_beyond(then, [other for _, other in pair.others]),
        comparisons=comparisons,
    )
    # At least half of the slowdown must be its own: others that became faster do not make it
    # slower.
    is_own = _is_beyond(against, MINIMAL_SLOWDOWN) and ratio.value >= math.sqrt(against.value)
    if not is_own and not _is_beyond(ratio, SHARED_SLOWDOWN):
        return None
    return replace(about, ratio=ratio, against_others=against, is_shared=not is_own)


def welch_ratio(now: Sequence[float], then: Sequence[float], *, comparisons: int = 1) -> Estimate:
    """Return exp(mean of now - mean of then), with Welch's interval.

    Args:
        now: Logarithms of times, now.
        then: Logarithms of times, on another day; not paired.
        comparisons: As in `ratio_interval`.

    Returns:
        The ratio; NaN if either is empty, without an interval if either has one number.
    """
    count = min(len(now), len(then))
    if count == 0:
        return Estimate(math.nan)
    center = statistics.fmean(now) - statistics.fmean(then)
    if count == 1:
        return Estimate(math.exp(center), count=1)
    parts = [statistics.variance(logs) / len(logs) for logs in (now, then)]
    level = 1 - (1 - LEVEL) / comparisons
    half = t_quantile(level, _freedom(parts, (len(now), len(then)))) * math.sqrt(sum(parts))
    low, high = math.exp(center - half), math.exp(min(center + half, 700.0))
    return Estimate(math.exp(center), low, high, level, count)


def _freedom(parts: Sequence[float], counts: Sequence[int]) -> int:
    """Return the degrees of freedom of Welch and Satterthwaite, rounded down."""
    total = sum(parts)
    if total == 0:
        return sum(counts) - 2
    below = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    return max(1, math.floor(total**2 / below))


def _log_steps(row: ContenderStats) -> list[float]:
    return [math.log(sample.step_seconds) for sample in row.samples]


def _log_steps_beyond(row: ContenderStats, others: Sequence[ContenderStats]) -> list[float]:
    """Return the logarithm of each round's time relative to the mean of the others in that round.

    Rounds that a contender lacks are skipped; the result is empty if there are no others.
    """
    times = [{s.repeat: math.log(s.step_seconds) for s in part.samples} for part in (row, *others)]
    shared = sorted(set.intersection(*(set(part) for part in times))) if others else []
    return [
        times[0][repeat] - statistics.fmean(part[repeat] for part in times[1:]) for repeat in shared
    ]


def _is_beyond(ratio: Estimate, bound: float) -> bool:
    # Without an interval nothing is beyond noise.
    return ratio.has_interval and ratio.low > 1 and ratio.value >= bound


def _check_comparable(new: Comparison, old: Comparison) -> None:
    names = [field.name for field in fields(Method) if field.name not in _FREE]
    differences = [
        *_differences(names, lambda name: (getattr(new.method, name), getattr(old.method, name))),
        *_differences(
            _MACHINE, lambda name: (getattr(new.machine, name), getattr(old.machine, name))
        ),
    ]
    if differences:
        raise OptionError(
            f"the baseline has another method and cannot be compared: {'; '.join(differences)}"
        )


def _differences(
    names: Iterable[str], read: Callable[[str], tuple[object, object]]
) -> Iterator[str]:
    for name in names:
        now, then = read(name)
        if now != then:
            yield f"{name} is {now!r}, but was {then!r}"


def _changes(new: Comparison, old: Comparison, contender: str) -> Iterator[str]:
    now, then = new.versions.get(contender, {}), old.versions.get(contender, {})
    for package in sorted(now.keys() & then.keys()):
        if now[package] != then[package]:
            yield f"{package} {then[package]} to {now[package]}"
