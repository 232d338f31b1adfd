"""PyTorch: one training step as a graph of its operations, captured once per shape of batch.

The step is Keras' own, written over plain tensors: forward pass, loss, gradients, update, metrics.
`_torch_code` turns the graph into a function; `_torch_watch` compares it with Keras' step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, TypeVar, final

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from kerash5.batches._batches import Batch
from kerash5.train.engines.common._private import fused_update, mask_of, set_mask
from kerash5.train.engines.common._stack import fill, leaves_of

T = TypeVar("T")
Values = list[list[torch.Tensor]]
Variables = list[list[keras.Variable]]


def variables_of(model: keras.Model, others: Iterable[keras.Variable] = ()) -> Variables:
    """Return everything that a step may change, each variable once, as five lists.

    Args:
        model: A built model.
        others: Further variables, such as those an optimizer does not list; those that are not in
            the first four lists form the fifth.

    Returns:
        Trainable, non-trainable, the optimizer's, the metrics', and other variables.
    """
    seen: set[int] = set()
    return [
        [each for each in some if not (id(each) in seen or seen.add(id(each)))]  # type: ignore[func-returns-value]  # set.add
        for some in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
            others,
        )
    ]


def values_of(variables: Variables) -> Values:
    """Return the variables' tensors, without gradients; writing to them changes the variables."""
    return [[variable.value.detach() for variable in some] for some in variables]


def flatten(lists: Iterable[Iterable[T]]) -> list[T]:
    """Return the members of the lists, in order."""
    return list(chain.from_iterable(lists))


def capture_step(
    model: keras.Model, variables: Variables, values: Values, batch: Batch
) -> torch.fx.GraphModule:
    """Capture one step: its inputs are the values and the batch, flat; its outputs the new values.

    Values that Keras updates in place are updated in place in the graph as well. Runs on copies.

    Args:
        model: A built model with Keras' own `train_step`.
        variables: Result of `variables_of`.
        values: Result of `values_of`, or other values of the same shapes.
        batch: Tensors.

    Raises:
        Exception: Any error of the tracer or a layer; for example the step reads values or draws
            seeds.
    """
    counts = [len(some) for some in values]
    arrays = leaves_of(batch)

    def run(*flat: torch.Tensor) -> list[torch.Tensor]:
        rest = list(flat)
        held = [[rest.pop(0) for _ in range(count)] for count in counts]
        return flatten(_step(model, variables, held, fill(batch, rest)))

    copies = [value.clone() for value in flatten(values)]
    with (
        unchanged_random_state(copies),
        fused_update(model.optimizer, is_captured=True),
        _Capturable(),
    ):
        return make_fx(run)(*copies, *[array.clone() for array in arrays])


@contextmanager
def unchanged_random_state(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Restore PyTorch's random state on exit, on the CPU and the devices of these tensors."""
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    with torch.random.fork_rng(sorted(devices, key=str)):
        yield


# Functions that pass values of a tensor to Python, which a tracer cannot follow. The tracer itself
# rejects `item`, `bool` and `int`.
_READS: Final = {
    getattr(torch.Tensor, name)
    for name in ("numpy", "tolist", "__array__", "__dlpack__", "data_ptr", "untyped_storage")
}


@final
class _Capturable(TorchFunctionMode):
    """Reject functions that read values from Python, and replace `one_hot`, which need not.

    The sparse cross-entropy of Keras before 3.15 uses `one_hot`. Labels out of range still raise an
    error.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  result of the function
        known = dict(kwargs or {})
        if func in _READS:
            raise RuntimeError(f"a part of the step reads values with {func.__name__}()")
        if func is not torch.nn.functional.one_hot:
            return func(*args, **known)
        x, num_classes = (*args, *known.values())[:2]
        zeros = torch.zeros((*x.shape, num_classes), dtype=x.dtype, device=x.device)
        return zeros.scatter(-1, x.unsqueeze(-1), 1)


def _step(model: keras.Model, variables: Variables, values: Values, batch: Batch) -> Values:
    """Compute `keras.Model.train_step` on the given values."""
    x, y, weights = (*batch, None, None)[:3]
    leaves = [value.detach().requires_grad_() for value in values[0]]
    scope = _scope(variables, [leaves, *values[1:]])
    with scope:
        y_pred = model(x, training=True)
        loss = _loss(model, x, y, y_pred, weights)
        rows = leaves_of(x)[0].shape[0]
        model.metrics[0].update_state(loss.detach(), sample_weight=rows)
        scaled = model.optimizer.scale_loss(loss)
    gradients = torch.autograd.grad(scaled, leaves, allow_unused=True)
    with torch.no_grad():
        rest = [_current(scope, some) for some in variables[1:]]
        scope = _scope(variables, [values[0], *rest])
        with scope:
            model.optimizer.apply(list(gradients), list(variables[0]))
            y_pred = keras.tree.map_structure(_detached, y_pred)
            model.compute_metrics(x, y, y_pred, sample_weight=weights)
        return [_current(scope, some) for some in variables]


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor without its gradient, but with the mask of Keras."""
    detached = tensor.detach()
    if (mask := mask_of(tensor)) is not None:
        set_mask(detached, mask)
    return detached


def _loss(model: keras.Model, *arguments: Any) -> torch.Tensor:  # noqa: ANN401  trees of tensors
    known = inspect.signature(model.compute_loss).parameters
    options = {"training": True} if "training" in known else {}
    loss: torch.Tensor = model.compute_loss(*arguments, **options)
    return loss


def _scope(variables: Variables, values: Values) -> keras.StatelessScope:
    pairs = zip(flatten(variables), flatten(values), strict=True)
    return keras.StatelessScope(state_mapping=list(pairs), collect_losses=True)


def _current(scope: keras.StatelessScope, variables: Sequence[Any]) -> list[torch.Tensor]:
    return [scope.get_current_value(variable) for variable in variables]
