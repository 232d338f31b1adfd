"""Columns named by split: "X_{split}" stands for X_train, X_val and X_test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, final

from kerash5._errors import ColumnError, FileMissingError, OptionError, UnknownColumnError
from kerash5.batches._batches import ColumnSpec
from kerash5.batches._roles import flatten_roles
from kerash5.h5 import Column
from kerash5.h5.storage._file import H5File, find_files
from kerash5.h5.storage._find import has_object

FIELD: Final = "{split}"
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}


@final
class Splits:
    """The columns of a data module, for each of training, validation and test.

    Args:
        columns: x, y and sample_weight as given, with or without `{split}` in their paths or in the
            `file` of a `Column`.
    """

    def __init__(self, columns: Mapping[str, ColumnSpec | None]) -> None:
        self._columns = dict(columns)
        self._is_filled = any(_has_field(spec) for spec in columns.values())
        # Whether column names have the field; if only files do, all rows of a file are training
        # rows.
        self.are_named = self._is_filled and not self._first_name()[1]
        self._words: dict[tuple[str, str], str | None] = {}  # found for a role, by role and file

    def of_train(self) -> dict[str, Any]:
        """Return the columns to train on."""
        return self._fill("train")

    def of(self, role: str, paths: Any) -> dict[str, Any]:  # noqa: ANN401  as H5Dataset takes it
        """Return the columns of a role, in its own files or in the training files.

        Args:
            role: "validation" or "test".
            paths: The files.

        Raises:
            UnknownColumnError: The files have no column of that name.
            ColumnError: The files have several, such as X_val and X_valid.
        """
        self._check_files(role)
        if not self._is_filled:
            return dict(self._columns)
        word = self.find(role, paths)
        if word is None:
            path, is_file = self._first_name()
            names = " or ".join(repr(path.replace(FIELD, each)) for each in _WORDS[role])
            place = "" if is_file else f" in {find_files(paths)[0].path!r}"
            raise UnknownColumnError(
                f"no {names}{place}, and {path!r} names the columns to "
                f"{'validate' if role == 'validation' else role} on; write them, or give a Source "
                "with columns of its own"
            )
        return self._fill(word)

    def find(self, role: str, paths: Any) -> str | None:  # noqa: ANN401  as H5Dataset takes it
        """Return the word for a role that the files' column names contain; None if there is none.

        Raises:
            ColumnError: Columns for several words exist.
        """
        path, is_file = self._first_name()
        if is_file:
            return next((w for w in _WORDS[role] if _is_there(path.replace(FIELD, w))), None)
        file = find_files(paths)[0]
        if (role, file.path) not in self._words:
            self._words[role, file.path] = self._look_in(file, role, path)
        return self._words[role, file.path]

    def _look_in(self, file: H5File, role: str, path: str) -> str | None:
        found = [word for word in _WORDS[role] if has_object(file, path.replace(FIELD, word))]
        if len(found) > 1:
            names = " and ".join(repr(path.replace(FIELD, word)) for word in found)
            raise ColumnError(
                f"{file.path!r} has {names}, and one of them is to be validated on; give "
                "validation_data=Source(path, x=..., y=...)"
            )
        return found[0] if found else None

    def _first_name(self) -> tuple[str, bool]:
        """Return the first name with the field, and whether it is a file, not a column."""
        specs = {role: spec for role, spec in self._columns.items() if spec is not None}
        flat, _ = flatten_roles(specs)
        paths = [spec.path if isinstance(spec, Column) else spec for spec in flat.values()]
        files = [name for spec in flat.values() for name in _files_of(spec)]
        named = [(path, False) for path in paths] + [(file, True) for file in files]
        return next((name, is_file) for name, is_file in named if FIELD in name)

    def _check_files(self, role: str) -> None:
        """Raise if one file= serves several roles: it would be paired with rows of another role."""
        specs = {name: spec for name, spec in self._columns.items() if spec is not None}
        for spec in flatten_roles(specs)[0].values():
            files = _files_of(spec)
            if isinstance(spec, Column) and files and not any(FIELD in name for name in files):
                raise OptionError(
                    f"column {spec.path!r} lies in the same file for training and to "
                    f"{'validate' if role == 'validation' else role} on; write {FIELD} in its "
                    "file=, as in 'labels_{split}.h5', or give a Source with columns of its own"
                )

    def _fill(self, word: str) -> dict[str, Any]:
        return {role: _filled(spec, word) for role, spec in self._columns.items()}


def _is_there(path: str) -> bool:
    try:
        find_files(path)
    except FileMissingError:
        return False
    return True


def _files_of(spec: Any) -> tuple[str, ...]:  # noqa: ANN401  a column
    """Return the files given in `Column(file=)`; empty if there are none."""
    file = spec.file if isinstance(spec, Column) else None
    if isinstance(file, tuple):
        return tuple(map(str, file))
    return () if file is None else (str(file),)


def _has_field(spec: Any) -> bool:  # noqa: ANN401  a tree of columns
    if isinstance(spec, Mapping):
        return any(_has_field(part) for part in spec.values())
    if isinstance(spec, str):
        return FIELD in spec
    if isinstance(spec, Column):
        return any(FIELD in name for name in (spec.path, *_files_of(spec)))
    return isinstance(spec, Sequence) and any(_has_field(part) for part in spec)


def _filled(spec: Any, word: str) -> Any:  # noqa: ANN401  a tree of columns
    if isinstance(spec, str):
        return spec.replace(FIELD, word)
    if not _has_field(spec):
        return spec
    if isinstance(spec, Column):
        files = tuple(name.replace(FIELD, word) for name in _files_of(spec))
        file = files[0] if isinstance(spec.file, str) else files or None
        return replace(spec, path=spec.path.replace(FIELD, word), file=file)
    if isinstance(spec, Mapping):
        return {name: _filled(part, word) for name, part in spec.items()}
    return tuple(_filled(part, word) for part in spec)
