"""State that a step changes outside the variables Keras lists for a model: capture and restore.

Further variables (of a second optimizer, in a list, in a closure) are always saved. If steps run as
Python, so are arrays, numbers and random generators that have changed since the fit began. In a
compiled step Python values are constants, so there is no Python state.
"""

from __future__ import annotations

import hashlib
import io
import random
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

import keras
import numpy as np

from kerash5.train.state._walk import Place, is_plain, put, walk

GROUP: Final = "other"
_ARRAYS: Final = "python/"


def find_variables(
    model: keras.Model, known: Sequence[Any], captured: Sequence[Any] = ()
) -> dict[str, Any]:
    """Return further variables reachable from a model, or used by its traced step, by name.

    Args:
        model: A model, possibly not fully built before its first step.
        known: Variables to exclude.
        captured: TensorFlow variables that the step uses, in a reproducible order.
    """
    seen = {id(native(variable)) for variable in known}
    found: dict[str, Any] = {}
    reached = [(place.name, place.value) for place in walk(model)]
    for name, value in [*reached, *((f"graph[{i}]", each) for i, each in enumerate(captured))]:
        if not is_variable(value) or id(native(value)) in seen:
            continue
        seen.add(id(native(value)))
        safe = name.replace("/", "|")
        found[safe if safe not in found else f"{safe}#{len(found)}"] = value
    return found


def is_variable(value: object) -> bool:
    """Return whether a value is a variable of Keras or TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return isinstance(value, keras.Variable)
    import tensorflow as tf

    return isinstance(value, keras.Variable | tf.Variable)


def native(variable: Any) -> Any:  # noqa: ANN401  Keras', or TensorFlow's
    """Return the object that identifies a variable: TensorFlow's own if Keras wraps it."""
    is_wrapped = keras.backend.backend() == "tensorflow" and isinstance(variable, keras.Variable)
    return variable.value if is_wrapped else variable


def find_optimizers(model: keras.Model) -> dict[str, Any]:
    """Return the optimizers of a model by name; `model.optimizer` is "optimizer"."""
    found = {place.name: place.value for place in walk(model)}
    return {name: each for name, each in found.items() if isinstance(each, keras.Optimizer)}


def runs_python(model: keras.Model) -> bool:
    """Return whether each step runs the model's Python code, rather than a compiled form of it."""
    backend = keras.backend.backend()
    return backend == "torch" or bool(
        model.run_eagerly or (backend == "jax" and not model.jit_compile)
    )


@final
class PythonState:
    """Arrays, numbers and random generators that a step keeps in Python objects.

    Args:
        model: The model; if its steps are compiled, nothing is saved.
        known: Returns the variables that are saved elsewhere.
    """

    def __init__(self, model: keras.Model, known: Callable[[], Sequence[Any]]) -> None:
        self._model = model
        self._known = known
        self._start: dict[str, Any] = {}
        self._restored: set[str] = set()

    def begin(self) -> None:
        """Record all values before the first step of this process."""
        self._start = {place.name: _mark(place.value) for place in self._walk()}

    def capture(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what has changed since `begin`, as JSON and arrays."""
        states: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {}
        for place in self._walk():
            is_new = place.name not in self._start or place.name in self._restored
            if not is_new and self._start[place.name] == _mark(place.value):
                continue
            found = _to_plain(place.value)
            if isinstance(found, np.ndarray):
                arrays[f"{_ARRAYS}{len(states):05}"] = found
                found = len(states)
            kind = _kind(place.value)
            states[place.name] = [place.holder_name, _plain_key(place.key), kind, found]
        return states, arrays

    def restore(self, states: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[str]:
        """Restore the changed values; return the names of those that no longer exist."""
        known = {place.name: place for place in self._walk(every=True)}
        holders = {place.name: place.value for place in walk(self._model)} | {"": self._model}
        left = []
        for name, (holder, key, kind, saved) in states.items():
            value = arrays[f"{_ARRAYS}{saved:05}"] if kind in _ARRAY_KINDS else saved
            try:
                if name in known:
                    _put_at(known[name], kind, value)
                else:
                    put(holders[holder], key, _to_kind(kind, value))
                self._restored.add(name)
            except (TypeError, AttributeError, LookupError, ValueError):
                left.append(name)
        return left

    def unsaved(self) -> list[str]:
        """Return the names of stateful objects whose state cannot be read: iterators."""
        if not runs_python(self._model):
            return []
        return [
            place.name
            for place in walk(self._model)
            if place.is_own
            and hasattr(type(place.value), "__next__")
            and not isinstance(place.value, io.IOBase)
        ]

    def _walk(self, *, every: bool = False) -> list[Place]:
        if not runs_python(self._model):
            return []
        known = {_memory(variable.value) for variable in self._known()}
        return [
            place
            for place in walk(self._model)
            if place.is_own
            and (is_plain(place.value) or _kind(place.value) != "plain")
            and (every or _memory(place.value) not in known)
        ]


_ARRAY_KINDS: Final = ("numpy", "tensor", "torch.Generator")


def _kind(value: Any) -> str:  # noqa: ANN401  anything
    """Return how a value is saved; "plain" for JSON values, and for those that cannot be saved."""
    torch = sys.modules.get("torch")
    if isinstance(value, np.ndarray | np.generic):
        return "numpy" if value.dtype != object else "plain"
    if isinstance(value, np.random.Generator):
        return "numpy.Generator"
    if isinstance(value, random.Random):
        return "random.Random"
    if torch is not None and isinstance(value, torch.Generator):
        return "torch.Generator"
    return "tensor" if not isinstance(value, keras.KerasTensor) and _is_tensor(value) else "plain"


def _is_tensor(value: object) -> bool:
    if isinstance(value, keras.Variable) or not keras.ops.is_tensor(value):
        return False
    return not getattr(value, "is_sparse", False)


def _memory(value: Any) -> object:  # noqa: ANN401  an array
    """Return the address of a PyTorch tensor's memory, which tensors can share; else the id."""
    is_torch = keras.backend.backend() == "torch" and _is_tensor(value)
    return (value.data_ptr(), tuple(value.shape)) if is_torch and value.numel() else id(value)


def _mark(value: Any) -> Any:  # noqa: ANN401  anything that is saved
    """Return a key that is equal for two values exactly if they are equal."""
    found = _to_plain(value)
    if isinstance(found, np.ndarray):
        data = np.ascontiguousarray(found).reshape(-1).view(np.uint8).data if found.size else b""
        return (str(found.dtype), found.shape, hashlib.blake2b(data).hexdigest())
    return repr(found)  # by repr, NaN equals itself


def _to_plain(value: Any) -> Any:  # noqa: ANN401  anything that is saved
    """Return a value as JSON can represent it, or as an array."""
    kind = _kind(value)
    if kind == "numpy":
        return np.array(value)
    if kind == "tensor":
        return np.array(keras.ops.convert_to_numpy(value))
    if kind == "torch.Generator":
        return value.get_state().numpy().copy()
    if kind == "numpy.Generator":
        return _listed(value.bit_generator.state)
    if kind == "random.Random":
        return _listed(value.getstate())
    return _listed(value)


def _listed(value: Any) -> Any:  # noqa: ANN401  JSON, nearly
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return [_listed(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _to_kind(kind: str, value: Any) -> Any:  # noqa: ANN401  anything that is saved
    """Return a saved value in its original type; a generator must exist to be set."""
    if kind.endswith(("Generator", "Random")):
        raise TypeError(f"no {kind} exists whose state could be set")
    return keras.ops.convert_to_tensor(value) if kind == "tensor" else value


def _put_at(place: Place, kind: str, value: Any) -> None:  # noqa: ANN401  anything that is saved
    """Assign a saved value at a place, in its existing memory if it has any."""
    found = place.value
    if _kind(found) != kind:
        place.put(_to_kind(kind, value))
    elif kind == "torch.Generator":
        found.set_state(sys.modules["torch"].from_numpy(value))
    elif kind == "numpy.Generator":
        found.bit_generator.state = value
    elif kind == "random.Random":
        version, numbers, spare = value
        found.setstate((version, tuple(numbers), spare))
    elif kind == "numpy" and found.shape == value.shape and found.flags.writeable:
        found[...] = value
    elif kind == "tensor" and not _copy_into(found, value):
        place.put(_to_kind(kind, value))
    elif kind == "numpy":
        place.put(value[()])  # a scalar stays a scalar
    elif kind == "plain":
        _put_plain(place, value)


def _copy_into(tensor: Any, value: np.ndarray) -> bool:  # noqa: ANN401  a backend's
    """Write into a PyTorch tensor; return whether that was possible."""
    if keras.backend.backend() != "torch" or tuple(tensor.shape) != value.shape:
        return False
    like = keras.ops.convert_to_tensor(value)
    tensor.detach().copy_(like)
    return True


def _put_plain(place: Place, value: Any) -> None:  # noqa: ANN401  JSON
    found = place.value
    if isinstance(found, deque):
        found.clear()
        found.extend(value)
    elif isinstance(found, list) and isinstance(value, list):
        found[:] = value
    elif isinstance(found, dict) and isinstance(value, Mapping):
        found.clear()
        found.update(value)
    else:
        place.put(tuple(value) if isinstance(found, tuple) and value is not None else value)


def _plain_key(key: Any) -> Any:  # noqa: ANN401  of a mapping
    return key if isinstance(key, str | int) else str(key)
