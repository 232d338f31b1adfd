"""Whether several processes or devices train one model, and what then does not add up.

Keras adds up gradients under `keras.distribution` on JAX, under a strategy of TensorFlow, and on
PyTorch from 3.16 on, once torch.distributed is set up. Everywhere else each process of a group
trains a model of its own, which is refused or said here.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import keras

from kerash5._errors import OptionError
from kerash5.distributed import check_exchange, find_group

if TYPE_CHECKING:
    from kerash5._plan import Plan
    from kerash5.feeds._keras import H5Dataset

_TORCH_EXCHANGES = (3, 16)  # the first Keras that wraps a model in DistributedDataParallel


def check_trainer(what: str, model: keras.Model, *datasets: H5Dataset | None) -> None:
    """Refuse what would train a model per process; warn of replicas that repeat each other's work.

    Args:
        what: What was called, such as "Trainer.fit".
        model: The model to train.
        *datasets: What it is trained and validated on.

    Raises:
        OptionError: Nothing adds up the gradients of the processes, or batches cannot be divided
            among devices.
    """
    strategy = _find_strategy(model)
    if strategy is not None:
        name = type(strategy).__name__
        if find_group().count > 1:
            raise OptionError(
                f"{what} under {name}: Keras does not train on several processes this way; start "
                "one process, without TF_CONFIG"
            )
        warnings.warn(
            f"{what} under {name}: each of its {strategy.num_replicas_in_sync} replicas computes "
            "every whole batch, so nothing becomes faster; use model.fit, or build and compile "
            "the model outside strategy.scope()",
            stacklevel=3,
        )
    check_exchange(what, is_exchanged=_has_distribution())
    for dataset in datasets:
        if dataset is not None:
            check_division(dataset.plan)


def check_keras_loop(dataset: H5Dataset, task: str) -> None:
    """Check what Keras' own loop is about to do; warn if each process trains its own model.

    Args:
        dataset: What it runs over.
        task: "fit", "evaluate" or "predict".

    Raises:
        OptionError: Batches cannot be divided among processes or devices as Keras will do it.
    """
    check_division(dataset.plan)
    if task != "fit" or _has_distribution() or _has_strategy():
        return
    group = find_group()
    if group.count == 1:
        return
    if group.found_by == "torch.distributed" and _keras_version() >= _TORCH_EXCHANGES:
        return
    warnings.warn(
        f"fit: this is {group.describe()} and Keras does not add up the gradients of the "
        "processes, so each trains a model of its own; start one process, or average the weights "
        "yourself",
        stacklevel=2,
    )


def check_division(plan: Plan) -> None:
    """Refuse batches that `keras.distribution` cannot divide among devices.

    Raises:
        OptionError: A batch does not divide by the number of devices here, or the last batch of
            another process has another size.
    """
    num_devices = _count_batch_devices()
    if num_devices is None:
        return
    count = find_group().count
    num_rows = plan.shard_bounds[1] - plan.shard_bounds[0]
    if count > 1 and not plan.drop_last and plan.num_served % count:
        raise OptionError(
            f"keras.distribution: the {plan.num_served} rows of an epoch do not divide by {count} "
            f"processes, so the last batch has {num_rows % plan.batch_size or plan.batch_size} "
            "rows here and another number elsewhere; pass drop_last=True"
        )
    here = max(1, num_devices // count)
    last = num_rows % plan.batch_size
    for size in (min(plan.batch_size, num_rows), 0 if plan.drop_last else last):
        if size % here:
            cure = f"batch_size= a multiple of {here}" if plan.batch_size % here else ""
            cure = cure or f"drop_last=True, or rows= whose number divides by {here}"
            raise OptionError(
                f"keras.distribution divides each batch among {here} devices, and a batch of "
                f"{size} rows does not divide; pass {cure}"
            )


def _has_distribution() -> bool:
    """Whether Keras itself spreads training over the processes of JAX."""
    return keras.backend.backend() == "jax" and keras.distribution.distribution() is not None


def _count_batch_devices() -> int | None:
    """Return among how many devices `keras.distribution` divides a batch; None if it does not."""
    found: Any = keras.distribution.distribution() if _has_distribution() else None
    mesh, name = getattr(found, "device_mesh", None), getattr(found, "batch_dim_name", None)
    if mesh is None or name not in mesh.axis_names:
        return None
    return int(mesh.shape[mesh.axis_names.index(name)])


def _find_strategy(model: keras.Model) -> Any:  # noqa: ANN401  a tf.distribute.Strategy
    found: Any = getattr(model, "_distribute_strategy", None)
    is_several = found is not None and getattr(found, "num_replicas_in_sync", 1) > 1
    return found if is_several else None


def _has_strategy() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf  # Keras has imported it

    return bool(tf.distribute.has_strategy())


def _keras_version() -> tuple[int, ...]:
    return tuple(int(part) for part in keras.__version__.split(".")[:2])
