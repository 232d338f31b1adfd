"""Capture and restore the state of a fit as arrays and JSON: variables and callbacks.

Restored values equal the captured ones bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

import keras
import numpy as np

from kerash5._errors import RunError
from kerash5.train.engines.common._private import variables_trained_by
from kerash5.train.state._outside import (
    GROUP as OTHER,
)
from kerash5.train.state._outside import (
    PythonState,
    find_optimizers,
    find_variables,
    native,
)

# Weights and seeds in the order of creation, which freezing a layer does not change.
WEIGHTS: Final = "model"
GROUPS: Final = (WEIGHTS, "optimizer", "metrics", OTHER)
# Counters of Keras' callbacks, which `on_train_begin` resets.
_COUNTED: Final = (
    (keras.callbacks.EarlyStopping, ("wait", "stopped_epoch", "best", "best_epoch")),
    (keras.callbacks.ReduceLROnPlateau, ("wait", "cooldown_counter", "best")),
    (keras.callbacks.ModelCheckpoint, ("best",)),
    (keras.callbacks.History, ("epoch", "history")),
    (keras.callbacks.SwapEMAWeights, ("_ema_weights_in_model",)),  # Keras has no public attribute
)


def variables_of(model: keras.Model) -> dict[str, list[Any]]:
    """Return the variables that Keras lists for a model in training, by group."""
    return {
        "trainable": list(model.trainable_variables),
        "non_trainable": list(model.non_trainable_variables),
        "optimizer": [] if model.optimizer is None else list(model.optimizer.variables),
        "metrics": list(model.metrics_variables),
    }


def count_parameters(model: keras.Model) -> int:
    """Return the number of parameters so far, also if Keras does not call the model built."""
    weights = {id(weight): weight for weight in model.weights}
    return sum(math.prod(weight.shape) for weight in weights.values())


@final
class ModelState:
    """All training state of a model: variables by name, and Python state of its steps.

    Args:
        model: A compiled model.
        captured: Returns the variables that traced steps use, if the framework tells.
    """

    def __init__(
        self, model: keras.Model, captured: Callable[[], Sequence[Any]] = lambda: ()
    ) -> None:
        self.model = model
        self._captured = captured
        self.python = PythonState(model, lambda: list(self.variables().values()))

    def variables(self) -> dict[str, Any]:
        """Return all variables: Keras' by group and number, others by their path."""
        groups = {
            WEIGHTS: _weights_of(self.model),
            **{group: variables_of(self.model)[group] for group in ("optimizer", "metrics")},
        }
        found = {
            f"{group}/{number:05}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }
        known = list(found.values())
        others = find_variables(self.model, known, self._captured())
        return found | {f"{OTHER}/{name}": variable for name, variable in others.items()}

    def capture(self) -> dict[str, np.ndarray]:
        """Return the values of every variable, by name."""
        return {name: _value_of(variable) for name, variable in self.variables().items()}

    def optimizers(self) -> dict[str, list[str]]:
        """Return the names of the variables that each optimizer was built for."""
        names = {id(native(variable)): name for name, variable in self.variables().items()}
        found = {}
        for name, optimizer in find_optimizers(self.model).items():
            trained = variables_trained_by(optimizer) if optimizer.built else None
            known = [names.get(id(native(each)), "") for each in trained or ()]
            if known and all(known):
                found[name] = known
        return found

    def build_optimizers(self, trained: Mapping[str, Sequence[str]]) -> None:
        """Build optimizers that only their first step builds, for the variables of `trained`."""
        variables = self.variables()
        for name, optimizer in find_optimizers(self.model).items():
            names = trained.get(name, ())
            if not optimizer.built and names and all(each in variables for each in names):
                optimizer.build([variables[each] for each in names])

    def restore(self, arrays: Mapping[str, np.ndarray], *, groups: Sequence[str] = GROUPS) -> None:
        """Set every variable of these groups to its value.

        Raises:
            RunError: The arrays do not fit; no variable was changed.
        """
        others = {id(variable) for variable in self._others()}
        for variable, array in self.check(arrays, groups=groups):
            # Unchanged values are not assigned: on JAX a step has outer variables as constants.
            if id(variable) not in others or not np.array_equal(_value_of(variable), array):
                variable.assign(array)

    def _others(self) -> list[Any]:
        return [each for name, each in self.variables().items() if _group_of(name) == OTHER]

    def check(
        self, arrays: Mapping[str, np.ndarray], *, groups: Sequence[str] = GROUPS
    ) -> list[tuple[Any, np.ndarray]]:
        """Return every variable of these groups with its value.

        Raises:
            RunError: The arrays do not fit.
        """
        variables = {
            name: each for name, each in self.variables().items() if _group_of(name) in groups
        }
        arrays = _renamed(self.model, arrays)
        for name in arrays:
            if _group_of(name) in groups and name not in variables:
                raise RunError(
                    f"the checkpoint has values for {name!r}, which the model does not have before "
                    "its first step; build it before fit, use the same model, or start a new run "
                    "with resume=None"
                )
        for name, variable in variables.items():
            array = arrays.get(name)
            if array is None or tuple(array.shape) != tuple(variable.shape):
                found = "nothing" if array is None else f"shape {array.shape}"
                path = getattr(variable, "path", name)
                raise RunError(
                    f"the checkpoint has {found} for {path!r} of shape {tuple(variable.shape)}; "
                    "use the same model, or start a new run with resume=None"
                )
        return [(variable, arrays[name]) for name, variable in variables.items()]


def _weights_of(model: keras.Model) -> list[Any]:
    """Return the model's variables, then further ones that a user's class lists."""
    listed = [*model.variables, *model.trainable_variables, *model.non_trainable_variables]
    return list({id(variable): variable for variable in listed}.values())


def _renamed(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint under current names.

    Early checkpoints name weights by whether they were trainable.
    """
    numbers = {id(variable): number for number, variable in enumerate(_weights_of(model))}
    known = {
        f"{group}/{number:05}": f"{WEIGHTS}/{numbers[id(variable)]:05}"
        for group in ("trainable", "non_trainable")
        for number, variable in enumerate(variables_of(model)[group])
    }
    return {known.get(name, name): array for name, array in arrays.items()}


def _group_of(name: str) -> str:
    return name.partition("/")[0]


def _value_of(variable: Any) -> np.ndarray:  # noqa: ANN401  of any backend
    return np.array(keras.ops.convert_to_numpy(variable))


def restore_weights(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Set the weights of a model that is not compiled to those of a checkpoint.

    Raises:
        ValueError: The arrays do not fit.
    """
    arrays = _renamed(model, arrays)
    for number, variable in enumerate(_weights_of(model)):
        variable.assign(arrays[f"{WEIGHTS}/{number:05}"])


def capture_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the counters of callbacks as JSON, and the weights that they store.

    Supports Keras' own callbacks, and any with `state_dict()` and `load_state_dict(state)`.
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
    """Restore the counters of callbacks; return the names of callbacks without saved state."""
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
            callback.append = True  # otherwise it would overwrite its file
    return unknown


def _named(
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[tuple[str, keras.callbacks.Callback]]:
    """Return callbacks with names that are reproducible in the next process: kind and number."""
    seen: dict[str, int] = {}
    named = []
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, -1) + 1
        named.append((f"{kind}-{seen[kind]}", callback))
    return named


def _counted(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((names for kind, names in _COUNTED if isinstance(callback, kind)), ())


def _plain(value: Any) -> Any:  # noqa: ANN401  a number of any type
    """Return an exact JSON representation."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(keras.ops.convert_to_numpy(value))
    return array.item() if array.size == 1 else array.tolist()
