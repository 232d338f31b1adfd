"""All that the engines use of Keras and PyTorch without a promise that it stays.

Each function here first looks whether what it wants is there, and has a plain way where it is not;
the tests force both. Nothing else in `engines` may name what begins with an underscore there.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any, Final

import keras

from kerash5.batches._batches import Batch
from kerash5.train.engines.common._data import as_fit_hands

_BUILD: Final = "_symbolic_build"
_MASK: Final = "_keras_mask"
# What decides on JAX which variables a step takes and returns.
STATE_METHODS: Final = ("_get_jax_state", "jax_state_sync", "state_sync")  # the last from 3.16 on


def build_variables(model: keras.Model, batch: Batch) -> bool:
    """Make the variables of a compiled model, its metrics and its optimizer. Runs no step.

    Returns:
        Whether they are made. On TensorFlow `fit` builds nothing before it traces the step, so a
        model that only its step can build is left as it is, for the trace to build.
    """
    if keras.backend.backend() != "tensorflow":
        _build_all(model, batch)
        return True
    if not _has_call(model):
        return False
    try:
        _build_all(model, batch)
    except Exception:  # noqa: BLE001  whatever it is, tracing the step raises what `fit` raises
        return False
    return True


def _build_all(model: keras.Model, batch: Batch) -> None:
    build = getattr(model, _BUILD, None)
    if build is not None:
        padded = (*batch, None, None)[:3]
        build(data_batch=padded)
    else:  # the public way: costs a compilation of the test step
        with restored_metrics(model):
            model.test_on_batch(*batch)
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _has_call(model: keras.Model) -> bool:
    """Return whether the model has a forward pass: keras.io's GAN has none."""
    return type(model).call is not keras.Model.call


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


@contextmanager
def bare_batches(model: keras.Model) -> Iterator[None]:
    """Let `train_on_batch` hand batches to `train_step` as `fit` does: tensors, no None for no y.

    What it calls is `train_function`, whose last argument is an iterable of batches.
    """
    model.make_train_function()
    function = model.train_function

    def run(*arguments: Any) -> Any:  # noqa: ANN401  whatever a backend's function takes
        *state, batches = arguments
        found = list(map(_as_tensors, batches))
        return function(*state, found if isinstance(batches, list) else iter(found))

    model.train_function = run
    try:
        yield
    finally:
        if model.train_function is run:  # a callback may have asked for a new one
            model.train_function = function


@contextmanager
def bare_test_batches(model: keras.Model) -> Iterator[None]:
    """Let `evaluate` hand x alone to a `test_step` of the model's own as it hands an array.

    A data set of Keras can only give a tuple of one.
    """
    if type(model).test_step is keras.Model.test_step:
        yield
        return
    step = model.test_step

    def bare_step(*arguments: Any) -> Any:  # noqa: ANN401  a state on JAX, and a batch
        *state, data = arguments
        return step(*state, as_fit_hands(tuple(data)) if isinstance(data, tuple | list) else data)

    had = vars(model).get("test_step")
    vars(model)["test_step"], model.test_function = bare_step, None
    try:
        yield
    finally:
        if had is None:
            del vars(model)["test_step"]
        else:
            vars(model)["test_step"] = had
        model.test_function = None  # it has the step of before in it


def _as_tensors(batch: Batch) -> Any:  # noqa: ANN401  an array, or a tuple of trees of such
    last = max(place for place, part in enumerate(batch) if part is not None)
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, batch[: last + 1])
    return as_fit_hands(tensors)


def variables_trained_by(optimizer: keras.Optimizer) -> list[Any] | None:
    """Return the variables that an optimizer was built for; None where this Keras does not say."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    found = getattr(inner, "_trainable_variables", None)
    return None if found is None else list(found)


_ADAM_PARTS: Final = ("update_step", "_get_variable_index", "_momentums", "_velocities")


def why_not_fused_adam(optimizer: keras.Optimizer | None) -> str | None:
    """Say why the backend's own fused update cannot take the place of this optimizer's.

    A subclass may compute something else, so it has to be Keras' own Adam or AdamW. For PyTorch and
    TensorFlow; XLA fuses by itself.
    """
    if optimizer is None:
        return "the model was compiled without an optimizer"
    if type(optimizer) not in _adam_types():
        return f"the optimizer is {type(optimizer).__name__}, not Adam or AdamW"
    is_torch = keras.backend.backend() == "torch"
    names = ("_parallel_update_step" if is_torch else "_backend_update_step", *_ADAM_PARTS)
    missing = [name for name in names if not hasattr(optimizer, name)]
    if missing:
        is_built = optimizer.built
        lacks = f"Adam of Keras {keras.__version__} has no {missing[0]}"
        return lacks if is_built else "the step builds the optimizer by itself"
    if (reason := _why_no_numbers(optimizer)) is not None:
        return reason
    return _why_no_torch_kernel() if is_torch else None


def _why_no_numbers(optimizer: Any) -> str | None:  # noqa: ANN401  an Adam
    """Say which settings or slots the backend's own update cannot take."""
    if low := _low_precision(optimizer):
        return f"its slots are {min(low)}, which the kernel rounds in other places than Keras"
    for name in ("beta_1", "beta_2", "epsilon"):
        if not isinstance(getattr(optimizer, name), float | int):
            return f"its {name} is not a number"
    return None


def _why_no_torch_kernel() -> str | None:
    import torch

    has_kernel = hasattr(torch, "_fused_adam_")
    return None if has_kernel else f"torch {torch.__version__} has no fused Adam"


@cache
def _adam_types() -> set[type]:
    """Return what Keras makes of an Adam: on PyTorch a class of its own."""
    return {type(keras.optimizers.Adam()), type(keras.optimizers.AdamW())}


@contextmanager
def fused_update(optimizer: keras.Optimizer | None, *, is_captured: bool = False) -> Iterator[None]:
    """Update in the backend's own way in here, where there is one for this optimizer.

    Only the innermost update is replaced: clipping, decay, averages and schedules stay Keras' own,
    and the slots are the same. An update that was replaced by hand stays, and a model compiled with
    optimizer=None has nothing to replace.

    Args:
        optimizer: Any, or None.
        is_captured: On PyTorch, whether steps are captured in here: then SGD gets a form of Keras'
            update whose learning rate stays a tensor, where Keras' own (before 3.16) makes a number
            of it.
    """
    if optimizer is None:
        yield
        return
    is_torch = keras.backend.backend() == "torch"
    name = "_parallel_update_step" if is_torch else "update_step"
    updates: dict[str, Any] = {}
    if why_not_fused_adam(optimizer) is None:
        updates = {name: _fused_update(optimizer)} if is_torch else _kernel_update(optimizer)
    elif is_captured and _has_sgd_of_numbers(optimizer) and hasattr(optimizer, name):
        updates = {name: _sgd_update(optimizer)}
    if not updates or name in vars(optimizer):
        yield
        return
    vars(optimizer).update(updates)
    try:
        yield
    finally:
        for each in updates:
            vars(optimizer).pop(each, None)


def _has_sgd_of_numbers(optimizer: keras.Optimizer) -> bool:
    """Return whether this is an SGD of Keras that reads its learning rate as a Python number."""
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    return version < (3, 16) and type(optimizer) is _sgd_type()


@cache
def _sgd_type() -> type:
    return type(keras.optimizers.SGD())


def _low_precision(optimizer: Any) -> set[str]:  # noqa: ANN401  untyped in Keras
    return {variable.dtype for variable in optimizer.variables} & {"bfloat16", "float16"}


def _sgd_update(optimizer: Any) -> Callable[..., None]:  # noqa: ANN401  an SGD
    """Return Keras' SGD, bit for bit, but for the learning rate, which stays a tensor."""
    import torch

    from kerash5.train.engines.common._torch_ops import subtract_scaled_

    def update(gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:  # noqa: ANN401
        values, steps = [variable.value for variable in variables], list(gradients)
        rate = keras.ops.convert_to_tensor(learning_rate)
        if optimizer.momentum == 0:
            subtract_scaled_(values, steps, rate)
            return
        places = [optimizer._get_variable_index(variable) for variable in variables]
        slots = [optimizer.momentums[place].value for place in places]
        torch._foreach_mul_(slots, optimizer.momentum)
        subtract_scaled_(slots, steps, rate)
        if optimizer.nesterov:
            subtract_scaled_(values, steps, rate)
            torch._foreach_add_(values, slots, alpha=optimizer.momentum)
        else:
            torch._foreach_add_(values, slots)

    return update


def _kernel_update(optimizer: Any) -> dict[str, Any]:  # noqa: ANN401  an Adam
    from kerash5.train.engines.common._tensorflow_adam import KernelAdam

    parts = (getattr(optimizer, name) for name in _ADAM_PARTS[1:])
    kernel, update_all = KernelAdam(optimizer, _beta_powers, *parts), optimizer._backend_update_step

    def update(*arguments: Any) -> None:  # noqa: ANN401  gradients, variables and a rate
        kernel.begin()
        update_all(*arguments)

    return {"update_step": kernel, "_backend_update_step": update}


def _fused_update(optimizer: Any) -> Callable[..., None]:  # noqa: ANN401  an Adam
    import torch

    # After so many steps the kernel's own bias correction is 1; Keras' is in the rate it is given.
    many: list[torch.Tensor] = []
    plain = optimizer._parallel_update_step
    place_of, *slots_of = (getattr(optimizer, name) for name in _ADAM_PARTS[1:])
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
    first, second = _beta_powers(optimizer, dtype)
    rate = keras.ops.cast(learning_rate, dtype)
    return rate * keras.ops.sqrt(1 - second) / (1 - first)


def _beta_powers(optimizer: Any, dtype: Any) -> tuple[Any, Any]:  # noqa: ANN401  tensors
    """Return the two betas to the power of the step, as Keras' update computes them."""
    ops = keras.ops
    step = ops.cast(optimizer.iterations + 1, dtype)
    betas = (optimizer.beta_1, optimizer.beta_2)
    first, second = (ops.power(ops.cast(beta, dtype), step) for beta in betas)
    return first, second


def is_emptied(variable: Any) -> bool:  # noqa: ANN401  of any backend
    """Say whether Keras' evaluation on JAX has taken the value of a variable (3.15.1).

    Where a Keras has no such name it is taken for emptied, and gets the value it had.
    """
    return getattr(variable, "_value", None) is None


def mask_of(tensor: Any) -> Any:  # noqa: ANN401  a tensor
    """Return the mask that Keras keeps with a tensor, None if it has none."""
    return getattr(tensor, _MASK, None)


def set_mask(tensor: Any, mask: Any) -> None:  # noqa: ANN401  tensors
    """Keep a mask with a tensor, as Keras does."""
    setattr(tensor, _MASK, mask)


def version_of(tensor: Any) -> int:  # noqa: ANN401  a tensor
    """Return a number that grows whenever PyTorch writes to the tensor.

    Where a PyTorch tells none it is that of the present moment, which equals no other.
    """
    return int(getattr(tensor, "_version", time.monotonic_ns()))


def has_hooks(tensor: Any) -> bool:  # noqa: ANN401  a tensor
    """Say whether something is called with the gradient of this tensor."""
    names = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return any(getattr(tensor, name, None) for name in names)


def pop_initial_epoch(model: keras.Model) -> int:
    """Return the epoch at which a callback has `fit` begin, and forget it; 0 where none does.

    `BackupAndRestore` leaves it in the model, where each later `fit` would obey it (Keras 3.15.1).
    """
    epoch = getattr(model, "_initial_epoch", None)
    if epoch:
        model._initial_epoch = None
    return epoch or 0


def learning_rate_of(optimizer: Any) -> float | None:  # noqa: ANN401  of any backend
    """Return the learning rate of the next step; None where there is not one that can be read.

    Only a step may call a schedule or function of the user's, who may count the calls: a schedule
    is asked as a copy, a function not at all.
    """
    rate = getattr(optimizer, "_learning_rate", None)
    try:
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            found = copy.deepcopy(rate)(optimizer.iterations)
        elif callable(rate) and not isinstance(rate, keras.Variable):
            return None
        else:
            found = optimizer.learning_rate
        return float(keras.ops.convert_to_numpy(found))
    except (AttributeError, TypeError):  # an optimizer of several, a schedule that cannot be copied
        return None
