"""Every option of data, model and training, declared once, with its documentation.

`H5DataModule` and `Trainer` take the fields of `DataOptions` and `TrainerOptions` as arguments. The
command line and config.yaml use the same names, for fields whose values can be written as text.
Keras is not imported, so that parsing is quick.
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

_MAX_VALUES: Final = 100_000  # in a config.yaml

ColumnOption = str | dict[str, Any] | list[Any]
Columns = str | Column | Sequence["Columns"] | Mapping[str, "Columns"]
ColumnSpecOption = Any  # Columns, or an open h5py.Dataset

# Types of fields on the command line, if they differ from those in Python.
_AS_TEXT: Final = "as_text"
_PATHS: Final[dict[str, Any]] = {_AS_TEXT: str | list[str] | None}
_COLUMNS: Final[dict[str, Any]] = {_AS_TEXT: ColumnOption | None}
_PYTHON_ONLY: Final[dict[str, Any]] = {_AS_TEXT: None}


@dataclass(frozen=True)
class DataOptions:
    """The data: which files, which columns, which rows.

    Args:
        train: The training data: a file, a glob pattern, a list of either, or a `Source`.
        test: The test data, in the same forms, or an `H5Dataset`, which is used unchanged; None for
            no test data. Files without y can only be used with `predict`.
        x: The input of the model: the path of a data set in the file, a `Column` (on the command
            line {path: ..., shape: [...]}), or a tuple or dict of them. `{split}` in a path is
            replaced by "train" for training, by "validation", "valid" or "val" (whichever exists)
            for validation, and by "test" for testing: "X_{split}" stands for X_train, X_val and
            X_test, in one file or in several.
        y: The target of the model, in the same forms; None for data without labels.
        sample_weight: One weight per row, in the same forms.
        batch_size: Number of rows in a batch; None: 32, or on the command line, where it is the
            default, that of the model's recipe.
        validation_split: The rows of `train` to validate on. A fraction (0.2) or a number of rows
            is drawn at random by `seed`. Or choose the rows: a slice such as slice(48000, None),
            row numbers, a mask, or rows that the file names, as in `rows`.
        validation_data: The validation data, instead of rows of `train`: files, a `Source`, or an
            `H5Dataset`, which is used unchanged.
        stratify: Give each label the same fraction of the validation rows as of all rows.
        groups: A column of the training file, such as "patient": all rows with the same value are
            either trained on or validated on, never split. The number of validation rows is then
            only approximate.
        balance: Repeat training rows so that every class of y has as many rows as the largest
            class. If the largest has m rows and another class has c, each row of that class is
            repeated m // c times, and m % c of them, drawn by `seed`, once more. Validation and
            test rows are not repeated.
        rows: The rows of `train` to use: a slice, row numbers or a mask; a number n means the first
            n; or rows that the file names: the path of a data set of row numbers or of a mask, or a
            column and a value, such as ("split", "train"). None: all rows.
        shuffle: Order of training rows. "rows": a uniform permutation; "chunks": whole chunks in
            random order, rows mixed within a window of them; False: the stored order; "auto":
            "rows" if single rows are cheap to read, else "chunks". Other data are not shuffled.
        seed: Seed of the shuffle order and of the validation split.
        transform: A function of NumPy batches, called as transform(x, y[, sample_weight]), which
            returns the same number of values; for training, validation and test batches.
        train_transform: A function in the same form for training batches only, such as
            augmentation; it is called after `transform`.
        drop_last: A short last batch: False uses it, True drops it in training, "all" in validation
            and test as well, with a warning. "pad", for models of a fixed batch size, fills it up
            with repeated rows of sample weight 0, and leaves out predictions for them.
        cache: Memory for decoded data: bytes, "2GB", a fraction of free memory, or "auto".
        threads: Number of reading threads; 0 reads in the calling thread, None chooses the number.
        shard: (index, count): use only the `index`-th of `count` shards of the rows; "auto": the
            shard of this process, of all processes that the backend runs; None: all rows.
        scratch: A folder for a temporary file of decoded rows that do not fit in memory, as in
            `H5Dataset`.
        reader: "auto", or "h5py" to read everything through h5py.
        allow_external: Let links and virtual data sets point outside the folder of a file.
    """

    train: StrPath | Sequence[StrPath] | Any = field(default=None, metadata=_PATHS)
    test: StrPath | Sequence[StrPath] | Any = field(default=None, metadata=_PATHS)
    _: KW_ONLY
    x: ColumnSpecOption = field(default=None, metadata=_COLUMNS)
    y: ColumnSpecOption = field(default=None, metadata=_COLUMNS)
    sample_weight: ColumnSpecOption = field(default=None, metadata=_COLUMNS)
    batch_size: int | None = 32
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
    drop_last: bool | Literal["all", "pad"] = False
    cache: int | float | str = "auto"
    threads: int | None = None
    shard: tuple[int, int] | Literal["auto"] | None = field(default=None, metadata=_PYTHON_ONLY)
    scratch: StrPath | None = field(default=None, metadata={_AS_TEXT: str | None})
    reader: Reader = "auto"
    allow_external: bool = False


@dataclass(frozen=True)
class ModelOptions:
    """The model, and how it is compiled: one of the zoo by its recipe, where an option is None.

    Args:
        name: One of `kerash5.zoo.names()`; "module:function", your own function that returns a
            `keras.Model`, called with `input_shape` and `num_classes` if it has these parameters;
            "keras:ResNet50V2", a model of `keras.applications` with random weights; or the path of
            a .keras file.
        learning_rate: Learning rate, the highest if it decays; None: the compiled model's or 0.001.
        options: Further arguments of the model, such as {hidden: [256, 64]}; on the command line
            also as --model.hidden "[256, 64]".
        optimizer: Name of a Keras optimizer; None: the optimizer of a compiled model, else Adam.
        optimizer_options: Further arguments of the optimizer, such as {weight_decay: 1e-4}; on the
            command line also as --optimizer.weight-decay 1e-4.
        lr_schedule: Name of a Keras learning rate schedule, which starts at `learning_rate`.
        lr_schedule_options: Further arguments of the schedule, such as {decay_steps: 1000}.
        loss: Name of a Keras loss; None: the loss of a compiled model, else cross-entropy for class
            labels.
        metrics: Names of Keras metrics; None: the metrics of a compiled model, else accuracy for
            class labels.
    """

    name: str = "convnet"
    learning_rate: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    lr_schedule: str | None = None
    lr_schedule_options: dict[str, Any] = field(default_factory=dict)
    loss: str | None = None
    metrics: list[str] | None = None

    def __post_init__(self) -> None:
        """Raise if options are given for an optimizer or a schedule that is not named."""
        if self.lr_schedule_options and self.lr_schedule is None:
            raise OptionError("lr_schedule_options without lr_schedule; name the schedule")
        if (self.lr_schedule or self.optimizer_options) and self.optimizer is None:
            object.__setattr__(self, "optimizer", "Adam")


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """The training.

    Args:
        max_epochs: Number of passes over the training rows; None: 10, or on the command line that
            of the model's recipe, or no limit where `max_steps` or `max_time` is given.
        min_epochs: Number of epochs to train even if `early_stopping` or a callback requests an
            earlier stop. `max_steps` and `max_time` still end the run.
        max_steps: Maximum number of training steps, over all epochs.
        max_time: Maximum duration of the whole run: seconds, "90s", "10min", "1.5h", "DD:HH:MM:SS"
            or a timedelta; None for no limit.
        precision: "float32", "bf16-mixed" or "16-mixed". In Python the model must have been built
            with this precision, and None accepts any; on the command line the model is built with
            it.
        run_dir: The folder for everything the run writes: config.yaml, env.json, metrics.csv,
            model.json, run.json, checkpoints, last and best weights, TensorBoard events. None:
            runs/MODEL. If the folder already contains a run, that run is not changed, and a number
            is added to the name.
        monitor: The metric by which the best epoch is chosen; None: "val_loss", or "loss" without
            validation. It must be one number per epoch: `F1Score(average="macro")`, not
            `F1Score()`.
        mode: "min" if a smaller `monitor` is better, "max" if a larger one is, "auto" to decide by
            its name: accuracy and similar metrics are better when larger, others when smaller.
        callbacks: Keras callbacks. A callback with a method for each batch makes the trainer run
            one step at a time, which is slower; the trainer prints a note.
        limit_train_batches: Train on only this many batches of each epoch (an int), or on this
            fraction of them (a float); None for all.
        limit_val_batches: Validate on only this many batches or this fraction; 0: no validation.
        limit_test_batches: Test on only this many batches (an int) or this fraction (a float).
        overfit_batches: Train on these first batches in every epoch: a model that cannot overfit
            them has a bug.
        fast_dev_run: Run one batch (or this many) of training and validation, and stop.
        num_sanity_val_steps: Number of batches to validate on before the first training step.
        val_check_interval: Validate at the end of an epoch and after each n of its steps, or this
            fraction.
        check_val_every_n_epoch: Validate in every n-th epoch only. The epochs in between have no
            validation metrics: they are not candidates for the best epoch by such a metric, and
            `early_stopping` does not count them.
        logger: Where to write the metrics besides run.json: "csv", "tensorboard", "mlflow",
            "wandb", your own logger (an `AbstractLogger`), or a list of these; True for csv and
            tensorboard, False for none.
        log_every_n_steps: Also log running averages every n steps; None: only once per epoch.
        profiler: "simple" measures where the time goes and prints it at the end, with the
            bottleneck and a suggestion; run.json stores it. "trace" writes the framework's own
            trace of some steps to the run's folder.
        accumulate_grad_batches: Number of batches whose gradients make one update of the weights.
        gradient_clip_val: Clip gradients to this value, by default by their global norm.
        gradient_clip_algorithm: "norm" clips the global norm, "value" clips each gradient element.
        ema_momentum: Momentum of an exponential moving average of the weights, such as 0.999. The
            averages are validated and tested. Callbacks see and save them in `on_epoch_end` (so
            that `EarlyStopping` restores and `ModelCheckpoint` saves the validated weights). They
            are saved as the best weights, and the model has them at the end. Training continues
            from the weights that are not averaged, which callbacks see within an epoch. Without
            this option, an optimizer with `use_ema=True` behaves as in Keras' `fit`: its averages
            replace the weights at the end.
        early_stopping: Stop when `monitor` has not improved for this many epochs; None: never.
        deterministic: Use only operations whose results are bit-identical in every run on a GPU.
        every_n_train_steps: Write a checkpoint every n training steps.
        train_time_interval: Time between checkpoints, in the forms of `max_time`. A checkpoint is
            also written at the end of an epoch if that takes less than a twentieth of the time
            since the last one.
        save_top_k: Number of best epochs (by `monitor`) whose checkpoints are not deleted.
        enable_checkpointing: Write checkpoints. A run without checkpoints cannot be resumed.
        steps_per_dispatch: Number of steps the device runs per call; "auto" measures which is fast.
        device_cache: Copy all training rows to the device once, if they take at most this many
            bytes (or "2GB"), so that each step gathers its batch there. "auto" allows 32 MiB on a
            CPU, and a quarter of a GPU's free memory (and of the host's) on JAX and PyTorch; it
            copies nothing for a fit that uses fewer rows than the data set has. 0 disables it.
            Results are bit-identical with and without.
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
    """An option of the command line and of config.yaml.

    Args:
        name: Name of the field.
        type: Type of the value.
        default: The value if the option is not given.
        help: Help text.
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
    """Raise if YAML aliases expand to too many values.

    Nested lists of nine aliases each, nine levels deep, expand to a billion values from 500 bytes.

    Args:
        text: The YAML text.
        what: The file, for the message.

    Raises:
        OptionError: Expanded, it would have more than 100,000 values.
        yaml.YAMLError: The text is not YAML.
    """
    counts: dict[int, int] = {}

    def count(node: yaml.Node | None) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in counts:
            counts[id(node)] = _MAX_VALUES + 1  # a list that contains itself
            values = (pair if isinstance(pair, tuple) else (pair,) for pair in node.value)
            counts[id(node)] = 1 + sum(count(value) for pair in values for value in pair)
        return counts[id(node)]

    if count(yaml.compose(text, Loader=yaml.SafeLoader)) > _MAX_VALUES:
        raise OptionError(
            f"{what}: its aliases (*name) stand for more than {_MAX_VALUES} values; write the "
            "values that are meant"
        )


def parse_columns(spec: ColumnOption | None) -> Any:  # noqa: ANN401  Columns, or None for None
    """Return the columns for `Source` from their form in YAML.

    A mapping with "path" is one `Column`; another is several columns by name; a list is a tuple.

    Raises:
        OptionError: A column has a setting that `Column` does not know.
    """
    if isinstance(spec, Mapping):
        if "path" not in spec:
            return {name: parse_columns(part) for name, part in spec.items()}
        try:
            return Column(**spec)
        except OptionError as error:
            raise OptionError(f"column {dict(spec)!r}: {error}") from None
    return tuple(parse_columns(part) for part in spec) if isinstance(spec, list) else spec


def format_columns(spec: Columns | None) -> ColumnOption | None:
    """Return columns as plain YAML values; `parse_columns` is the inverse."""
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
    if isinstance(value, bytes):  # decoded as `Column` does
        return value.decode("utf-8", "backslashreplace")
    return value.item() if isinstance(value, np.generic) else value
