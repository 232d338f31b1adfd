"""Find the group of processes this one was started in, and refuse calls that would ignore it.

Only frameworks that are already imported are queried; importing one would decide for the user. A
single process (or a group of one) gets `Group(0, 1)`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kerash5._errors import OptionError

# Per launcher, the variables with the index of this process and the number of processes. SLURM:
# SLURM_NTASKS is also set in the batch script, which is one process; the variables of a job step
# are only set by srun (https://slurm.schedmd.com/srun.html, "OUTPUT ENVIRONMENT VARIABLES").
_LAUNCHERS: Final = (
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("mpiexec", "PMI_RANK", "PMI_SIZE"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train together.

    Args:
        index: Index of this process, from 0.
        count: Number of processes.
        found_by: Source of the numbers, for messages: "torch.distributed", "TF_CONFIG", "torchrun".
        is_connected: Whether a framework has connected the group; False if only the launcher's
            variables describe it.
        cure: How to make this process independent of the group, for messages.
    """

    index: int = 0
    count: int = 1
    found_by: str = ""
    is_connected: bool = True
    cure: str = ""

    def describe(self) -> str:
        """Return for example "process 1 of 2 (torchrun)"; indices start at 0."""
        return f"process {self.index} of {self.count} ({self.found_by})"


def find_group() -> Group:
    """Return the group of this process; `Group(0, 1)` for a single process.

    Raises:
        OptionError: TF_CONFIG or a launcher's variable is malformed.
    """
    torch = sys.modules.get("torch")
    group = getattr(torch, "distributed", None)
    if group is not None and group.is_available() and group.is_initialized():
        cure = "call torch.distributed.destroy_process_group()"
        index, count = int(group.get_rank()), int(group.get_world_size())
        return Group(index, count, "torch.distributed", cure=cure)
    jax = sys.modules.get("jax")
    process_count = getattr(jax, "process_count", None)  # absent while JAX is being imported
    if jax is not None and process_count is not None and process_count() > 1:
        cure = "leave jax.distributed.initialize() out"
        return Group(int(jax.process_index()), int(process_count()), "jax.distributed", cure=cure)
    return _read_tf_config(os.environ.get("TF_CONFIG", "")) or _read_launcher(os.environ) or Group()


def find_shard() -> tuple[int, int]:
    """Return the (index, count) that `shard="auto"` stands for.

    Raises:
        OptionError: A launcher started several processes, but no framework has connected them.
    """
    group = find_group()
    if group.count > 1 and not group.is_connected:
        raise OptionError(
            f"shard='auto': this is {group.describe()}, but no framework has connected the group, "
            "so each process would read all rows; call torch.distributed.init_process_group() or "
            "jax.distributed.initialize() first, or pass "
            f"shard=({group.index}, {group.count})"
        )
    return group.index, group.count


def check_exchange(what: str) -> None:
    """Raise if this process belongs to a group, because gradients are not exchanged.

    Args:
        what: The call, such as "Trainer.fit", for the message.

    Raises:
        OptionError: There are several processes, which would train separate models.
    """
    group = find_group()
    if group.count > 1:
        raise OptionError(
            f"{what}: this is {group.describe()}, but gradients are not exchanged between "
            "processes, so each would train a model of its own; start one process, or, to train "
            f"separate models, {group.cure} first"
        )


def check_single_writer(what: str) -> None:
    """Raise if several processes would each predict all rows.

    Args:
        what: The call, such as "Trainer.predict(out=)", for the message.

    Raises:
        OptionError: There are several processes.
    """
    group = find_group()
    if group.count > 1:
        raise OptionError(
            f"{what}: this is {group.describe()} and each would write predictions for all rows; "
            f"start one process, or pass the data shard=({group.index}, {group.count}) and "
            "a different out= in each process"
        )


def _read_launcher(environment: Mapping[str, str]) -> Group | None:
    for launcher, index, count in _LAUNCHERS:
        if index not in environment or count not in environment:
            continue
        values = environment[index], environment[count]
        if not all(value.isdecimal() for value in values) or int(values[0]) >= int(values[1]):
            raise OptionError(
                f"{index}={values[0]!r} and {count}={values[1]!r} are not an index and a count; "
                f"set both as {launcher} does, with 0 <= {index} < {count}, or remove them"
            )
        if int(values[1]) > 1:
            cure = f"remove {index} and {count} from os.environ"
            return Group(int(values[0]), int(values[1]), launcher, is_connected=False, cure=cure)
    return None


def _read_tf_config(text: str) -> Group | None:
    """Return the group that TF_CONFIG describes; None if it describes none."""
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster = config.get("cluster", {})
        chiefs = len(cluster.get("chief", []))
        count = chiefs + len(cluster.get("worker", []))
        if not count:
            return None
        index, kind = int(config["task"]["index"]), config["task"]["type"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OptionError(
            f"shard='auto' cannot read TF_CONFIG ({error!r}); correct it, or pass "
            "shard=(index, count)"
        ) from error
    if kind not in ("chief", "worker"):  # an evaluator sees every row, a parameter server none
        return Group()
    number = index + (chiefs if kind == "worker" else 0)
    return Group(number, count, "TF_CONFIG", cure="remove TF_CONFIG from os.environ")
