"""Choose the number of steps per dispatch: enough to make its overhead small, and no more.

A dispatch of n steps takes a + b n seconds. Both are measured on the first dispatches of the run: a
few of one step, then a few of several. Nothing here runs a step.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, final

_OVERHEAD: Final = 0.02  # highest fraction of a step's time
_TRIALS: Final = 4  # dispatches of each length; the fastest counts, because the others have noise
_PROBE: Final = 16  # steps of the longer trial
MAX_STEPS: Final = 256


@final
class DispatchTuner:
    """The current number of steps per dispatch; grows by measurement unless it was given.

    Args:
        steps: A fixed number, or None to measure.
        longest: Upper limit.
    """

    def __init__(self, steps: int | None, longest: int = MAX_STEPS) -> None:
        self._longest = longest
        self._seconds: dict[int, list[float]] = defaultdict(list)
        self.steps = 1 if steps is None else min(steps, longest)
        self.is_settled = steps is not None

    def limit(self, longest: int) -> None:
        """Lower the upper limit."""
        self._longest = max(1, min(self._longest, longest))
        self.steps = min(self.steps, self._longest)

    def note(self, count: int, seconds: float) -> None:
        """Record the time of a dispatch of `count` steps, from call to result.

        Do not record dispatches that included a compilation.
        """
        if self.is_settled or count != self.steps:
            return
        trials = self._seconds[count]
        trials.append(seconds)
        if len(trials) == _TRIALS:
            self._advance()

    def _advance(self) -> None:
        probe = min(_PROBE, self._longest)
        if self.steps < probe:
            self.steps = probe
        else:
            self.steps = self._choose(probe)
            self.is_settled = True

    def _choose(self, probe: int) -> int:
        if probe == 1:
            return 1
        single, several = min(self._seconds[1]), min(self._seconds[probe])
        step = max((several - single) / (probe - 1), 1e-9)
        wanted = max(single - step, 0.0) / (_OVERHEAD * step)
        steps = 1
        while steps < min(wanted, self._longest):
            steps *= 2
        return steps if steps <= self._longest else steps // 2
