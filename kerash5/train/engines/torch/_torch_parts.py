"""PyTorch: the parts of a training step, and all values in them that it can read from Python.

`read_parts` walks the attributes of a compiled model: layers, loss, metrics, optimizer, schedules,
regularizers, constraints, dtype policies, and their variables. Nothing here runs a step.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import is_, itemgetter
from typing import Any, Final, final

import keras
import numpy as np
import torch

from kerash5.train.engines.common._private import has_hooks, version_of

# Internal attributes of Keras, callbacks or PyTorch; no stock step reads them.
_SKIPPED: Final = frozenset(
    {
        *("_tracker", "_auto_config", "_compile_config", "_compiled_trainable_state", "_lock"),
        *("train_function", "test_function", "predict_function", "history", "stop_training"),
        *("stop_evaluating", "stop_predicting", "_initial_epoch", "_called", "_call_signature"),
        "_eval_epoch_iterator",
        *("_losses", "_loss_ids", "_losses_override", "_build_shapes_dict", "_torch_params"),
        *("_inbound_nodes", "_outbound_nodes", "_keras_history", "_y_pred_build_structure"),
        *("_y_true_build_structure", "training", "_saved_model_inputs_spec", "_is_graph_network"),
    }
)
# Methods that Keras itself replaces on every layer instance.
_WRAPPED: Final = frozenset({"build", "quantize"})
_PLAIN: Final = (type(None), bool, int, str, bytes, complex, type(Ellipsis), slice, range)
_OPAQUE: Final = (torch.dtype, torch.device, torch.Size, np.dtype, types.ModuleType, type)
_MAX_ARRAY_BYTES: Final = 1 << 16  # comparing a larger one before each dispatch takes too long
# A dict, its length, a getter of some of its values, and these values.
_State = tuple[Mapping[str, Any], int, Callable[[Mapping[Any, Any]], tuple[Any, ...]], Any]


@final
class Parts:
    """The result of a walk through a model; made by `read_parts`.

    Attributes:
        kinds: Maps the path of a class or function to where it was first found, in order.
        variables: Every Keras variable, in the order of the walk.
        tokens: All values read from Python, as a flat list; equal lists mean that nothing changed
            that a captured step could depend on.
        obstacle: A sentence on what cannot be watched or was replaced by the user; None if nothing.
    """

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.variables: list[keras.Variable] = []
        self.tokens: list[Any] = []
        self.obstacle: str | None = None
        self._empty: list[Collection[Any]] = []
        self._sequences: list[tuple[Collection[Any], tuple[Any, ...]]] = []
        self._states: list[_State] = []
        self._tensors: list[tuple[torch.Tensor, int]] = []
        self._arrays: list[tuple[np.ndarray, bytes]] = []
        self._globals = _read_globals()

    def is_current(self) -> bool:
        """Return whether every attribute still refers to the same object as in the walk.

        May be False if a new object has an equal value; then compare `tokens` of another walk.
        """
        if any(self._empty) or self._globals != _read_globals():
            return False
        try:
            if not all(map(_is_state, self._states)):
                return False
        except KeyError:  # an attribute was deleted
            return False
        for sequence, members in self._sequences:
            if len(sequence) != len(members) or not all(map(is_, sequence, members)):
                return False
        has_tensors = all(version_of(tensor) == version for tensor, version in self._tensors)
        return has_tensors and all(array.tobytes() == each for array, each in self._arrays)

    def watch_sequence(self, members: Collection[Any]) -> None:
        """Make `is_current` compare the members of a collection, or the keys of a dict."""
        if members:
            self._sequences.append((members, tuple(members)))
        elif not isinstance(members, tuple):
            self._empty.append(members)

    def watch_state(self, state: Mapping[str, Any], names: Sequence[str]) -> None:
        """Make `is_current` compare the values of these names, and the number of names."""
        if names:
            padded = (*names, names[0])  # for a single name `itemgetter` returns no tuple
            get = itemgetter(*padded)
            self._states.append((state, len(state), get, get(state)))

    def watch_tensor(self, tensor: torch.Tensor) -> None:
        """Make `is_current` check whether a tensor was written to."""
        self._tensors.append((tensor, version_of(tensor)))

    def watch_array(self, array: np.ndarray) -> bytes:
        """Make `is_current` compare the bytes of an array; return them."""
        content = array.tobytes()
        self._arrays.append((array, content))
        return content


def _is_state(state: _State) -> bool:
    mapping, length, get, values = state
    return len(mapping) == length and all(map(is_, get(mapping), values))


def read_parts(model: keras.Model) -> Parts:
    """Walk through a compiled model and return its parts."""
    walk = _Walk()
    walk.visit(model, "model")
    return walk.parts


def kind_of(value: Any) -> str:  # noqa: ANN401  a class or function
    """Return the path of a class or function, such as "keras.src.losses.losses.mse"."""
    return f"{value.__module__}.{value.__qualname__}"


@final
class _Walk:
    """One walk: visits each object once, attributes in insertion order."""

    def __init__(self) -> None:
        self.parts = Parts()
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # keeps ids unique during the walk
        functions = (types.FunctionType, types.BuiltinFunctionType)
        self._visitors: list[tuple[Any, Callable[[Any, str], None]]] = [
            (keras.Variable, self._visit_variable),
            (torch.Tensor, self._visit_tensor),
            (np.ndarray, self._visit_array),
            ((list, tuple, deque), self._visit_sequence),
            ((set, frozenset), self._visit_set),
            (dict, self._visit_dict),
            (functools.partial, self._visit_partial),
            (types.MethodType, self._visit_method),
            (functions, self._visit_function),
            (keras.KerasTensor, self._visit_symbol),
        ]

    def visit(self, value: Any, where: str) -> None:  # noqa: ANN401  anything
        """Record a value and its contents."""
        tokens, kind = self.parts.tokens, type(value)
        if kind is float or isinstance(value, np.generic):
            tokens.append((kind.__name__, repr(value)))
        elif kind in _PLAIN or isinstance(value, _OPAQUE):
            tokens.append((kind.__name__, value))
        elif id(value) in self._seen:
            tokens.append(("again", self._seen[id(value)]))
        else:
            self._seen[id(value)] = len(self._seen)
            self._alive.append(value)
            self._visit_new(value, where)

    def _visit_new(self, value: Any, where: str) -> None:  # noqa: ANN401  anything
        for kinds, visit in self._visitors:
            if isinstance(value, kinds):
                visit(value, where)
                return
        self._visit_object(value, where)

    def _visit_symbol(self, symbol: keras.KerasTensor, _: str) -> None:
        self.parts.tokens.append(("KerasTensor", symbol.shape, str(symbol.dtype)))

    def _visit_tensor(self, tensor: torch.Tensor, _: str) -> None:
        self.parts.watch_tensor(tensor)
        self.parts.tokens.append(("tensor", id(tensor), version_of(tensor), tensor.shape))

    def _visit_partial(self, partial: Any, where: str) -> None:  # noqa: ANN401  a partial
        self._visit_sequence((partial.func, partial.args, partial.keywords), where)

    def _visit_method(self, method: types.MethodType, where: str) -> None:
        self._visit_sequence((method.__func__, method.__self__), where)

    def _visit_variable(self, variable: keras.Variable, where: str) -> None:
        self._note(type(variable), where)
        self.parts.variables.append(variable)
        value = variable.value
        if has_hooks(value):
            self._object_to(f"{where} has a hook on its gradient")
        self.parts.tokens.append((tuple(value.shape), str(value.dtype), str(value.device)))
        state = vars(variable)
        held = {name: each for name, each in state.items() if not isinstance(each, torch.Tensor)}
        self.parts.watch_state(state, tuple(state))
        self._visit_attributes(held, where)

    def _visit_array(self, array: np.ndarray, where: str) -> None:
        if array.nbytes > _MAX_ARRAY_BYTES or array.dtype.hasobject:
            self._object_to(f"{where} is a NumPy array too large to be compared before each step")
            return
        content = self.parts.watch_array(array)
        self.parts.tokens.append(("array", array.shape, str(array.dtype), content))

    def _visit_sequence(self, members: Collection[Any], where: str) -> None:
        self.parts.tokens.append((type(members).__name__, len(members)))
        self.parts.watch_sequence(members)
        for place, member in enumerate(tuple(members)):
            self.visit(member, f"{where}[{place}]")

    def _visit_set(self, members: Iterable[Any], where: str) -> None:
        # Sets are unordered, so their members are compared by repr.
        self._visit_sequence(tuple(sorted(members, key=repr)), where)

    def _visit_dict(self, mapping: Mapping[Any, Any], where: str) -> None:
        self.parts.tokens.append((type(mapping).__name__, len(mapping)))
        self.parts.watch_sequence(mapping)
        self.parts.watch_state(mapping, tuple(mapping))
        for key, value in tuple(mapping.items()):
            if key in _SKIPPED:
                continue
            self.visit(key, where)
            self.visit(value, f"{where}[{key!r}]")

    def _visit_function(self, function: Any, where: str) -> None:  # noqa: ANN401  a function
        self._note(function, where)
        self._visit_sequence(_cells_of(function), where)

    def _visit_object(self, value: Any, where: str) -> None:  # noqa: ANN401  anything
        self._note(type(value), where)
        if not is_stock(kind_of(type(value))):
            return
        state = getattr(value, "__dict__", None)
        if state is None:
            state = {name: getattr(value, name, None) for name in _slots_of(type(value))}
        held = {name: each for name, each in state.items() if not _is_skipped(name)}
        for name, each in held.items():
            if name not in _WRAPPED and callable(each) and _overrides(type(value), name):
                self._object_to(f"{where}.{name} was replaced by the user")
        names = [name for name in held if name not in _WRAPPED]
        self.parts.watch_state(state, names)
        self._visit_attributes({name: held[name] for name in names}, where)

    def _visit_attributes(self, held: Mapping[str, Any], where: str) -> None:
        for name, value in held.items():
            self.parts.tokens.append(name)
            self.visit(value, f"{where}.{name}")

    def _note(self, kind: Any, where: str) -> None:  # noqa: ANN401  a class or function
        path = kind_of(kind)
        self.parts.kinds.setdefault(path, where)
        self.parts.tokens.append(path)

    def _object_to(self, obstacle: str) -> None:
        self.parts.obstacle = self.parts.obstacle or obstacle


def is_stock(path: str) -> bool:
    """Return whether a class or function belongs to Keras."""
    return path.startswith("keras.src.")


def _is_skipped(name: str) -> bool:
    return name in _SKIPPED or name.endswith("initializer")


def _overrides(kind: type, name: str) -> bool:
    """Return whether an instance attribute hides a method of its class."""
    return callable(getattr(kind, name, None))


def _slots_of(kind: type) -> list[str]:
    slots = [getattr(each, "__slots__", ()) for each in kind.__mro__]
    return [name for some in slots for name in ([some] if isinstance(some, str) else some)]


def _cells_of(function: Any) -> tuple[Any, ...]:  # noqa: ANN401  a function
    """Return the closure and the default arguments of a function."""
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return (*cells, *(getattr(function, "__defaults__", None) or ()))


def _read_globals() -> tuple[Any, ...]:
    """Return the settings of Keras and PyTorch that affect the results of operations."""
    return (
        keras.config.floatx(),
        keras.config.epsilon(),
        keras.config.image_data_format(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.is_autocast_enabled(),
    )
