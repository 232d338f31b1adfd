"""Batches are stacked by the names of their arrays, and only with others of the same structure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5.batches._batches import Batch
from kerash5.train.engines import AbstractEngine, make_engine
from kerash5.train.engines.common._stack import fill, leaves_of, shapes_of, split_alike, stack
from tests.backend.train.engines.cases import pairs, two_by_two

KEYS = st.one_of(st.sampled_from("abcd"), st.integers(0, 3))
TREES = st.recursive(
    st.integers(0, 99).map(lambda value: np.full((2,), value)),
    lambda parts: (
        st.dictionaries(KEYS, parts, min_size=1, max_size=4)
        | st.lists(parts, min_size=1, max_size=3)
        | st.lists(parts, min_size=1, max_size=3).map(tuple)
    ),
    max_leaves=8,
)


class Pair(NamedTuple):
    left: np.ndarray
    right: np.ndarray


@st.composite
def reordered(draw: st.DrawFn, tree: Any) -> Any:
    """Draw the same tree with the keys of its dicts in another order."""
    if isinstance(tree, dict):
        keys = draw(st.permutations(list(tree)))
        return {key: draw(reordered(tree[key])) for key in keys}
    if isinstance(tree, tuple | list):
        return type(tree)(draw(reordered(part)) for part in tree)
    return tree


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, part in one.items():
            assert_same(part, other[key])
    elif isinstance(one, tuple | list):
        for part, twin in zip(one, other, strict=True):
            assert_same(part, twin)
    else:
        assert_array_equal(one, other)


@given(st.data(), TREES)
def test_the_order_of_keys_changes_nothing(data: st.DataObject, tree: Any) -> None:
    batch, other = (tree, np.zeros(2)), (data.draw(reordered(tree)), np.zeros(2))
    assert shapes_of(other) == shapes_of(batch)
    assert_same(fill(other, leaves_of(batch)), batch)
    stacked = stack([batch, other], 3)
    for index, expected in ((0, batch), (1, other)):
        assert_same(fill(stacked, [array[index] for array in leaves_of(stacked)]), expected)


X = np.zeros((2, 3))
STRUCTURES: dict[str, Any] = {
    "an array": X,
    "a tuple": (X, X),
    "a list": [X, X],
    "a dict": {"a": X, "b": X},
    "other keys": {"a": X, "c": X},
    "more keys": {"a": X, "b": X, "c": X},
    "nested": {"a": X, "b": {"c": X}},
    "a named tuple": Pair(X, X),
}


@pytest.mark.parametrize("one", STRUCTURES)
@pytest.mark.parametrize("other", STRUCTURES)
def test_only_batches_of_the_same_structure_are_stacked(one: str, other: str) -> None:
    batches: list[Batch] = [(STRUCTURES[one], X), (STRUCTURES[other], X)]
    assert len(list(split_alike(batches))) == (1 if one == other else 2)


def test_keys_that_cannot_be_compared_have_an_order_all_the_same() -> None:
    one, other = {1: X, "a": X + 1}, {"a": X + 1, 1: X}
    assert_array_equal(leaves_of(one), leaves_of(other))


def test_a_named_tuple_is_filled_as_one() -> None:
    (found,) = fill((Pair(X, X),), [X + 1, X + 2])
    assert_same(found, Pair(X + 1, X + 2))


def trained(engine: AbstractEngine, batches: list[Batch]) -> list[np.ndarray]:
    engine.begin()
    engine.train(batches)
    engine.sync()
    return [np.array(weight) for weight in engine.model.get_weights()]


def turned(batch: Batch) -> Batch:
    """Return a batch with the keys of all its dicts in reverse."""
    return tuple(dict(reversed(part.items())) for part in batch)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_steps_on_turned_dicts_are_those_on_dicts(steps: int) -> None:
    batches = pairs(8)
    expected = trained(make_engine(two_by_two(), steps_per_dispatch=steps), batches)
    mixed = [turned(batch) if number % 3 else batch for number, batch in enumerate(batches)]
    found = trained(make_engine(two_by_two(), steps_per_dispatch=steps), mixed)
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
def test_steps_on_tuples_among_dicts_are_those_of_the_plain_engine() -> None:
    batches: list[Batch] = [
        ((x["left"], x["right"]), y) if number in {2, 3, 6} else (x, y)
        for number, (x, y) in enumerate(pairs(8))
    ]
    expected = trained(make_engine(two_by_two(), is_plain=True), batches)
    found = trained(make_engine(two_by_two(), steps_per_dispatch=8), batches)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
