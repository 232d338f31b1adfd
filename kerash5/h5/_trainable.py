"""Guess which data sets of a file a model could be trained on, and write the command that does it.

Only names, shapes and types are looked at. What is guessed is printed as a suggestion, and never
used by anything else.
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
_TRAIN: Final = re.compile(r"(?<![a-z])(train)(ing)?(?![a-z])", re.IGNORECASE)
_OTHER_SPLITS: Final = ("test", "val", "valid", "validation")
_MIN_IMAGE: Final = 7  # pixels along each axis that the zoo's ConvNet takes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A data set whose first axis may count rows.

    Args:
        name: Path in the file.
        num_rows: Length of axis 0.
        row_shape: Shape of one row.
        dtype: Type of its values.
    """

    name: str
    num_rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype

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
        return f"{self.name}, rows of {shape}{kind}"


def suggest_training(file: str, candidates: Iterable[Candidate]) -> list[str]:
    """Return lines that say what a file can be trained on, and how; none if nothing is found.

    Args:
        file: Name of the file, for the command.
        candidates: Its data sets.
    """
    found = [each for each in candidates if each.num_rows > 1]
    targets = [each for each in found if _TARGET.search(each.name) and _can_be_target(each)]
    targets.sort(key=lambda each: (_is_other_split(each.name), each.name))
    for y in targets:
        x = _find_input(found, y)
        if x is not None:
            return _write(file, x, y, found)
    x = None if targets else _find_input(found, None)
    if x is None:
        return []
    return [
        f"  can be trained on: x = {x.describe()}; no data set is named like a target",
        f"    kerash5 fit {shlex.quote(file)} --data.x {shlex.quote(x.name)} --data.y NAME",
    ]


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
    return max(named or alike, key=lambda each: each.row_bytes, default=None)


def _write(file: str, x: Candidate, y: Candidate, found: Sequence[Candidate]) -> list[str]:
    x_name, y_name = x.name, y.name
    others = _name_splits(x_name, y_name, found)
    if others is not None:
        x_name, y_name, words = others
    else:
        words = ""
    model = _choose_model(x, y)
    command = f"kerash5 fit {shlex.quote(file)} --data.x {shlex.quote(x_name)}"
    command += f" --data.y {shlex.quote(y_name)} {model}".rstrip()
    return [
        f"  can be trained on: x = {x.describe()}; y = {y.describe()}; {x.num_rows} rows{words}",
        f"    {command}",
    ]


def _name_splits(x: str, y: str, found: Sequence[Candidate]) -> tuple[str, str, str] | None:
    """Return names with {split} in place of "train", where the file has other splits as well."""
    if not _TRAIN.search(x) or not _TRAIN.search(y):
        return None
    names = {each.name for each in found}
    patterns = tuple(_TRAIN.sub("{split}", name, count=1) for name in (x, y))
    here = [
        word
        for word in _OTHER_SPLITS
        if all(pattern.replace("{split}", word) in names for pattern in patterns)
    ]
    is_plain = all(pattern.replace("{split}", "train") in names for pattern in patterns)
    if not here or not is_plain:
        return None
    return patterns[0], patterns[1], f"; and {', '.join(here)} rows"


def _choose_model(x: Candidate, y: Candidate) -> str:
    is_label = y.dtype.kind in "biuOSU" and y.row_shape in ((), (1,))
    if not is_label:
        return "--model MODULE:FUNCTION --loss mse"
    image = x.row_shape if len(x.row_shape) == 3 else (*x.row_shape, 1)
    is_image = len(image) == 3 and image[-1] <= 4 and min(image[:2]) >= _MIN_IMAGE
    return "--model convnet" if is_image else "--model mlp"
