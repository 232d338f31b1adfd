"""One dialect of JSON: what is written comes back as what the fields are declared to hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerash5._errors import FileError
from kerash5._json import parse_values, read_values, write_values


@dataclass(frozen=True, slots=True)
class Part:
    number: float
    may_be_missing: float | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    part: Part
    kind: Literal["a", "b"] = "a"
    parts: tuple[Part, ...] = ()
    by_name: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    metrics: dict[str, float | Any] = field(default_factory=dict)
    anything: Mapping[str, Any] = field(default_factory=dict)
    count: int | None = None


NUMBERS = st.floats(allow_infinity=False)
PARTS = st.builds(Part, NUMBERS, st.none() | st.floats(allow_nan=False, allow_infinity=False))
TEXT = st.text(max_size=3)
WHOLES = st.builds(
    Whole,
    PARTS,
    st.sampled_from(["a", "b"]),
    st.lists(PARTS, max_size=2).map(tuple),
    st.dictionaries(TEXT, st.lists(NUMBERS, max_size=2).map(tuple), max_size=2),
    st.none() | st.lists(TEXT, max_size=2).map(tuple),
    st.dictionaries(TEXT, NUMBERS | st.lists(st.lists(NUMBERS, max_size=2), max_size=2)),
    st.dictionaries(TEXT, st.none() | st.integers() | TEXT | st.lists(st.none()), max_size=2),
    st.none() | st.integers(),
)


@given(whole=WHOLES)
def test_a_dataclass_comes_back_as_it_was(whole: Whole) -> None:
    # By repr, for NaN is not equal to itself.
    assert repr(read_values(Whole, write_values(whole), "this")) == repr(whole)


def test_nan_and_infinity_are_null_and_come_back_as_nan_where_a_number_stands() -> None:
    text = write_values(Part(math.inf, math.nan))
    assert json.loads(text) == {"format": 1, "number": None, "may_be_missing": None}
    found = read_values(Part, text, "this")
    assert math.isnan(found.number)
    assert found.may_be_missing is None


def test_what_a_later_version_wrote_besides_is_ignored_at_every_depth() -> None:
    values = {"part": {"number": 1, "new": 2}, "new": 3}
    assert parse_values(Whole, values, "this") == Whole(Part(1.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"part": 1},
        {"part": {}},
        {"part": {"number": "many"}},
        {"part": {"number": [1]}},
        {"part": {"number": 1}, "parts": "ab"},
        {"part": {"number": 1}, "by_name": [1]},
    ],
    ids=str,
)
def test_what_is_not_as_declared_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(FileError, match=r"^FILE holds no results of a comparison"):
        parse_values(Whole, wrong, "FILE")
    with pytest.raises(FileError, match=r"^FILE is no whole \(.*\); make one"):
        read_values(Whole, json.dumps({"format": 1, **wrong}), "FILE", "is no whole ({}); make one")


def test_another_format_says_to_upgrade() -> None:
    text = json.dumps({**asdict(Part(1.0)), "format": 2})
    with pytest.raises(FileError, match="FILE was written by another kerash5; upgrade"):
        read_values(Part, text, "FILE")
