"""The answer in sentences: a headline, one sentence per table, caveats and remarks.

Claims no more than the numbers support. An interval that contains 1 is "no difference", a single
process per contender supports no claim, and a backend that fails the parity check is not ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kerash5.comparison._machine import Machine
from kerash5.comparison._results import Comparison
from kerash5.report._findings import MINIMAL_EFFECT, Table, wait_fraction_of_difference
from kerash5.report._rows import ContenderStats
from kerash5.report._wording import (
    SETTING_WORDS,
    interval,
    listed,
    name_of,
    number,
    percent,
    seconds,
    times_as_fast,
)

_WITHIN_NOISE: Final = "no difference beyond noise was found between"
_TOO_SMALL: Final = (
    f"a difference below {MINIMAL_EFFECT * 100:.0f} %, which counts as none, was found between"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of a comparison, in sentences.

    Args:
        headline: The answer in one sentence.
        details: One sentence per table; empty if the headline covers the only table.
        caveats: Limits of the answer, and reasons to doubt it.
        remarks: Further findings: waiting for input, and slow starts that are caught up.
    """

    headline: str
    details: tuple[str, ...]
    caveats: tuple[str, ...]
    remarks: tuple[str, ...]


def find_verdict(comparison: Comparison, tables: Sequence[Table]) -> Verdict:
    """Return the verdict on a comparison and its tables."""
    details = tuple(f"{_capitalized(_place(table))}: {_sentence(table)}." for table in tables)
    return Verdict(
        headline=_headline(comparison, tables),
        details=details if len(details) > 1 else (),
        caveats=tuple(_caveats(comparison, tables)),
        remarks=tuple(_remarks(tables)),
    )


def describe_machine(machine: Machine) -> str:
    """Return processor, cores and GPUs as text, as far as they are known."""
    parts = [
        machine.processor or "unknown processor",
        "" if machine.cores is None else f"{machine.cores} core{'s' * (machine.cores != 1)}",
        "" if machine.gpus is None else listed(machine.gpus) if machine.gpus else "no GPU",
    ]
    return ", ".join(part for part in parts if part)


def _headline(comparison: Comparison, tables: Sequence[Table]) -> str:
    model = comparison.method.model
    if len(tables) == 1:
        text = f"training {model} on this machine, {_place(tables[0])}: {_sentence(tables[0])}."
        return _capitalized(text)
    winners = {table.ranked[0].contender for table in tables if _has_winner(table)}
    if len(winners) == 1 and all(_has_winner(table) for table in tables):
        return _winner_of_all(model, tables)
    if not winners:
        return _no_winner(model, tables)
    answers = [f"{_answer(table)} {_place(table)}" for table in tables]
    return f"Which backend trains {model} fastest on this machine depends: {'; '.join(answers)}."


def _winner_of_all(model: str, tables: Sequence[Table]) -> str:
    closest = max(tables, key=lambda table: _runner_up(table).relative.value)
    winner, second = closest.ranked[0], _runner_up(closest)
    return (
        f"{name_of(winner.contender)} trains {model} fastest on this machine, in {_all(tables)}; "
        f"its smallest lead is {_place(closest)}: "
        f"{times_as_fast(second.relative, name_of(second.contender))}."
    )


def _no_winner(model: str, tables: Sequence[Table]) -> str:
    standings = {row.standing for table in tables for row in table.ranked}
    if "level" in standings:
        return (
            f"Training {model} on this machine, no backend is significantly faster in any of "
            f"{len(tables)} tables."
        )
    return f"The measurements do not show which backend trains {model} fastest on this machine."


def _has_winner(table: Table) -> bool:
    return bool(table.ranked) and table.ranked[0].standing == "fastest"


def _runner_up(table: Table) -> ContenderStats:
    return max(table.ranked[1:], key=lambda row: row.relative.value)


def _answer(table: Table) -> str:
    if _has_winner(table):
        return name_of(table.ranked[0].contender)
    return "no clear answer" if table.ranked else "no result"


def _place(table: Table) -> str:
    return f"at batch size {table.batch_size} with {SETTING_WORDS[table.setting]}"


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]  # str.capitalize would lower the rest


def _sentence(table: Table) -> str:
    """Return the sentence of a table, without a full stop."""
    if not table.ranked:
        return "no backend gave a valid result"
    fastest, *others = table.ranked
    name, speed = name_of(fastest.contender), f"{number(fastest.speed.value)} rows/s"
    if not others:
        return f"only {name} gave a result ({speed}), so there is nothing to compare it with"
    slower = [row for row in others if row.standing == "slower"]
    level = [row for row in others if row.standing == "level"]
    unknown = [row for row in others if row.standing == "unknown"]
    parts = []
    if level:
        parts.append(_level_clause(fastest, level))
    if slower:
        clause = listed([times_as_fast(row.relative, name_of(row.contender)) for row in slower])
        parts.append(f"{name} is {'' if level or unknown else 'fastest: '}{clause}")
    if unknown:
        names = listed([name_of(row.contender) for row in unknown])
        parts.append(
            f"{name} ({speed}) was faster than {names}, but in too few rounds to exclude chance"
        )
    return "; ".join(parts)


def _level_clause(fastest: ContenderStats, level: Sequence[ContenderStats]) -> str:
    name = name_of(fastest.contender)
    told = []
    for words, is_within_noise in ((_WITHIN_NOISE, True), (_TOO_SMALL, False)):
        rows = [row for row in level if row.relative.contains(1.0) == is_within_noise]
        pairs = [f"{name_of(row.contender)} ({_ratio_words(row)})" for row in rows]
        told += [f"{words} {name} and {listed(pairs)}"] if rows else []
    return "; ".join(told)


def _ratio_words(row: ContenderStats) -> str:
    lead = row.relative.inverse()
    return f"{number(lead.value)} times, {interval(lead)}"


def _all(tables: Sequence[Table]) -> str:
    return "both tables" if len(tables) == 2 else f"all {len(tables)} tables"


def _caveats(comparison: Comparison, tables: Sequence[Table]) -> Iterable[str]:
    yield from _unranked(tables)
    yield from _failures(tables)
    yield from _instabilities(tables)
    method = comparison.method
    if not comparison.is_complete:
        yield "The comparison was interrupted before every process had run."
    if method.repeats < 2:
        yield "With one process each there is no interval, and no difference can be claimed."
    elif method.repeats < 5:
        yield (
            f"With {method.repeats} rounds intervals are wide and differences easily missed; use 5 "
            "repeats or more."
        )
    yield from comparison.notes
    yield (
        f"This holds for one machine ({describe_machine(comparison.machine)}), {method.model}, "
        f"{method.precision} and {_threads(method.threads)}; results may differ elsewhere."
    )


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _unranked(tables: Sequence[Table]) -> Iterable[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for table in tables:
        for row in table.rows:
            if not row.is_ranked:
                found.setdefault((row.contender, row.reason), []).append(_place(table))
    for (contender, reason), named in found.items():
        where = "" if len(named) == len(tables) else f" {listed(named)}"
        yield f"{name_of(contender)} is not ranked{where}: {reason.rstrip('.')}."


def _failures(tables: Sequence[Table]) -> Iterable[str]:
    for table in tables:
        for row in table.ranked:
            if row.failures:
                missing = row.num_asked - len(row.samples)
                yield (
                    f"{missing} of {row.num_asked} processes of {name_of(row.contender)} failed "
                    f"{_place(table)}: {'; '.join(row.failures).rstrip('.')}."
                )


def _instabilities(tables: Sequence[Table]) -> Iterable[str]:
    found = [
        f"{name_of(row.contender)} {_place(table)} ({' and '.join(row.instabilities)})"
        for table in tables
        for row in table.ranked
        if row.instabilities
    ]
    if found:
        yield f"Unstable measurements: {'; '.join(found)}."


def _remarks(tables: Sequence[Table]) -> Iterable[str]:
    for table in tables:
        for row in table.ranked[1:]:
            share = wait_fraction_of_difference(row, table.ranked[0])
            if share is not None and share >= MINIMAL_EFFECT:
                yield (
                    f"{_capitalized(_place(table))}, {percent(share)} of the extra time of "
                    f"{name_of(row.contender)} over {name_of(table.ranked[0].contender)} is "
                    "waiting for input."
                )
        for even in table.break_evens:
            yield (
                f"{_capitalized(_place(table))}, {name_of(even.later)} starts "
                f"{seconds(even.lead_seconds)} later than {name_of(even.earlier)} and has caught "
                f"up after about {number(even.steps, digits=2)} steps."
            )
