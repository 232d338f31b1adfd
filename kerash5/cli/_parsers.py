"""The options of the commands; `_commands` lists the commands.

The options of the training commands are the fields of `DataOptions`, `ModelOptions` and
`TrainerOptions`.
"""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from kerash5._options import DataOptions, ModelOptions, TrainerOptions

_RESUME_HELP = (
    "auto continues the run in --trainer.run_dir if it is unfinished or --trainer.max_epochs or "
    "another limit is larger than before, or starts a new run; last and best continue from that "
    "checkpoint; a path starts a new run from the checkpoint or run there; "
    "force is auto even if data or settings have changed"
)
_BACKEND_HELP = "jax, tensorflow or torch; default: KERAS_BACKEND, or the first installed"
TRAINING: Final = ("fit", "lr-find", "batch-size-find")
# Short forms of options.
_SHORT: Final = {
    "--model": "--model.name",
    "--optimizer": "--model.optimizer",
    "--lr-schedule": "--model.lr-schedule",
    "--learning-rate": "--model.learning-rate",
    "--loss": "--model.loss",
    "--metrics": "--model.metrics",
}
_SHORT_PREFIXES: Final = {
    "--optimizer.": "--model.optimizer-options.",
    "--lr-schedule.": "--model.lr-schedule-options.",
}
_OF_MODEL: Final = (
    *("name", "learning-rate", "options", "optimizer", "optimizer-options", "lr-schedule"),
    *("lr-schedule-options", "loss", "metrics"),
)


def spell_out(words: list[str]) -> list[str]:
    """Return the arguments of a training command with the full names of its options.

    `fit a.h5 b.h5 --model m:f --model.width 64 --optimizer.beta_1 0.8` is `fit --data.train a.h5
    --data.test b.h5 --model.name m:f --model.options.width 64 --model.optimizer_options.beta_1
    0.8`.
    """
    files = list(takewhile(lambda word: not word.startswith("-"), words))
    roles = ("--data.train", "--data.test")
    if len(files) > len(roles):
        raise ArgumentError(
            None,
            f"{len(files)} files; the first is trained on and the second tested on: give several "
            "of a kind as --data.train '[a.h5, b.h5]'",
        )
    named = [part for role, file in zip(roles, files, strict=False) for part in (role, file)]
    return [*named, *(_spell_out(word) for word in words[len(files) :])]


def _spell_out(word: str) -> str:
    name, equals, value = word.partition("=")
    if name in _SHORT:
        return f"{_SHORT[name]}{equals}{value}"
    for short, full in _SHORT_PREFIXES.items():
        if name.startswith(short):
            return f"{full}{name.removeprefix(short).replace('-', '_')}{equals}{value}"
    group, _, option = name.partition(".")
    if (
        group == "--model"
        and option
        and option.partition(".")[0].replace("_", "-") not in _OF_MODEL
    ):
        return f"--model.options.{option.replace('-', '_')}{equals}{value}"
    return word


def add_fit_arguments(parser: ArgumentParser) -> None:
    _add_training_arguments(parser)
    parser.add_argument("--resume", type=str | None, default=None, help=_RESUME_HELP)


def _add_training_arguments(parser: ArgumentParser) -> None:
    from kerash5._options import DataOptions, ModelOptions, TrainerOptions

    parser.add_argument(
        "--config",
        action="config",
        help="a YAML file with any of these options, such as config.yaml of a run",
    )
    parser.add_argument("--backend", type=str | None, default=None, help=_BACKEND_HELP)
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial weights")
    _add_options(parser, "data", DataOptions, {"x": "image", "y": "label", "batch_size": None})
    _add_options(parser, "model", ModelOptions, {})
    _add_options(parser, "trainer", TrainerOptions, {})


def _add_options(
    parser: ArgumentParser,
    name: str,
    options: type[DataOptions | ModelOptions | TrainerOptions],
    defaults: Mapping[str, Any],
) -> None:
    """Add the options of a dataclass as --NAME.OPTION.

    Args:
        parser: Parser of a command.
        name: Name of the group.
        options: The dataclass.
        defaults: Defaults of the command line, if they differ from the dataclass.
    """
    from kerash5._options import text_options

    about = (options.__doc__ or "").splitlines()[0].removesuffix(".")
    group = parser.add_argument_group(about)
    for each in text_options(options):
        is_model = (name, each.name) == ("model", "name")
        group.add_argument(
            f"--{name}.{each.name.replace('_', '-')}",
            type=each.type,
            default=defaults.get(each.name, each.default),
            help=f"{each.help} {_list_models()}" if is_model else each.help,
        )


def _list_models() -> str:
    """Return a sentence with the models of the zoo, and what each is for."""
    from kerash5 import zoo

    models = "; ".join(f"{name}: {zoo.describe(name)}" for name in zoo.names())
    # argparse formats help with %.
    return f"The zoo: {models}.".replace("%", "%%")


def add_demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--backend", type=str | None, default=None, help=_BACKEND_HELP)
    parser.add_argument("--run-dir", type=str, default="runs/demo", help="the folder to write to")
    parser.add_argument(
        "--rows", type=int, default=2000, help="number of training digits, at most 5000"
    )
    parser.add_argument(
        "--max-epochs", type=int, default=3, help="number of passes over the training rows"
    )


def _add_run_arguments(parser: ArgumentParser) -> None:
    """Add the options of a command that uses the model of a run."""
    parser.add_argument("--run", type=str, required=True, help="the folder of the run")
    parser.add_argument(
        "--weights",
        type=Literal["best", "last"],
        default="best",
        help="weights of the best epoch or of the last step",
    )
    parser.add_argument(
        "--backend", type=str | None, default=None, help="a backend to use instead of the run's own"
    )


def add_test_arguments(parser: ArgumentParser) -> None:
    _add_run_arguments(parser)
    parser.add_argument(
        "--test",
        type=str | None,
        default=None,
        help="a test file to use instead of the run's own; without it, the metrics of the best "
        "weights replace those in run.json",
    )


def add_predict_arguments(parser: ArgumentParser) -> None:
    _add_run_arguments(parser)
    parser.add_argument("--out", type=str, required=True, help="the HDF5 file to write")
    parser.add_argument(
        "--data",
        type=str | None,
        default=None,
        help="the file to predict; default: the run's own test file",
    )
    parser.add_argument(
        "--name", type=str, default="prediction", help="name of the column to write"
    )
    parser.add_argument(
        "--class-ids",
        action="store_true",
        help="also write the id of the largest output of each row",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def add_lr_find_arguments(parser: ArgumentParser) -> None:
    _add_training_arguments(parser)
    parser.add_argument(
        "--min-lr", type=float, default=1e-8, help="learning rate of the first step"
    )
    parser.add_argument("--max-lr", type=float, default=1.0, help="learning rate of the last step")
    parser.add_argument("--num-training", type=int, default=100, help="number of steps")
    parser.add_argument("--plot", type=str | None, default=None, help="a PNG file for the curve")


def add_batch_size_find_arguments(parser: ArgumentParser) -> None:
    _add_training_arguments(parser)
    parser.add_argument("--init-val", type=int, default=32, help="the first batch size tried")
    parser.add_argument(
        "--max-val", type=int | None, default=None, help="the largest batch size tried"
    )
    parser.add_argument(
        "--memory-limit",
        type=int | float | str | None,
        default=None,
        help="memory limit of each trial: bytes, 4GB, or a fraction of free memory",
    )
    parser.add_argument("--plot", type=str | None, default=None, help="a PNG file for the speeds")


def add_describe_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", type=str, help="the file, or a glob pattern")
    parser.add_argument(
        "--json", action="store_true", help="print JSON; docs/guides/files.md has its keys"
    )


def add_verify_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", type=str, help="the file, or a glob pattern")
    parser.add_argument(
        "--allow-external", action="store_true", help="also read data outside the file's folder"
    )


def add_compare_arguments(parser: ArgumentParser) -> None:
    from kerash5.cli._compare import add_arguments

    add_arguments(parser)


def add_bench_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", type=str, help="the file")
    parser.add_argument(
        "--x",
        type=str | None,
        default=None,
        help="column of the model's input; default: the largest one of numbers",
    )
    parser.add_argument(
        "--y",
        type=str | None,
        default=None,
        help="column of the labels; default: label if there is one",
    )
    parser.add_argument("--batch-size", type=int, default=256, help="number of rows in a batch")
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often each way of reading is measured"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="time limit of each way in a round, in seconds"
    )
    parser.add_argument(
        "--cache",
        type=int | float | str,
        default="auto",
        help="memory for decoded data: bytes, 2GB, a fraction of free memory, or auto",
    )
    parser.add_argument(
        "--rewrite",
        action="store_true",
        help="also rewrite the first rows to a temporary file, and measure both",
    )
    parser.add_argument("--json", type=str | None, default=None, help="a file for all measurements")


def add_no_arguments(_parser: ArgumentParser) -> None:
    """Add nothing: the command has no options."""
