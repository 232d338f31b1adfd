"""The command line without Keras: what is parsed, what is printed where, and the exit codes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
import yaml

import kerash5
from kerash5._errors import DownloadError
from kerash5._options import DataOptions, ModelOptions, TrainerOptions, check_aliases
from kerash5.cli import _jobs
from kerash5.cli._main import main
from kerash5.comparison._machine import Machine
from kerash5.h5 import _child
from tests.cli.lines import only_line

Pretend = Callable[..., None]
COMMANDS: Final = (
    *("demo", "fit", "test", "predict", "lr-find", "batch-size-find", "describe", "view"),
    *("verify", "compare", "bench", "repack", "pack", "env"),
)
Console = pytest.CaptureFixture[str]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Return a function that makes it seem that exactly these packages are installed."""

    def install(*names: str) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: object() if name in names else None
        )

    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return install


def fitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let `fit` note what it is called with instead of training."""
    calls: list[dict[str, Any]] = []

    def note(
        data: DataOptions, model: ModelOptions, trainer: TrainerOptions, **others: Any
    ) -> None:
        calls.append({"data": data, "model": model, "trainer": trainer, **others})

    monkeypatch.setattr(_jobs, "run_fit", note)
    return calls


# What needs no job.


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=str)
def test_help_names_every_command_and_is_no_error(words: list[str], capsys: Console) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.findall(r"^  ([\w-]+) ", out, re.MULTILINE) == list(COMMANDS)
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_of_its_own(command: str, capsys: Console) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: kerash5 {command}")
    assert ".:" not in out  # a heading


def test_the_version_is_that_of_the_package(capsys: Console) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kerash5 {kerash5.__version__}\n"


def test_the_words_of_the_process_are_taken_unless_others_are_given(
    capsys: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["kerash5", "--version"])
    assert main() == 0
    assert kerash5.__version__ in capsys.readouterr().out


def test_the_module_can_be_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kerash5", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("kerash5 ")


# Usage.


@pytest.mark.parametrize(
    ("word", "cure"),
    [
        ("--data.trian", "did you mean '--data.train' or"),
        ("--data.validation", "validation_split="),
        ("--trainer.epochs", "it is max_epochs="),
        ("--trainer.ema=0.9", "it is now ema_momentum="),
        ("--trainer.checkpoint_every", "it is now train_time_interval="),
    ],
)
def test_an_unknown_option_names_the_right_one(word: str, cure: str, capsys: Console) -> None:
    assert main(["fit", "--data.train", "a.h5", word, "1"]) == 2
    assert cure in only_line(capsys.readouterr().err)


def test_an_unknown_option_of_a_config_names_the_right_one(capsys: Console, tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("data: {train: a.h5, validation: 0.2}\n")
    assert main(["fit", "--config", str(path)]) == 2
    assert "validation_split=" in only_line(capsys.readouterr().err)


@pytest.mark.parametrize("flag", ["--data.batch-size", "--data.batch_size"])
def test_options_are_written_with_dashes_or_underscores(
    flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fitted(monkeypatch)
    assert main(["fit", "--data.train", "a.h5", flag, "7"]) == 0
    assert main(["fit", "--data.train", "a.h5", f"{flag}=8"]) == 0
    assert [call["data"].batch_size for call in calls] == [7, 8]


def test_an_unknown_command_is_a_usage_error_that_lists_the_commands(capsys: Console) -> None:
    assert main(["train"]) == 2
    line = only_line(capsys.readouterr().err)
    assert line.startswith("kerash5: no command 'train'; there are demo, fit, ")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["fit", "--data.trian", "a.h5"], id="unknown flag"),
        pytest.param(["fit", "--trainer.max_epochs", "many"], id="wrong type"),
        pytest.param(["fit", "--trainer.precision", "float64"], id="not a choice"),
        pytest.param(["fit", "--config", "nowhere.yaml"], id="no config file"),
        pytest.param(["describe"], id="missing argument"),
        pytest.param(["test"], id="missing flag"),
        pytest.param(["test", "--run", "a", "--weights", "worst"], id="no such weights"),
        pytest.param(["env", "more"], id="argument too many"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_of_one_line(
    words: list[str], capsys: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    line = only_line(err)
    assert line.startswith("kerash5: ")
    assert line.endswith(f"(kerash5 {words[0]} --help lists all options)")
    assert list(tmp_path.iterdir()) == []


# Failures.


def test_a_missing_file_is_one_line_on_stderr(capsys: Console, tmp_path: Path) -> None:
    path = str(tmp_path / "no.h5")
    assert main(["describe", path]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    line = only_line(err)
    assert line.startswith("kerash5: ")
    assert path in line


@pytest.mark.parametrize("words", [["--debug", "describe"], ["describe", "--debug"]], ids=str)
def test_debug_shows_the_traceback_before_the_line(words: list[str], capsys: Console) -> None:
    assert main([*words, "no.h5"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("kerash5: ")


def test_an_error_that_is_not_ours_says_its_type_and_stays_one_line(
    capsys: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, **_: object) -> None:
        raise ZeroDivisionError(f"{path}\n  on two lines")

    monkeypatch.setattr(_jobs, "run_describe", fail)
    assert main(["describe", "a.h5"]) == 1
    line = only_line(capsys.readouterr().err)
    assert line == "kerash5: ZeroDivisionError: a.h5 on two lines (--debug shows where)"


def test_an_error_of_ours_is_its_sentence(capsys: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, **_: object) -> None:
        raise DownloadError(f"no network; bring {path}")

    monkeypatch.setattr(_jobs, "run_describe", fail)
    assert main(["describe", "a.h5"]) == 1
    assert only_line(capsys.readouterr().err) == "kerash5: no network; bring a.h5"


def test_testing_what_is_no_run_is_one_line(capsys: Console, tmp_path: Path) -> None:
    assert main(["test", "--run", str(tmp_path)]) == 1
    assert "name the run_dir of a Trainer" in only_line(capsys.readouterr().err)


# Backends.


def fit_words(file: str, folder: Path) -> list[str]:
    return ["fit", "--data.train", file, "--trainer.run_dir", str(folder / "run")]


@pytest.mark.parametrize("command", ["fit", "demo", "pack"])
def test_without_any_backend_the_line_says_what_to_install(
    command: str, file: str, tmp_path: Path, pretend: Pretend, capsys: Console
) -> None:
    pretend("keras")
    words = {
        "fit": fit_words(file, tmp_path),
        "demo": ["demo", "--run_dir", str(tmp_path / "run")],
        "pack": ["pack", "mnist", str(tmp_path / "run")],
    }
    assert main(words[command]) == 1
    line = only_line(capsys.readouterr().err)
    assert "no backend is installed" in line
    assert "pip install 'kerash5[jax]'" in line
    assert not (tmp_path / "run").exists()


def test_a_backend_that_is_not_installed_says_what_to_install(
    file: str, tmp_path: Path, pretend: Pretend, capsys: Console
) -> None:
    pretend("keras", "jax")
    assert main([*fit_words(file, tmp_path), "--backend", "torch"]) == 1
    assert "pip install 'kerash5[torch]'" in only_line(capsys.readouterr().err)


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_a_wrong_backend_name_lists_those_there_are(
    how: str, pretend: Pretend, capsys: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend("keras", "jax")
    if how == "environment":
        monkeypatch.setenv("KERAS_BACKEND", "pytorch")
    assert main(["demo", *(["--backend", "pytorch"] if how == "flag" else [])]) == 1
    line = only_line(capsys.readouterr().err)
    assert "'pytorch'" in line
    assert "jax, tensorflow, torch" in line


# What the commands print.


def test_describe_prints_what_is_in_the_file(file: str, capsys: Console) -> None:
    assert main(["describe", file]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("train.h5: 2 data sets")
    assert "image: 6 rows of (8, 8) uint8" in out
    assert err == ""


def test_describe_prints_json_with_all_that_the_text_says(file: str, capsys: Console) -> None:
    assert main(["describe", file, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["files"]
    assert found["path"] == file
    suggested = found["can_be_trained_on"]
    assert (suggested["x"], suggested["y"], suggested["num_rows"]) == ("image", "label", 6)
    assert shlex.split(suggested["command"])[:3] == ["kerash5", "fit", file]
    assert [each["path"] for each in found["data_sets"]] == ["image", "label"]


def test_env_prints_yaml_with_the_backends_and_versions(pretend: Pretend, capsys: Console) -> None:
    pretend("keras", "torch")
    assert main(["env"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["backends"] == "torch"
    assert values["versions"]["numpy"] == np.__version__
    assert values["cores"] >= 1


def test_env_names_what_a_report_of_a_bug_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Console
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "Example GPU 80GB"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert main(["env"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["hdf5"] == h5py.version.hdf5_version
    assert values["gpus"] == ["Example GPU 80GB"]
    assert re.fullmatch(r"\d+ GB", values["memory"])
    assert {"kerash5", "h5py", "imagecodecs", "hdf5plugin"} <= values["versions"].keys()
    assert {"python", "platform", "processor", "settings"} <= values.keys()


def test_env_says_where_no_gpu_is_found(monkeypatch: pytest.MonkeyPatch, capsys: Console) -> None:
    monkeypatch.setattr(_jobs, "find_machine", lambda: Machine(gpus=()))
    assert main(["env"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["gpus"] == "none that nvidia-smi lists"


def test_env_says_what_to_install_where_there_is_no_backend(
    pretend: Pretend, capsys: Console
) -> None:
    pretend()
    assert main(["env"]) == 0
    assert "pip install 'kerash5[jax]'" in capsys.readouterr().out.splitlines()[0]


def test_packing_an_unknown_data_set_says_which_there_is(capsys: Console, tmp_path: Path) -> None:
    assert main(["pack", "cifar", str(tmp_path)]) == 1
    assert "there is 'mnist'" in only_line(capsys.readouterr().err)


# What `fit` understands.


def test_flags_reach_the_job_with_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fitted(monkeypatch)
    words = {
        "--data.train": "a.h5",
        "--data.x": "{path: image, shape: [28, 28, 1]}",
        "--data.validation-split": "1000",
        "--data.shuffle": "false",
        "--data.cache": "0.5",
        "--model.options": "{hidden: [8, 4]}",
        "--trainer.max_epochs": "3",
        "--seed": "7",
        "--backend": "jax",
    }
    assert main(["fit", *(word for pair in words.items() for word in pair)]) == 0
    (call,) = calls
    assert call["data"] == DataOptions(
        train="a.h5",
        x={"path": "image", "shape": [28, 28, 1]},
        y="label",
        batch_size=None,
        validation_split=1000,
        shuffle=False,
        cache=0.5,
    )
    assert type(call["data"].validation_split) is int  # 1000 rows; 1000.0 would be no fraction
    assert call["model"] == ModelOptions(options={"hidden": [8, 4]})
    assert call["trainer"] == TrainerOptions(max_epochs=3)
    assert (call["seed"], call["backend"]) == (7, "jax")


@pytest.mark.parametrize("form", ["two words", "one word"])
@pytest.mark.parametrize("word", ["None", "null"])
def test_none_is_null(word: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(_jobs, "run_fit", lambda *options, **_: given.extend(options))
    names = ["--data.y", "--trainer.early-stopping", "--data.test"]
    pairs = [[name, word] if form == "two words" else [f"{name}={word}"] for name in names]
    assert main(["fit", "a.h5", *(part for pair in pairs for part in pair)]) == 0
    data, _, trainer = given
    assert (data.y, data.test, trainer.early_stopping) == (None, None, None)


def test_the_words_of_python_for_true_and_false_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(_jobs, "run_fit", lambda *options, **_: given.extend(options))
    assert main(["fit", "a.h5", "--data.shuffle", "False", "--data.stratify", "True"]) == 0
    assert (given[0].shuffle, given[0].stratify) == (False, True)


@pytest.mark.parametrize("option", ["--data.rows", "--data.validation_split"])
def test_a_slice_is_no_rows_on_the_command_line(option: str, capsys: Console) -> None:
    for words in ([option, "slice(48000, None)"], [f"{option}=slice(48000, None)"]):
        assert main(["fit", "a.h5", *words]) == 2
        line = only_line(capsys.readouterr().err)
        assert "'slice(48000, None)' is a slice, which only Python has" in line
        assert "[0, 5, 7]" in line


@pytest.mark.parametrize(("word", "value"), [("0.2", 0.2), ("5", 5), ("null", None)])
def test_validation_is_a_fraction_or_a_number_of_rows(
    word: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fitted(monkeypatch)
    assert main(["fit", "--data.train", "a.h5", "--data.validation-split", word]) == 0
    found = calls[0]["data"].validation_split
    assert (found, type(found)) == (value, type(value))


def test_files_and_models_may_be_written_short(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fitted(monkeypatch)
    words = "a.h5 b.h5 --model my.models:build --model.width 64 --model.hidden [8,4]"
    words += " --optimizer AdamW --optimizer.weight-decay 1e-4 --lr-schedule CosineDecay"
    words += " --lr-schedule.decay_steps 100 --loss mse --metrics [mae]"
    assert main(["fit", *words.split()]) == 0
    assert (calls[0]["data"].train, calls[0]["data"].test) == ("a.h5", "b.h5")
    assert calls[0]["model"] == ModelOptions(
        name="my.models:build",
        options={"width": 64, "hidden": [8, 4]},
        optimizer="AdamW",
        optimizer_options={"weight_decay": 1e-4},
        lr_schedule="CosineDecay",
        lr_schedule_options={"decay_steps": 100},
        loss="mse",
        metrics=["mae"],
    )


def test_a_third_file_is_asked_about(capsys: Console) -> None:
    assert main(["fit", "a.h5", "b.h5", "c.h5"]) == 2
    assert "3 files" in only_line(capsys.readouterr().err)


def test_a_config_runs_no_code_that_the_command_line_does_not_name(
    monkeypatch: pytest.MonkeyPatch, capsys: Console, tmp_path: Path
) -> None:
    calls = fitted(monkeypatch)
    path = tmp_path / "run.yaml"
    path.write_text("data: {train: a.h5}\nmodel: {name: 'os:getcwd'}\n")
    assert main(["fit", "--config", str(path)]) == 2
    assert "names the function 'os:getcwd', which would be run" in only_line(
        capsys.readouterr().err
    )
    assert not calls
    assert main(["fit", "--config", str(path), "--model", "os:getcwd"]) == 0
    assert len(calls) == 1


def test_several_files_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fitted(monkeypatch)
    assert main(["fit", "--data.train", "[a.h5, b.h5]"]) == 0
    assert calls[0]["data"].train == ["a.h5", "b.h5"]


def test_unasked_everything_has_the_defaults_of_the_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = fitted(monkeypatch)
    assert main(["fit"]) == 0
    assert calls == [
        {
            "data": DataOptions(x="image", y="label", batch_size=None),
            "model": ModelOptions(),
            "trainer": TrainerOptions(),
            "backend": None,
            "seed": 0,
            "resume": None,
        }
    ]


def test_what_print_config_prints_config_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: Console, tmp_path: Path
) -> None:
    words = [
        *("--data.train", "a.h5", "--data.x", "{left: a, right: {path: b, shape: [4]}}"),
        *("--data.validation-split", "0.25", "--data.stratify", "true", "--model.name", "mlp"),
        *("--model.options", "{hidden: [8]}", "--trainer.monitor", "val_accuracy", "--seed", "3"),
    ]
    calls = fitted(monkeypatch)
    assert main(["fit", *words]) == 0
    assert main(["fit", *words, "--print_config"]) == 0
    path = tmp_path / "run.yaml"
    path.write_text(capsys.readouterr().out)
    assert main(["fit", "--config", str(path)]) == 0
    assert len(calls) == 2
    assert calls[0] == calls[1]


def test_a_flag_after_the_config_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = fitted(monkeypatch)
    path = tmp_path / "run.yaml"
    path.write_text("data: {train: a.h5, batch_size: 7}\nseed: 5\n")
    assert main(["fit", "--config", str(path), "--data.batch_size", "9"]) == 0
    assert (calls[0]["data"].train, calls[0]["data"].batch_size, calls[0]["seed"]) == ("a.h5", 9, 5)


# Signals.

WAITING: Final = """
import sys, time
from kerash5.cli import _main, _jobs

def wait(path, json):
    print("waiting", flush=True)
    time.sleep(60)

_jobs.run_describe = wait
sys.exit(_main.main(["describe", "a.h5"]))
"""


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        pytest.param(signal.SIGTERM, 143, "SIGTERM", id="SIGTERM"),
        pytest.param(signal.SIGINT, 130, "Ctrl-C", id="Ctrl-C"),
    ],
)
def test_a_signal_ends_the_job_with_its_code_and_one_line(
    number: signal.Signals, code: int, word: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(number)
        _, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert only_line(err).startswith(f"kerash5: stopped by {word}")


def test_the_code_after_ctrl_c_is_returned(
    monkeypatch: pytest.MonkeyPatch, capsys: Console
) -> None:
    def stop(path: str, **_: object) -> None:
        raise KeyboardInterrupt(path)

    monkeypatch.setattr(_jobs, "run_describe", stop)
    assert main(["describe", "a.h5"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_the_callers_own_handler_of_sigterm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    main(["describe", os.devnull])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("capsys")
def test_a_command_can_be_called_from_another_thread(file: str) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["describe", file])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_bench_prints_a_table_and_a_verdict(file: str, tmp_path: Path, capsys: Console) -> None:
    out = str(tmp_path / "out.json")
    assert main(["bench", file, "--rounds", "1", "--seconds", "0.01", "--json", out]) == 0
    printed = capsys.readouterr().out
    assert "arrays in memory" in printed
    assert printed.splitlines()[-1].startswith("kerash5 reads this file at ")
    assert Path(out).exists()


def test_bench_opens_the_file_in_a_child_process_first(
    tmp_path: Path, capsys: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_child, "SECONDS", 8.0)
    path = tmp_path / "bad.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros((4, 3))
        file["y"] = np.array(["cat", "dog", "cow", "cat"], dtype=h5py.string_dtype())
    raw = bytearray(path.read_bytes())
    first_object = raw.index(b"GCOL") + 16
    raw[first_object : first_object + 16] = bytes(16)  # on which HDF5 hangs
    path.write_bytes(raw)
    assert main(["bench", str(path), "--x", "x", "--y", "y", "--rounds", "1"]) == 1
    assert "HDF5 hangs on it" in only_line(capsys.readouterr().err)


def test_bench_of_no_rounds_is_one_sentence(file: str, capsys: Console) -> None:
    assert main(["bench", file, "--rounds", "0"]) == 1
    assert "rounds=0" in only_line(capsys.readouterr().err)


def test_verify_says_what_is_sound_and_fails_where_something_is_not(
    file: str, capsys: Console
) -> None:
    assert main(["verify", file]) == 0
    assert capsys.readouterr().out.splitlines() == ["image: sound", "label: sound"]
    os.truncate(file, Path(file).stat().st_size // 2)
    assert main(["verify", file]) == 1
    captured = capsys.readouterr()
    assert ": damaged: " in only_line(captured.out)
    assert "1 of 1 are damaged" in only_line(captured.err)


# What terminals and files can do to a command.


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    done = subprocess.run(
        f"{sys.executable} -m kerash5 env | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_of_ascii_gets_what_it_can_show(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["größe"] = np.zeros(3)
    done = subprocess.run(
        [sys.executable, "-m", "kerash5", "describe", str(path)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0
    assert b"gr\\xf6\\xdfe: 3 rows" in done.stdout


BOMB = "a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghi")
)


@pytest.mark.parametrize("form", [["--config", "{}"], ["--config={}"]], ids=["two words", "one"])
def test_a_config_whose_aliases_explode_is_refused(
    tmp_path: Path, capsys: Console, form: list[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(BOMB)
    assert main(["fit", *(word.format(path) for word in form)]) == 1
    assert "its aliases (*name) stand for more than 100000 values" in only_line(
        capsys.readouterr().err
    )
    path.write_text(f"data: {{train: [{BOMB.splitlines()[0][3:]}, *a]}}\n")
    check_aliases(path.read_text(), "this")


def test_a_run_that_nests_without_end_is_one_line(tmp_path: Path, capsys: Console) -> None:
    (tmp_path / "run.json").write_text("[" * 100_000)
    assert main(["test", "--run", str(tmp_path)]) == 1
    assert "is no run" in only_line(capsys.readouterr().err)
