"""H5DataModule: the training, validation and test data of one job, split and aligned once."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, final

import numpy as np

from kerash5._checks import is_whole
from kerash5._errors import KerasH5Error, OptionError, UnknownColumnError
from kerash5._options import DataOptions, format_columns, parse_columns
from kerash5.batches._batches import ColumnSpec, RowSelection, parse_selection
from kerash5.batches._roles import flatten_roles
from kerash5.batches.cache import parse_cache
from kerash5.feeds._class_names import check_classes, class_names_of
from kerash5.feeds._keras import H5Dataset
from kerash5.feeds._overlap import check_no_overlap, warn_of_validated_rows
from kerash5.h5 import Column, Source
from kerash5.h5._look import look_at
from kerash5.h5.columns._given import name_columns
from kerash5.h5.reading._select_reader import Reader
from kerash5.h5.storage._file import H5File, StrPath, find_files
from kerash5.order._plan import Shuffle
from kerash5.order._split import split_rows

# Of the cache, for validation and for test: they are read in order, and need little at a time.
_ASIDE: Final = 0.25

_OWN_VALIDATION: Final = (
    "give validation= a share of the training rows, such as 0.2, files of their own, or other "
    "columns as Source(path, x=..., y=...)"
)
_OWN_TEST: Final = (
    "give test= files of their own, or other columns as Source(path, x=..., y=...); metrics on "
    "training rows are Trainer.test(model, data.train)"
)

Paths = StrPath | Sequence[StrPath] | Source
Other = Paths | H5Dataset


_KEPT: Final = ("batch_size", "seed", "threads", "scratch", "allow_external")  # as they are


@final
class H5DataModule:
    """Holds the data sets of one training job.

    Args:
        train: What to train on: a file, a glob pattern, a list of either, or a `Source`.
        test: What to test on, likewise, or an `H5Dataset`, which is taken as it is; None for no
            test. Files without y serve `predict` alone.
        x: What the model takes: a data set's path, a `Column`, or a tuple or dict of them.
        y: What it should answer, likewise.
        sample_weight: One weight a row, likewise.
        batch_size: Rows in a batch.
        validation: A fraction of the training rows (0.2) or a number of them, drawn at random by
            `seed`; or which ones (a slice such as slice(48000, None), row numbers, a mask); or
            files of their own, a path or a `Source`; or an `H5Dataset`, which is taken as it is.
        stratify: Keep each label's share in the validation rows.
        rows: The rows of `train` to use at all, as in `H5Dataset`; a number n means the first n.
        shuffle, seed, transform, drop_last, cache, threads, shard, scratch, reader, allow_external:
            As in `H5Dataset`. `transform` is applied to all three; only training is shuffled.

    Raises:
        KerasH5Error: A file, a column or an option is not as it should be.

    Example:
        >>> train, test = digits_train(), digits_test()
        >>> data = H5DataModule(train, test, x="image", y="label", validation=0.2, stratify=True)
        >>> data.train.num_rows, data.validation.num_rows, data.test.num_rows, data.num_classes
        (4000, 1000, 1000, 10)
    """

    def __init__(
        self,
        train: Paths,
        test: Other | None = None,
        *,
        x: ColumnSpec | None = None,
        y: ColumnSpec | None = None,
        sample_weight: ColumnSpec | None = None,
        batch_size: int = 32,
        validation: float | RowSelection | Other = None,
        stratify: bool = False,
        rows: RowSelection | int = None,
        shuffle: Shuffle | Literal["auto"] = "auto",
        seed: int = 0,
        transform: Callable[..., Any] | None = None,
        drop_last: bool = False,
        cache: float | str = "auto",
        threads: int | None = None,
        shard: tuple[int, int] | Literal["auto"] | None = None,
        scratch: StrPath | None = None,
        reader: Reader = "auto",
        allow_external: bool = False,
    ) -> None:
        self._columns: dict[str, Any] = {"x": x, "y": y, "sample_weight": sample_weight}
        if not isinstance(train, Source):
            train, self._columns = name_columns(train, self._columns)
        self._common: dict[str, Any] = {
            "batch_size": batch_size,
            "seed": seed,
            "transform": transform,
            "threads": threads,
            "shard": shard,
            "scratch": None if scratch is None else os.fspath(scratch),
            "reader": reader,
            "allow_external": allow_external,
        }
        self._paths = {"train": train, "test": test, "validation": validation}
        self._settings = {
            "stratify": stratify,
            "shuffle": shuffle,
            "rows": rows,
            "cache": cache,
        }
        _check_train(train)
        base = H5Dataset(
            train,
            **self._columns,
            **self._common,
            rows=_parse_rows(rows),
            shuffle=shuffle,
            drop_last=drop_last,
            cache=cache,
        )
        _check_count(rows, base)
        self._num_classes = (base if rows is None else base.select_rows(None)).num_classes
        self.train, self.validation = base, None
        if _is_path(validation):
            _check_stratify(stratify=stratify)
            self.validation = self._open(validation, cache)
            check_no_overlap(self.train, self.validation, task="validate", cure=_OWN_VALIDATION)
        elif validation is not None:
            self.train, self.validation = _split(
                base, validation, stratify=stratify, seed=seed, cache=cache
            )
        self.test = self._open_test(test, cache) if test is not None else None
        if self.test is not None:
            check_no_overlap(self.train, self.test, task="test", cure=_OWN_TEST)
            if self.validation is not None:
                warn_of_validated_rows(self.validation, self.test)

    def _open_test(self, paths: Any, cache: float | str) -> H5Dataset:  # noqa: ANN401  Paths
        """Open the files to test on; without labels they can still be predicted."""
        try:
            return self._open(paths, cache)
        except UnknownColumnError as error:
            if self._columns["y"] is None or isinstance(paths, Source):
                raise
            columns = self._columns
            self._columns = {**columns, "y": None, "sample_weight": None}
            try:
                return self._open(paths, cache)
            except UnknownColumnError:
                raise error from None  # x is not there either
            finally:
                self._columns = columns

    def _open(self, paths: Any, cache: float | str) -> H5Dataset:  # noqa: ANN401  Paths, once looked at
        """Open files beside those of training: the same columns, the same ids for the same text."""
        if isinstance(paths, H5Dataset):
            check_classes(self.train, paths)
            return paths
        columns = self._columns
        if isinstance(paths, Source) and not isinstance(self._paths["train"], Source):
            columns = {}  # a source brings its own
        opened = H5Dataset(
            paths,
            **columns,
            **self._common,
            shuffle=False,
            cache=_share(cache, _ASIDE),
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
            is_training: Whether it is to be trained on: then rows to test on must be others.
        """
        if options.train is None:
            raise OptionError("no training file; give --data.train FILE")
        if options.shuffle is True:
            raise OptionError("shuffle=True; choose rows, chunks, false or auto")
        columns = {
            role: parse_columns(getattr(options, role)) for role in ("x", "y", "sample_weight")
        }
        _look_first(options, columns)
        values = {**vars(options), **columns}
        if is_training or options.test is None:
            return cls(**values)
        module = cls(**{**values, "test": None})
        module._paths["test"] = options.test
        module.test = module._open_test(options.test, options.cache)
        return module

    def config(self) -> dict[str, Any]:
        """Return the arguments as YAML can hold them, as `DataOptions` names them.

        What cannot be held is described in words.
        """
        columns = {role: format_columns(spec) for role, spec in self._columns.items()}
        paths = {name: _format_paths(value) for name, value in self._paths.items()}
        kept = {name: self._common[name] for name in _KEPT}
        settings = {
            name: _format_plain(value) for name, value in {**kept, **self._settings}.items()
        }
        transform = self._common["transform"]
        changed = {} if transform is None else {"transform": _format_plain(transform)}
        return {**paths, **columns, **settings, **changed}

    @property
    def input_shape(self) -> Any:  # noqa: ANN401  nearly always one tuple, and used as one
        """The shape of one row of x (or a tuple or dict of shapes): the model's `input_shape`."""
        return self.train.input_shape

    @property
    def num_classes(self) -> int | None:
        """The number of classes of y in the training file, all its rows; None if y is no label."""
        return self._num_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names behind the class ids, where the file has names."""
        return self.train.class_names

    def describe(self) -> str:
        """Say in words what each data set reads, in which order."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return "\n".join(
            f"{name}: {part.describe()}" for name, part in parts.items() if part is not None
        )


def _look_first(options: DataOptions, columns: Mapping[str, ColumnSpec | None]) -> None:
    """Open the files in a child process, so that none ends this one; what is wrong comes later."""
    flat, _ = flatten_roles({role: spec for role, spec in columns.items() if spec is not None})
    named = [Column(spec) if isinstance(spec, str) else spec for spec in flat.values()]
    files: list[H5File] = []
    with suppress(KerasH5Error):
        given: list[Any] = [options.train, options.validation, options.test]
        paths = [value for value in given if _is_path(value)]
        files += [file for path in paths for file in find_files(path)]
    look_at(files, named, allow_external=options.allow_external)


def _split(
    base: H5Dataset,
    validation: Any,  # noqa: ANN401  a number or a selection; which one is found out here
    *,
    stratify: bool,
    seed: int,
    cache: float | str,
) -> tuple[H5Dataset, H5Dataset]:
    """Cut the rows of `base` in two; they share what is held in memory, or halve the budget."""
    every = base.plan.rows_to_serve
    rows = np.arange(len(base.source)) if every is None else every
    if isinstance(validation, int | float | np.integer | np.floating):
        _check_distinct(rows)
        labels = _parse_labels(base.read_column("y")) if stratify else None
        split = split_rows(len(rows), validation, labels=labels, seed=seed)
        train, held_out = rows[split.train], rows[split.validation]
    else:
        _check_stratify(stratify=stratify)
        chosen = parse_selection(validation, len(base.source))
        held_out = rows if chosen is None else chosen
        train = rows[~np.isin(rows, held_out)]
        if not len(train) or not len(held_out):
            raise OptionError(
                f"validation= leaves {len(train)} rows to train on and {len(held_out)} to "
                "validate; both need some"
            )
    in_order: dict[str, Any] = {"shuffle": False, "drop_last": False}
    if base.fits_memory:
        return base.select_rows(train), base.select_rows(held_out, **in_order)
    aside = base.select_rows(held_out, cache=_share(cache, _ASIDE), **in_order)
    return base.select_rows(train, cache=_share(cache, 1 - _ASIDE)), aside


def _share(cache: float | str, share: float) -> int:
    return int(parse_cache(cache) * share)


def _parse_labels(labels: np.ndarray) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] > 1:  # one-hot
        return np.asarray(labels.argmax(axis=1))
    return labels.reshape(len(labels))


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


def _check_distinct(rows: np.ndarray) -> None:
    if len(np.unique(rows)) < len(rows):
        raise OptionError(
            "rows= repeats row numbers, so validation rows drawn from them would also be trained "
            "on; say which rows are for validation, as a slice, row numbers, a mask or a file"
        )


def _check_stratify(*, stratify: bool) -> None:
    if stratify:
        raise OptionError(
            "stratify=True needs validation= as a fraction or a number of rows; here it says "
            "already which rows they are"
        )


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
    """Return what YAML can hold as it is, and anything else in words."""
    if isinstance(value, np.generic):
        value = value.item()
    is_plain = value is None or isinstance(value, bool | int | float | str)
    return value if is_plain else {"described": reprlib.repr(value)}
