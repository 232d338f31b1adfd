"""Every option of data, model and training, declared once, with its documentation.

`H5DataModule` and `Trainer` take the fields of `DataOptions` and `TrainerOptions` as arguments; the
command line and config.yaml have the same names, for those fields whose values can be written as
text. No Keras: parsing must be quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, Field, dataclass, field, fields
from datetime import timedelta
from typing import Any, Final, Literal, get_type_hints

import numpy as np
import yaml
from docstring_parser import parse as parse_docstring

from kerash5._errors import OptionError
from kerash5.h5 import Column
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import StrPath

_MAX_VALUES: Final = 100_000  # of a config.yaml
_COLUMN_SETTINGS: Final = [one.name for one in fields(Column) if one.init]

ColumnOption = str | dict[str, Any] | list[Any]
Columns = str | Column | Sequence["Columns"] | Mapping[str, "Columns"]
ColumnSpecOption = Any  # Columns, or an open h5py.Dataset

# How the type of a field is called on the command line, where it differs from Python's.
_AS_TEXT: Final = "as_text"
_PATHS: Final[dict[str, Any]] = {_AS_TEXT: str | list[str] | None}
_COLUMNS: Final[dict[str, Any]] = {_AS_TEXT: ColumnOption | None}
_PYTHON_ONLY: Final[dict[str, Any]] = {_AS_TEXT: None}


@dataclass(frozen=True)
class DataOptions:
    """The data: which files, which columns, which rows.

    Args:
        train: What to train on: a file, a glob pattern, a list of either, or a `Source`.
        test: What to test on, likewise, or an `H5Dataset`, which is taken as it is; None for no
            test. Files without y serve `predict` alone.
        x: What the model takes: a data set's path, a `Column` (on the command line {path: ...,
            shape: [...]}), or a tuple or dict of them. In a path, `{split}` stands for "train",
            for "validation", "valid" or "val", and for "test", so that "X_{split}" names the
            columns of all three, in one file or in several.
        y: What the model should answer, likewise.
        sample_weight: One weight per row, likewise.
        batch_size: Rows per batch.
        validation_split: Rows of `train` to validate on: a fraction (0.2) or a number of rows,
            drawn at random by `seed`; or which ones: a slice such as slice(48000, None), row
            numbers, a mask, or what the file says, as in `rows`.
        validation_data: What to validate on, in place of rows of `train`: files, a `Source`, or an
            `H5Dataset`, which is taken as it is.
        stratify: Keep each label's fraction in the validation rows.
        groups: A column of the training file, such as "patient": rows with one value of it are all
            trained on or all validated on. The validation rows are then only about as many as asked
            for.
        balance: Repeat training rows so that every class of y has as many as the largest: with m
            rows there and c in another class, each of its rows comes m // c times, and m % c of
            them, drawn by `seed`, once more. Validation and test rows stay as they are.
        rows: The rows of `train` to use: a slice, row numbers or a mask; a number n means the first
            n; or what the file says: the path of a data set of row numbers or of a mask, or a
            column and a value, such as ("split", "train").
        shuffle: "rows", "chunks", False or "auto", as in `H5Dataset`. Only training is shuffled.
        seed: Seed of the shuffle order and of the validation split.
        transform: A function of whole NumPy batches, as in `H5Dataset`; applied to the rows of
            training, validation and test.
        train_transform: Likewise, for training alone, such as augmentation; called after
            `transform`.
        drop_last: Drop the short last batch of a training epoch.
        cache: Memory for decoded data: bytes, "2GB", a fraction of free memory, or "auto".
        threads: Number of reading threads; None chooses.
        shard: (index, count), "auto" or None, as in `H5Dataset`.
        scratch: A folder for decoded rows that do not fit in memory, as in `H5Dataset`.
        reader: "auto", or "h5py" to read everything through h5py.
        allow_external: Let links and virtual data sets point outside the folder of a file.
    """

    train: StrPath | Sequence[StrPath] | Any = field(default=None, metadata=_PATHS)
    test: StrPath | Sequence[StrPath] | Any = field(default=None, metadata=_PATHS)
    _: KW_ONLY
    x: ColumnSpecOption = field(default=None, metadata=_COLUMNS)
    y: ColumnSpecOption = field(default=None, metadata=_COLUMNS)
    sample_weight: ColumnSpecOption = field(default=None, metadata=_COLUMNS)
    batch_size: int = 32
    # int first: "1000" is a number of rows
    validation_split: float | slice | Sequence[int] | Any = field(
        default=None, metadata={_AS_TEXT: int | float | list[str | int] | None}
    )
    validation_data: StrPath | Sequence[StrPath] | Any = field(default=None, metadata=_PATHS)
    stratify: bool = False
    groups: str | None = None
    balance: bool = False
    rows: int | slice | Sequence[int] | Any = field(
        default=None, metadata={_AS_TEXT: int | str | list[str | int] | None}
    )
    shuffle: Literal["auto", "rows", "chunks", False] = field(
        default="auto", metadata={_AS_TEXT: Literal["auto", "rows", "chunks"] | bool}
    )
    seed: int = 0
    transform: Callable[..., Any] | None = field(default=None, metadata=_PYTHON_ONLY)
    train_transform: Callable[..., Any] | None = field(default=None, metadata=_PYTHON_ONLY)
    drop_last: bool = False
    cache: int | float | str = "auto"
    threads: int | None = None
    shard: tuple[int, int] | Literal["auto"] | None = field(default=None, metadata=_PYTHON_ONLY)
    scratch: StrPath | None = field(default=None, metadata={_AS_TEXT: str | None})
    reader: Reader = "auto"
    allow_external: bool = False


@dataclass(frozen=True)
class ModelOptions:
    """The model, and how it is compiled.

    Args:
        name: One of `kerash5.zoo.names()`; "module:function", a function of your own that returns a
            `keras.Model` and is called with `input_shape` and `num_classes` if it takes them;
            "keras:ResNet50V2", a model of `keras.applications` without weights; or the path of a
            .keras file.
        learning_rate: Step size of the optimizer.
        options: Further arguments of the model, such as {hidden: [256, 64]}; on the command line
            also --model.hidden "[256, 64]".
        optimizer: An optimizer of Keras by name; None: Adam, or that of a compiled model.
        optimizer_options: Further arguments of the optimizer, such as {weight_decay: 1e-4}; on the
            command line also --optimizer.weight-decay 1e-4.
        lr_schedule: A learning rate schedule of Keras by name, which starts at `learning_rate`.
        lr_schedule_options: Further arguments of the schedule, such as {decay_steps: 1000}.
        loss: A loss of Keras by name; None: that of a compiled model, or cross-entropy for class
            labels.
        metrics: Metrics of Keras by name; None: those of a compiled model, or accuracy for class
            labels.
    """

    name: str = "convnet"
    learning_rate: float = 1e-3
    options: dict[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    lr_schedule: str | None = None
    lr_schedule_options: dict[str, Any] = field(default_factory=dict)
    loss: str | None = None
    metrics: list[str] | None = None

    def __post_init__(self) -> None:
        """Refuse options of an optimizer or a schedule that is not named."""
        if self.lr_schedule_options and self.lr_schedule is None:
            raise OptionError("lr_schedule_options without lr_schedule; name the schedule")
        if (self.lr_schedule or self.optimizer_options) and self.optimizer is None:
            object.__setattr__(self, "optimizer", "Adam")


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """The training.

    Args:
        max_epochs: Number of passes over the training rows; None: 10, or no limit where `max_steps`
            or `max_time` is given.
        min_epochs: Passes that are made even if `early_stopping` or a callback asks to stop before.
            `max_steps` and `max_time` still end the run.
        max_steps: Number of optimizer steps, over all epochs.
        max_time: Duration of the whole run: seconds, "90s", "10min", "1.5h", "DD:HH:MM:SS" or a
            timedelta.
        precision: "float32", "bf16-mixed" or "16-mixed". In Python the model must have been built
            for it, and None takes the model as it is; on the command line the model is built so.
        run_dir: The folder for all the run writes: config.yaml, env.json, metrics.csv, model.json,
            run.json, last and best weights, TensorBoard events. None: runs/MODEL. A folder that
            already holds a run is left alone, and a number is added to the name.
        monitor: The metric that decides which weights are best; None: "val_loss", or "loss" without
            validation. It is one number per epoch: `F1Score(average="macro")`, not `F1Score()`.
        mode: "min" if a smaller `monitor` is better, "max" if a larger one is, "auto" to decide by
            its name: accuracies and the like are better when larger, others when smaller.
        callbacks: Further Keras callbacks. One with hooks for each batch makes the trainer run one
            step at a time; the trainer says so.
        limit_train_batches: Train on this many batches of each epoch (an int), or on this fraction
            of them (a float).
        limit_val_batches: Validate on this many batches, or this fraction; 0 for no validation.
        limit_test_batches: Test on this many batches, or this fraction.
        overfit_batches: Train on the same few batches in every epoch: a model that cannot learn
            them by heart has a fault.
        fast_dev_run: Run one batch (or this many) of training and validation, and stop.
        num_sanity_val_steps: Batches to validate on before the first training step.
        val_check_interval: Validate after this many steps of an epoch, or this fraction of it, and
            at its end.
        check_val_every_n_epoch: Validate in every n-th epoch only. Epochs in between have no
            validation metrics: they are never the best by one, and count for no `early_stopping`.
        logger: Where else to write the metrics: "csv", "tensorboard", "mlflow", "wandb", a logger
            of your own, or a list of these; True for the first two, False for none.
        log_every_n_steps: Also log the running averages every n steps; None for epochs only.
        profiler: "simple" reports at the end where the time went, what held the training up and
            what would help; run.json keeps it. "trace" writes the framework's own trace of some
            steps into the run's folder.
        accumulate_grad_batches: Number of batches whose gradients make one update of the weights.
        gradient_clip_val: Clip gradients to this, by their global norm.
        gradient_clip_algorithm: "norm", or "value" to clip each gradient element by itself.
        ema_momentum: Momentum of an exponential moving average of the weights, such as 0.999. The
            averages are what is validated and tested, what callbacks see and save in `on_epoch_end`
            (so that `EarlyStopping` restores and `ModelCheckpoint` saves what was validated), what
            is saved as the best, and what the model has at the end. Training continues from the
            weights that are not averaged, which callbacks see within an epoch. An optimizer with
            `use_ema=True` of its own, without this option, is trained and validated as in `fit`:
            its averages replace the weights at the end.
        early_stopping: Stop when `monitor` has not improved for this many epochs.
        deterministic: Use only operations whose results repeat bit for bit on a GPU.
        every_n_train_steps: Write a checkpoint every n optimizer steps.
        train_time_interval: Time between checkpoints, as in `max_time`. One is also written at the
            end of an epoch, if that costs less than a twentieth of the time since the last.
        save_top_k: Keep the checkpoints of this many of the best epochs.
        enable_checkpointing: Write checkpoints: a run without them cannot be resumed.
        steps_per_dispatch: Number of steps the device runs per call; "auto" measures which is fast.
        device_cache: Keep the training rows on the device, where steps gather them, if they take at
            most this many bytes (or "2GB"); "auto": 32 MiB on a CPU, a quarter of a GPU's free
            memory (and of the host's) on JAX and PyTorch, and nothing for a fit that sees fewer
            rows than there are. 0 disables it. Results are bit-identical with and without.
        enable_progress_bar: Show progress: a bar on a terminal, a line per epoch elsewhere.
        enable_model_summary: Print the model's layers before the first epoch.
    """

    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int | None = None
    max_time: int | float | str | timedelta | None = field(
        default=None, metadata={_AS_TEXT: int | float | str | None}
    )
    precision: Literal["float32", "bf16-mixed", "16-mixed"] | None = None
    run_dir: StrPath | None = field(default=None, metadata={_AS_TEXT: str | None})
    monitor: str | None = None
    mode: Literal["auto", "min", "max"] = "auto"
    callbacks: Sequence[Any] = field(default=(), metadata=_PYTHON_ONLY)
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    limit_test_batches: int | float | None = None
    overfit_batches: int | float | None = None
    fast_dev_run: bool | int = False
    num_sanity_val_steps: int = 0
    val_check_interval: int | float = 1.0
    check_val_every_n_epoch: int = 1
    logger: bool | str | Sequence[Any] | Any = field(
        default=True, metadata={_AS_TEXT: bool | str | list[str]}
    )
    log_every_n_steps: int | None = None
    profiler: Literal["simple", "trace"] | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    ema_momentum: float | None = None
    early_stopping: int | None = None
    deterministic: bool = False
    every_n_train_steps: int | None = None
    train_time_interval: int | float | str | timedelta = field(
        default="10min", metadata={_AS_TEXT: int | float | str}
    )
    save_top_k: int = 1
    enable_checkpointing: bool = True
    steps_per_dispatch: int | Literal["auto"] = "auto"
    device_cache: int | float | str = "auto"
    enable_progress_bar: bool = True
    enable_model_summary: bool = True


@dataclass(frozen=True, slots=True)
class TextOption:
    """An option as the command line and config.yaml have it.

    Args:
        name: Of the field.
        type: Of its value.
        default: Where it is not given.
        help: What it does.
    """

    name: str
    type: Any
    default: Any
    help: str


def text_options(options: type[DataOptions | ModelOptions | TrainerOptions]) -> list[TextOption]:
    """Return the options of a dataclass whose values can be written as text, in order."""
    described = {
        each.arg_name: each.description for each in parse_docstring(options.__doc__).params
    }
    hints = get_type_hints(options)
    return [
        TextOption(
            each.name,
            each.metadata.get(_AS_TEXT, hints[each.name]),
            _default_of(each),
            " ".join((described[each.name] or "").split()),
        )
        for each in fields(options)
        if _AS_TEXT not in each.metadata or each.metadata[_AS_TEXT] is not None
    ]


def _default_of(option: Field[Any]) -> Any:  # noqa: ANN401  whatever it is
    return option.default if option.default_factory is MISSING else option.default_factory()


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
                f"column {dict(spec)!r}: {error}; it takes {', '.join(_COLUMN_SETTINGS)}"
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
            **spec.kind_options(),
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
