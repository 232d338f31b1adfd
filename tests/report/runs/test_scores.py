"""Scores of classes: counted in another way, class by class."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerash5.report.runs._scores import count_confusion, score_classes

CLASSES = 4
IDS = st.integers(0, CLASSES - 1)


@given(st.lists(st.tuples(IDS, IDS), max_size=30))
def test_scores_are_those_of_each_class_counted_alone(pairs: list[tuple[int, int]]) -> None:
    labels, guesses = np.array(pairs, np.int64).reshape(-1, 2).T
    confusion = count_confusion(labels, guesses, CLASSES)
    scores = score_classes(confusion, "abcd")
    for number, score in enumerate(scores):
        truly = {row for row, (label, _) in enumerate(pairs) if label == number}
        guessed = {row for row, (_, guess) in enumerate(pairs) if guess == number}
        right = len(truly & guessed)
        assert (score.name, score.num_rows) == ("abcd"[number], len(truly))
        precision = right / len(guessed) if guessed else math.nan
        recall = right / len(truly) if truly else math.nan
        assert score.precision == pytest.approx(precision, nan_ok=True)
        assert score.recall == pytest.approx(recall, nan_ok=True)
        if right:
            assert score.f1 == pytest.approx(2 * precision * recall / (precision + recall))
        else:
            assert score.f1 == pytest.approx(0 if truly else math.nan, nan_ok=True)


def test_scores_are_shown_as_a_table() -> None:
    scores = score_classes(np.array([[2, 1], [0, 1]]), ["cat", "catfish"])
    assert repr(scores).splitlines() == [
        "class    rows  precision  recall      f1",
        "cat         3     1.0000  0.6667  0.8000",
        "catfish     1     0.5000  1.0000  0.6667",
    ]
    assert "<td>catfish</td><td>1</td>" in scores._repr_html_()
