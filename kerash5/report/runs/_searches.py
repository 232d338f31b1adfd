"""Results of the trainer's searches: the learning rates and batch sizes tried, as text and plots.

Plain values, made by `Trainer.lr_find` and `Trainer.batch_size_find`. Nothing is trained here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kerash5._display import Described
from kerash5.report.runs._pictures import TRAIN, WRONG, finish_figure, new_figure

# The first losses are too few to average over, and the last ones lead into divergence.
_SKIPPED_FIRST: Final = 10
_SKIPPED_LAST: Final = 1
_MEDIAN: Final = 5  # steps
_WIDTH: Final = 0.03  # of the curve: standard deviation of the Gaussian


@final
@dataclass(frozen=True, slots=True)
class LearningRates(Described):
    """Losses over a learning rate that grows step by step.

    Args:
        rates: Learning rate of each step, increasing.
        losses: Loss of each step's batch, one per rate; NaN or infinite where training diverged.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """The smoothed losses, as far as they are finite.

        Medians of five, then a Gaussian average over neighbours on both sides. A running average of
        the past alone would lag, and suggest rates several times too high.
        """
        is_finite = np.isfinite(self.losses)
        num_finite = len(is_finite) if is_finite.all() else int(is_finite.argmin())
        losses = np.asarray(self.losses[:num_finite], np.float64)
        if num_finite < _MEDIAN:
            return losses
        padded = np.pad(losses, _MEDIAN // 2, mode="edge")
        medians = np.median(sliding_window_view(padded, _MEDIAN), axis=1)
        reach = np.arange(num_finite)[:, None] - np.arange(num_finite)
        weights = np.exp(-0.5 * (reach / (_WIDTH * num_finite)) ** 2)
        smoothed: NDArray[np.float64] = weights @ medians / weights.sum(axis=1)
        return smoothed

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply; None if it never falls."""
        values = self.smoothed
        # Beyond the minimum the loss only rises; ignore small descents on the way up.
        last = min(len(values) - _SKIPPED_LAST, int(values.argmin()) + 1) if len(values) else 0
        if last <= _SKIPPED_FIRST:
            return None
        slopes = np.gradient(values)[_SKIPPED_FIRST:last]
        steepest = int(slopes.argmin())
        return self.rates[_SKIPPED_FIRST + steepest] if slopes[steepest] < 0 else None

    def __repr__(self) -> str:
        """Return the suggestion and the range of rates tried, in one line."""
        return f"LearningRates({self.describe()})"

    def describe(self) -> str:
        """Return the suggested learning rate as a sentence."""
        tried = f"{len(self.rates)} steps from {self.rates[0]:.1e} to {self.rates[-1]:.1e}"
        if self.suggestion is None:
            return f"no learning rate found in {tried}: the loss never fell; try higher rates"
        return f"learning rate {self.suggestion:.2e}, at which the loss fell fastest ({tried})"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:  # noqa: ANN401  a figure or a path
        """Draw the loss over the rate, with the suggestion marked.

        Args:
            path: The image file, PNG or SVG by its extension; None writes none.

        Returns:
            The path; without one the figure, which notebooks show.

        Raises:
            BackendError: matplotlib is not installed.
        """
        figure = new_figure(6.4, 4.0)
        axes = figure.add_subplot()
        axes.plot(self.rates, self.losses, color=TRAIN, alpha=0.3, label="each step")
        smoothed, suggestion = self.smoothed, self.suggestion
        axes.plot(self.rates[: len(smoothed)], smoothed, color=TRAIN, label="smoothed")
        if suggestion is not None:
            height, label = (
                smoothed[self.rates.index(suggestion)],
                f"falls fastest: {suggestion:.2e}",
            )
            axes.plot([suggestion], [height], "o", color=WRONG, label=label)
            axes.axvline(suggestion, color=WRONG, linestyle=":", linewidth=1)
        axes.set(
            xscale="log",
            xlabel="learning rate",
            ylabel="loss",
            title="loss over learning rate",
        )
        axes.set_ylim(_loss_limits(smoothed))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
        return finish_figure(figure, path)


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """One batch size that was tried.

    Args:
        batch_size: Rows in a batch.
        rows_per_second: Training speed, without the first step, which compiles; NaN if it failed.
        peak_bytes: Peak memory of the process; 0 if unknown.
        error: Why it failed; "" if it trained.
    """

    batch_size: int
    rows_per_second: float = math.nan
    peak_bytes: int = 0
    error: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether this batch size trains."""
        return not self.error

    def describe(self) -> str:
        """Return one line on the result."""
        if not self.is_trained:
            return f"batch size {self.batch_size}: failed, {self.error}"
        peak = f", {self.peak_bytes / 1e6:,.0f} MB" if self.peak_bytes else ""
        return f"batch size {self.batch_size}: {self.rows_per_second:,.0f} rows/s{peak}"


@final
@dataclass(frozen=True, slots=True)
class BatchSizes(Described):
    """The batch sizes tried, smallest first."""

    trials: Sequence[Trial]

    @property
    def largest(self) -> int | None:
        """The largest batch size that trains; None if none does."""
        return max((trial.batch_size for trial in self.trials if trial.is_trained), default=None)

    @property
    def fastest(self) -> int | None:
        """The batch size with the most rows per second; None if none trains."""
        trained = [trial for trial in self.trials if trial.is_trained]
        if not trained:
            return None
        return max(trained, key=lambda trial: trial.rows_per_second).batch_size

    def __repr__(self) -> str:
        """Return the largest and the fastest batch size, in one line."""
        return f"BatchSizes({self.describe().splitlines()[-1]})"

    def describe(self) -> str:
        """Return the batch sizes tried, and the largest and fastest, as text."""
        found = f"largest that fits: {self.largest}; fastest: {self.fastest}"
        lines = [trial.describe() for trial in self.trials]
        return "\n".join([*lines, "no batch size trains" if self.largest is None else found])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:  # noqa: ANN401  a figure or a path
        """Draw rows per second over the batch size.

        Args:
            path: The image file, PNG or SVG by its extension; None writes none.

        Returns:
            The path; without one the figure, which notebooks show.

        Raises:
            BackendError: matplotlib is not installed.
        """
        figure = new_figure(6.4, 4.0)
        axes = figure.add_subplot()
        trained = [trial for trial in self.trials if trial.is_trained]
        sizes, speeds = (
            [trial.batch_size for trial in trained],
            [trial.rows_per_second for trial in trained],
        )
        axes.plot(sizes, speeds, marker="o", color=TRAIN, label="trains")
        for position, trial in enumerate(self.trials):
            if not trial.is_trained:
                label = "fails" if all(t.is_trained for t in self.trials[:position]) else None
                axes.axvline(trial.batch_size, color=WRONG, linestyle=":", label=label)
        ticks = [trial.batch_size for trial in self.trials]
        axes.set(xscale="log", xlabel="batch size", ylabel="rows/s", title="speed by batch size")
        axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
        return finish_figure(figure, path)


def _loss_limits(smoothed: NDArray[np.float64]) -> tuple[float, float]:
    """Return the y limits of the plot, so that an exploding loss does not flatten the rest."""
    if not len(smoothed):
        return 0.0, 1.0
    low, first = float(smoothed.min()), float(smoothed[0])
    room = max(first - low, 0.1 * abs(first), 1e-6)
    return low - 0.15 * room, first + 0.6 * room
