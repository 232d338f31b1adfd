"""Checks the size of the last batch against a model, and `drop_last="pad"` against its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import keras

from kerash5._errors import OptionError, ShapeError
from kerash5.feeds.labels._keras_losses import has_own_steps
from kerash5.order._plan import Plan

_SUMS: Final = ("Sum", "TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives")
_MEANS: Final = ("sum_over_batch_size", "mean")
_PADS: Final = "drop_last='pad' fills up the last batch with repeated rows"


def check_batch_size(
    model: keras.Model, inputs: list[keras.KerasTensor], plan: Plan, task: str
) -> None:
    """Raise if a batch has another size than a model of a fixed batch size takes.

    A stateful layer takes one size. Other layers of a model with `Input(batch_shape=)` may take
    others: the model is called symbolically with the short batch.

    Args:
        model: The model.
        inputs: Its inputs.
        plan: The batches.
        task: What they are for.

    Raises:
        ShapeError: The batch size, or the rows of the last batch, are not those of the model.
    """
    size = inputs[0].shape[0]
    taken = f"model {model.name!r} takes batches of {size} rows alone"
    if not takes_rows(model, inputs, plan.batch_size):
        raise ShapeError(f"{taken}, and the data have batch_size={plan.batch_size}; give it {size}")
    rest, asked = plan.num_short, plan.drop_last
    is_whole = asked in ("all", "pad") or (asked is True and task == "fit")
    if not rest or is_whole or takes_rows(model, inputs, rest):
        return
    options = {"fit": "True, 'pad' or 'all'", "predict": "'pad'"}.get(task, "'pad' or 'all'")
    raise ShapeError(
        f"{taken}, and the last batch to {task} on has {rest}; give drop_last={options}, or rows= "
        f"whose number divides by {size}, such as slice(0, {plan.num_served - rest})"
    )


def check_padding(model: keras.Model, plan: Plan, roles: Sequence[str], task: str) -> None:
    """Raise if `drop_last` does not suit the task, or padded rows would count.

    Args:
        model: The model.
        plan: The batches.
        roles: What the data have: "x", "y", "sample_weight".
        task: What they are for.

    Raises:
        OptionError: Rows of weight 0 would change the loss or a metric, or predictions would be
            missing.
    """
    if task == "predict":
        if plan.drop_last == "all" and plan.num_short:
            raise OptionError(
                f"predict answers every row, and drop_last='all' drops the last {plan.num_short}; "
                "give drop_last='pad', whose repeated rows are left out of the answer"
            )
        return
    if plan.drop_last != "pad" or not plan.num_padded:
        return
    if "y" not in roles:
        raise OptionError(
            f"{_PADS} of sample weight 0, and data without y have no weights; give "
            "drop_last='all', or rows= whose number divides by batch_size"
        )
    if not has_own_steps(model):
        _check_reduction(model)
        _check_metrics(model)
        if "sample_weight" not in roles:
            _check_outputs(model)


def check_padded_call(plan: Plan, *, class_weight: object, steps: object = None) -> None:
    """Raise `OptionError` if an argument of a call does not go with `drop_last="pad"`."""
    if plan.drop_last != "pad":
        return
    if class_weight is not None:
        raise OptionError(
            "class_weight= and drop_last='pad' both give sample weights; give drop_last=True, or "
            "weights as a column: sample_weight="
        )
    if steps is not None and plan.num_padded:
        raise OptionError(
            f"{steps} steps of data with drop_last='pad', whose weights are those of all steps; "
            "choose the rows with rows= instead"
        )


def takes_rows(model: keras.Model, inputs: list[keras.KerasTensor], size: int) -> bool:
    """Return whether a model takes batches of a size.

    Args:
        model: The model.
        inputs: Its inputs.
        size: The number of rows.
    """
    fixed = inputs[0].shape[0]
    if fixed in (None, size):
        return True
    if any(getattr(layer, "stateful", False) for layer in model.layers):
        return False
    made = [keras.KerasTensor((size, *each.shape[1:]), each.dtype) for each in inputs]
    given = made[0] if len(made) == 1 else keras.tree.pack_sequence_as(model.input, made)
    try:
        answer = model.compute_output_spec(given)
    except Exception:  # noqa: BLE001  whatever a layer raises for a shape
        return False
    return all(each.shape[0] in (size, None) for each in keras.tree.flatten(answer))


def _check_reduction(model: keras.Model) -> None:
    for loss in keras.tree.flatten(getattr(model, "loss", None)):
        reduction = getattr(loss, "reduction", "mean")
        if reduction not in _MEANS:
            raise OptionError(
                f"{_PADS} of weight 0, and loss {loss.name!r} has reduction={reduction!r}, which "
                "does not average over a batch; give reduction='sum_over_batch_size'"
            )


def _check_metrics(model: keras.Model) -> None:
    compiled = getattr(model, "_compile_metrics", None)
    plain = _flat(getattr(compiled, "_user_metrics", None))
    if plain:
        names = ", ".join(repr(_name(each)) for each in plain)
        raise OptionError(
            f"{_PADS} of weight 0, and metrics=[{names}] of model {model.name!r} would count them, "
            f"because Keras gives weights to weighted_metrics alone; compile it with "
            f"weighted_metrics=[{names}]"
        )
    for each in _flat(getattr(compiled, "_user_weighted_metrics", None)):
        name = _name(each)
        if type(each).__name__ in _SUMS or name in _SUMS:
            raise OptionError(
                f"{_PADS}, and metric {name!r} adds up weights, which are not 1 then; give "
                "drop_last='all', or a metric that divides by them, such as Precision"
            )


def _check_outputs(model: keras.Model) -> None:
    for output in _flat(getattr(model, "outputs", None)):
        if len(getattr(output, "shape", ())) > 2:
            raise OptionError(
                f"{_PADS} of weight 0, and a loss on rows of shape {tuple(output.shape[1:])} takes "
                "a weight for each position; give drop_last='all', or sample_weight= of shape "
                f"{tuple(output.shape[1:-1])}"
            )


def _flat(tree: Any) -> list[Any]:  # noqa: ANN401  metrics, in lists or dicts
    return [each for each in keras.tree.flatten(tree) if each is not None]


def _name(metric: Any) -> str:  # noqa: ANN401  a name, a function or a metric
    if isinstance(metric, str):
        return metric
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", metric))
