"""The front desk: parses what the user types, and calls the job.

No logic of its own, and no Keras until a job runs. Exit codes: 0 done; 1 a stated failure, one line
on stderr; 2 usage; 130 after Ctrl-C; 141 where nobody reads stdout on; 143 after SIGTERM.
"""

# ruff: noqa: T201  what it prints is what it is for

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from kerash5._errors import KerasH5Error, escape_controls
from kerash5._version import __version__

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_COMMANDS = {
    "demo": "train on the shipped digits, test, and draw pictures: about a minute",
    "fit": "train a model of the zoo on HDF5 files",
    "test": "test the model of a finished run",
    "predict": "write what the model of a finished run answers to an HDF5 file",
    "lr-find": "look for a good learning rate, and draw the curve",
    "batch-size-find": "look for the largest batch size that trains, and the fastest",
    "describe": "say what is in an HDF5 file, and how it is read",
    "verify": "read all of an HDF5 file in a child process, and say what is damaged",
    "compare": "say which backend is fastest, measured in fresh processes",
    "bench": "measure how fast an HDF5 file is read, beside h5py and memory",
    "pack": "write a data set of keras.datasets as HDF5 files",
    "env": "say what is installed, and on what machine",
}
_WHAT_NOW = "what the run has written so far is in its folder, and --resume auto goes on there"
_USAGE, _CTRL_C, _SIGPIPE, _SIGTERM = 2, 130, 141, 143
_RESUME_HELP = (
    "auto goes on with the unfinished run in --trainer.run_dir, or begins one; last and best go on "
    "from that checkpoint; a path begins a new run from it; force is auto in spite of changes"
)
_BACKEND_HELP = "jax, tensorflow or torch; KERAS_BACKEND, or the first installed, if not given"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Args:
        argv: The words after the program's name; None for those of the process.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # for terminals that know ASCII alone
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words[0] == "--version":
        print(f"kerash5 {__version__}")
        return 0
    with _sigterm_stops():
        return _run_to_exit_code(words, debug=debug)


def _run_to_exit_code(words: list[str], *, debug: bool) -> int:
    try:
        _run(words)
        sys.stdout.flush()  # here, where a reader that is gone can be told from a failure
    except SystemExit as stopped:
        return _exit_code(stopped)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGPIPE
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        _complain(f"stopped by Ctrl-C; {_WHAT_NOW}")
        return _CTRL_C
    except Exception as error:  # noqa: BLE001  whatever goes wrong, it is one line and a code
        if debug:
            traceback.print_exc()
        _complain(_in_one_line(error))
        return 1
    return 0


def _run(words: list[str]) -> None:
    command = words[0]
    if command not in _COMMANDS:
        _complain(f"no command {command!r}; there are {', '.join(_COMMANDS)} (kerash5 --help)")
        raise SystemExit(_USAGE)
    for before, word in pairwise(["", *words[1:]]):
        if before == "--config" or word.startswith("--config="):
            _check_config(word.removeprefix("--config="))
    options = _parsers()[command]().parse_args(words[1:])
    _call(command, options.as_dict())


def _check_config(name: str) -> None:
    """Refuse a config.yaml that would fill the memory; the parser has words for all else."""
    path = Path(name)
    if not path.is_file():
        return
    import yaml

    from kerash5._options import check_aliases

    with suppress(yaml.YAMLError, UnicodeDecodeError, OSError):
        check_aliases(path.read_text(encoding="utf-8"), repr(name))


def _call(command: str, values: dict[str, Any]) -> None:
    from kerash5._options import DataOptions, ModelOptions, TrainerOptions
    from kerash5.cli import _jobs, _model_jobs

    values.pop("config", None)
    if command in ("fit", "lr-find", "batch-size-find"):
        training: dict[str, Any] = {
            "fit": _jobs.run_fit,
            "lr-find": _model_jobs.run_lr_find,
            "batch-size-find": _model_jobs.run_batch_size_find,
        }
        training[command](
            DataOptions(**values.pop("data")),
            ModelOptions(**values.pop("model")),
            TrainerOptions(**values.pop("trainer")),
            **values,
        )
        return
    jobs: dict[str, Any] = {
        "demo": _jobs.run_demo,
        "test": _jobs.run_test,
        "predict": _model_jobs.run_predict,
        "describe": _jobs.run_describe,
        "verify": _jobs.run_verify,
        "bench": _jobs.run_bench,
        "pack": _jobs.run_pack,
        "env": _jobs.run_environment,
    }
    if command == "compare":
        from kerash5.cli._compare import run_compare

        jobs["compare"] = run_compare
    if command in ("test", "predict"):
        values["run_dir"] = values.pop("run")
    jobs[command](**values)


def _parsers() -> dict[str, Any]:
    return {
        "demo": _demo_parser,
        "fit": _fit_parser,
        "test": _test_parser,
        "predict": _predict_parser,
        "lr-find": _lr_find_parser,
        "batch-size-find": _batch_size_parser,
        "describe": _describe_parser,
        "verify": _verify_parser,
        "compare": _compare_parser,
        "bench": _bench_parser,
        "pack": _pack_parser,
        "env": lambda: _parser("env"),
    }


def _parser(command: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    about = _COMMANDS[command]
    return ArgumentParser(prog=f"kerash5 {command}", description=f"{about[0].upper()}{about[1:]}.")


def _fit_parser() -> ArgumentParser:
    parser = _training_parser("fit")
    parser.add_argument("--resume", type=str | None, default=None, help=_RESUME_HELP)
    return parser


def _training_parser(command: str) -> ArgumentParser:
    from kerash5._options import DataOptions, ModelOptions, TrainerOptions

    parser = _parser(command)
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument("--backend", type=str | None, default=None, help=_BACKEND_HELP)
    parser.add_argument("--seed", type=int, default=0, help="of the model's initial weights")
    parser.add_class_arguments(DataOptions, "data")
    parser.add_class_arguments(ModelOptions, "model")
    parser.add_class_arguments(TrainerOptions, "trainer")
    return parser


def _demo_parser() -> ArgumentParser:
    parser = _parser("demo")
    parser.add_argument("--backend", type=str | None, default=None, help=_BACKEND_HELP)
    parser.add_argument("--run_dir", type=str, default="runs/demo", help="the folder to write to")
    parser.add_argument("--rows", type=int, default=2000, help="of the 5,000 training digits")
    parser.add_argument("--max_epochs", type=int, default=3, help="passes over them")
    return parser


def _test_parser() -> ArgumentParser:
    parser = _parser("test")
    parser.add_argument("--run", type=str, required=True, help="the folder of the run")
    parser.add_argument(
        "--test", type=str | None, default=None, help="another file than the run's own test file"
    )
    parser.add_argument(
        "--weights", type=Literal["best", "last"], default="best", help="which weights"
    )
    parser.add_argument(
        "--backend", type=str | None, default=None, help="another backend than the run's own"
    )
    return parser


def _predict_parser() -> ArgumentParser:
    parser = _parser("predict")
    parser.add_argument("--run", type=str, required=True, help="the folder of the run")
    parser.add_argument("--out", type=str, required=True, help="the HDF5 file to write")
    parser.add_argument(
        "--data", type=str | None, default=None, help="the file to answer; the run's own test file"
    )
    parser.add_argument("--name", type=str, default="prediction", help="the column to write")
    parser.add_argument("--class_ids", action="store_true", help="write the class ids as well")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument(
        "--weights", type=Literal["best", "last"], default="best", help="which weights"
    )
    parser.add_argument(
        "--backend", type=str | None, default=None, help="another backend than the run's own"
    )
    return parser


def _lr_find_parser() -> ArgumentParser:
    parser = _training_parser("lr-find")
    parser.add_argument("--min_lr", type=float, default=1e-8, help="the rate of the first step")
    parser.add_argument("--max_lr", type=float, default=1.0, help="the rate of the last step")
    parser.add_argument("--num_training", type=int, default=100, help="steps")
    parser.add_argument("--plot", type=str | None, default=None, help="a PNG for the curve")
    return parser


def _batch_size_parser() -> ArgumentParser:
    parser = _training_parser("batch-size-find")
    parser.add_argument("--init_val", type=int, default=32, help="the first size tried")
    parser.add_argument("--max_val", type=int | None, default=None, help="the largest")
    parser.add_argument(
        "--memory_limit",
        type=int | float | str | None,
        default=None,
        help="of each trial: bytes, 4GB, or a fraction of free memory",
    )
    parser.add_argument("--plot", type=str | None, default=None, help="a PNG for the speeds")
    return parser


def _describe_parser() -> ArgumentParser:
    parser = _parser("describe")
    parser.add_argument("path", type=str, help="the file, or a glob pattern")
    return parser


def _verify_parser() -> ArgumentParser:
    parser = _parser("verify")
    parser.add_argument("path", type=str, help="the file, or a glob pattern")
    parser.add_argument("--allow_external", action="store_true", help="read outside its folder too")
    return parser


def _compare_parser() -> ArgumentParser:
    from kerash5.cli._compare import add_arguments

    parser = _parser("compare")
    add_arguments(parser)
    return parser


def _bench_parser() -> ArgumentParser:
    parser = _parser("bench")
    parser.add_argument("path", type=str, help="the file")
    parser.add_argument("--x", type=str | None, default=None, help="what a model takes")
    parser.add_argument("--y", type=str | None, default=None, help="the labels")
    parser.add_argument("--batch_size", type=int, default=256, help="rows in a batch")
    parser.add_argument("--rounds", type=int, default=5, help="how often all is measured")
    parser.add_argument("--seconds", type=float, default=3.0, help="the most for a way in a round")
    parser.add_argument("--cache", type=int | float | str, default="auto", help="as in fit")
    parser.add_argument("--rewrite", action="store_true", help="see what rewriting it would gain")
    parser.add_argument("--json", type=str | None, default=None, help="a file for all figures")
    return parser


def _pack_parser() -> ArgumentParser:
    parser = _parser("pack")
    parser.add_argument("name", type=str, help="mnist")
    parser.add_argument("folder", type=str, help="the folder for train.hdf5 and test.hdf5")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--backend", type=str | None, default=None, help=_BACKEND_HELP)
    return parser


def _usage() -> str:
    lines = [f"  {name:<17}{about}" for name, about in _COMMANDS.items()]
    return "\n".join(
        [
            "usage: kerash5 COMMAND ...",
            "",
            "Train Keras 3 models straight from HDF5 files, on JAX, TensorFlow or PyTorch.",
            "",
            *lines,
            "",
            "kerash5 COMMAND --help lists the options of a command; --debug, anywhere, shows "
            "tracebacks.",
        ]
    )


def _in_one_line(error: Exception) -> str:
    text = escape_controls(" ".join(str(error).split()))
    if isinstance(error, KerasH5Error):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


def _complain(text: str) -> None:
    print(f"kerash5: {text}", file=sys.stderr)


def _exit_code(stopped: SystemExit) -> int:
    if stopped.code == _SIGTERM:
        _complain(f"stopped by SIGTERM; {_WHAT_NOW}")
    return stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, so that a run can note that it was stopped."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(signum: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signum)
