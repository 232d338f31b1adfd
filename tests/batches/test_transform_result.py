"""A transform that returns no batch is refused in one sentence that names the cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import OptionError
from kerash5.batches._batches import Batches, open_batches
from kerash5.batches._options import BatchOptions
from kerash5.h5 import write

ROWS: Final = 10
SIZE: Final = 4
X: Final = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)

Function = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "a.h5", x=X, y=np.arange(ROWS))
    return tmp_path / "a.h5"


def open_with(path: Path, transform: Function, **options: Any) -> Batches:
    asked = {"batch_size": SIZE, "shuffle": False, "transform": transform, **options}
    return open_batches(path, "x", "y", None, BatchOptions(**asked))


def ragged(x: Any, y: Any) -> Any:
    return [row[: 1 + number % 2].tolist() for number, row in enumerate(x)], y


def ragged_numbers(x: Any, y: Any) -> Any:
    return [list(row[: 1 + number % 2]) for number, row in enumerate(x)], y


def ragged_array(x: Any, y: Any) -> Any:
    found = np.empty(len(x), object)
    found[:] = [row[: 1 + number % 2] for number, row in enumerate(x)]
    return found, y


WRONG: Final[dict[str, tuple[Function, str]]] = {
    "nothing": (lambda _x, _y: None, r"returned None; it is called with \(x, y\).*'return x, y'"),
    "one of two": (lambda x, _: x, r"returned ndarray; .* a tuple of the same: end it with"),
    "three of two": (lambda x, y: (x, y, y), r"returned tuple of 3; .*'return x, y'"),
    "a dict": (lambda x, y: {"x": x, "y": y}, "returned dict; .*'return x, y'"),
    "a generator": (lambda x, y: (part for part in (x, y)), "returned generator; "),
    "no x": (lambda _, y: (None, y), "returned None for x, but arrays were expected"),
    "None in x": (lambda x, y: ({"a": x, "b": None}, y), r"None for x\['b'\].*omit that key"),
    "lists of numbers": (lambda x, y: (x.tolist(), y), r"a sequence of 4 with .*np\.stack\(x\)"),
    "a list of labels": (lambda x, y: (x, y.tolist()), r"a sequence of 4 .* for y.*np\.stack\(y\)"),
    "ragged lists": (ragged_numbers, "a sequence of 4 .*padded to one length"),
    "ragged lists of numbers": (ragged, "a sequence of 4 .*padded to one length"),
    "a ragged array": (ragged_array, "an array of Python objects for x, .* pad the rows"),
    "a text": (lambda _, y: ("text", y), r"returned str for x, .*np\.asarray"),
    "a number": (lambda x, _: (x, 1), r"returned int for y, .*one row per row"),
    "one value": (lambda x, y: (x, y[0]), r"a single value for y, .*np\.full\(len\(x\), value\)"),
    "fewer rows of x": (
        lambda x, y: (x[1:], y),
        "3 rows for x and 4 for y, but was called with 4 rows",
    ),
    "more rows": (lambda x, y: (x, np.repeat(y, 2)), "4 rows for x and 8 for y, but was called"),
    "no rows": (lambda x, y: (x[:0], y[:0]), "no rows for the 4 it was called with; .*rows="),
    "rows in a dict": (
        lambda x, y: ({"a": x, "b": x[1:]}, y),
        r"4 rows for x\['a'\] and 3 for x\['b'\], but was called with 4 rows; return arrays",
    ),
    "rows in a tuple": (lambda x, y: ((x, x[1:]), y), r"4 rows for x\[0\] and 3 for x\[1\], but"),
}


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(("function", "words"), WRONG.values(), ids=WRONG)
def test_what_is_no_batch_is_refused_in_one_sentence(
    path: Path, function: Function, words: str, threads: int
) -> None:
    with pytest.raises(OptionError, match=f"^transform .*{words}") as caught:
        list(open_with(path, function, threads=threads).epoch(0))
    assert "\n" not in str(caught.value)


def in_turns(*makers: Function) -> Function:
    """Return a transform that makes each batch as the next of some others do."""
    calls: list[None] = []

    def make(x: Any, y: Any) -> Any:
        calls.append(None)
        return makers[(len(calls) - 1) % len(makers)](x, y)

    return make


CHANGES: Final[dict[str, tuple[Function, Function, str]]] = {
    "other keys": (
        lambda x, y: ({"a": x, "b": x}, y),
        lambda x, y: ({"a": x, "c": x}, y),
        "a dict with the keys 'a', 'c' for x in one batch but a dict with the keys 'a', 'b' in",
    ),
    "more arrays": (
        lambda x, y: ((x, x), y),
        lambda x, y: ((x, x, x), y),
        "a tuple of 3 for x in one batch but a tuple of 2 in another",
    ),
    "a dict at times": (
        lambda x, y: (x, y),
        lambda x, y: (x, {"a": y}),
        "a dict with the key 'a' for y in one batch but an array in another",
    ),
    "None at times": (
        lambda x, y: (x, y),
        lambda x, _: (x, None),
        "None for y in one batch but an array in another",
    ),
}


@pytest.mark.parametrize(("first", "later", "words"), CHANGES.values(), ids=CHANGES)
def test_batches_that_differ_in_structure_are_refused(
    path: Path, first: Function, later: Function, words: str
) -> None:
    batches = open_with(path, in_turns(first, later), threads=0)
    batches.read(0)
    with pytest.raises(OptionError, match=f"{words}.*the same keys and the same number"):
        batches.read(1)


RIGHT: Final[dict[str, Function]] = {
    "as they came": lambda x, y: (x, y),
    "a list of the two": lambda x, y: [x, y],
    "a dict": lambda x, y: ({"a": x, "b": x}, y),
    "another shape": lambda x, y: (x[:, :1, None], y),
    "text": lambda x, y: (x.astype("U8"), y),
    "text as objects": lambda x, y: (x.astype("U8").astype(object), y),
    "fewer rows": lambda x, y: (x[1:], y[1:]),
    "more rows": lambda x, y: (np.concatenate([x, -x]), np.concatenate([y, y])),
    "no labels": lambda x, _: (x, None),
    "keys in turns": in_turns(
        lambda x, y: ({"a": x, "b": x}, y), lambda x, y: ({"b": x, "a": x}, y)
    ),
    "lists and tuples": in_turns(lambda x, y: ([x, x], y), lambda x, y: ((x, x), y)),
    "other lengths in each batch": in_turns(
        lambda x, y: (x[:, :2], y), lambda x, y: (np.tile(x, 2), y)
    ),
}


@pytest.mark.parametrize("function", RIGHT.values(), ids=RIGHT)
def test_what_is_a_batch_is_handed_on(path: Path, function: Function) -> None:
    found = list(open_with(path, function, threads=0).epoch(0))
    assert [len(batch) for batch in found] == [2, 2, 2]


def test_one_role_may_return_a_tuple(path: Path) -> None:
    asked = BatchOptions(batch_size=SIZE, shuffle=False, transform=lambda x: (x, 2 * x))
    ((one, two),) = open_batches(path, "x", None, None, asked).read(0)
    assert_array_equal(two, 2 * one)
