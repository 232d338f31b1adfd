"""The options of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal

from kerash5._options._columns import ColumnOption
from kerash5._options._types import AS_TEXT, PYTHON_ONLY
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import StrPath

ColumnSpecOption = Any  # Columns, or an open h5py.Dataset

_PATHS: Final[dict[str, Any]] = {AS_TEXT: str | list[str] | None}
_COLUMNS: Final[dict[str, Any]] = {AS_TEXT: ColumnOption | None}


@dataclass(frozen=True)
class DataOptions:
    """The data: which files, which columns, which rows.

    Args:
        train: The training data: a file, a glob pattern, a list of either, or (in Python) a
            `Source`.
        test: The test data, in the same forms, or (in Python) an `H5Dataset`, which is used
            unchanged; None for no test data. Files without y can only be used with `predict`.
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
            (1000) is drawn at random by `seed`, among `rows`; Keras uses the last rows instead. Or
            choose the rows: row numbers [0, 5, 7], rows that the file names such as [split, val],
            or in Python also a mask or a slice such as slice(48000, None).
        validation_data: The validation data, instead of rows of `train`: files, or in Python a
            `Source`, or an `H5Dataset`, which is used unchanged.
        stratify: Give each label the same fraction of the validation rows as of all rows; needs
            `validation_split` as a fraction or a number, and not with `groups`.
        groups: A column of the training file, such as "patient": all rows with the same value are
            either trained on or validated on, never split. The number of validation rows is then
            only approximate. Needs `validation_split` as a fraction or a number.
        balance: Repeat training rows so that every class of y has as many rows as the largest
            class. If the largest has m rows and another class has c, each row of that class is
            repeated m // c times, and m % c of them, drawn by `seed`, once more. Validation and
            test rows are not repeated.
        rows: The rows of `train` to use: a number n means the first n; row numbers, [0, 5, 7]; rows
            that the file names: the path of a data set of row numbers or of a mask, or a column and
            a value, [split, train]; in Python also a slice or a mask. None: all rows.
        shuffle: Order of training rows. "rows": a uniform permutation; "chunks": whole chunks in
            random order, rows mixed within a window of them; False: the stored order; "auto":
            "rows" if single rows are cheap to read, else "chunks". Other data are not shuffled.
        seed: Seed of the shuffle order and of the validation split.
        transform: A function of NumPy batches, called as transform(x, y[, sample_weight]), which
            returns one value for each; for training, validation and test batches. Shapes, types and
            the number of rows may change, but `predict` needs one result per row.
        train_transform: A function in the same form for training batches only, such as
            augmentation; it is called after `transform`.
        drop_last: A short last batch: False uses it, True drops it in training, "all" in validation
            and test as well, with a warning. "pad", for models of a fixed batch size, fills it up
            with repeated rows of sample weight 0, and leaves out predictions for them.
        cache: Memory for decoded data: bytes, "2GB", a fraction of free memory (a float: 1.0 is
            all, 1 is one byte), or "auto": 160 MiB, or a quarter of free memory if that is less. 0
            caches nothing. `test` and `validation_data` get another quarter of it each; rows of
            `validation_split` share it.
        threads: Number of reading threads; 0 reads in the calling thread; None: one per CPU, at
            most 4.
        shard: (index, count): use only shard `index`, from 0, of `count` shards of the rows;
            "auto": the shard of this process, of all processes that the backend runs; None: all
            rows. Every shard has the same number of steps, and `batch_size` rows per step.
        scratch: A folder for a temporary file of decoded rows that do not fit in memory, as in
            `H5Dataset`. None: in a fit, the folder of the run.
        reader: "auto"; "h5py" reads everything through h5py; "direct" reads chunks through h5py
            without using file offsets, for diagnosis.
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
        default=None, metadata={AS_TEXT: int | float | list[str | int] | None}
    )
    validation_data: StrPath | Sequence[StrPath] | Any = field(default=None, metadata=_PATHS)
    stratify: bool = False
    groups: str | None = None
    balance: bool = False
    rows: int | slice | Sequence[int] | Any = field(
        default=None, metadata={AS_TEXT: int | str | list[str | int] | None}
    )
    shuffle: Literal["auto", "rows", "chunks", False] = field(
        default="auto", metadata={AS_TEXT: Literal["auto", "rows", "chunks"] | bool}
    )
    seed: int = 0
    transform: Callable[..., Any] | None = field(default=None, metadata=PYTHON_ONLY)
    train_transform: Callable[..., Any] | None = field(default=None, metadata=PYTHON_ONLY)
    drop_last: bool | Literal["all", "pad"] = False
    cache: int | float | str = "auto"
    threads: int | None = None
    shard: tuple[int, int] | Literal["auto"] | None = field(default=None, metadata=PYTHON_ONLY)
    scratch: StrPath | None = field(default=None, metadata={AS_TEXT: str | None})
    reader: Reader = "auto"
    allow_external: bool = False
