"""One row of a table: the measurements of one contender, and whether it can be ranked.

`_findings` compares it with other contenders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kerash5.comparison._parity import Parity, Setting
from kerash5.comparison._results import Comparison, CompileCache, Sample
from kerash5.comparison._statistics import Estimate, median_interval, variation
from kerash5.report._wording import percent

# "fastest": all others are slower. "level": no difference to the fastest was found. "unknown": too
# few processes to decide. "unranked": no result, or the parity check failed.
Standing = Literal["fastest", "level", "slower", "unknown", "unranked"]

# A process's median moves by 1 to 5 % on a quiet machine.
UNSTABLE_VARIATION: Final = 0.10
# With more running processes per core than this, other programs are computing as well.
UNSTABLE_LOAD: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ContenderStats:
    """Statistics of one contender in one table.

    Args:
        contender: Name of the contender in tables.
        backend: "jax", "tensorflow" or "torch".
        samples: Measurements of its processes, in the order of rounds, without failed ones.
        num_asked: Number of processes requested.
        standing: Result of the comparison with the fastest contender.
        speed: Rows per second, over processes.
        step_seconds: Seconds of a step, over processes.
        relative: Speed / speed of the fastest contender, over pairs of one round; 1 for the
            fastest.
        input_wait: Fraction of an epoch spent waiting for input, over processes.
        first_step: Seconds to the first step, by the state of the compilation cache.
        loss: Loss after the last epoch, over processes.
        accuracy: Accuracy after the last epoch, over processes.
        variation: Coefficient of variation of speed over processes.
        instabilities: Reasons to doubt its speed.
        failures: Errors of the processes that failed, without duplicates.
        reason: Why it is unranked; "" if it is ranked.
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
    def wait_seconds(self) -> Estimate:
        """Seconds per step spent waiting for input, over processes."""
        return _over(self.samples, lambda sample: sample.input_wait_share * sample.step_seconds)

    @property
    def host_bytes(self) -> Estimate:
        """Peak memory of the process, in bytes."""
        return _over(self.samples, lambda sample: _or_nan(sample.peak_host_bytes))

    @property
    def device_bytes(self) -> Estimate:
        """Peak memory on the device, in bytes; NaN if there is no counter."""
        return _over(self.samples, lambda sample: _or_nan(sample.peak_device_bytes))

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that ran, without duplicates; processes may differ."""
        return tuple(dict.fromkeys(sample.engine for sample in self.samples if sample.engine))

    @property
    def start_seconds(self) -> float:
        """Seconds until steps run at full speed, with an empty compilation cache if known."""
        kept = [s for s in self.samples if s.compile_cache == "cold"] or self.samples
        starts = _over(kept, lambda s: s.import_seconds + s.build_seconds + s.compile_seconds)
        return starts.value


def find_row(
    comparison: Comparison, contender: str, batch_size: int, setting: Setting
) -> ContenderStats:
    """Return the statistics of a contender, not yet compared with others."""
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
    return ContenderStats(
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
    figures = (sample.rows_per_second, sample.step_seconds)
    return sample.status == "ok" and all(0 < figure < math.inf for figure in figures)


def _why_unranked(started: Sequence[Sample], good: Sequence[Sample], parity: Parity | None) -> str:
    if not good:
        reasons = [sample.error for sample in started if sample.error]
        if not reasons and parity is not None and parity.error:
            reasons = [parity.error]
        untimed = (
            "none of its processes timed an epoch"
            if started
            else "none of its processes has run yet"
        )
        return reasons[0] if reasons else untimed
    if any(not math.isfinite(loss) for sample in good for loss in sample.epoch_losses):
        return "its loss became NaN or infinite"
    if parity is None:
        return "parity was not measured"
    if parity.is_passed:
        return ""
    return f"it failed the parity check: {parity.reason}" if parity.checks else parity.reason


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
        yield f"its processes differ by {percent(spread)}"
    cores = comparison.machine.cores
    loads = _over(samples, lambda sample: sample.load_before)
    if isinstance(cores, int | float) and loads.value > UNSTABLE_LOAD * cores:
        yield f"{loads.value:.1f} processes were running on {cores:.0f} core{'s' * (cores != 1)}"


def _over(samples: Sequence[Sample], read: Callable[[Sample], float]) -> Estimate:
    return median_interval([read(sample) for sample in samples])


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
