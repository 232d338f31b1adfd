"""Groups of processes: which one this is, and what a group must not do without exchange."""

import json
import sys
from types import SimpleNamespace
from typing import Any, Final

import pytest

from kerash5._errors import OptionError
from kerash5.distributed import check_exchange, check_single_writer, find_group, find_shard

SIGNS: Final = (
    *("TF_CONFIG", "RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    *("PMI_RANK", "PMI_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Take every sign of a group away, and return what puts one there."""
    for name in ("torch", "jax"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in SIGNS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def fake_torch(*, is_available: bool = True, is_initialized: bool = True) -> Any:
    def get_rank() -> int:
        assert is_initialized, "torch raises here: the group has not been set up"
        return 1

    return SimpleNamespace(
        distributed=SimpleNamespace(
            is_available=lambda: is_available,
            is_initialized=lambda: is_initialized,
            get_rank=get_rank,
            get_world_size=lambda: 4,
        )
    )


def fake_jax(index: int, count: int) -> Any:
    return SimpleNamespace(process_index=lambda: index, process_count=lambda: count)


def tf_config(kind: str, index: int, **cluster: int) -> str:
    addresses = {name: [f"host:{port}" for port in range(n)] for name, n in cluster.items()}
    return json.dumps({"cluster": addresses, "task": {"type": kind, "index": index}})


@pytest.mark.usefixtures("alone")
def test_a_process_that_is_alone_is_the_only_shard() -> None:
    assert find_shard() == (0, 1)
    assert "jax" not in sys.modules
    assert "torch" not in sys.modules


def test_torch_is_asked_when_its_group_is_set_up(alone: pytest.MonkeyPatch) -> None:
    alone.setitem(sys.modules, "torch", fake_torch())
    assert find_shard() == (1, 4)


@pytest.mark.parametrize("missing", ["is_available", "is_initialized"])
def test_torch_without_a_group_is_alone(alone: pytest.MonkeyPatch, missing: str) -> None:
    alone.setitem(sys.modules, "torch", fake_torch(**{missing: False}))
    assert find_shard() == (0, 1)


def test_jax_is_asked_when_there_are_several_processes(alone: pytest.MonkeyPatch) -> None:
    alone.setitem(sys.modules, "jax", fake_jax(0, 1))
    assert find_shard() == (0, 1)
    alone.setitem(sys.modules, "jax", fake_jax(2, 3))
    assert find_shard() == (2, 3)


def test_torch_not_set_up_does_not_hide_jax(alone: pytest.MonkeyPatch) -> None:
    alone.setitem(sys.modules, "torch", fake_torch(is_initialized=False))
    alone.setitem(sys.modules, "jax", fake_jax(1, 2))
    assert find_shard() == (1, 2)


@pytest.mark.parametrize(
    ("text", "shard"),
    [
        pytest.param(tf_config("worker", 2, worker=3), (2, 3), id="workers"),
        pytest.param(tf_config("chief", 0, chief=1, worker=2), (0, 3), id="the chief"),
        pytest.param(tf_config("worker", 1, chief=1, worker=2), (2, 3), id="beside a chief"),
        pytest.param(tf_config("worker", 0, worker=2, ps=5), (0, 2), id="servers do not count"),
        pytest.param(tf_config("evaluator", 0, worker=2), (0, 1), id="an evaluator sees all"),
        pytest.param(tf_config("ps", 1, worker=2, ps=2), (0, 1), id="a parameter server"),
        pytest.param(tf_config("worker", 0), (0, 1), id="an empty cluster"),
        pytest.param('{"task": {"type": "worker", "index": 0}}', (0, 1), id="no cluster"),
        pytest.param("", (0, 1), id="empty"),
    ],
)
def test_tf_config_says_which_worker_this_is(
    alone: pytest.MonkeyPatch, text: str, shard: tuple[int, int]
) -> None:
    alone.setenv("TF_CONFIG", text)
    assert find_shard() == shard


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"cluster": {"worker": ["a"]}}', '{"cluster": ["a"], "task": {}}'),
        '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": "first"}}',
    ],
)
def test_a_tf_config_that_cannot_be_read_is_said_to_be_so(
    alone: pytest.MonkeyPatch, text: str
) -> None:
    alone.setenv("TF_CONFIG", text)
    with pytest.raises(OptionError, match=r"shard='auto' cannot read TF_CONFIG .* pass shard="):
        find_shard()


LAUNCHED: Final = {
    "torchrun": {"RANK": "1", "WORLD_SIZE": "2"},
    "mpirun": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
    "mpiexec": {"PMI_RANK": "1", "PMI_SIZE": "2"},
    "srun": {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"},
}


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_a_launcher_tells_of_a_group_that_no_framework_connects(
    alone: pytest.MonkeyPatch, launcher: str
) -> None:
    for name, value in LAUNCHED[launcher].items():
        alone.setenv(name, value)
    group = find_group()
    assert (group.index, group.count, group.found_by) == (1, 2, launcher)
    with pytest.raises(OptionError, match=rf"process 1 of 2 \({launcher}\).*init_process_group"):
        find_shard()
    with pytest.raises(OptionError, match=r"a model of its own; start one process, .* remove"):
        check_exchange("Trainer.fit")
    with pytest.raises(OptionError, match=r"pass the data shard=\(1, 2\)"):
        check_single_writer("Trainer.predict(out=)")


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"RANK": "0", "WORLD_SIZE": "1"}, id="torchrun with one process"),
        pytest.param({"WORLD_SIZE": "2"}, id="a size and no number"),
        pytest.param({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, id="a batch script"),
        pytest.param({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, id="srun of one"),
    ],
)
def test_a_process_alone_under_a_launcher_hears_nothing(
    alone: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        alone.setenv(name, value)
    assert find_shard() == (0, 1)
    check_exchange("Trainer.fit")
    check_single_writer("Trainer.predict(out=)")


def test_variables_that_contradict_each_other_are_refused(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("RANK", "2")
    alone.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        OptionError, match="RANK='2' and WORLD_SIZE='2' are not an index and a count"
    ):
        find_group()


def test_a_connected_group_is_believed_before_the_launcher(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("RANK", "0")
    alone.setenv("WORLD_SIZE", "2")
    alone.setitem(sys.modules, "torch", fake_torch())
    assert find_shard() == (1, 4)
    assert find_group().is_connected
