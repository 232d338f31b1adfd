"""Checks of training one model in several processes or on several devices.

Keras adds up gradients under `keras.distribution` on JAX, under a strategy of TensorFlow, and on
PyTorch from 3.16 on, once torch.distributed is set up. Everywhere else each process of a group
trains a model of its own; these checks raise or warn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from kerash5._errors import OptionError
from kerash5._warnings import warn
from kerash5.distributed import Group, check_exchange, find_group

if TYPE_CHECKING:
    from kerash5.feeds._keras import H5Dataset
    from kerash5.order._plan import Plan

_TORCH_EXCHANGES = (3, 16)  # the first Keras that wraps a model in DistributedDataParallel


def check_trainer(what: str, model: keras.Model, *datasets: H5Dataset | None) -> None:
    """Raise if there are several processes; warn if replicas repeat each other's work.

    The trainer looks at the loss, saves and stops by the clock of its process. Where processes
    exchange gradients, each of these can be an exchange too (`get_metrics_result` is one on PyTorch
    from Keras 3.16 on), and a process whose clock differs would deadlock.

    Args:
        what: The called method, such as "Trainer.fit".
        model: The model to train.
        *datasets: The training and validation data.

    Raises:
        OptionError: There are several processes, or batches cannot be divided among devices.
    """
    group = find_group()
    _check_strategy(what, model, group)
    strategy = _find_strategy(model)
    if strategy is not None:
        warn(
            f"{what} under {_name_of(strategy)}: each of its {strategy.num_replicas_in_sync} "
            "replicas computes every whole batch, so nothing becomes faster; use model.fit, or "
            "build and compile the model outside strategy.scope()"
        )
    if group.count > 1 and _is_exchanged(group):
        raise OptionError(
            f"{what}: this is {group.describe()}, and the trainer trains in one process alone; use "
            "model.fit, in which Keras adds up the gradients of the processes, or start one process"
        )
    check_exchange(what)
    for dataset in datasets:
        if dataset is not None:
            check_division(dataset.plan)


def check_keras_loop(dataset: H5Dataset, task: str, model: keras.Model | None) -> None:
    """Check a call of Keras' own loop; warn if each process trains its own model.

    Args:
        dataset: The data of the loop.
        task: "fit", "evaluate" or "predict".
        model: The model that runs the loop; None if unknown.

    Raises:
        OptionError: Rows would be left out, Keras cannot divide the batches among processes or
            devices, or Keras cannot train in several processes this way.
    """
    group = find_group()
    if task == "fit":
        _check_strategy(task, model, group)
    if _is_exchanged(group):
        _check_shard(task, dataset.plan, group)
    if task == "fit":
        check_division(dataset.plan)
    else:
        check_division(dataset.plan.in_given_order(), can_drop=False)
    if task != "fit" or group.count == 1:
        return
    if not _is_exchanged(group):
        warn(
            f"fit: this is {group.describe()} and Keras does not add up the gradients of the "
            "processes, so each trains a model of its own; start one process, or average the "
            "weights yourself"
        )
    elif dataset.plan.shard[1] < _find_data_shard(group)[1]:
        warn(
            f"fit: this is {group.describe()} and each trains on all rows of its H5Dataset; pass "
            "shard='auto', unless each process has files of its own"
        )


def check_division(plan: Plan, *, can_drop: bool = True) -> None:
    """Raise if `keras.distribution` cannot divide the batches among devices.

    Args:
        plan: The batches.
        can_drop: Whether `drop_last` applies to the task.

    Raises:
        OptionError: The batch size is not a multiple of the number of devices here, or the last
            batch of another process has another size.
    """
    num_devices = _count_batch_devices()
    if num_devices is None or keras.backend.backend() != "jax":
        return
    _, count = _find_data_shard(find_group())
    num_rows = plan.shard_bounds[1] - plan.shard_bounds[0]
    last = num_rows % plan.batch_size if plan.drop_last is False else 0
    if plan.drop_last is False and count == plan.shard[1] and plan.num_served % count:
        raise OptionError(
            f"keras.distribution: the {plan.num_served} rows of an epoch do not divide by {count} "
            f"processes, so the last batch has {last or plan.batch_size} rows here and another "
            f"number elsewhere; pass {_cure_of_rest(count, can_drop=can_drop)}"
        )
    here = max(1, num_devices // count)
    for size in (min(plan.batch_size, num_rows), last):
        if size % here:
            cure = _cure_of_rest(here, can_drop=can_drop)
            if plan.batch_size % here:
                cure = f"batch_size= a multiple of {here}"
            raise OptionError(
                f"keras.distribution divides each batch among {here} devices, and a batch of "
                f"{size} rows does not divide; pass {cure}"
            )


def _cure_of_rest(divisor: int, *, can_drop: bool) -> str:
    """Return the option that makes the rows of an epoch divisible."""
    rows = f"rows= whose number divides by {divisor}"
    return f"drop_last=True, or {rows}" if can_drop else rows


def _check_shard(task: str, plan: Plan, group: Group) -> None:
    """Raise if the shard, combined with Keras' own sharding, leaves rows out.

    From 3.16 on Keras gives each process every n-th batch of a PyDataset under
    `auto_shard_dataset=True`, its default: with a shard on top, rows are left out, and without one
    a process can have one batch more than the others, and then deadlocks. Earlier versions of Keras
    reject that setting themselves.
    """
    index, count = _find_data_shard(group)
    if count > 1 and getattr(_find_distribution(), "auto_shard_dataset", False):
        raise OptionError(
            f"{task}: with auto_shard_dataset=True, Keras gives each of {count} processes one "
            f"batch in {count} of an H5Dataset, so rows are left out, or one process waits for "
            "ever; pass auto_shard_dataset=False to the distribution and shard='auto' to H5Dataset"
        )
    if plan.shard not in ((index, count), (0, 1)):
        raise OptionError(
            f"{task}: Keras expects of {group.describe()} that it reads shard {index} of {count}, "
            f"and H5Dataset has shard={plan.shard}; pass shard=({index}, {count})"
        )


def _is_exchanged(group: Group) -> bool:
    """Return whether Keras' `fit` adds up the gradients of the processes of a group."""
    if keras.backend.backend() == "jax":
        return group.found_by == "jax.distributed" and _find_distribution() is not None
    return group.found_by == "torch.distributed" and _is_torch_distributed()


def _is_torch_distributed() -> bool:
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    return keras.backend.backend() == "torch" and version >= _TORCH_EXCHANGES


def _find_distribution() -> Any:  # noqa: ANN401  a keras.distribution.Distribution, or None
    """Return the distribution by which Keras divides data; None if there is none."""
    is_used = keras.backend.backend() == "jax" or _is_torch_distributed()
    return keras.distribution.distribution() if is_used else None


def _find_data_shard(group: Group) -> tuple[int, int]:
    """Return the shard (index, count) of the rows that Keras expects of this process.

    Processes that hold parts of one model (model parallelism) must read the same rows.
    """
    if not _is_exchanged(group):
        return 0, 1
    num_devices = _count_batch_devices()
    count = group.count if num_devices is None else min(num_devices, group.count)
    return group.index * count // group.count, count


def _count_batch_devices() -> int | None:
    """Return the number of devices among which `keras.distribution` divides a batch, or None."""
    found = _find_distribution()
    mesh, name = getattr(found, "device_mesh", None), getattr(found, "batch_dim_name", None)
    if mesh is None or name not in mesh.axis_names:
        return None
    return int(mesh.shape[mesh.axis_names.index(name)])


def _check_strategy(what: str, model: keras.Model | None, group: Group) -> None:
    """Raise for a TensorFlow strategy over several processes, with which Keras fails.

    Keras cannot make a tensor of the values of each replica (keras#20585, seen in 3.15.1).
    """
    strategy = _find_strategy(model)
    if strategy is not None and group.count > 1:
        raise OptionError(
            f"{what} under {_name_of(strategy)}: Keras does not train on several processes this "
            "way; start one process, without TF_CONFIG"
        )


def _find_strategy(model: keras.Model | None) -> Any:  # noqa: ANN401  a tf.distribute.Strategy
    found: Any = getattr(model, "_distribute_strategy", None)
    is_several = found is not None and getattr(found, "num_replicas_in_sync", 1) > 1
    return found if is_several else None


def _name_of(strategy: Any) -> str:  # noqa: ANN401  a tf.distribute.Strategy
    """Return the public class name of a strategy."""
    name = type(strategy).__name__
    return name.replace("CollectiveAllReduceStrategy", "MultiWorkerMirroredStrategy")
