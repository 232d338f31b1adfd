"""H5DataModule: the training, validation and test data of one job, split and aligned once."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from kerash5._checks import is_whole
from kerash5._display import Described, Text
from kerash5._errors import KerasH5Error, OptionError, UnknownColumnError
from kerash5._keywords import DATA_WORDS, documents, takes
from kerash5._options import DataOptions, format_columns, parse_columns, text_options
from kerash5.batches._batches import ColumnSpec, RowSelection
from kerash5.batches._roles import ROLES, flatten_roles
from kerash5.batches._transform import chain_transforms
from kerash5.batches.cache import parse_cache
from kerash5.feeds._class_names import check_classes, class_names_of
from kerash5.feeds._held_out import (
    ASIDE,
    balanced,
    check_no_groups,
    check_not_stratified,
    split_training_rows,
)
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._overlap import check_no_overlap, warn_of_validated_rows
from kerash5.feeds._splits import Splits
from kerash5.h5 import Column, Source
from kerash5.h5._look import look_at
from kerash5.h5.columns._given import name_columns
from kerash5.h5.storage._file import H5File, StrPath, find_files
from kerash5.h5.storage._find import has_object

_OWN_VALIDATION: Final = (
    "give validation_data= files of their own, or validation_split= a fraction of the training "
    "rows, such as 0.2, or other columns as Source(path, x=..., y=...)"
)
_OWN_TEST: Final = (
    "give test= files of their own, or other columns as Source(path, x=..., y=...); metrics on "
    "training rows are Trainer.test(model, data.train)"
)

Paths = StrPath | Sequence[StrPath] | Source
Other = Paths | H5Dataset


_BATCH_SIZE: Final = 32
# Options common to all data sets of a module.
_SHARED: Final = (
    *("batch_size", "seed", "threads", "shard", "scratch", "reader", "allow_external"),
)


@final
@documents(DataOptions)
class H5DataModule(Described):
    """Opens the data of one job as `train`, `validation` and `test`, each an `H5Dataset` or None.

    Raises:
        KerasH5Error: A file, a column or an option is wrong; the message names it and the cure.

    Examples:
        >>> train, test = digits_train(), digits_test()
        >>> data = H5DataModule(
        ...     train, test, x="image", y="label", validation_split=0.2, stratify=True
        ... )
        >>> data.train.num_rows, data.validation.num_rows, data.test.num_rows, data.num_classes
        (4000, 1000, 1000, 10)
    """

    @takes(DataOptions, "H5DataModule", cures=DATA_WORDS)
    def __init__(self, options: DataOptions) -> None:
        if options.train is None:
            raise OptionError("no training file; give H5DataModule(FILE), or --data.train FILE")
        train, columns = options.train, {role: getattr(options, role) for role in ROLES}
        _check_train(train)
        if not isinstance(train, Source):
            train, columns = name_columns(train, columns)
        size = _BATCH_SIZE if options.batch_size is None else options.batch_size
        self._options = replace(options, train=train, batch_size=size, **columns)
        self._cache_bytes = parse_cache(options.cache)
        self._splits = Splits(columns)
        base = H5Dataset(
            train,
            **self._splits.of_train(),
            **self._common(options.train_transform),
            rows=_parse_rows(options.rows),
            shuffle=options.shuffle,
            drop_last=options.drop_last,
            cache=self._cache_bytes,
        )
        _check_count(options.rows, base)
        self._all_rows = base if options.rows is None else base.select_rows(None)
        self.train = base
        self.validation: H5Dataset | None = None
        self._open_validation(base)
        if options.groups is not None and self.validation is None:
            raise OptionError(f"groups={options.groups!r} needs validation_split=, a fraction")
        if options.balance:
            self.train = balanced(self.train, options.seed)
        self.test: H5Dataset | None = self._open_test(options.test)
        if self.test is not None:
            check_no_overlap(self.train, self.test, task="test", cure=_OWN_TEST)
            if self.validation is not None:
                warn_of_validated_rows(self.validation, self.test)

    def _common(self, train_transform: Callable[..., Any] | None = None) -> dict[str, Any]:
        """Return the options of all data sets, with `train_transform` chained to the transform."""
        return {
            **{name: getattr(self._options, name) for name in _SHARED},
            "transform": chain_transforms(self._options.transform, train_transform),
        }

    def _is_named_in_file(self, split: Any) -> bool:  # noqa: ANN401  a selection, or a mistake
        """Return whether the split names a data set of the training file, alone or with a value."""
        path = split[0] if isinstance(split, tuple | list) and len(split) == 2 else split
        if not isinstance(path, str):
            return False
        source = self.train.source
        return any(has_object(file, path) for file in find_files(list(source.paths))[:1])

    def _open_validation(self, base: H5Dataset) -> None:
        """Open the validation data: rows split off the training rows, or other data."""
        options = self._options
        split, other = options.validation_split, options.validation_data
        if _is_path(split) and not self._is_named_in_file(split):
            raise OptionError(
                f"validation_split={split!r} is a fraction or a number of rows of the training "
                "file, or which ones; other data to validate on are validation_data="
            )
        if split is not None and other is not None:
            raise OptionError(
                "validation_split= and validation_data= both say what to validate on; give one"
            )
        if split is not None:
            in_order = {"transform": options.transform} if options.train_transform else {}
            self.train, self.validation = split_training_rows(
                base, split, options, cache_bytes=self._cache_bytes, changes=in_order
            )
            return
        if other is None and self._splits.are_named and not isinstance(options.train, Source):
            other = options.train if self._splits.find("validation", options.train) else None
        if other is None:
            return
        check_not_stratified(stratify=options.stratify)
        check_no_groups(options.groups)
        if not _is_path(other):
            raise OptionError(
                f"validation_data={other!r} is no file, Source or H5Dataset; rows of the training "
                "file are validation_split="
            )
        self.validation = self._open(other, "validation")
        check_no_overlap(self.train, self.validation, task="validate", cure=_OWN_VALIDATION)

    def _open_test(self, paths: Any) -> H5Dataset | None:  # noqa: ANN401  Paths
        """Open the test files; files without labels can still be predicted."""
        options = self._options
        if paths is None and self._splits.are_named and not isinstance(options.train, Source):
            paths = options.train if self._splits.find("test", options.train) else None
        if paths is None:
            return None
        try:
            return self._open(paths, "test")
        except UnknownColumnError as error:
            if options.y is None or isinstance(paths, Source):
                raise
            try:
                return self._open(paths, "test", is_labelled=False)
            except UnknownColumnError:
                raise error from None  # x is missing too

    def _open(
        self,
        paths: Any,  # noqa: ANN401  Paths, once looked at
        role: str,
        *,
        is_labelled: bool = True,
    ) -> H5Dataset:
        """Open files besides the training files, with the same columns and the same class ids."""
        if isinstance(paths, H5Dataset):
            check_classes(self.train, paths)
            return paths
        if isinstance(paths, Source) and not isinstance(self._options.train, Source):
            columns: dict[str, Any] = {}  # a source has columns of its own
        else:
            columns = self._splits.of(role, paths)
        if not is_labelled:
            columns = {**columns, "y": None, "sample_weight": None}
        opened = H5Dataset(
            paths,
            **columns,
            **self._common(),
            shuffle=False,
            cache=int(self._cache_bytes * ASIDE),
            classes_of=self.train if class_names_of(self.train) else None,
        )
        check_classes(self.train, opened)
        return opened

    def close(self) -> None:
        """Stop reading ahead, and close the HDF5 handles of all files in this process."""
        for part in (self.train, self.validation, self.test):
            if part is not None:
                part.close()

    def __enter__(self) -> H5DataModule:
        """Return the data module; `with` closes its files at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def from_options(cls, options: DataOptions, *, is_training: bool = True) -> H5DataModule:
        """Make the data module that the command line or a config.yaml describes.

        Args:
            options: The constructor's arguments.
            is_training: Whether it is for training: then no test row may be a training row.
        """
        if options.train is None:
            raise OptionError("no training file; give --data.train FILE")
        shuffle: object = options.shuffle  # YAML has true
        if shuffle is True:
            raise OptionError("shuffle=True; choose rows, chunks, false or auto")
        columns = {role: parse_columns(getattr(options, role)) for role in ROLES}
        _look_first(options, columns)
        values = {**vars(options), **columns}
        if is_training or options.test is None:
            return cls(**values)
        module = cls(**{**values, "test": None})
        module._options = replace(module._options, test=options.test)
        module.test = module._open_test(options.test)
        return module

    def config(self) -> dict[str, Any]:
        """Return the arguments as plain YAML values, by their names in `DataOptions`.

        A value that YAML cannot represent is replaced by a description; options of Python alone
        are omitted if they are None.
        """
        found: dict[str, Any] = {}
        as_text = {option.name for option in text_options(DataOptions)}
        for name, value in vars(self._options).items():
            if name in ROLES:
                found[name] = format_columns(value)
            elif name in ("train", "test", "validation_data"):
                found[name] = _format_paths(value)
            elif value is not None or name in as_text:
                found[name] = _format_plain(value)
        return found

    @property
    def input_shape(self) -> Any:  # noqa: ANN401  nearly always one tuple, and used as one
        """The shape of one row of x (or a tuple or dict of shapes): the model's `input_shape`."""
        return self.train.input_shape

    @property
    def num_classes(self) -> int | None:
        """Number of classes of y over all rows of the training file; None if y holds no labels."""
        return self._all_rows.num_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names behind the class ids, where the file has names."""
        return self.train.class_names

    def describe(self) -> str:
        """Return a description of what each data set reads, in which order."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return Text(
            "\n".join(
                f"{name}: {part.describe()}" for name, part in parts.items() if part is not None
            )
        )

    def __repr__(self) -> str:
        """Return the number of rows of each role, in one line."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        rows = [f"{name} {part.num_rows} rows" for name, part in parts.items() if part is not None]
        return f"H5DataModule({', '.join(rows)})"


def _look_first(options: DataOptions, columns: Mapping[str, ColumnSpec | None]) -> None:
    """Open the files in a child process first, as a damaged file may crash it; ignore errors."""
    flat, _ = flatten_roles({role: spec for role, spec in columns.items() if spec is not None})
    named = [Column(spec) if isinstance(spec, str) else spec for spec in flat.values()]
    files: list[H5File] = []
    with suppress(KerasH5Error):
        given: list[Any] = [options.train, options.validation_data, options.test]
        paths = [value for value in given if _is_path(value)]
        files += [file for path in paths for file in find_files(path)]
    look_at(files, named, allow_external=options.allow_external)


def _parse_rows(rows: RowSelection | int) -> RowSelection:
    if not is_whole(rows):
        return rows
    if rows < 1:
        raise OptionError(
            f"rows={rows}; give the number of rows to train on, at least 1, or a selection"
        )
    return slice(0, int(rows))


def _check_train(train: object) -> None:
    if isinstance(train, H5Dataset):
        raise OptionError(
            f"train={train!r} is an H5Dataset, whose rows and options are chosen already; give its "
            "file or Source with x= and y=, and the options here"
        )


def _check_count(rows: RowSelection | int, base: H5Dataset) -> None:
    if is_whole(rows) and rows > len(base.source):
        raise OptionError(f"rows={rows}, and {base.source!r} has only {len(base.source)}")


def _is_path(value: object) -> bool:
    if isinstance(value, str | os.PathLike | Source | H5Dataset):
        return True
    are_paths = isinstance(value, list | tuple) and all(
        isinstance(part, str | os.PathLike) for part in value
    )
    return are_paths and bool(value)


def _format_paths(value: object) -> object:
    if isinstance(value, str | os.PathLike):
        return str(Path(value).absolute())  # a run can be tested from anywhere
    if isinstance(value, list | tuple) and _is_path(value):
        return [str(Path(part).absolute()) for part in value]
    return _format_plain(value)


def _format_plain(value: object) -> object:
    """Return a plain YAML value unchanged, and a description of any other value."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], str):
        return [_format_plain(part) for part in value]  # a column and its value
    is_plain = value is None or isinstance(value, bool | int | float | str)
    return value if is_plain else {"described": reprlib.repr(value)}
