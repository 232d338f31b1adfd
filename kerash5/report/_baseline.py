"""Across time: what became slower than in an older comparison, beyond noise.

A machine is not the same on two days, and nothing within either day tells by how much. So a
contender is set against the others of its table: what it took beyond their mean in each round, now
against then. What the machine did to a round, or to a day, is in both and cancels. The interval is
Welch's, on logarithms, with degrees of freedom rounded down.

Where all became slower alike, or there is no other, machine and program cannot be told apart: that
counts only from `SHARED_SLOWDOWN` on, and is told as such. Simulated with machines that drift
within and between days, the same measured again is called slower in 1 to 3 of 100 cases, and one of
three backends that became slower by 30 % is found in 66 to 90 (the tests do it again).
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
from kerash5.report._rows import Row
from kerash5.report._wording import SETTING_WORDS, interval, name_of, number

# A slowdown smaller than the first is none, however sure; the second holds where nothing tells
# whether it was the machine.
MINIMAL_SLOWDOWN: Final = 1.05
SHARED_SLOWDOWN: Final = 1.25
# What may differ between two comparisons that are set against each other: how often and with what
# luck, and who and what else took part.
_FREE: Final = frozenset({"contenders", "batch_sizes", "settings", "repeats", "num_epochs", "seed"})
_MACHINE: Final = ("processor", "cores", "gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slower:
    """Something that became worse than it was.

    Args:
        contender: Whose.
        batch_size: Rows in a batch.
        setting: "plain" or "tuned".
        ratio: Time of a step now / then; NaN where there is no result any more.
        against_others: The same relative to the others of its table; NaN where there is none.
        reason: Why there is no result; "" where there is.
        changes: Versions of packages that changed, in words.
        is_shared: Whether the others became slower as well: perhaps the machine did.
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
        """What became worse, by how much, and what may be the cause."""
        place = f"at batch size {self.batch_size}, {SETTING_WORDS[self.setting]}"
        if self.reason:
            return f"{name_of(self.contender)} {place} gives no result any more: {self.reason}"
        changes = f"; changed since: {', '.join(self.changes)}" if self.changes else ""
        others = self.against_others
        if self.is_shared or not others.has_interval:
            told = f"({interval(self.ratio)}); nothing else stayed as it was: perhaps the machine"
        else:
            told = f"and {number(others.value)} times set against the others ({interval(others)})"
        return (
            f"{name_of(self.contender)} {place} takes {number(self.ratio.value)} times as long as "
            f"before {told}{changes}"
        )


def slower_than_baseline(new: Comparison, old: Comparison) -> list[Slower]:
    """Return what became slower than in `old`, beyond noise, or gives no result any more.

    Args:
        new: What was measured now.
        old: What it is set against, of the same machine, model, data and number of threads.

    Returns:
        The worst first; what is not in both is passed over.

    Raises:
        OptionError: The two cannot be compared: another machine or method, or nothing in common.
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
            "the baseline and this comparison share no backend, batch size and setting with a "
            "result; compare what was compared then"
        )
    judged = (_judge(pair, new, old, comparisons=len(found)) for pair in found)
    return sorted(
        (slower for slower in judged if slower is not None),
        key=lambda slower: -math.inf if slower.reason else -slower.ratio.value,
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """One contender in one table, now and then, and the others with a result in both."""

    table: Table
    now: Row
    then: Row
    others: tuple[tuple[Row, Row], ...]


def _pair_rows(table: Table, before: Table | None) -> Iterator[_Pair]:
    """Yield each row of today's table, with the one it had when it gave a result."""
    rows = [(row, before.row(row.contender)) for row in table.rows] if before else []
    pairs = [(now, then) for now, then in rows if then is not None and then.is_ranked]
    for now, then in pairs:
        others = (pair for pair in pairs if pair[0] is not now and pair[0].is_ranked)
        yield _Pair(table, now, then, tuple(others))


def _judge(pair: _Pair, new: Comparison, old: Comparison, *, comparisons: int) -> Slower | None:
    """Return what there is to complain of, if anything."""
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
    # At least half of it must be its own: others that became faster make nobody slower.
    is_own = _is_beyond(against, MINIMAL_SLOWDOWN) and ratio.value >= math.sqrt(against.value)
    if not is_own and not _is_beyond(ratio, SHARED_SLOWDOWN):
        return None
    return replace(about, ratio=ratio, against_others=against, is_shared=not is_own)


def welch_ratio(now: Sequence[float], then: Sequence[float], *, comparisons: int = 1) -> Estimate:
    """Return exp(mean of now - mean of then), with Welch's interval.

    Args:
        now: Logarithms of times.
        then: The same, of another day; not paired.
        comparisons: As in `ratio_interval`.

    Returns:
        The ratio; NaN where either is empty, without an interval where either is one number.
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


def _log_steps(row: Row) -> list[float]:
    return [math.log(sample.step_seconds) for sample in row.samples]


def _log_steps_beyond(row: Row, others: Sequence[Row]) -> list[float]:
    """Return what each round took beyond the mean of the others in the same round, as logarithms.

    Rounds that one of them lacks are left out; nothing is left where there are no others.
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
            f"the baseline was measured otherwise, so the two cannot be compared: "
            f"{'; '.join(differences)}"
        )


def _differences(
    names: Iterable[str], read: Callable[[str], tuple[object, object]]
) -> Iterator[str]:
    for name in names:
        now, then = read(name)
        if now != then:
            yield f"{name} is {now!r} and was {then!r}"


def _changes(new: Comparison, old: Comparison, contender: str) -> Iterator[str]:
    now, then = new.versions.get(contender, {}), old.versions.get(contender, {})
    for package in sorted(now.keys() & then.keys()):
        if now[package] != then[package]:
            yield f"{package} {then[package]} to {now[package]}"
