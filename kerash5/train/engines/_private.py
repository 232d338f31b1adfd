"""All that the engines use of Keras and PyTorch without a promise that it stays.

Each function here first looks whether what it wants is there, and has a plain way where it is not;
the tests force both. Nothing else in this room may name what begins with an underscore there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any, Final

import keras

from kerash5._batches import Batch

_BUILD: Final = "_symbolic_build"


def build_variables(model: keras.Model, batch: Batch) -> None:
    """Make every variable of a compiled model, its metrics and its optimizer. Runs no step."""
    build = getattr(model, _BUILD, None)
    if build is not None:
        padded = (*batch, None, None)[:3]
        build(data_batch=padded)
    else:  # the public way: costs a compilation of the test step
        with restored_metrics(model):
            model.test_on_batch(*batch)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


@contextmanager
def restored_metrics(model: keras.Model) -> Iterator[None]:
    """Leave the metrics' variables as they were."""
    kept = [(variable, keras.ops.copy(variable)) for variable in model.metrics_variables]
    try:
        yield
    finally:
        model.reset_metrics()
        for variable, value in kept:
            variable.assign(value)


@contextmanager
def running_metrics(model: keras.Model) -> Iterator[None]:
    """Keep `train_on_batch` from beginning the averages anew at each batch.

    It calls the public `reset_metrics` of the model, for which an instance may have its own.
    """
    vars(model)["reset_metrics"] = lambda: None
    try:
        yield
    finally:
        del vars(model)["reset_metrics"]


_ADAM_PARTS: Final = ("_parallel_update_step", "_get_variable_index", "_momentums", "_velocities")


def why_not_fused_adam(optimizer: keras.Optimizer) -> str | None:
    """Say why PyTorch's own fused update cannot take the place of this optimizer's.

    A subclass may compute something else, so it has to be Keras' own Adam or AdamW.
    """
    import torch

    if type(optimizer) not in _adam_types():
        return f"the optimizer is {type(optimizer).__name__}, not Adam or AdamW"
    if not hasattr(torch, "_fused_adam_"):
        return f"torch {torch.__version__} has no fused Adam"
    missing = [name for name in _ADAM_PARTS if not hasattr(optimizer, name)]
    if missing:
        return f"Adam of Keras {keras.__version__} has no {missing[0]}"
    return None


@cache
def _adam_types() -> set[type]:
    """Return what Keras makes of an Adam: on PyTorch a class of its own."""
    return {type(keras.optimizers.Adam()), type(keras.optimizers.AdamW())}


@contextmanager
def fused_adam(optimizer: keras.Optimizer) -> Iterator[None]:
    """Update by PyTorch's fused Adam in here, where `why_not_fused_adam` allows it.

    Only the innermost update is replaced: clipping, decay, averages and schedules stay Keras' own,
    and the slots are the same.
    """
    if why_not_fused_adam(optimizer) is not None:
        yield
        return
    vars(optimizer)["_parallel_update_step"] = _fused_update(optimizer)
    try:
        yield
    finally:
        del vars(optimizer)["_parallel_update_step"]


def _fused_update(optimizer: Any) -> Callable[..., None]:  # noqa: ANN401  an Adam
    import torch

    # After so many steps the kernel's own bias correction is 1; Keras' is in the rate it is given.
    many: list[torch.Tensor] = []
    plain, place_of, *slots_of = (getattr(optimizer, name) for name in _ADAM_PARTS)
    hats = getattr(optimizer, "_velocity_hats", [])

    def update(gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:  # noqa: ANN401
        values = [variable.value for variable in variables]
        places = [place_of(variable) for variable in variables]
        slots = [[slot[place].value for place in places] for slot in slots_of]
        largest = [hats[place].value for place in places] if optimizer.amsgrad else []
        if not all(tensor.is_contiguous() for tensor in [*values, *chain(*slots), *largest]):
            plain(gradients, variables, learning_rate)
            return
        if not many:
            many.append(torch.full((), 1e9, device=values[0].device))
        torch._fused_adam_(
            values,
            # The kernel looks at memory alone, and a convolution's gradient is stored transposed.
            [gradient.contiguous() for gradient in gradients],
            *slots,
            largest,
            many * len(values),
            lr=_corrected_rate(optimizer, learning_rate, values[0].dtype),
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            weight_decay=0.0,
            eps=optimizer.epsilon,
            amsgrad=optimizer.amsgrad,
            maximize=False,
        )

    return update


def _corrected_rate(optimizer: Any, learning_rate: Any, dtype: Any) -> Any:  # noqa: ANN401  tensors
    """Return the learning rate as Keras' update corrects it for the first steps."""
    ops = keras.ops
    step = ops.cast(optimizer.iterations + 1, dtype)
    first = ops.power(ops.cast(optimizer.beta_1, dtype), step)
    second = ops.power(ops.cast(optimizer.beta_2, dtype), step)
    return ops.cast(learning_rate, dtype) * ops.sqrt(1 - second) / (1 - first)
