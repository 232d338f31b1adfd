"""The metric that decides which epoch of a fit is the best, and when early stopping stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import final

import keras

from kerash5.train._settings import Settings
from kerash5.train.engines.common._engine import AbstractEngine
from kerash5.train.loop._best import choose_monitor, is_larger_better
from kerash5.train.loop._callbacks import SparseEarlyStopping
from kerash5.train.loop._model_checks import check_monitor_known


@final
class MonitoredMetric:
    """Settles the monitored metric once the names of the reported metrics are known.

    Args:
        name: The metric the user asked for, or the default one.
        settings: The options of the trainer.
        say: Prints a message.

    Attributes:
        name: The metric; it changes if the default one is not reported.
        early_stopping: The callback that stops by it, or nothing.
        is_sought: Whether `settle` was called.
    """

    def __init__(self, name: str, settings: Settings, say: Callable[[str], None]) -> None:
        self.name = name
        self.is_sought = False
        self._settings = settings
        self._say = say
        self.early_stopping = self._make_early_stopping()

    def settle(self, metrics: Iterable[str], *, is_complete: bool = False) -> str:
        """Return the monitored metric: another one if the default one is not reported.

        Args:
            metrics: Names of the reported metrics.
            is_complete: Whether validation metrics are among them.

        Raises:
            OptionError: The metric that the user asked for is not reported.
        """
        self.is_sought = True
        names = list(metrics)
        if self.name in names or (self.name.startswith("val_") and not is_complete):
            return self.name
        if self._settings.monitor is not None:
            check_monitor_known(self.name, names)
        missing, self.name = self.name, choose_monitor(self.name, names)
        for callback in self.early_stopping:
            callback.monitor, callback.mode = self.name, self._mode
        self._say(
            f"the model reports no {missing!r}, so {self.name!r} decides which weights are best; "
            "pass monitor= to choose another"
        )
        return self.name

    def check(self, model: keras.Model, engine: AbstractEngine, *, is_validated: bool) -> str:
        """Return like `settle`, before the first step; nothing is settled if names are unknown."""
        kind = type(model)
        is_stock = kind.train_step is keras.Model.train_step
        if not is_stock or kind.test_step is not keras.Model.test_step:
            return self.name
        try:
            names = list(engine.metrics())
        except Exception:  # noqa: BLE001  a custom metric may need data for its result
            return self.name
        finally:
            model.reset_metrics()
        validated = [f"val_{name}" for name in names] if is_validated else []
        return self.settle([*names, *validated], is_complete=True)

    def _make_early_stopping(self) -> list[keras.callbacks.EarlyStopping]:
        patience = self._settings.early_stopping
        if patience is None:
            return []
        is_sparse = self._settings.limits.epochs_per_check > 1
        kind = SparseEarlyStopping if is_sparse else keras.callbacks.EarlyStopping
        return [kind(self.name, patience=patience, mode=self._mode)]

    @property
    def _mode(self) -> str:
        return "max" if is_larger_better(self.name, self._settings.mode) else "min"
