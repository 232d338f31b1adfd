"""The tables of docs/guides/coming_from.md: arguments of other libraries, and their equivalents.

`python -m tests.words_table` writes them; `test_docs` fails where they differ from the options'
declarations and from the messages of errors.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final

from docstring_parser import parse

from kerash5._keywords import DATASET_WORDS, FIT_WORDS, TRAINER_WORDS
from kerash5._options import TrainerOptions

PAGE: Final = Path(__file__).parents[1] / "docs" / "guides" / "coming_from.md"
HEAD: Final = "| argument | here |\n|---|---|"

# The arguments of lightning.pytorch.Trainer in its reference, 2.5.1 and later.
LIGHTNING: Final = [
    "accelerator",
    "strategy",
    "devices",
    "num_nodes",
    "precision",
    "logger",
    "callbacks",
    "fast_dev_run",
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "max_time",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "overfit_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
    "num_sanity_val_steps",
    "log_every_n_steps",
    "enable_checkpointing",
    "enable_progress_bar",
    "enable_model_summary",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "deterministic",
    "benchmark",
    "inference_mode",
    "use_distributed_sampler",
    "profiler",
    "detect_anomaly",
    "barebones",
    "plugins",
    "sync_batchnorm",
    "reload_dataloaders_every_n_epochs",
    "default_root_dir",
    "enable_autolog_hparams",
    "model_registry",
]
# Of keras.Model.fit and of torch.utils.data.DataLoader, those that are called otherwise here.
KERAS: Final = [
    "batch_size",
    "epochs",
    "verbose",
    "callbacks",
    "validation_split",
    "validation_data",
    "shuffle",
    "initial_epoch",
    "steps_per_epoch",
    "validation_steps",
    "validation_freq",
]
TORCH: Final = ("num_workers", "pin_memory", "collate_fn")


def rows_of_lightning() -> Iterator[tuple[str, str]]:
    """Yield each argument of Lightning's Trainer, with our meaning or what to write instead."""
    described = {
        each.arg_name: " ".join((each.description or "").split()).split(". ")[0].removesuffix(".")
        for each in parse(inspect.getdoc(TrainerOptions) or "").params
    }
    ours = {each.name for each in fields(TrainerOptions)}
    for name in LIGHTNING:
        yield name, f"the same: {described[name]}" if name in ours else TRAINER_WORDS[name]


def rows_of_keras() -> Iterator[tuple[str, str]]:
    """Yield arguments of Keras' `fit`, with what to write for `Trainer` and `H5DataModule`."""
    ours = {each.name for each in fields(TrainerOptions)}
    for name in KERAS:
        if name not in FIT_WORDS and name in ours:
            raise ValueError(f"{name!r} is an option of ours, and needs no row")
        yield name, FIT_WORDS[name] if name in FIT_WORDS else TRAINER_WORDS[name]


def rows_of_torch() -> Iterator[tuple[str, str]]:
    """Yield arguments of PyTorch's `DataLoader`, with what to write for `H5Dataset`."""
    for name in TORCH:
        yield name, DATASET_WORDS[name]


def table_of(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table with a row for each argument."""
    return "\n".join([HEAD, *(f"| `{name}` | {meaning} |" for name, meaning in rows)])


def with_tables(text: str) -> str:
    """Return the page with its tables as they should be."""
    tables = {
        "### The arguments of Lightning's `Trainer`": rows_of_lightning(),
        "### The arguments of Keras' `fit`": rows_of_keras(),
        "### The arguments of PyTorch's `DataLoader`": rows_of_torch(),
    }
    for heading, rows in tables.items():
        before, found, after = text.partition(f"{heading}\n\n")
        intro, opened, rest = after.partition("| argument")
        if not found or not opened:
            raise ValueError(f"{PAGE.name} has no table below {heading!r}")
        _, _, rest = rest.partition("\n\n")
        text = f"{before}{found}{intro}{table_of(rows)}\n" + (f"\n{rest}" if rest else "")
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
