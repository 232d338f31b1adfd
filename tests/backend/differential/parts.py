"""What a compiled model is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import keras

_PARTS: Final = (
    keras.layers.Layer,
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
)
_SEEN_THROUGH: Final = (list, tuple, set, Mapping)
# Python that decides nothing in a step: the graph of a functional model, and PyTorch's registries.
_SKIPPED: Final = frozenset({"_inbound_nodes", "_outbound_nodes", "_parameters", "_torch_params"})


def kinds_of_parts(model: keras.Model) -> list[str]:
    """Return the path of every class and function that PyTorch's engine looks at, sorted."""
    if keras.backend.backend() != "torch":
        return []
    from kerash5.train.engines.torch._torch_parts import read_parts

    return sorted(read_parts(model).kinds)


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
        elif isinstance(thing, keras.Variable):
            waiting.extend((thing.regularizer, thing.constraint))
        elif _is_part(thing):
            yield thing
            waiting.extend(value for key, value in _state(thing).items() if key not in _SKIPPED)


def _is_part(thing: Any) -> bool:
    return isinstance(thing, _PARTS) or type(thing).__module__.startswith(
        ("keras.src.trainers", "keras.src.backend.common.stateless")
    )


def _state(thing: Any) -> dict[str, Any]:
    return dict(vars(thing)) if hasattr(thing, "__dict__") else {}
