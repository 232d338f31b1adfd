"""How often each class is recognized: from labels and predicted classes, as NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from kerash5._display import Text, html_table


@final
@dataclass(frozen=True, slots=True)
class ClassScore:
    """The score of one class.

    Args:
        name: Name of the class; its id if it has none.
        num_rows: Number of rows of the class.
        precision: Fraction of the rows predicted as this class that belong to it; NaN if none was.
        recall: Fraction of the rows of the class that were predicted as it; NaN if it has none.
        f1: Harmonic mean of both; 0 if no row was right, NaN if the class has no rows.
    """

    name: str
    num_rows: int
    precision: float
    recall: float
    f1: float


@final
class ClassScores(tuple[ClassScore, ...]):
    """The scores of all classes, by class id; a table in a console and in a notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the table as text."""
        lines = [_HEAD, *(_cells(each) for each in self)]
        widths = [max(len(line[number]) for line in lines) for number in range(len(_HEAD))]
        texts = [
            "  ".join(
                cell.ljust(width) if number == 0 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return Text("\n".join(texts))

    def _repr_html_(self) -> str:
        rows = sum(each.num_rows for each in self)
        return html_table(f"{rows} rows in {len(self)} classes", _HEAD, map(_cells, self))


_HEAD = ("class", "rows", "precision", "recall", "f1")


def count_confusion(
    labels: NDArray[np.int64], guesses: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Return how often each class was predicted as each: shape (true class, predicted class).

    Args:
        labels: Class ids, shape (n,), from 0 to num_classes - 1.
        guesses: Predicted class ids, likewise.
        num_classes: Number of classes.
    """
    pairs = labels * num_classes + guesses
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def score_classes(confusion: NDArray[np.int64], names: Sequence[str]) -> ClassScores:
    """Return the scores of each class.

    Args:
        confusion: As from `count_confusion`.
        names: Names of the classes, by id.
    """
    found = []
    for number, name in enumerate(names):
        right = int(confusion[number, number])
        rows, guessed = int(confusion[number].sum()), int(confusion[:, number].sum())
        precision = right / guessed if guessed else math.nan
        recall = right / rows if rows else math.nan
        f1 = 2 * right / (rows + guessed) if rows else math.nan
        found.append(ClassScore(name, rows, precision, recall, f1))
    return ClassScores(found)


def _cells(score: ClassScore) -> tuple[str, ...]:
    values = (score.precision, score.recall, score.f1)
    return (score.name, str(score.num_rows), *(f"{value:.4f}" for value in values))
