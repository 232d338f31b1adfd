"""The runner goes on whatever its children do, keeps what is done, and measures nothing twice."""

import json
import re
import time
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kerash5._errors import FileError, OptionError, RunError
from kerash5.comparison._children import Contender, child_settings, last_line
from kerash5.comparison._processes import Files, Processes
from kerash5.comparison._progress import Progress
from kerash5.comparison._results import Comparison, Method
from kerash5.comparison._rounds import METHOD_FILE, schedule_runs
from kerash5.comparison._runner import Runner
from kerash5.report._findings import find_tables, wait_fraction_of_difference
from tests.comparison.contenders import make_contender

FILES = Files(train=("train.h5",), test=(), x="image", y="label", num_rows=100)


def make_method(*contenders: Contender, **changes: Any) -> Method:
    values: dict[str, Any] = {
        "model": "mlp",
        "contenders": tuple(contender.name for contender in contenders),
        "batch_sizes": (10,),
        "settings": ("plain",),
        "repeats": 2,
        "num_steps": 4,
        "num_epochs": 2,
        "seed": 0,
        "threads": 1,
        "precision": "float32",
        "tf32": False,
        "data": "digits",
    }
    return Method(**{**values, **changes})


def run(
    folder: Path,
    *contenders: Contender,
    timeout_seconds: float = 60,
    console: Console | None = None,
    **changes: Any,
) -> Comparison:
    method = make_method(*contenders, **changes)
    processes = Processes(
        method=method, files=FILES, folder=folder / "out", timeout_seconds=timeout_seconds
    )
    return Runner(processes, contenders, Progress(method, console)).run()


def read_ledger(folder: Path) -> list[list[Any]]:
    path = folder / "ledger"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def count_jobs(folder: Path) -> Counter[str]:
    return Counter(job for _, job, *_ in read_ledger(folder))


def statuses(comparison: Comparison) -> dict[str, str]:
    return {sample.key: sample.status for sample in comparison.samples}


# What runs, in which order.


def test_every_repeat_has_a_process_of_its_own(tmp_path: Path) -> None:
    pair = [make_contender(tmp_path, name) for name in ("jax", "torch")]
    found = run(tmp_path, *pair, settings=("plain", "tuned"), repeats=3)
    assert count_jobs(tmp_path) == {"weights": 1, "parity": 2, "sample": 12}
    assert [sample.position for sample in found.samples] == list(range(12))
    assert set(statuses(found).values()) == {"ok"}
    assert found.is_complete
    assert all(parity.is_passed for parity in found.parities)


def test_a_round_holds_each_cell_once_in_an_order_that_the_seed_gives(tmp_path: Path) -> None:
    names = ("jax", "tensorflow", "torch")
    all_three = [make_contender(tmp_path, name) for name in names]
    method = make_method(*all_three, settings=("plain", "tuned"), batch_sizes=(10, 20), repeats=20)
    runs = list(schedule_runs(method, all_three))
    rounds = [runs[first : first + 12] for first in range(0, len(runs), 12)]
    for number, runs_of_round in enumerate(rounds):
        keys = {(c.contender.name, c.setting, c.batch_size) for c in runs_of_round}
        assert len(keys) == 12
        assert {run.repeat for run in runs_of_round} == {number}
    assert [run.position for run in runs] == list(range(240))
    firsts = {runs_of_round[0].contender.name for runs_of_round in rounds}
    assert firsts == set(names)
    assert list(schedule_runs(method, all_three)) == runs


def test_repeats_see_other_orders_of_rows_and_contenders_the_same(tmp_path: Path) -> None:
    pair = [make_contender(tmp_path, name) for name in ("jax", "torch")]
    run(tmp_path, *pair, repeats=3, seed=5)
    seeds = {name: [] for name in ("jax", "torch")}  # type: dict[str, list[int]]
    for name, job, _, seed in read_ledger(tmp_path):
        if job == "sample":
            seeds[name].append(seed)
    assert seeds == {"jax": [5, 6, 7], "torch": [5, 6, 7]}


def test_children_get_the_policy_by_their_environment(tmp_path: Path) -> None:
    found = run(tmp_path, make_contender(tmp_path, "torch"), threads=3, repeats=1)
    assert found.samples[0].environment["omp"] == "3"
    assert found.samples[0].environment["backend"] == "torch"
    settings = child_settings("jax", 3, tmp_path, {"HOME": "/there", "OMP_NUM_THREADS": "64"})
    threads = {v for name, v in settings.items() if "THREADS" in name or name == "NPROC"}
    assert threads == {"3"}
    assert settings["HOME"] == "/there"


def test_every_second_round_finds_what_was_compiled_before(tmp_path: Path) -> None:
    pair = (make_contender(tmp_path, "jax", caches=True), make_contender(tmp_path, "torch"))
    found = run(tmp_path, *pair, repeats=4)
    caches = {sample.key: sample.compile_cache for sample in found.samples}
    assert [caches[f"jax-plain-b10-r{n}"] for n in range(4)] == ["cold", "warm"] * 2
    assert {caches[f"torch-plain-b10-r{n}"] for n in range(4)} == {"none"}
    assert not (tmp_path / "out" / "scratch").exists()


def test_steps_are_fewer_where_the_data_have_fewer_rows(tmp_path: Path) -> None:
    found = run(tmp_path, make_contender(tmp_path, "jax"), batch_sizes=(10, 40), num_steps=9)
    assert {(s.batch_size, s.num_steps) for s in found.samples} == {(10, 9), (40, 2)}


# What goes wrong is a row with its reason.


@pytest.mark.parametrize(
    ("play", "words"),
    [
        ({"missing": "the backend 'torch' is not installed"}, "is not installed"),
        ({"no_kerash5": True}, "has no kerash5 .*pip install"),
        ({"kerash5": "99.0"}, "has kerash5 99.0, but this is .*; install the same"),
    ],
    ids=["no backend", "no kerash5", "another kerash5"],
)
def test_who_is_missing_is_a_row_with_the_reason(
    tmp_path: Path, play: dict[str, Any], words: str
) -> None:
    torch = make_contender(tmp_path, "torch", **play)
    found = run(tmp_path, make_contender(tmp_path, "jax"), torch)
    rows = [sample for sample in found.samples if sample.contender == "torch"]
    assert [sample.status for sample in rows] == ["missing", "missing"]
    for reason in (rows[0].error, found.parities[1].reason):
        assert re.search(words, reason), reason
    assert count_jobs(tmp_path)["sample"] == 2


def test_an_interpreter_that_is_not_there_is_a_row_with_the_reason(tmp_path: Path) -> None:
    nobody = Contender(name="torch", backend="torch", python=str(tmp_path / "nobody"))
    found = run(tmp_path, make_contender(tmp_path, "jax"), nobody)
    assert statuses(found)["torch-plain-b10-r0"] == "missing"
    assert "cannot be run" in found.parities[1].reason


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("crash", "the process failed: ValueError: it broke"),
        ("kill", "the process was killed by SIGKILL"),
        ("hang", "took longer than 2 s and was killed; allow more with --timeout"),
        ("refuse", "did you mean 'mlp'"),
    ],
)
def test_a_sample_that_fails_is_a_row_and_the_others_go_on(
    tmp_path: Path, fault: str, words: str
) -> None:
    torch = make_contender(tmp_path, "torch", sample=fault)
    found = run(tmp_path, make_contender(tmp_path, "jax"), torch, repeats=1, timeout_seconds=2)
    failed = next(sample for sample in found.samples if sample.contender == "torch")
    assert failed.status == "failed"
    assert words in failed.error
    assert statuses(found)["jax-plain-b10-r0"] == "ok"
    assert found.is_complete


def test_who_fails_at_parity_is_not_timed(tmp_path: Path) -> None:
    torch = make_contender(tmp_path, "torch", parity="crash")
    found = run(tmp_path, make_contender(tmp_path, "jax"), torch)
    assert {s.status for s in found.samples if s.contender == "torch"} == {"failed"}
    assert "it broke" in found.parities[1].reason
    assert count_jobs(tmp_path)["sample"] == 2


def test_who_computes_something_else_is_timed_and_fails_parity(tmp_path: Path) -> None:
    torch = make_contender(tmp_path, "torch", factor=1.001)
    found = run(tmp_path, make_contender(tmp_path, "jax"), torch)
    jax, wrong = found.parities
    assert jax.is_passed
    assert wrong.reason.startswith("forward differs from jax by 0.0005")
    assert statuses(found)["torch-plain-b10-r0"] == "ok"


def test_weights_are_made_by_the_next_where_the_first_cannot(tmp_path: Path) -> None:
    jax = make_contender(tmp_path, "jax", weights="crash", parity="crash")
    found = run(tmp_path, jax, make_contender(tmp_path, "torch"))
    assert statuses(found)["torch-plain-b10-r0"] == "ok"
    assert statuses(found)["jax-plain-b10-r0"] == "failed"


def test_what_nobody_can_do_is_an_error(tmp_path: Path) -> None:
    pair = [make_contender(tmp_path, name, weights="refuse") for name in ("jax", "torch")]
    with pytest.raises(RunError, match="did you mean 'mlp'"):
        run(tmp_path, *pair)


def test_an_environment_of_several_backends_is_told_as_a_caveat(tmp_path: Path) -> None:
    jax = make_contender(tmp_path, "jax", installed=["jax", "torch"])
    found = run(tmp_path, jax, make_contender(tmp_path, "torch"))
    assert len(found.notes) == 1
    assert found.notes[0].startswith("jax ran in an environment with several backends")


# What the tables make of it. The numbers are exact here; what noise does to them is tested in
# test_statistics.py, and on a real backend by benchmarks/against_itself.py.


def test_a_backend_against_itself_is_no_different(tmp_path: Path) -> None:
    found = run(tmp_path, *(make_contender(tmp_path, name) for name in ("jax", "jax-2")), repeats=4)
    (table,) = find_tables(found)
    assert sorted(row.standing for row in table.rows)[1:] == ["level"]


def test_an_input_that_is_slower_by_30_percent_is_found_and_blamed(tmp_path: Path) -> None:
    sound = make_contender(tmp_path, "jax", seconds=1.0, cached=0.9)
    slow = make_contender(tmp_path, "jax-2", seconds=1.3, cached=0.9)
    (table,) = find_tables(run(tmp_path, sound, slow, repeats=4))
    rows = {row.contender: row for row in table.rows}
    assert rows["jax"].standing == "fastest"
    assert rows["jax-2"].standing == "slower"
    assert wait_fraction_of_difference(rows["jax-2"], rows["jax"]) == pytest.approx(1, abs=0.05)


# Going on.


def test_what_is_measured_is_not_measured_again(tmp_path: Path) -> None:
    pair = [make_contender(tmp_path, name) for name in ("jax", "torch")]
    first = run(tmp_path, *pair)
    again = run(tmp_path, *pair)
    assert count_jobs(tmp_path) == {"weights": 1, "parity": 2, "sample": 4}
    assert repr(again.samples) == repr(first.samples)
    assert again.started == first.started
    assert again.seconds > first.seconds


def test_more_repeats_and_contenders_are_measured_on_top(tmp_path: Path) -> None:
    jax, torch = (make_contender(tmp_path, name) for name in ("jax", "torch"))
    run(tmp_path, jax)
    found = run(tmp_path, jax, torch, repeats=3)
    assert count_jobs(tmp_path) == {"weights": 1, "parity": 2, "sample": 6}
    assert len(found.samples) == 6


def test_a_sample_that_failed_is_measured_again(tmp_path: Path) -> None:
    run(tmp_path, make_contender(tmp_path, "jax", sample="crash"))
    found = run(tmp_path, make_contender(tmp_path, "jax"))
    assert set(statuses(found).values()) == {"ok"}


def test_samples_of_other_versions_are_measured_again(tmp_path: Path) -> None:
    run(tmp_path, make_contender(tmp_path, "jax"))
    found = run(tmp_path, make_contender(tmp_path, "jax", keras="3.16.0"))
    assert count_jobs(tmp_path) == {"weights": 1, "parity": 2, "sample": 4}
    assert found.versions["jax"] == {"keras": "3.16.0"}


def test_a_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    jax = make_contender(tmp_path, "jax")
    run(tmp_path, jax)
    with pytest.raises(OptionError, match=r"contains a comparison with num_steps=4; pass another"):
        run(tmp_path, jax, num_steps=5)


def test_a_folder_that_holds_nonsense_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / METHOD_FILE).write_text("nonsense")
    with pytest.raises(FileError, match="holds no results of a comparison"):
        run(tmp_path, make_contender(tmp_path, "jax"))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FileError, match="pass another --out"):
        run(tmp_path, make_contender(tmp_path, "jax"))


def test_ctrl_c_keeps_what_is_done_and_leaves_no_child_behind(tmp_path: Path) -> None:
    began = time.monotonic()
    jax = make_contender(tmp_path, "jax", sample="interrupt", after=4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, jax, repeats=5)
    assert time.monotonic() - began < 60  # the child would sleep for ten minutes
    kept = Comparison.load(tmp_path / "out")
    assert not kept.is_complete
    assert list(statuses(kept)) == ["jax-plain-b10-r0", "jax-plain-b10-r1"]
    found = run(tmp_path, make_contender(tmp_path, "jax"), repeats=5)
    assert found.is_complete
    assert len(found.samples) == 5


# What is shown meanwhile.


def test_each_process_is_a_line_where_there_is_no_terminal(tmp_path: Path) -> None:
    out = StringIO()
    torch = make_contender(tmp_path, "torch", sample="crash")
    pair = (make_contender(tmp_path, "jax"), torch)
    run(tmp_path, *pair, repeats=1, console=Console(file=out, width=60))
    lines = out.getvalue().splitlines()
    assert any("jax-plain-b10-r0  40 rows/s, first step after 1.8 s" in line for line in lines)
    assert any("the process failed: ValueError: it broke" in line for line in lines)


def test_a_terminal_shows_a_table(tmp_path: Path) -> None:
    out = StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    run(tmp_path, make_contender(tmp_path, "jax"), repeats=1, console=console)
    assert "processes" in out.getvalue()
    assert "rows/s so far" in out.getvalue()


def test_the_last_line_of_a_traceback_is_the_one_that_says_what_happened() -> None:
    assert last_line("Traceback\n  File\nValueError: no\n\n") == "ValueError: no"
    assert last_line("\n") == "it printed nothing"
