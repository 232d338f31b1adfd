"""What the command line and a config.yaml can say, as plain values.

No Keras: parsing must be quick. The classes behind them, with the same names and defaults, are
`H5DataModule`, `zoo.build` and `Trainer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import yaml

from kerash5._errors import OptionError
from kerash5.h5 import Column

_MAX_VALUES: Final = 100_000  # of a config.yaml

ColumnOption = str | dict[str, Any] | list[Any]
Columns = str | Column | Sequence["Columns"] | Mapping[str, "Columns"]


@dataclass
class DataOptions:
    """The data: which files, which columns, which rows.

    Args:
        train: The file to train on, or a glob pattern, or a list of either.
        test: The file to test on, likewise.
        x: What the model takes: a data set's path, or {path: ..., shape: [...]}, or several of them
            by name.
        y: What it should answer, likewise.
        sample_weight: One weight a row, likewise.
        batch_size: Rows in a batch.
        validation: A fraction of the training rows (0.2), a number of rows, or a file.
        stratify: Keep each label's share in the validation rows.
        shuffle: rows, chunks, false or auto.
        seed: Of the order and the split.
        rows: Train on the first so many rows only.
        cache: Decoded data to hold: bytes, "2GB", a fraction of free memory, or auto.
        threads: Reading threads.
        scratch: A folder for decoded rows that fit no memory, as in `H5Dataset`.
        allow_external: Let links and virtual data sets point outside the folder of a file.
    """

    train: str | list[str] | None = None
    test: str | list[str] | None = None
    x: ColumnOption = "image"
    y: ColumnOption | None = "label"
    sample_weight: ColumnOption | None = None
    batch_size: int = 32
    validation: int | float | str | None = None  # int first: "1000" is a number of rows
    stratify: bool = False
    shuffle: Literal["auto", "rows", "chunks"] | bool = "auto"
    seed: int = 0
    rows: int | None = None
    cache: int | float | str = "auto"
    threads: int | None = None
    scratch: str | None = None
    allow_external: bool = False


@dataclass
class ModelOptions:
    """The model: a name of the zoo and what its family takes.

    Args:
        name: One of `kerash5.zoo.names()`.
        learning_rate: Adam's step size.
        options: What the family takes besides, such as {hidden: [256, 64]}.
    """

    name: str = "convnet"
    learning_rate: float = 1e-3
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainerOptions:
    """The training.

    Args:
        max_epochs: Passes over the training rows; 10, or no limit where max_steps or max_time is
            given.
        max_steps: Optimizer steps, over all epochs.
        max_time: Of the whole run: seconds, or a text such as 90s, 10min, 1.5h or DD:HH:MM:SS.
        precision: float32, bf16-mixed or 16-mixed.
        run_dir: The folder for everything the run writes; runs/MODEL if not given.
        monitor: The metric that decides which weights are best; val_loss, or loss without
            validation.
        limit_train_batches: Of each epoch, train on so many batches, or such a fraction of them.
        limit_val_batches: Validate on so many, likewise; 0 for no validation.
        overfit_batches: Train on the same few batches in every epoch.
        fast_dev_run: Run one batch (or so many) of training and validation, and be done.
        num_sanity_val_steps: Batches to validate on before the first step.
        val_check_interval: Validate after so many steps of an epoch, or such a fraction of it.
        logger: csv, tensorboard, mlflow, wandb or several of them; true for the first two, false
            for none.
        log_every_n_steps: Log the running averages after so many steps, besides those of epochs.
        profile: simple says where the time went and what would help; trace writes the framework's
            own trace of some steps.
        accumulate_grad_batches: Batches whose gradients make one update of the weights.
        gradient_clip_val: Clip gradients to this, by their global norm.
        gradient_clip_algorithm: norm, or value to clip each gradient by itself.
        ema: Momentum of an average of the weights, which is what is validated and kept.
        early_stopping: Stop when the monitor has not become better for so many epochs.
        deterministic: Use nothing that would not repeat bit for bit on a GPU.
        checkpoint_every_steps: Optimizer steps from one checkpoint to the next.
        checkpoint_every: Time from one to the next.
        save_top_k: Keep the checkpoints of so many of the best epochs.
        enable_checkpointing: Write checkpoints: without them nothing can be resumed.
        steps_per_dispatch: Steps the device runs at one call; auto finds out what is quick.
        device_cache: Keep training rows on the device if they take no more than so many bytes (or
            2GB); 0 for never.
        enable_progress_bar: Show progress.
        enable_model_summary: Show the model's layers first.
    """

    max_epochs: int | None = None
    max_steps: int | None = None
    max_time: int | float | str | None = None
    precision: Literal["float32", "bf16-mixed", "16-mixed"] = "float32"
    run_dir: str | None = None
    monitor: str | None = None
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    overfit_batches: int | float | None = None
    fast_dev_run: bool | int = False
    num_sanity_val_steps: int = 0
    val_check_interval: int | float = 1.0
    logger: bool | str | list[str] = True
    log_every_n_steps: int | None = None
    profile: Literal["simple", "trace"] | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    ema: float | None = None
    early_stopping: int | None = None
    deterministic: bool = False
    checkpoint_every_steps: int | None = None
    checkpoint_every: int | float | str = "10min"
    save_top_k: int = 1
    enable_checkpointing: bool = True
    steps_per_dispatch: int | Literal["auto"] = "auto"
    device_cache: int | float | str = "auto"
    enable_progress_bar: bool = True
    enable_model_summary: bool = True


def check_aliases(text: str, what: str) -> None:
    """Refuse YAML whose aliases stand for more than could have been meant.

    Nine lists of nine aliases each stand for a billion values, in a file of 500 bytes.

    Args:
        text: YAML.
        what: The file, for the message.

    Raises:
        OptionError: Written out, it would have more than 100,000 values.
        yaml.YAMLError: It is no YAML.
    """
    counts: dict[int, int] = {}

    def count(node: yaml.Node | None) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in counts:
            counts[id(node)] = _MAX_VALUES + 1  # of a list that holds itself
            values = (pair if isinstance(pair, tuple) else (pair,) for pair in node.value)
            counts[id(node)] = 1 + sum(count(value) for pair in values for value in pair)
        return counts[id(node)]

    if count(yaml.compose(text, Loader=yaml.SafeLoader)) > _MAX_VALUES:
        raise OptionError(
            f"{what}: its aliases (*name) stand for more than {_MAX_VALUES} values; write the "
            "values that are meant"
        )


def parse_columns(spec: ColumnOption | None) -> Any:  # noqa: ANN401  Columns, or None for None
    """Turn a column as written in YAML into what `Source` takes.

    A mapping with "path" is one `Column`; another mapping is several columns by name; a list is a
    tuple of columns.

    Raises:
        OptionError: A column has a setting that `Column` does not know.
    """
    if isinstance(spec, Mapping):
        if "path" not in spec:
            return {name: parse_columns(part) for name, part in spec.items()}
        try:
            return Column(**spec)
        except TypeError as error:
            raise OptionError(
                f"column {dict(spec)!r}: {error}; it takes path, shape, dtype, one_hot and labels"
            ) from None
    return tuple(parse_columns(part) for part in spec) if isinstance(spec, list) else spec


def format_columns(spec: Columns | None) -> ColumnOption | None:
    """Turn columns into what YAML can hold; `parse_columns` reads it back."""
    if isinstance(spec, Column):
        values = {
            "path": spec.path,
            "shape": None if spec.shape is None else list(spec.shape),
            "dtype": None if spec.dtype is None else str(np.dtype(spec.dtype)),
            "one_hot": spec.one_hot,
            "labels": _format_labels(spec.labels),
        }
        said = {name: value for name, value in values.items() if value is not None}
        return spec.path if set(said) == {"path"} else said
    if isinstance(spec, Mapping):
        return {name: format_columns(part) for name, part in spec.items()}
    if spec is None or isinstance(spec, str):
        return spec
    return [format_columns(part) for part in spec]


def _format_labels(labels: Sequence[object] | Mapping[Any, int] | None) -> Any:  # noqa: ANN401  YAML
    if labels is None:
        return None
    if isinstance(labels, Mapping):
        return {_format_label(value): int(number) for value, number in labels.items()}
    return [_format_label(value) for value in labels]


def _format_label(value: object) -> object:
    if isinstance(value, bytes):  # as `Column` reads it
        return value.decode("utf-8", "backslashreplace")
    return value.item() if isinstance(value, np.generic) else value
