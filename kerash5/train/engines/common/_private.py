"""All uses of private API of Keras and PyTorch by the engines.

Each function first checks whether the private API exists and has a fallback if not; tests force
both. No other module in `engines` may use names that begin with an underscore there.
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
# Methods that determine on JAX which variables a step reads and returns.
STATE_METHODS: Final = ("_get_jax_state", "jax_state_sync", "state_sync")  # the last since 3.16


def build_variables(model: keras.Model, batch: Batch) -> bool:
    """Create the variables of a compiled model, its metrics and its optimizer. Runs no step.

    Returns:
        Whether they were created. On TensorFlow `fit` builds nothing before it traces the step, so
        a model that only its step can build is left for the trace to build.
    """
    if keras.backend.backend() != "tensorflow":
        _build_all(model, batch)
        return True
    if not _has_call(model):
        return False
    try:
        _build_all(model, batch)
    except Exception:  # noqa: BLE001  tracing the step raises the same errors as `fit`
        return False
    return True


def _build_all(model: keras.Model, batch: Batch) -> None:
    build = getattr(model, _BUILD, None)
    if build is not None:
        padded = (*batch, None, None)[:3]
        build(data_batch=padded)
    else:  # public API: costs a compilation of the test step
        with restored_metrics(model):
            model.test_on_batch(*batch)
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _has_call(model: keras.Model) -> bool:
    """Return whether the model has a forward pass; keras.io's GAN has none."""
    return type(model).call is not keras.Model.call


@contextmanager
def restored_metrics(model: keras.Model) -> Iterator[None]:
    """Restore the metrics' variables on exit."""
    kept = [(variable, keras.ops.copy(variable)) for variable in model.metrics_variables]
    try:
        yield
    finally:
        model.reset_metrics()
        for variable, value in kept:
            variable.assign(value)


@contextmanager
def running_metrics(model: keras.Model) -> Iterator[None]:
    """Prevent `train_on_batch` from resetting the averages at each batch.

    It calls the model's public `reset_metrics`, which an instance can override.
    """
    vars(model)["reset_metrics"] = lambda: None
    try:
        yield
    finally:
        del vars(model)["reset_metrics"]


@contextmanager
def bare_batches(model: keras.Model) -> Iterator[None]:
    """Make `train_on_batch` pass batches to `train_step` as `fit` does: tensors, no None for no y.

    It calls `train_function`, whose last argument is an iterable of batches.
    """
    model.make_train_function()
    function = model.train_function

    def run(*arguments: Any) -> Any:  # noqa: ANN401  arguments of a backend's function
        *state, batches = arguments
        found = list(map(_as_tensors, batches))
        return function(*state, found if isinstance(batches, list) else iter(found))

    model.train_function = run
    try:
        yield
    finally:
        if model.train_function is run:  # a callback may have replaced it
            model.train_function = function


@contextmanager
def bare_test_batches(model: keras.Model) -> Iterator[None]:
    """Make `evaluate` pass x alone to a custom `test_step`, as it passes an array.

    A data set of Keras can only give a tuple of one element.
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
        model.test_function = None  # it contains the wrapped step


def _as_tensors(batch: Batch) -> Any:  # noqa: ANN401  an array, or a tuple of trees of such
    last = max(place for place, part in enumerate(batch) if part is not None)
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, batch[: last + 1])
    return as_fit_hands(tensors)


def variables_trained_by(optimizer: keras.Optimizer) -> list[Any] | None:
    """Return the variables that an optimizer was built for; None if this Keras does not tell."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    found = getattr(inner, "_trainable_variables", None)
    return None if found is None else list(found)


_ADAM_PARTS: Final = ("update_step", "_get_variable_index", "_momentums", "_velocities")


def why_not_fused_adam(optimizer: keras.Optimizer | None) -> str | None:
    """Return why the backend's fused update cannot replace this optimizer's update.

    Only Keras' own Adam and AdamW are supported, because a subclass may compute something else. For
    PyTorch and TensorFlow; XLA fuses by itself.
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
    """Return which settings or slots the backend's update does not support."""
    if low := _low_precision(optimizer):
        return f"its slots are {min(low)}, which the kernel rounds differently from Keras"
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
    """Return the class of Keras' Adam; on PyTorch Keras creates a subclass."""
    return {type(keras.optimizers.Adam()), type(keras.optimizers.AdamW())}


@contextmanager
def fused_update(optimizer: keras.Optimizer | None, *, is_captured: bool = False) -> Iterator[None]:
    """Use the backend's fused update inside, if there is one for this optimizer.

    Only the innermost update is replaced; clipping, decay, averages, schedules and slots are Keras'
    own. An update replaced by the user, or optimizer=None, is left unchanged.

    Args:
        optimizer: Any optimizer, or None.
        is_captured: On PyTorch, whether steps are captured inside. SGD then gets a form of Keras'
            update whose learning rate stays a tensor; before 3.16 Keras makes it a number.
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
    """Return whether this is Keras' SGD, with its learning rate read as a Python number."""
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    return version < (3, 16) and type(optimizer) is _sgd_type()


@cache
def _sgd_type() -> type:
    return type(keras.optimizers.SGD())


def _low_precision(optimizer: Any) -> set[str]:  # noqa: ANN401  untyped in Keras
    return {variable.dtype for variable in optimizer.variables} & {"bfloat16", "float16"}


def _sgd_update(optimizer: Any) -> Callable[..., None]:  # noqa: ANN401  an SGD
    """Return Keras' SGD update, bit for bit, but with the learning rate as a tensor."""
    import torch

    from kerash5.train.engines.common._torch_ops import subtract_scaled_

    def update(gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:  # noqa: ANN401
        values, steps = [variable.value for variable in variables], list(gradients)
        rate = keras.ops.convert_to_tensor(learning_rate)
        if optimizer.momentum == 0:
            subtract_scaled_(values, steps, rate)
            return
        indices = [optimizer._get_variable_index(variable) for variable in variables]
        slots = [optimizer.momentums[place].value for place in indices]
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

    # After this many steps the kernel's bias correction is 1; Keras' is part of the rate passed to
    # it.
    many: list[torch.Tensor] = []
    plain = optimizer._parallel_update_step
    index_of, *slots_of = (getattr(optimizer, name) for name in _ADAM_PARTS[1:])
    hats = getattr(optimizer, "_velocity_hats", [])

    def update(gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:  # noqa: ANN401
        values = [variable.value for variable in variables]
        indices = [index_of(variable) for variable in variables]
        slots = [[slot[place].value for place in indices] for slot in slots_of]
        largest = [hats[place].value for place in indices] if optimizer.amsgrad else []
        if not all(tensor.is_contiguous() for tensor in [*values, *chain(*slots), *largest]):
            plain(gradients, variables, learning_rate)
            return
        if not many:
            many.append(torch.full((), 1e9, device=values[0].device))
        torch._fused_adam_(
            values,
            # The kernel addresses memory linearly, but a convolution's gradient is stored
            # transposed.
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
    """Return the learning rate with Keras' bias correction for the first steps."""
    first, second = _beta_powers(optimizer, dtype)
    rate = keras.ops.cast(learning_rate, dtype)
    return rate * keras.ops.sqrt(1 - second) / (1 - first)


def _beta_powers(optimizer: Any, dtype: Any) -> tuple[Any, Any]:  # noqa: ANN401  tensors
    """Return both betas to the power of the step, as Keras' update computes them."""
    ops = keras.ops
    step = ops.cast(optimizer.iterations + 1, dtype)
    betas = (optimizer.beta_1, optimizer.beta_2)
    first, second = (ops.power(ops.cast(beta, dtype), step) for beta in betas)
    return first, second


def is_emptied(variable: Any) -> bool:  # noqa: ANN401  of any backend
    """Return whether Keras' evaluation on JAX has taken the value of a variable (3.15.1).

    If this Keras lacks the attribute, the variable counts as emptied and gets its old value.
    """
    return getattr(variable, "_value", None) is None


def mask_of(tensor: Any) -> Any:  # noqa: ANN401  a tensor
    """Return the mask that Keras attaches to a tensor; None if there is none."""
    return getattr(tensor, _MASK, None)


def set_mask(tensor: Any, mask: Any) -> None:  # noqa: ANN401  tensors
    """Attach a mask to a tensor, as Keras does."""
    setattr(tensor, _MASK, mask)


def version_of(tensor: Any) -> int:  # noqa: ANN401  a tensor
    """Return a number that increases whenever PyTorch writes to the tensor.

    If PyTorch does not report one, it is the current time, which never repeats.
    """
    return int(getattr(tensor, "_version", time.monotonic_ns()))


def has_hooks(tensor: Any) -> bool:  # noqa: ANN401  a tensor
    """Return whether the tensor's gradient has hooks."""
    names = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return any(getattr(tensor, name, None) for name in names)


def pop_initial_epoch(model: keras.Model) -> int:
    """Return the epoch at which a callback makes `fit` start, and remove it; 0 if there is none.

    `BackupAndRestore` stores it in the model, where every later `fit` would use it (Keras 3.15.1).
    """
    epoch = getattr(model, "_initial_epoch", None)
    if epoch:
        model._initial_epoch = None
    return epoch or 0


def learning_rate_of(optimizer: Any) -> float | None:  # noqa: ANN401  of any backend
    """Return the learning rate of the next step; None if it cannot be read as a single number.

    Only a step may call a user's schedule or function, because it may count calls: a schedule is
    called as a copy, a function not at all.
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
    except (AttributeError, TypeError):  # a multi-optimizer, or a schedule that cannot be copied
        return None
