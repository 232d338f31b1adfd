"""PyTorch: one training step as a graph of its operations, recorded once per shape of batch.

The step is Keras' own, spelled out over plain tensors: forward, loss, gradients, update, metrics.
What the graph becomes is the affair of `_torch_code`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar, final

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from kerash5._batches import Batch
from kerash5.train.engines._private import fused_update
from kerash5.train.engines._stack import fill, leaves_of

T = TypeVar("T")
Values = list[list[torch.Tensor]]


def variables_of(model: keras.Model) -> list[list[Any]]:
    """Return all that a step changes, as four lists."""
    return [
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    ]


def values_of(model: keras.Model) -> Values:
    """Return the variables' tensors, without gradients; to write to them is to write to these."""
    return [[variable.value.detach() for variable in some] for some in variables_of(model)]


def flatten(lists: Iterable[Iterable[T]]) -> list[T]:
    """Return the members of the lists, in order."""
    return list(chain.from_iterable(lists))


def record_step(model: keras.Model, values: Values, batch: Batch) -> torch.fx.GraphModule:
    """Record one step: in go the values and the batch, flat, and out come the new values.

    What Keras updates in place, the graph updates in place too. Runs on copies.

    Args:
        model: Built, with Keras' own `train_step`.
        values: As of `values_of`.
        batch: Tensors.

    Raises:
        Exception: Whatever the tracer or a layer says; the step depends on values, or draws seeds.
    """
    counts = [len(some) for some in values]
    arrays = leaves_of(batch)

    def run(*flat: torch.Tensor) -> list[torch.Tensor]:
        rest = list(flat)
        held = [[rest.pop(0) for _ in range(count)] for count in counts]
        return flatten(_step(model, held, fill(batch, rest)))

    copies = [value.clone() for value in flatten(values)]
    devices = {copy.device for copy in copies if copy.is_cuda}
    with (
        torch.random.fork_rng(sorted(devices, key=str)),
        fused_update(model.optimizer),
        _OneHotByScatter(),
    ):
        return make_fx(run)(*copies, *arrays)


@final
class _OneHotByScatter(TorchFunctionMode):
    """`one_hot` without its look at the values, which no graph can hold.

    The sparse cross-entropy of Keras before 3.15 uses it. What is out of range is an error still.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  whatever the function returns
        known = dict(kwargs or {})
        if func is not torch.nn.functional.one_hot:
            return func(*args, **known)
        x, num_classes = (*args, *known.values())[:2]
        zeros = torch.zeros((*x.shape, num_classes), dtype=x.dtype, device=x.device)
        return zeros.scatter(-1, x.unsqueeze(-1), 1)


def _step(model: keras.Model, values: Values, batch: Batch) -> Values:
    """Do what `keras.Model.train_step` does, on the values given."""
    x, y, weights = (*batch, None, None)[:3]
    trainable, other, slots, metrics = values
    leaves = [value.detach().requires_grad_() for value in trainable]
    names = variables_of(model)
    scope = _scope(names, [leaves, other, slots, metrics])
    with scope:
        y_pred = model(x, training=True)
        loss = _loss(model, x, y, y_pred, weights)
        rows = leaves_of(x)[0].shape[0]
        model.metrics[0].update_state(loss.detach(), sample_weight=rows)
        scaled = model.optimizer.scale_loss(loss)
    gradients = torch.autograd.grad(scaled, leaves, allow_unused=True)
    with torch.no_grad():
        other, metrics = _current(scope, names[1]), _current(scope, names[3])
        trainable, slots = model.optimizer.stateless_apply(slots, list(gradients), trainable)
        scope = _scope(names, [trainable, other, slots, metrics])
        with scope:
            y_pred = keras.tree.map_structure(torch.Tensor.detach, y_pred)
            model.compute_metrics(x, y, y_pred, sample_weight=weights)
        return [_current(scope, some) for some in names]


def _loss(model: keras.Model, *arguments: Any) -> torch.Tensor:  # noqa: ANN401  trees of tensors
    known = inspect.signature(model.compute_loss).parameters
    options = {"training": True} if "training" in known else {}
    loss: torch.Tensor = model.compute_loss(*arguments, **options)
    return loss


def _scope(names: Sequence[Sequence[Any]], values: Values) -> keras.StatelessScope:
    pairs = zip(flatten(names), flatten(values), strict=True)
    return keras.StatelessScope(state_mapping=list(pairs), collect_losses=True)


def _current(scope: keras.StatelessScope, variables: Sequence[Any]) -> list[torch.Tensor]:
    return [scope.get_current_value(variable) for variable in variables]
