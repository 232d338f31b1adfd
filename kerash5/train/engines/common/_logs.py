"""Read the logs of a step as Keras' `fit` does.

Nested dicts are flattened, scalars become floats, arrays become lists. `fit` does this at the end
of an epoch with the results of `train_step`, `test_step` or the model's metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerash5._errors import RunError
from kerash5._run import Metrics, MetricValue
from kerash5._warnings import warn


def flatten_logs(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested logs as one dict, without the names of the inner dicts.

    If two values have the same name, the one that Keras' `fit` records is returned: it visits names
    in sorted order, and a later value replaces an earlier one.
    """
    if not any(isinstance(value, Mapping) for value in logs.values()):
        return dict(logs)
    found: dict[str, Any] = {}
    for name, value in sorted(logs.items()):
        found.update(flatten_logs(value) if isinstance(value, Mapping) else {name: value})
    return found


def read_metrics(logs: Mapping[str, Any]) -> Metrics:
    """Return logs as numbers; synchronizes with the device.

    Args:
        logs: Tensors of any backend, arrays or Python numbers by name; dicts of these may be
            nested.

    Raises:
        RunError: A value is not a number or an array of numbers.
    """
    return {name: _read_value(name, value) for name, value in flatten_logs(logs).items()}


def no_number(value: object, where: str = "") -> RunError:
    """Return the error for logs that are not numbers."""
    return RunError(
        f"the logs of a step have {value!r}{where}, but a metric must be a number or an array of "
        "numbers; return one, or omit it from the logs of the step"
    )


def to_arrays(metrics: Metrics) -> dict[str, Any]:
    """Return metrics as Keras callbacks receive them: floats, and arrays instead of lists."""
    return {
        name: np.array(value) if isinstance(value, list) else value
        for name, value in metrics.items()
    }


def merge_logs(metrics: Metrics, logs: Mapping[str, Any]) -> Metrics:
    """Return the metrics with what Keras callbacks have added to their logs.

    "learning_rate", which callbacks of Keras add, is an entry of each epoch already. A value that
    is no number, or that a callback has changed, is left out with a warning: the best epoch is
    chosen by the metrics as they were.

    Args:
        metrics: The metrics that callbacks were given.
        logs: The logs after the callbacks.
    """
    found = dict(metrics)
    given = to_arrays(metrics)
    for name, value in logs.items():
        if name in given:
            if not _is_same(given[name], value):
                warn(
                    f"a callback has changed logs[{name!r}]; it is recorded as it was: add the "
                    "new value under a name of its own"
                )
        elif name != "learning_rate":
            try:
                found |= read_metrics({name: value})
            except RunError:
                warn(
                    f"a callback has set logs[{name!r}] to {value!r}, which is no number: it is "
                    "not recorded"
                )
    return found


def _is_same(given: Any, value: Any) -> bool:  # noqa: ANN401  what callbacks make of it
    try:
        return np.array_equal(given, value, equal_nan=True)
    except TypeError:  # text has no NaN
        return False


def _read_value(name: str, value: Any) -> MetricValue:  # noqa: ANN401  a tensor, or a number
    try:
        array = np.asarray(keras.ops.convert_to_numpy(value))
        if array.dtype.kind in "cOSU":
            raise TypeError(f"{array.dtype} is not numeric")  # noqa: TRY301  as NumPy does for None
        numbers = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise no_number(value, f" under {name!r}") from error
    # As `fit` before NumPy 2.4, so that the F1 score of a single class can be monitored.
    found: MetricValue = numbers.item() if numbers.size == 1 else numbers.tolist()
    return found
