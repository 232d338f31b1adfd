"""Guess which data sets of a file a model could be trained on, and write the command that does it.

Only names, shapes and types are looked at, and whether the first rows are one-hot. What is guessed
is printed as a suggestion, and never used by anything else.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_TARGET: Final = re.compile(r"(^|[_/.-])(y|labels?|targets?|class(es)?)([_/.-]|$)", re.IGNORECASE)
_INPUT: Final = re.compile(
    r"(^|[_/.-])(x|images?|img|data|features?|inputs?|signals?)([_/.-]|$)", re.IGNORECASE
)
# The bookkeeping of PyTables and others; the weights of a Keras model.
_HIDDEN: Final = re.compile(r"(^|/)_")
_WEIGHTS: Final = re.compile(r"^model_weights/|(^|/)(kernel|bias|gamma|beta):0$|/vars/\d+$")
_TRAIN: Final = re.compile(r"(?<![a-z])(train)(ing)?(?![a-z])", re.IGNORECASE)
_OTHER_SPLITS: Final = ("test", "val", "valid", "validation")
_MIN_PARTS: Final = 3  # groups; two may be anything
_MIN_IMAGE: Final = 7  # pixels along each axis that the zoo's ConvNet takes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A data set whose first axis may count rows.

    Args:
        name: Path in the file.
        num_rows: Length of axis 0.
        row_shape: Shape of one row.
        dtype: Type of its values.
        has_categories: Its values are class ids that have names in the file.
        num_one_hot: How many of the first rows were looked at and are one-hot vectors; 0: not all.
    """

    name: str
    num_rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype
    has_categories: bool = False
    num_one_hot: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.row_shape) * self.dtype.itemsize

    @property
    def is_numeric(self) -> bool:
        """Whether a model can take it as it is."""
        return self.dtype.kind in "biuf"

    def describe(self) -> str:
        """Return "image, rows of (28, 28) uint8"."""
        shape = f"{self.row_shape} " if self.row_shape else ""
        kind = "text" if self.dtype.kind in "OSU" else str(self.dtype)
        looked_at = "" if self.num_one_hot == self.num_rows else f" (the first {self.num_one_hot})"
        return f"{self.name}, rows of {shape}{kind}" + (
            f", one-hot{looked_at}" if self.num_one_hot else ""
        )


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a file can be trained on. Its fields are keys of `describe --json`.

    Args:
        x: Path of the input.
        y: Path of the target; None if no data set is named like one.
        num_rows: Rows of both.
        splits: Other roles that the file has rows for, such as "test".
        command: The `kerash5 fit` command; it has NAME where a target must be named, and
            MODULE:FUNCTION where a model must be. None where only Python can do it.
        text: All that as a sentence.
        python: The call that makes a source, where there is no command.
    """

    x: str
    y: str | None
    num_rows: int
    splits: tuple[str, ...]
    command: str | None
    text: str
    python: str | None = None


def suggest_training(
    file: str, candidates: Iterable[Candidate], scalars: Iterable[str] = ()
) -> Suggestion | None:
    """Return what a file can be trained on, and how; None if nothing is found.

    Args:
        file: Path of the file, for the command.
        candidates: Its data sets.
        scalars: Names of data sets of one value, which may be labels of groups.
    """
    found = [each for each in candidates if each.num_rows > 1 and not _HIDDEN.search(each.name)]
    if any(_WEIGHTS.search(each.name) for each in found):
        return None
    targets = [each for each in found if _TARGET.search(each.name) and _can_be_target(each)]
    targets.sort(key=lambda each: (_is_other_split(each.name), each.name))
    # Nothing is named like a target, but categories are labels whatever their name.
    targets = targets or [each for each in found if each.has_categories]
    for y in targets:
        x = _find_input(found, y)
        if x is not None and (x.row_shape or not y.has_categories):
            return _write(file, x, y, found)
    x = None if targets else _find_input(found, None)
    if x is None or not (x.row_shape or _INPUT.search(x.name)):
        return None
    rows = _suggest_rows(file, x, found, set(scalars))
    if rows is not None:
        return rows
    return Suggestion(
        x.name,
        None,
        x.num_rows,
        (),
        f"kerash5 fit {shlex.quote(file)} --data.x {shlex.quote(x.name)} --data.y NAME",
        f"x = {x.describe()}; no data set is named like a target",
    )


def _suggest_rows(
    file: str, x: Candidate, found: Sequence[Candidate], scalars: set[str]
) -> Suggestion | None:
    """Return the call that reads groups as rows, where several have a data set such as x."""
    for number in re.finditer(r"\d+(?=[^/]*/)", x.name):
        before, group = x.name[: number.start()], x.name[: number.end()]
        name = f"{before}{{row}}{x.name[number.end() :]}"
        shape = re.compile(re.escape(name).replace(r"\{row\}", r"(\d+)"))
        what = (x.num_rows, x.row_shape, x.dtype)
        rows = [
            match[1]
            for each in found
            if (match := shape.fullmatch(each.name))
            and (each.num_rows, each.row_shape, each.dtype) == what
        ]
        if len(rows) < _MIN_PARTS:
            continue
        labels = [
            f"{before}{{row}}{each.removeprefix(group)}"
            for each in sorted(scalars)
            if each.startswith(group) and _TARGET.search(each.removeprefix(group))
        ]
        y = next(
            (one for one in labels if all(one.replace("{row}", row) in scalars for row in rows)),
            None,
        )
        row_shape = (x.num_rows, *x.row_shape)
        return Suggestion(
            name,
            y,
            len(rows),
            (),
            None,
            f"{len(rows)} groups, each a row: x = {name}, rows of {row_shape} {x.dtype}",
            f"k5.rows_from_groups({file!r}, x={name!r}{'' if y is None else f', y={y!r}'})",
        )
    return None


def _can_be_target(each: Candidate) -> bool:
    return each.is_numeric or each.dtype.kind in "OSU"


def _is_other_split(name: str) -> bool:
    words = re.split(r"[_/.-]", name.lower())
    return any(word in _OTHER_SPLITS for word in words)


def _find_input(found: Sequence[Candidate], y: Candidate | None) -> Candidate | None:
    """Return the data set that a model would take: one named like it, else the largest."""
    alike = [
        each
        for each in found
        if each.is_numeric
        and each is not y
        and (y is None or each.num_rows == y.num_rows)
        and not (_TARGET.search(each.name) and each.row_bytes <= 8)
        and (y is None or _is_other_split(each.name) == _is_other_split(y.name))
    ]
    named = [each for each in alike if _INPUT.search(each.name)]
    # AnnData's input is X, beside which raw/X is larger.
    return max(named or alike, key=lambda each: (each.name == "X", each.row_bytes), default=None)


def _write(file: str, x: Candidate, y: Candidate, found: Sequence[Candidate]) -> Suggestion:
    x_name, y_name, words = x.name, y.name, ""
    splits: tuple[str, ...] = ()
    if (named := _name_splits(x.name, y.name, found)) is not None:
        x_name, y_name, splits = named
        words = f"; and {', '.join(splits)} rows"
    elif (parts := _name_parts(x, y, found)) is not None:
        x_name, y_name, num_parts = parts
        words = f" in each of {num_parts} groups"
    command = f"kerash5 fit {shlex.quote(file)} --data.x {shlex.quote(x_name)}"
    command += f" --data.y {shlex.quote(y_name)} {_choose_model(x, y)}"
    text = f"x = {x.describe()}; y = {y.describe()}; {x.num_rows} rows{words}"
    return Suggestion(x_name, y_name, x.num_rows, splits, command, text)


def _name_parts(
    x: Candidate, y: Candidate, found: Sequence[Candidate]
) -> tuple[str, str, int] | None:
    """Return names with {part} in place of a number, where several groups have such data sets."""
    by_name = {each.name: each for each in found}
    for number in re.finditer(r"\d+(?=[^/]*/)", x.name):
        before = x.name[: number.start()]
        if not y.name.startswith(x.name[: number.end()]):
            continue
        x_name, y_name = (f"{before}{{part}}{each.name[number.end() :]}" for each in (x, y))
        shape = re.escape(x_name).replace(r"\{part\}", r"(\d+)")
        parts = [match[1] for name in by_name if (match := re.fullmatch(shape, name))]
        pairs = [
            tuple(by_name.get(name.replace("{part}", part)) for name in (x_name, y_name))
            for part in parts
        ]
        if len(parts) >= _MIN_PARTS and all(
            one is not None and (one.row_shape, one.dtype) == (first.row_shape, first.dtype)
            for pair in pairs
            for one, first in zip(pair, (x, y), strict=True)
        ):
            return x_name, y_name, len(parts)
    return None


def _name_splits(
    x: str, y: str, found: Sequence[Candidate]
) -> tuple[str, str, tuple[str, ...]] | None:
    """Return names with {split} in place of "train", where the file has other splits as well."""
    if not _TRAIN.search(x) or not _TRAIN.search(y):
        return None
    names = {each.name for each in found}
    patterns = tuple(_TRAIN.sub("{split}", name, count=1) for name in (x, y))
    here = tuple(
        word
        for word in _OTHER_SPLITS
        if all(pattern.replace("{split}", word) in names for pattern in patterns)
    )
    is_plain = all(pattern.replace("{split}", "train") in names for pattern in patterns)
    if not here or not is_plain:
        return None
    return patterns[0], patterns[1], here


def _choose_model(x: Candidate, y: Candidate) -> str:
    is_label = y.num_one_hot > 0 or (y.dtype.kind in "biuOSU" and y.row_shape in ((), (1,)))
    if not is_label:
        return "--model MODULE:FUNCTION --loss mse"
    image = x.row_shape if len(x.row_shape) == 3 else (*x.row_shape, 1)
    is_image = len(image) == 3 and image[-1] <= 4 and min(image[:2]) >= _MIN_IMAGE
    return "--model convnet" if is_image else "--model mlp"
