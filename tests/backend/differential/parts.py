"""What a compiled model is made of: the exact classes of all that takes part in a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any, Final

import keras

GROUPS: Final[Mapping[str, type]] = {
    "layers": keras.layers.Layer,
    "losses": keras.losses.Loss,
    "metrics": keras.metrics.Metric,
    "optimizers": keras.optimizers.Optimizer,
    "schedules": keras.optimizers.schedules.LearningRateSchedule,
    "regularizers": keras.regularizers.Regularizer,
    "constraints": keras.constraints.Constraint,
    "initializers": keras.initializers.Initializer,
    "policies": keras.DTypePolicy,
}
_SEEN_THROUGH: Final = (list, tuple, set, Mapping)
# Python that decides nothing in a step: the graph of a functional model, and PyTorch's registries.
_SKIPPED: Final = frozenset({"_inbound_nodes", "_outbound_nodes", "_parameters", "_torch_params"})


def class_path(kind: type | FunctionType) -> str:
    """Return the module and name that a class or function was defined with."""
    return f"{kind.__module__}.{kind.__qualname__}"


def find_parts(model: keras.Model) -> dict[str, list[str]]:
    """Return the class paths of all parts by group, sorted; activations are functions."""
    found: dict[str, set[str]] = {name: set() for name in (*GROUPS, "activations")}
    for part in walk(model):
        if isinstance(part, FunctionType):
            found["activations"].add(class_path(part))
        for name, kind in GROUPS.items():
            if isinstance(part, kind):
                found[name].add(class_path(type(part)))
    return {name: sorted(paths) for name, paths in found.items()}


def walk(model: keras.Model) -> Iterator[Any]:
    """Yield every layer, loss, metric, optimizer and the like that a model holds, once each."""
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Mapping):
            waiting.extend(thing.values())
        elif isinstance(thing, _SEEN_THROUGH):
            waiting.extend(thing)
        elif isinstance(thing, FunctionType):
            if thing.__module__.startswith("keras.src.activations"):
                yield thing
        elif isinstance(thing, keras.Variable):
            waiting.extend((thing.regularizer, thing.constraint))
        elif _is_part(thing):
            yield thing
            waiting.extend(value for key, value in _state(thing).items() if key not in _SKIPPED)


def _is_part(thing: Any) -> bool:
    return isinstance(thing, tuple(GROUPS.values())) or type(thing).__module__.startswith(
        ("keras.src.trainers", "keras.src.backend.common.stateless")
    )


def _state(thing: Any) -> dict[str, Any]:
    return dict(vars(thing)) if hasattr(thing, "__dict__") else {}
