"""The state of a fit as arrays and JSON: variables and callbacks, both ways.

Exactly: what is restored equals what was captured, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import keras
import numpy as np

from kerash5._errors import RunError

_GROUPS: Final = ("trainable", "non_trainable", "optimizer", "metrics")
# What the callbacks of Keras count, which they begin anew in `on_train_begin`.
_COUNTED: Final = (
    (keras.callbacks.EarlyStopping, ("wait", "stopped_epoch", "best", "best_epoch")),
    (keras.callbacks.ReduceLROnPlateau, ("wait", "cooldown_counter", "best")),
    (keras.callbacks.ModelCheckpoint, ("best",)),
    (keras.callbacks.History, ("epoch", "history")),
    (keras.callbacks.SwapEMAWeights, ("_ema_weights_in_model",)),  # Keras has no public name
)


def variables_of(model: keras.Model) -> dict[str, list[Any]]:
    """Return every variable of a model in training, by group."""
    return {
        "trainable": list(model.trainable_variables),
        "non_trainable": list(model.non_trainable_variables),
        "optimizer": list(model.optimizer.variables),
        "metrics": list(model.metrics_variables),
    }


def capture_variables(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the values of every variable, by group and number."""
    return {
        f"{group}/{number:05}": np.array(keras.ops.convert_to_numpy(variable))
        for group, variables in variables_of(model).items()
        for number, variable in enumerate(variables)
    }


def restore_variables(
    model: keras.Model, arrays: Mapping[str, np.ndarray], *, groups: Sequence[str] = _GROUPS
) -> None:
    """Give every variable of these groups its value.

    Raises:
        RunError: They do not fit; no variable was changed.
    """
    for variable, array in check_variables(model, arrays, groups=groups):
        variable.assign(array)


def check_variables(
    model: keras.Model, arrays: Mapping[str, np.ndarray], *, groups: Sequence[str] = _GROUPS
) -> list[tuple[Any, np.ndarray]]:
    """Return every variable of these groups with its value.

    Raises:
        RunError: They do not fit.
    """
    pairs = []
    for group in groups:
        for number, variable in enumerate(variables_of(model)[group]):
            array = arrays.get(f"{group}/{number:05}")
            if array is None or tuple(array.shape) != tuple(variable.shape):
                found = "nothing" if array is None else f"shape {array.shape}"
                raise RunError(
                    f"the checkpoint has {found} for {variable.path!r} of shape "
                    f"{tuple(variable.shape)}; train the same model, or begin anew with resume=None"
                )
            pairs.append((variable, array))
    return pairs


def restore_weights(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a model that is not compiled the weights of a checkpoint.

    Raises:
        ValueError: They do not fit.
    """
    for group in ("trainable", "non_trainable"):
        for number, variable in enumerate(getattr(model, f"{group}_variables")):
            variable.assign(arrays[f"{group}/{number:05}"])


def capture_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what callbacks count, as JSON, and the weights that they keep.

    Of Keras' own callbacks, and of any that has `state_dict()` and `load_state_dict(state)`.
    """
    states: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, callback in _named(callbacks):
        if hasattr(callback, "state_dict"):
            states[name] = callback.state_dict()
        elif counted := _counted(callback):
            states[name] = {key: _plain(getattr(callback, key, None)) for key in counted}
        for number, array in enumerate(getattr(callback, "best_weights", None) or ()):
            arrays[f"callbacks/{name}/{number:05}"] = np.asarray(array)
    return states, arrays


def restore_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
    states: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> list[str]:
    """Give callbacks what they had counted; return the names of those nothing is known of."""
    unknown = []
    for name, callback in _named(callbacks):
        keeps_state = hasattr(callback, "load_state_dict") or bool(_counted(callback))
        if name not in states:
            unknown += [name] if keeps_state else []
        elif hasattr(callback, "load_state_dict"):
            callback.load_state_dict(states[name])
        else:
            for key, value in states[name].items():
                setattr(callback, key, value)
        prefix = f"callbacks/{name}/"
        kept = [arrays[key] for key in sorted(arrays) if key.startswith(prefix)]
        if kept:
            callback.best_weights = kept
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback.append = True  # or it would begin its file anew
    return unknown


def _named(
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[tuple[str, keras.callbacks.Callback]]:
    """Return callbacks with names that are the same in the next process: kind and number."""
    seen: dict[str, int] = {}
    named = []
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, -1) + 1
        named.append((f"{kind}-{seen[kind]}", callback))
    return named


def _counted(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((names for kind, names in _COUNTED if isinstance(callback, kind)), ())


def _plain(value: Any) -> Any:  # noqa: ANN401  a number in one of many forms
    """Return what JSON can hold, exactly."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(keras.ops.convert_to_numpy(value))
    return array.item() if array.size == 1 else array.tolist()
