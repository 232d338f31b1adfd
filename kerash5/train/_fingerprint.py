"""What must be equal for a checkpoint to be the state of this very fit; what differs, in words."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import keras
import numpy as np

from kerash5.feeds._keras import H5Dataset
from kerash5.train._limits import Limits
from kerash5.train._outside import GROUP as OTHER
from kerash5.train._outside import find_optimizers
from kerash5.train._state import ModelState, variables_of
from kerash5.train.engines._weights import ClassWeight

_SAMPLE_ROWS: Final = 16
_MAX_NAMED: Final = 3  # differences in a message
# Training changes these, so they say nothing about what was asked for.
_PLAIN: Final = (int, float, str, type(None))
_OPTIMIZER_STATE: Final = frozenset({"name", "learning_rate"})


def fingerprint(
    current: ModelState, train: H5Dataset, limits: Limits, class_weight: ClassWeight | None
) -> dict[str, Any]:
    """Return the fingerprint of a fit, as JSON has it.

    Args:
        current: The model, compiled and built.
        train: What it is trained on. A few rows are read.
        limits: Of them, what decides which batches come.
        class_weight: As in `fit`.
    """
    found = {
        "backend": keras.backend.backend(),
        "data": {**train.fingerprint(), "rows": _sample(train)},
        "steps_per_epoch": limits.steps_per_epoch(len(train)),
        "is_overfitting": limits.overfit_batches is not None,
        "class_weight": [[str(label), weight] for label, weight in (class_weight or {}).items()],
        "model": _describe_model(current),
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401  JSON
    """Yield in words where two fingerprints differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from differences(was, now, f"{name}[{number}]")
    elif old != new:
        yield f"{name} was {reprlib.repr(old)} and is {reprlib.repr(new)}"


def name_differences(found: list[str]) -> str:
    """Return the first few differences as a phrase."""
    more = len(found) - _MAX_NAMED
    return "; ".join(found[:_MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _sample(train: H5Dataset) -> str:
    """Return a digest of a few rows: a file that was written anew may have its old size."""
    places = np.linspace(0, len(train.source) - 1, _SAMPLE_ROWS).astype(np.int64)
    digest = hashlib.sha256()
    for name, rows in sorted(train.source.read(np.unique(places)).items()):
        digest.update(f"{name} {rows.dtype} {rows.shape}".encode())
        digest.update(np.asarray(rows, order="C").tobytes())
    return digest.hexdigest()[:16]


def _describe_model(current: ModelState) -> dict[str, Any]:
    model = current.model
    found = {
        "layers": _describe_layers(model),
        "variables": {
            group: [
                [_kind(variable), list(variable.shape), str(variable.dtype)] for variable in them
            ]
            for group, them in variables_of(model).items()
        },
        "optimizer": _describe_optimizer(model.optimizer),
        "loss": _name_loss(model.loss),
    }
    # A further optimizer may make its slots with its first step.
    slots = {id(slot) for each in find_optimizers(model).values() for slot in each.variables}
    others = {
        name: [list(variable.shape), str(variable.dtype)]
        for name, variable in current.variables().items()
        if name.startswith(f"{OTHER}/") and id(variable) not in slots
    }
    optimizers = {
        name: _describe_optimizer(each)
        for name, each in find_optimizers(model).items()
        if name.partition(".")[0] != "optimizer"  # and the one that a loss scale has within
    }
    # Only where there are such: checkpoints of before they were saved fit all other models.
    return (
        found
        | ({"others": others} if others else {})
        | ({"optimizers": optimizers} if optimizers else {})
    )


def _describe_optimizer(optimizer: Any) -> Any:  # noqa: ANN401  Keras', or None
    if optimizer is None:
        return None
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    try:
        config = inner.get_config()
    except (TypeError, NotImplementedError):  # it, or its schedule, has no get_config of its own
        settings = {key: value for key, value in vars(inner).items() if not key.startswith("_")}
        config = {key: value for key, value in settings.items() if isinstance(value, _PLAIN)}
    kept = {
        key: value
        for key, value in config.items()
        if key not in _OPTIMIZER_STATE or isinstance(value, Mapping)  # a schedule is no state
    }
    return {"kind": type(optimizer).__name__, **kept}


def _kind(variable: Any) -> str:  # noqa: ANN401  Keras'
    """Return "kernel" or "momentum": a whole name has the layer's in it, which Keras counts up."""
    return str(variable.name).rpartition("_")[2]


def _describe_layers(model: keras.Model) -> Any:  # noqa: ANN401  JSON
    """Return the model's configuration without the names that Keras counts up; else kinds."""
    try:
        config = json.loads(model.to_json())["config"]
    except (TypeError, ValueError, NotImplementedError, KeyError):
        return [type(layer).__name__ for layer in model.layers]
    names: dict[str, str] = {}
    _number_names(config, names)
    return _replace_names(config, names)


def _number_names(config: Any, names: dict[str, str]) -> None:  # noqa: ANN401  JSON
    if isinstance(config, Mapping):
        name = config.get("name")
        if isinstance(name, str):
            names.setdefault(name, f"#{len(names)}")
        for value in config.values():
            _number_names(value, names)
    elif isinstance(config, list):
        for value in config:
            _number_names(value, names)


def _replace_names(config: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401  JSON
    if isinstance(config, Mapping):
        return {key: _replace_names(value, names) for key, value in config.items()}
    if isinstance(config, list):
        return [_replace_names(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config


def _name_loss(loss: Any) -> Any:  # noqa: ANN401  whatever `compile` takes
    if isinstance(loss, Mapping):
        return {key: _name_loss(part) for key, part in loss.items()}
    if isinstance(loss, list | tuple):
        return [_name_loss(part) for part in loss]
    return (
        loss
        if loss is None or isinstance(loss, str)
        else getattr(loss, "name", None) or str(getattr(loss, "__name__", type(loss).__name__))
    )
