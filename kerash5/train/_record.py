"""Records a run during training: run.json, the weights files, and the duration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import keras

from kerash5._run import Epoch, Run
from kerash5._warnings import warn
from kerash5.train.checkpoints._run_dir import BEST_WEIGHTS, RunDir
from kerash5.train.loop._best import Mode, is_best, rank
from kerash5.train.loop._optimizer import Lend


@final
class RunRecord:
    """Writes a run to its folder.

    Args:
        run: The run at the beginning.
        run_dir: The folder of the run.
        seconds: Duration of earlier parts of the run.
        lend: A context in which the model has the weights to save as the best.
        mode: "min", "max" or "auto", as in `Trainer`.
    """

    def __init__(
        self, run: Run, run_dir: RunDir, *, seconds: float, lend: Lend, mode: Mode
    ) -> None:
        self._mode = mode
        self.run = run
        self._run_dir = run_dir
        self._began = time.perf_counter()
        self._seconds_before = seconds
        self._lend = lend

    @property
    def seconds(self) -> float:
        """Duration of the whole run so far."""
        return self._seconds_before + time.perf_counter() - self._began

    @property
    def rank(self) -> float:
        """Rank of the last epoch, smaller is better; NaN if it has none."""
        last = self.run.epochs[-1:]
        has_rank = bool(last) and self.run.monitor in last[0].metrics
        return rank(self.run.monitor, last[0], self._mode) if has_rank else math.nan

    def save(self, **changes: Any) -> None:  # noqa: ANN401  fields of `Run`
        """Change fields of the run, in memory and in its folder."""
        self.run = replace(self.run, **changes)
        if self.run.run_dir:
            self.run.save(self._run_dir.path)

    def save_timed(self, **changes: Any) -> None:  # noqa: ANN401  fields of `Run`
        """Save like `save`, and update the duration."""
        self.save(seconds=self.seconds, **changes)

    def end_epoch(self, model: keras.Model, epoch: Epoch, *, is_ranked: bool = True) -> None:
        """Record an epoch, and save its weights if they are the best so far.

        Args:
            model: The model with the weights at the end of the epoch.
            epoch: The results of the epoch.
            is_ranked: Whether the epoch can be the best. It cannot if the monitor is a validation
                metric and the epoch was not validated.
        """
        earlier = self.run.epochs
        is_better = is_ranked and is_best(self.run.monitor, epoch, earlier, self._mode)
        is_saved = is_better and self.keep(lambda: self._save_best(model))
        best_epoch = epoch.epoch if is_saved else self.run.best_epoch
        self.run = replace(self.run, epochs=(*earlier, epoch), best_epoch=best_epoch)
        self.keep(self.save_timed)

    def amend_epoch(self, epoch: Epoch) -> None:
        """Replace the last epoch by one whose metrics have what callbacks added."""
        if epoch != self.run.epochs[-1]:
            self.run = replace(self.run, epochs=(*self.run.epochs[:-1], epoch))
            self.keep(self.save_timed)

    def keep(self, write: Callable[[], object]) -> bool:
        """Call a function that writes an optional file; if it fails, warn and return False."""
        try:
            write()
        except OSError as error:
            warn(f"{str(self._run_dir.path)!r} cannot be written to ({error}); training goes on")
            return False
        return True

    def _save_best(self, model: keras.Model) -> None:
        with self._lend():
            self._run_dir.save_weights(model, BEST_WEIGHTS)
