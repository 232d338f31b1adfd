"""The commands: what each does, its options and its job. Neither Keras nor a job is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kerash5.cli import _file_parsers, _parsers

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Args:
        about: What it does; a line of `kerash5 --help`.
        usage: The arguments after its name, in short.
        add_arguments: Function that adds its options to its parser.
        job: "module:function", called with the options as keywords. Those of `TRAINING` are called
            with `DataOptions`, `ModelOptions` and `TrainerOptions`, and the other options as
            keywords.
    """

    about: str
    usage: str
    add_arguments: Callable[[ArgumentParser], None]
    job: str


# In the order of `kerash5 --help`.
COMMANDS: Final = {
    "demo": Command(
        "train on the digits shipped with kerash5, test, and draw pictures: about a minute",
        "[OPTION ...]",
        _parsers.add_demo_arguments,
        "kerash5.cli._jobs:run_demo",
    ),
    "fit": Command(
        "train a model on HDF5 files",
        "TRAIN_FILE [TEST_FILE] [--data.x COLUMN] [--data.y COLUMN] [--model NAME] [OPTION ...]",
        _parsers.add_fit_arguments,
        "kerash5.cli._jobs:run_fit",
    ),
    "test": Command(
        "test the model of a finished run",
        "--run RUN_DIR [OPTION ...]",
        _parsers.add_test_arguments,
        "kerash5.cli._jobs:run_test",
    ),
    "predict": Command(
        "write the predictions of a finished run's model to an HDF5 file",
        "--run RUN_DIR --out FILE [OPTION ...]",
        _parsers.add_predict_arguments,
        "kerash5.cli._model_jobs:run_predict",
    ),
    "lr-find": Command(
        "search for a good learning rate, and draw the curve",
        "TRAIN_FILE [OPTION ...]",
        _parsers.add_lr_find_arguments,
        "kerash5.cli._model_jobs:run_lr_find",
    ),
    "batch-size-find": Command(
        "search for the largest batch size that fits in memory, and for the fastest",
        "TRAIN_FILE [OPTION ...]",
        _parsers.add_batch_size_find_arguments,
        "kerash5.cli._model_jobs:run_batch_size_find",
    ),
    "describe": Command(
        "print what is in an HDF5 file, and how it is read",
        "FILE [--json]",
        _parsers.add_describe_arguments,
        "kerash5.cli._jobs:run_describe",
    ),
    "view": Command(
        "draw rows of an HDF5 file, with their labels, as a picture",
        "FILE [--rows 0:64] [-x NAME] [-y NAME] [--out FILE.png]",
        _file_parsers.add_view_arguments,
        "kerash5.cli._file_jobs:run_view",
    ),
    "verify": Command(
        "read all of an HDF5 file in a child process, and print what is damaged",
        "FILE [OPTION ...]",
        _parsers.add_verify_arguments,
        "kerash5.cli._jobs:run_verify",
    ),
    "compare": Command(
        "measure which backend trains fastest, in fresh processes",
        "[OPTION ...]",
        _parsers.add_compare_arguments,
        "kerash5.cli._compare:run_compare",
    ),
    "bench": Command(
        "measure how fast an HDF5 file is read, compared with h5py and memory",
        "FILE [OPTION ...]",
        _parsers.add_bench_arguments,
        "kerash5.cli._jobs:run_bench",
    ),
    "repack": Command(
        "write an HDF5 file again, so that its rows are fast to read",
        "FILE OUT [OPTION ...]",
        _file_parsers.add_repack_arguments,
        "kerash5.cli._file_jobs:run_repack",
    ),
    "pack": Command(
        "write a folder of images, NumPy's files, a CSV table or MNIST as an HDF5 file",
        "FOLDER|FILE OUT [OPTION ...]",
        _file_parsers.add_pack_arguments,
        "kerash5.cli._file_jobs:run_pack",
    ),
    "env": Command(
        "print the installed packages and the machine",
        "[OPTION ...]",
        _parsers.add_no_arguments,
        "kerash5.cli._jobs:run_environment",
    ),
}


def make_parser(command: str) -> ArgumentParser:
    """Return the parser of one of `COMMANDS`; it raises `ArgumentError` on wrong arguments."""
    from jsonargparse import ArgumentParser

    entry = COMMANDS[command]
    parser = ArgumentParser(
        prog=f"kerash5 {command}",
        usage=f"kerash5 {command} {entry.usage}",
        description=f"{entry.about[0].upper()}{entry.about[1:]}.",
        exit_on_error=False,
    )
    entry.add_arguments(parser)
    return parser
