"""Ranks epochs by one metric, to find the best so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from kerash5._errors import RunError
from kerash5._run import Epoch

# Words in names of Keras' metrics that are better when larger; others are better when smaller.
_LARGER_IS_BETTER: Final = (
    *("acc", "auc", "precision", "recall", "sensitivity", "specificity", "f1", "fbeta", "iou"),
    *("io_u", "r2", "similarity", "correlation", "true_positives", "true_negatives"),
)


Mode = Literal["auto", "min", "max"]

MODES: Final = ("auto", "min", "max")


def is_larger_better(monitor: str, mode: Mode = "auto") -> bool:
    """Return whether a metric is better when larger: by `mode`, or by its name if that is "auto".

    By name, accuracies and similar metrics are better when larger.
    """
    if mode != "auto":
        return mode == "max"
    return not monitor.endswith("loss") and any(word in monitor for word in _LARGER_IS_BETTER)


def choose_monitor(monitor: str, names: Iterable[str]) -> str:
    """Return the default monitor: the usual metric, or a similar one if that is not reported.

    Args:
        monitor: "loss" or "val_loss".
        names: Names of all reported metrics, in order. A model's own train_step may report no loss
            of that name.
    """
    known = list(names)
    if monitor in known or not known:
        return monitor
    prefix = monitor.removesuffix("loss")
    alike = [name for name in known if name.startswith(prefix)] or known
    return next((name for name in alike if name.endswith("loss")), alike[0])


def rank(monitor: str, epoch: Epoch, mode: Mode = "auto") -> float:
    """Return a number that is smaller for a better epoch; NaN if the metric is NaN.

    Args:
        monitor: The metric.
        epoch: The results of the epoch.
        mode: As in `Trainer`.

    Raises:
        RunError: The metric is not one of this run, or an array.
    """
    if monitor not in epoch.metrics:
        known = ", ".join(map(repr, sorted(epoch.metrics)))
        raise RunError(f"monitor={monitor!r} is no metric of this run; there are {known}; name one")
    value = epoch.metrics[monitor]
    if isinstance(value, list):
        raise RunError(describe_array_monitor(monitor))
    return -value if is_larger_better(monitor, mode) else value


def describe_array_monitor(monitor: str) -> str:
    """Return the error message for a monitored metric that is an array."""
    return (
        f"monitor={monitor!r} is an array, and the best epoch is decided by one number; compile "
        "the model with a metric that returns one, such as keras.metrics.F1Score(average='macro') "
        "or a single threshold, or monitor another metric"
    )


def is_best(monitor: str, epoch: Epoch, earlier: Sequence[Epoch], mode: Mode = "auto") -> bool:
    """Return whether an epoch is better than all before it.

    The first epoch is the best so far, even with NaN; after that any number is better than NaN.

    Raises:
        RunError: The metric is not one of this run.
    """
    now = rank(monitor, epoch, mode)
    ranks = [rank(monitor, past, mode) for past in earlier if monitor in past.metrics]
    known = min((value for value in ranks if not math.isnan(value)), default=math.nan)
    return not ranks or (not math.isnan(now) and (math.isnan(known) or now < known))
