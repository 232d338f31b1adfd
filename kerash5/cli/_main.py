"""The entry point of the command line: parses the arguments and calls the job.

Keras is not imported until a job runs. Exit codes: 0 success; 1 failure, with one line on stderr;
2 wrong usage; 130 after Ctrl-C; 141 if stdout was closed by its reader; 143 after SIGTERM.
"""

# ruff: noqa: T201 printing is its purpose

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
import traceback
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NoReturn

from kerash5._errors import KerasH5Error, escape_controls
from kerash5._version import __version__
from kerash5.cli._commands import COMMANDS, make_parser
from kerash5.cli._parsers import TRAINING, spell_out

_OF_RUNS: Final = (
    "what the run has written so far is in its folder, and --resume auto goes on there"
)
# What is left when a command was stopped; of all others, nothing is half-written.
_WHAT_NOW: Final = {
    **dict.fromkeys((*TRAINING, "demo"), _OF_RUNS),
    "repack": "the same command goes on from there",
}
_NESTED: Final = (
    *("--model.options.", "--model.optimizer-options.", "--model.lr-schedule-options."),
    "--print_config",
)
_USAGE, _CTRL_C, _SIGPIPE, _SIGTERM = 2, 130, 141, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Args:
        argv: The arguments after the program's name; None for those of the process.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # for terminals that only support ASCII
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
        sys.stdout.flush()  # here, to tell a closed pipe from a failure
    except SystemExit as stopped:
        return _exit_code(stopped, words[0])
    except BrokenPipeError:  # such as `| head`, which closes the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGPIPE
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        _complain(f"stopped by Ctrl-C; {_what_now(words[0])}")
        return _CTRL_C
    except Exception as error:  # noqa: BLE001  any failure becomes one line and an exit code
        if debug:
            traceback.print_exc()
        _complain(_in_one_line(error))
        return 1
    return 0


def _run(words: list[str]) -> None:
    command = words[0]
    if command not in COMMANDS:
        _complain(f"no command {command!r}; there are {', '.join(COMMANDS)} (kerash5 --help)")
        raise SystemExit(_USAGE)
    for before, word in pairwise(["", *words[1:]]):
        if before == "--config" or word.startswith("--config="):
            _check_config(word.removeprefix("--config="))
    _call(command, _parse(command, words[1:]))


def _parse(command: str, words: list[str]) -> dict[str, Any]:
    """Return the values of a command's options by name; on error print one line and exit with 2."""
    parser, words = make_parser(command), [_with_dashes(word) for word in words]
    known = sorted(set(re.findall(r"(?<![\w-])--[\w.-]+", parser.format_help())))
    try:
        words = spell_out(words) if command in TRAINING else words
        if command in TRAINING:
            words = [_with_null(word, before) for before, word in pairwise(["", *words])]
        for before, word in pairwise(["", *words]):
            _check_word(word, known)
            _check_slice(before, word)
        values: dict[str, Any] = parser.parse_args(words).as_dict()
        if command in TRAINING:
            _check_code(values, words)
    except ArgumentError as error:
        text = escape_controls(" ".join(str(error).split()))
        found = re.search(r"""['"]([\w.]+)['"] is not (?:accepted|expected)""", text)
        cure = _find_cure(_with_dashes(f"--{found[1]}"), known) if found else ""
        _complain(f"{text}{cure} (kerash5 {command} --help lists all options)")
        raise SystemExit(_USAGE) from None
    return values


def _check_code(values: dict[str, Any], words: list[str]) -> None:
    """Raise if a config.yaml names code to run that the command line does not name."""
    name = values["model"]["name"]
    is_code = ":" in name and not name.startswith("keras:")
    if is_code and not any(name in word for word in words):
        raise ArgumentError(
            None,
            f"the config names the function {name!r}, which would be run; if it is yours, say "
            f"--model {name}",
        )


def _check_word(word: str, known: list[str]) -> None:
    name = word.partition("=")[0]
    if name.startswith("--") and name not in known and not name.startswith(_NESTED):
        raise ArgumentError(None, f"no option {name!r}{_find_cure(name, known)}")


def _with_null(word: str, before: str) -> str:
    """Return YAML's word for Python's None: "None" would be a text."""
    name, equals, value = word.partition("=")
    if word == "None" and before.startswith("--") and "=" not in before:
        return "null"
    return f"{name}=null" if name.startswith("--") and equals and value == "None" else word


def _check_slice(before: str, word: str) -> None:
    """Raise if rows are chosen by a slice, which would be the name of a data set."""
    name, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
    if name in ("--data.rows", "--data.validation-split") and value.startswith("slice("):
        raise ArgumentError(
            None,
            f"{name} {value!r} is a slice, which only Python has; give a number of rows such as "
            "1000, row numbers such as '[0, 5, 7]', or rows that the file names such as "
            "'[split, val]'",
        )


def _find_cure(name: str, known: list[str]) -> str:
    """Return the end of a sentence that names the right option for an unknown one."""
    from kerash5._keywords import DATA_WORDS, TRAINER_WORDS, suggest

    group, _, option = name.removeprefix("--").rpartition(".")
    words = {"data": DATA_WORDS, "trainer": TRAINER_WORDS}.get(group, {})
    cure = words.get(option.replace("-", "_"))
    if cure is not None:
        return f": {cure}"
    found = suggest(name, known)
    return found if "did you mean" in found else ""


def _with_dashes(word: str) -> str:
    """Return an option in its printed form: --data.batch-size for --data.batch_size."""
    name, equals, value = word.partition("=")
    if not name.startswith("--") or name.startswith(_NESTED):
        return word
    for nested in _NESTED:  # names of Python arguments, which have underscores
        if name.replace("_", "-").startswith(nested):
            return f"{nested}{name[len(nested) :]}{equals}{value}"
    return f"{name.replace('_', '-')}{equals}{value}"


def _check_config(name: str) -> None:
    """Raise if a config.yaml would fill the memory; the parser reports all other errors."""
    path = Path(name)
    if not path.is_file():
        return
    import yaml

    from kerash5._options import check_aliases

    with suppress(yaml.YAMLError, UnicodeDecodeError, OSError):
        check_aliases(path.read_text(encoding="utf-8"), repr(name))


def _call(command: str, values: dict[str, Any]) -> None:
    from kerash5._options import DataOptions, ModelOptions, TrainerOptions

    module, _, name = COMMANDS[command].job.partition(":")
    job = getattr(import_module(module), name)
    values.pop("config", None)
    if command in TRAINING:
        job(
            DataOptions(**values.pop("data")),
            ModelOptions(**values.pop("model")),
            TrainerOptions(**values.pop("trainer")),
            **values,
        )
        return
    if "run" in values:
        values["run_dir"] = values.pop("run")
    job(**values)


def _usage() -> str:
    lines = [f"  {name:<17}{each.about}" for name, each in COMMANDS.items()]
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


def _what_now(command: str) -> str:
    return _WHAT_NOW.get(command, "no half-written file is left")


def _exit_code(stopped: SystemExit, command: str) -> int:
    if stopped.code == _SIGTERM:
        _complain(f"stopped by SIGTERM; {_what_now(command)}")
    return stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, so that a run can record that it was stopped."""
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(signum: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signum)
