"""Walk over everything reachable from a model, under names reproducible in the next process.

`model.variables` lists what Keras tracks: layers, and variables in attributes. A step can change
more: a second optimizer, a metric in a dict, the closure of a loss function.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, final

import keras

# Internal objects of Keras and the backends are skipped, except for variables.
_FRAMEWORKS: Final = frozenset(
    {
        *("keras", "tensorflow", "tensorflow_probability", "torch", "torchvision", "jax", "jaxlib"),
        *("flax", "numpy", "ml_dtypes", "h5py", "kerash5", "absl", "google", "rich"),
    }
)
_KERAS: Final = (
    keras.Layer,
    keras.Metric,
    keras.Loss,
    keras.Optimizer,
    keras.Regularizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.constraints.Constraint,
    keras.random.SeedGenerator,
)
# On PyTorch, a Keras layer has its variables a second time, as parameters.
_SEEN_ELSEWHERE: Final = frozenset({"_parameters", "_buffers", "_modules", "_torch_params"})
_PLAIN: Final = frozenset({bool, int, float, str, type(None)})
# Attributes that make up Python's own callables.
_INNER: Final = {
    types.MethodType: ("__self__", "__func__"),
    functools.partial: ("func", "args", "keywords"),
}
_MAX_DEPTH: Final = 8  # of nested containers of numbers and text


@final
@dataclass(frozen=True, slots=True)
class Place:
    """An object reachable from a model, and where it is stored.

    Args:
        name: Path from the model, such as "o2._variables[0]".
        holder: The object that contains it.
        holder_name: Path of `holder`.
        key: Attribute, index or key in `holder`.
        value: The object.
        is_own: Whether the user's code stored it there, rather than Keras.
    """

    name: str
    holder: Any
    holder_name: str
    key: Any
    value: Any
    is_own: bool

    def put(self, value: object) -> None:
        """Replace the object by another value.

        Raises:
            TypeError, AttributeError, IndexError: The holder does not allow it.
        """
        put(self.holder, self.key, value)


def put(holder: Any, key: Any, value: object) -> None:  # noqa: ANN401  whatever can hold something
    """Assign a value to a key of a container, or to an attribute of an object.

    Raises:
        TypeError, AttributeError, IndexError: The holder does not allow it.
    """
    if isinstance(holder, list) and key == len(holder):
        holder.append(value)
    elif isinstance(holder, MutableMapping | list | deque):
        holder[key] = value
    elif isinstance(holder, tuple):
        raise TypeError("a tuple cannot be changed")
    elif isinstance(holder, types.FunctionType):
        holder.__globals__[key] = value
    else:
        setattr(holder, key, value)


def walk(model: keras.Model) -> Iterator[Place]:
    """Yield everything reachable from a model, each object once, breadth first.

    Modules and classes are not entered, and neither are objects of the frameworks, except Keras
    objects that have variables.
    """
    seen = {id(model)}
    kept: list[Any] = []  # keeps objects that are created on access alive, so that ids stay unique
    waiting = deque([(model, "", True)])
    while waiting:
        holder, name, is_own = waiting.popleft()
        for key, part, value in _parts(holder):
            is_theirs = not _is_container(holder) and _is_theirs(holder, key)
            place = Place(
                f"{name}{part}".lstrip("."), holder, name, key, value, is_own and not is_theirs
            )
            if is_plain(value):
                yield place
            elif id(value) not in seen:
                seen.add(id(value))
                kept.append(value)
                yield place
                if _is_entered(value):
                    waiting.append((value, place.name, place.is_own or not _is_container(value)))


def is_plain(value: object, depth: int = _MAX_DEPTH) -> bool:
    """Return whether a value is a number or text, or a container of only these."""
    if type(value) in _PLAIN:
        return True
    if depth == 0:
        return False
    if isinstance(value, list | tuple | deque):
        return all(type(item) in _PLAIN or is_plain(item, depth - 1) for item in value)
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and is_plain(list(value.values()), depth - 1)
    return False


def is_foreign(kind: type) -> bool:
    """Return whether a class belongs to neither a framework nor Python."""
    return _is_foreign_module(kind.__module__)


def is_foreign_function(function: types.FunctionType) -> bool:
    """Return whether a function belongs to neither a framework nor Python."""
    return _is_foreign_module(function.__module__ or "")


def _is_foreign_module(name: str) -> bool:
    root = name.partition(".")[0]
    known = root in _FRAMEWORKS or root in sys.stdlib_module_names
    return root == "__main__" or not known


@functools.cache
def framework_names(kind: type) -> frozenset[str]:
    """Return the attributes that methods of a class assign, excluding methods of users."""
    bases = [base for base in kind.__mro__ if not is_foreign(base)]
    functions = [each for base in bases for each in _functions(base)]
    return frozenset(
        name for function in functions for name in _names(function.__code__, "STORE_ATTR")
    )


def _functions(kind: type) -> Iterator[types.FunctionType]:
    for value in list(vars(kind).values()):
        found = value.fget if isinstance(value, property) else value
        found = getattr(found, "__func__", found)
        if isinstance(found, types.FunctionType):
            yield inspect.unwrap(found)


@functools.cache
def _names(code: types.CodeType, operation: str) -> tuple[str, ...]:
    """Return the names that a function and its nested functions use in one kind of instruction."""
    found = [each.argval for each in dis.get_instructions(code) if each.opname == operation]
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return tuple(
        dict.fromkeys([*found, *(name for part in inner for name in _names(part, operation))])
    )


def _is_theirs(holder: object, key: str) -> bool:
    """Return whether a framework assigned this attribute of an object."""
    is_wrapped = _is_torch_module(holder) and not isinstance(holder, keras.Layer)
    kind: Any = type(holder)  # mypy does not know that it is hashable
    return key in framework_names(kind) and not (is_wrapped and key in _SEEN_ELSEWHERE)


def _slots(kind: type) -> tuple[str, ...]:
    names = vars(kind).get("__slots__", ()) if is_foreign(kind) else ()
    return (names,) if isinstance(names, str) else tuple(names)


def _is_container(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple | deque)


def _is_entered(value: Any) -> bool:  # noqa: ANN401  anything
    if isinstance(value, keras.Variable | type | types.ModuleType):
        return False
    if _is_container(value) or isinstance(value, (*_KERAS, types.CellType, functools.partial)):
        return True
    if isinstance(value, types.MethodType):
        return _is_entered(value.__self__) or _is_entered(value.__func__)
    if isinstance(value, types.FunctionType):
        return is_foreign_function(value)
    return is_foreign(type(value)) or _is_torch_module(value)


def _is_torch_module(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _parts(holder: Any) -> Iterable[tuple[Any, str, Any]]:  # noqa: ANN401  anything entered
    """Return the contents of an object as (key, suffix of the name, value)."""
    if isinstance(holder, Mapping):
        return [
            # The repr of an object may include its address, which differs in the next process.
            (key, f"[{key!r}]" if isinstance(key, str | int) else f"[#{place}]", value)
            for place, (key, value) in enumerate(list(holder.items()))
        ]
    if isinstance(holder, list | tuple | deque):
        return [(place, f"[{place}]", value) for place, value in enumerate(holder)]
    if isinstance(holder, types.CellType):
        return _parts_of_cell(holder)
    for kind, names in _INNER.items():
        if isinstance(holder, kind):
            return [(name, f".{name}", getattr(holder, name)) for name in names]
    if isinstance(holder, types.FunctionType):
        return _parts_of_function(holder)
    return _parts_of_object(holder)


def _parts_of_object(holder: Any) -> list[tuple[Any, str, Any]]:  # noqa: ANN401  a user's, or Keras'
    skipped = _SEEN_ELSEWHERE if isinstance(holder, keras.Layer) else frozenset()
    slots = [name for base in type(holder).__mro__ for name in _slots(base)]
    found = {name: getattr(holder, name) for name in slots if hasattr(holder, name)}
    found |= getattr(holder, "__dict__", {})
    parts = [(name, f".{name}", value) for name, value in found.items() if name not in skipped]
    return [*parts, *_parts_of_class(type(holder))]


def _parts_of_cell(cell: types.CellType) -> list[tuple[Any, str, Any]]:
    try:
        return [("cell_contents", "", cell.cell_contents)]
    except ValueError:  # the variable has no value yet
        return []


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[Any, str, Any]]:
    """Yield what a function refers to: its closure, its defaults, and globals by name."""
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        yield name, f".{name}", cell
    for name in ("__defaults__", "__kwdefaults__", "__wrapped__"):
        if (value := getattr(function, name, None)) is not None:
            yield name, f".{name}", value
    for name in _names(function.__code__, "LOAD_GLOBAL"):
        if name in function.__globals__:
            yield name, f".{name}", function.__globals__[name]


def _parts_of_class(kind: type) -> Iterator[tuple[Any, str, Any]]:
    """Yield the methods that the user has written, and class attributes."""
    for base in filter(is_foreign, kind.__mro__):
        for function in _functions(base):
            yield function.__name__, f".{function.__name__}", function
        for name, value in list(vars(base).items()):
            is_data = not name.startswith("__") and not hasattr(type(value), "__get__")
            if is_data and not is_plain(value):
                yield name, f".{name}", value
