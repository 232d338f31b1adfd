"""What a comparison shows: one table per batch size and setting, one row per contender.

Every page, text and terminal is written from these, so that all say the same. Numbers only; the
sentences are made in `_verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final, Literal

from kerash5.report._parity import Parity, Setting
from kerash5.report._results import Comparison, CompileCache, Sample
from kerash5.report._statistics import (
    Estimate,
    break_even_steps,
    median_interval,
    ratio_interval,
    variation,
)
from kerash5.report._wording import percent

# "fastest": all others are slower. "level": no difference to the fastest was found. "unknown": too
# few processes to say. "unranked": no result, or a wrong one.
Standing = Literal["fastest", "level", "slower", "unknown", "unranked"]

# Where code and data happen to lie in memory moves a program by some per cent, the same way in
# every process: repeats do not average that out (Mytkowicz et al., "Producing wrong data without
# doing anything obviously wrong", 2009). A smaller difference is no difference, however sure.
MINIMAL_EFFECT: Final = 0.03
# A process's median moves by 1 to 5 % on a quiet machine.
UNSTABLE_VARIATION: Final = 0.10
# More than this many running processes for each core: others compute, too.
UNSTABLE_LOAD: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender in one table.

    Args:
        contender: Its name in tables.
        backend: jax, tensorflow or torch.
        samples: What its processes measured, in the order of rounds; failed ones left out.
        num_asked: Processes that were asked for.
        standing: What can be said of it.
        speed: Rows per second, over processes.
        step_seconds: Seconds of a step, over processes.
        relative: Its speed / that of the fastest, from pairs of one round; exactly 1 for that one.
        input_wait: Share of an epoch that input costs, over processes.
        first_step: Seconds to the first step, by what the compilation cache held before.
        loss: After the last epoch, over processes.
        accuracy: Likewise.
        variation: Coefficient of variation of speed over processes.
        instabilities: Why its speed is to be doubted, in words.
        failures: What ended the processes that failed, each sentence once.
        reason: Why it is unranked; "" where it is ranked.
    """

    contender: str
    backend: str
    samples: tuple[Sample, ...]
    num_asked: int
    standing: Standing
    speed: Estimate
    step_seconds: Estimate
    relative: Estimate
    input_wait: Estimate
    first_step: dict[CompileCache, Estimate]
    loss: Estimate
    accuracy: Estimate
    variation: float
    instabilities: tuple[str, ...]
    failures: tuple[str, ...]
    reason: str = ""

    @property
    def is_ranked(self) -> bool:
        """Whether it takes part in the comparison."""
        return self.standing != "unranked"

    @property
    def host_bytes(self) -> Estimate:
        """Peak memory of the process."""
        return _over(self.samples, lambda sample: _or_nan(sample.peak_host_bytes))

    @property
    def device_bytes(self) -> Estimate:
        """Peak memory on the device; NaN where there is no counter."""
        return _over(self.samples, lambda sample: _or_nan(sample.peak_device_bytes))

    @property
    def start_seconds(self) -> float:
        """Seconds before steps run at their speed, compiled for the first time where known."""
        kept = [s for s in self.samples if s.compile_cache == "cold"] or self.samples
        starts = _over(kept, lambda s: s.import_seconds + s.build_seconds + s.compile_seconds)
        return starts.value


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
    if row.standing != "slower" or not lost > 0 or not row.input_wait.low > fastest.input_wait.high:
        return None
    waits = row.input_wait.value * row.step_seconds.value
    return min(1.0, (waits - fastest.input_wait.value * fastest.step_seconds.value) / lost)


def _find_table(comparison: Comparison, batch_size: int, setting: Setting) -> Table:
    rows = [
        _find_row(comparison, name, batch_size, setting) for name in comparison.method.contenders
    ]
    ranked = _rank([row for row in rows if row.is_ranked])
    return Table(
        batch_size=batch_size,
        setting=setting,
        rows=(*ranked, *(row for row in rows if not row.is_ranked)),
        break_evens=tuple(_find_break_evens(ranked)),
    )


def _find_row(comparison: Comparison, contender: str, batch_size: int, setting: Setting) -> Row:
    started = [
        sample
        for sample in comparison.samples
        if (sample.contender, sample.batch_size, sample.setting) == (contender, batch_size, setting)
    ]
    good = tuple(sorted((s for s in started if _is_timed(s)), key=lambda sample: sample.repeat))
    parity = next(
        (p for p in comparison.parities if (p.contender, p.setting) == (contender, setting)),
        None,
    )
    speeds = [sample.rows_per_second for sample in good]
    reason = _why_unranked(started, good, parity)
    backends = [sample.backend for sample in started]
    backends += [part.backend for part in comparison.parities if part.contender == contender]
    return Row(
        contender=contender,
        backend=backends[0] if backends else contender,
        samples=good,
        num_asked=comparison.method.repeats,
        standing="unranked" if reason else "unknown",
        speed=median_interval(speeds),
        step_seconds=_over(good, lambda sample: sample.step_seconds),
        relative=Estimate(math.nan),
        input_wait=_over(good, lambda sample: sample.input_wait_share),
        first_step=_find_first_steps(good),
        loss=_over(good, lambda sample: sample.final_loss),
        accuracy=_over(good, lambda sample: sample.final_accuracy),
        variation=variation(speeds),
        instabilities=tuple(_find_instabilities(good, variation(speeds), comparison)),
        failures=tuple(dict.fromkeys(s.error for s in started if s.status == "failed")),
        reason=reason,
    )


def _is_timed(sample: Sample) -> bool:
    return sample.status == "ok" and math.isfinite(sample.rows_per_second)


def _why_unranked(started: Sequence[Sample], good: Sequence[Sample], parity: Parity | None) -> str:
    if not good:
        reasons = [sample.error for sample in started if sample.error]
        if not reasons and parity is not None and parity.error:
            reasons = [parity.error]
        return reasons[0] if reasons else "no process of it has run yet"
    if any(not math.isfinite(loss) for sample in good for loss in sample.epoch_losses):
        return "its loss stopped being a number"
    if parity is None:
        return "parity was not measured"
    if parity.is_passed:
        return ""
    return f"it fails parity: {parity.reason}" if parity.checks else parity.reason


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
    return "level" if is_small or relative.holds(1.0) else "slower"


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


def _find_first_steps(samples: Sequence[Sample]) -> dict[CompileCache, Estimate]:
    order: tuple[CompileCache, ...] = ("cold", "warm", "none")
    found = {
        cache: _over(
            [sample for sample in samples if sample.compile_cache == cache],
            lambda sample: sample.time_to_first_step_seconds,
        )
        for cache in order
    }
    return {cache: estimate for cache, estimate in found.items() if estimate.count}


def _find_instabilities(
    samples: Sequence[Sample], spread: float, comparison: Comparison
) -> Iterable[str]:
    if spread > UNSTABLE_VARIATION:
        yield f"its processes differ by {percent(spread)} (coefficient of variation)"
    cores = comparison.machine.get("cores")
    loads = _over(samples, lambda sample: sample.load_before)
    if isinstance(cores, int | float) and loads.value > UNSTABLE_LOAD * cores:
        yield f"{loads.value:.1f} processes were running on {cores:.0f} cores"


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


def _over(samples: Sequence[Sample], read: Callable[[Sample], float]) -> Estimate:
    return median_interval([read(sample) for sample in samples])


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
