"""Checks of a model before the first step.

They find an uncompiled model, shapes that do not fit, and similar errors. Labels are checked in
`feeds._keras_labels`, which Keras' `fit` uses as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import keras

from kerash5._errors import RunError, ShapeError
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._served import served_by
from kerash5.train.engines.common._logs import flatten_logs
from kerash5.train.loop._best import describe_array_monitor
from kerash5.train.state._outside import find_optimizers

POLICIES: Final = {
    "float32": "float32",
    "bf16-mixed": "mixed_bfloat16",
    "16-mixed": "mixed_float16",
}


def check_compiled(model: keras.Model) -> None:
    """Raise `RunError` if the model is not compiled."""
    if not model.compiled:
        raise RunError(
            f"model {model.name!r} is not compiled; call model.compile(optimizer='adam', loss=...) "
            "first, or take one of kerash5.zoo"
        )
    if model.optimizer is None and keras.backend.backend() == "jax":
        raise RunError(
            f"model {model.name!r} was compiled with optimizer=None, and a step on JAX takes the "
            "variables of an optimizer; give compile the one that train_step uses"
        )


def check_single_optimizer(model: keras.Model, what: str) -> None:
    """Raise `RunError` if `model.optimizer` is not the only optimizer of the model.

    Args:
        model: A compiled model.
        what: The option that works only with `model.optimizer`, for the message.
    """
    names = find_optimizers(model)
    others = [name for name in names if name.partition(".")[0] != "optimizer"]
    if others or model.optimizer is None:
        found = f"has further optimizers ({', '.join(others)})" if others else "has none"
        raise RunError(
            f"{what} acts on model.optimizer alone, and model {model.name!r} {found}; set it on "
            "the optimizers that train_step uses"
        )


def check_monitor_known(monitor: str, names: Iterable[str]) -> None:
    """Raise `RunError` if the model does not report the monitored metric.

    Args:
        monitor: The monitor, as given to the trainer.
        names: Names of all metrics.
    """
    known = sorted(names)
    if monitor not in known:
        raise RunError(
            f"monitor={monitor!r} is no metric of this run; there are {', '.join(map(repr, known))}"
        )


def check_precision(model: keras.Model, precision: str | None) -> None:
    """Raise `RunError` if the model was not built for this precision.

    Keras fixes the precision when a layer is created.
    """
    if precision is None:
        return
    wanted = POLICIES[precision]
    found = {layer.dtype_policy.name for layer in model.layers if layer.weights}
    if found and wanted not in found:
        raise RunError(
            f"precision={precision!r} needs a model built under "
            f"keras.config.set_dtype_policy({wanted!r}); model {model.name!r} was built as "
            f"{', '.join(sorted(found))}"
        )


def check_monitor(monitor: str, *, is_validated: bool) -> None:
    """Raise `RunError` if the monitor is a validation metric, but there is no validation."""
    if monitor.startswith("val_") and not is_validated:
        raise RunError(
            f"monitor={monitor!r} needs validation data; give H5DataModule validation_split=0.2, "
            f"or monitor {monitor.removeprefix('val_')!r}"
        )


def check_scalar_monitor(model: keras.Model, monitor: str) -> None:
    """Raise `RunError` if the monitored metric is an array.

    This checks metrics of Keras' own steps. Those of a model's own train_step are known only after
    an epoch.

    Args:
        model: A model with built metrics.
        monitor: The name of the metric.
    """
    is_validated = monitor.startswith("val_")
    step = "test_step" if is_validated else "train_step"
    if any(_is_own(model, name) for name in (step, "compute_metrics", "get_metrics_result")):
        return
    name = monitor.removeprefix("val_")
    if name == "loss":
        return
    value = flatten_logs(model.get_metrics_result()).get(name, 0.0)
    if math.prod(getattr(value, "shape", ())) != 1:
        raise RunError(describe_array_monitor(monitor))


def _is_own(model: keras.Model, method: str) -> bool:
    return getattr(type(model), method) is not getattr(keras.Model, method)


def check_shapes(model: keras.Model, data: H5Dataset) -> None:
    """Raise `ShapeError` if rows of x do not fit the model's input; the message has both shapes.

    Only models with one input of known shape are checked; other models raise their own errors when
    called. Transformed rows are not checked here.
    """
    wanted = _parse_shape(getattr(model, "input_shape", None)) if model.built else None
    found = None if served_by(data).is_transformed else _parse_shape(data.input_shape)
    if wanted is None or found is None:
        return
    row = wanted[1:]
    if len(row) == len(found) and all(a is None or a == b for a, b in zip(row, found, strict=True)):
        return
    raise ShapeError(
        f"model {model.name!r} takes rows of shape {row} and the data have rows of shape {found}; "
        f"{_shape_cure(data, row, found)}"
    )


def _shape_cure(data: H5Dataset, row: tuple[int | None, ...], found: tuple[int | None, ...]) -> str:
    known = math.prod(length for length in row if length is not None)
    total = math.prod(length for length in found if length is not None)
    free = row.count(None)
    fits = known == total if not free else free == 1 and known > 0 and total % known == 0
    if fits:
        shape = tuple(total // known if length is None else length for length in row)
        return f"x=Column({served_by(data).column_path('x')!r}, shape={shape}) would fit"
    return f"build the model with input_shape={found}"


def _parse_shape(value: object) -> tuple[int | None, ...] | None:
    """Return a shape as a tuple; None for the nested shapes of a model with several inputs."""
    if isinstance(value, tuple) and all(isinstance(part, int | None) for part in value):
        return value
    return None
