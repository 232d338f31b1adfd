"""Columns whose names say whose rows they hold: "X_{split}" is X_train, X_val and X_test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, final

from kerash5._errors import ColumnError, UnknownColumnError
from kerash5.batches._batches import ColumnSpec
from kerash5.batches._roles import flatten_roles
from kerash5.h5 import Column
from kerash5.h5.storage._file import find_files
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
        columns: x, y and sample_weight as asked for, with or without `{split}` in their paths.
    """

    def __init__(self, columns: Mapping[str, ColumnSpec | None]) -> None:
        self._columns = dict(columns)
        self.are_named = any(_has_field(spec) for spec in columns.values())

    def of_train(self) -> dict[str, Any]:
        """Return the columns to train on."""
        return self._fill("train")

    def of(self, role: str, paths: Any) -> dict[str, Any]:  # noqa: ANN401  as H5Dataset takes it
        """Return the columns of a role in files of its own, or in those of training.

        Args:
            role: "validation" or "test".
            paths: The files.

        Raises:
            UnknownColumnError: They have no column of that name.
            ColumnError: They have several, such as X_val and X_valid.
        """
        if not self.are_named:
            return dict(self._columns)
        word = self.find(role, paths)
        if word is None:
            path = self._first_path()
            names = " or ".join(repr(path.replace(FIELD, each)) for each in _WORDS[role])
            raise UnknownColumnError(
                f"no {names} in {find_files(paths)[0].path!r}, and {path!r} names the columns to "
                f"{'validate' if role == 'validation' else role} on; write them, or give a Source "
                "with columns of its own"
            )
        return self._fill(word)

    def find(self, role: str, paths: Any) -> str | None:  # noqa: ANN401  as H5Dataset takes it
        """Return which word for a role the files have columns of; None if none.

        Raises:
            ColumnError: They have columns of several.
        """
        file, path = find_files(paths)[0], self._first_path()
        found = [word for word in _WORDS[role] if has_object(file, path.replace(FIELD, word))]
        if len(found) > 1:
            names = " and ".join(repr(path.replace(FIELD, word)) for word in found)
            raise ColumnError(
                f"{file.path!r} has {names}, and one of them is to be validated on; give "
                "validation_data=Source(path, x=..., y=...)"
            )
        return found[0] if found else None

    def _first_path(self) -> str:
        """Return the path of the first column whose name has the field."""
        specs = {role: spec for role, spec in self._columns.items() if spec is not None}
        flat, _ = flatten_roles(specs)
        paths = (spec.path if isinstance(spec, Column) else spec for spec in flat.values())
        return next(path for path in paths if FIELD in path)

    def _fill(self, word: str) -> dict[str, Any]:
        return {role: _filled(spec, word) for role, spec in self._columns.items()}


def _has_field(spec: Any) -> bool:  # noqa: ANN401  a tree of columns
    if isinstance(spec, Mapping):
        return any(_has_field(part) for part in spec.values())
    if isinstance(spec, str):
        return FIELD in spec
    if isinstance(spec, Column):
        return FIELD in spec.path
    return isinstance(spec, Sequence) and any(_has_field(part) for part in spec)


def _filled(spec: Any, word: str) -> Any:  # noqa: ANN401  a tree of columns
    if isinstance(spec, str):
        return spec.replace(FIELD, word)
    if not _has_field(spec):
        return spec
    if isinstance(spec, Column):
        return replace(spec, path=spec.path.replace(FIELD, word))
    if isinstance(spec, Mapping):
        return {name: _filled(part, word) for name, part in spec.items()}
    return tuple(_filled(part, word) for part in spec)
