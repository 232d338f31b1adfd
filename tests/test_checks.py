"""Checks of option values: one rule for whole numbers, wherever they are given."""

from typing import Any

import numpy as np
import pytest

from kerash5._checks import is_number, is_whole, parse_count
from kerash5._errors import OptionError


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(3)])
def test_a_whole_number_of_python_or_numpy_is_a_count(value: Any) -> None:
    found = parse_count("steps", value, "a number of steps")
    assert (type(found), found) == (int, int(value))


@pytest.mark.parametrize("value", [0, -1, True, 2.0, np.float32(2), "3", None, [1], np.bool_(1)])
def test_anything_else_is_refused_and_named(value: Any) -> None:
    with pytest.raises(
        OptionError, match=r"^steps=.*; it is a number of steps: a whole number, at"
    ):
        parse_count("steps", value, "a number of steps")


def test_the_least_that_makes_sense_is_the_caller_s_to_say() -> None:
    assert parse_count("threads", 0, "a number of threads", least=0) == 0
    with pytest.raises(OptionError, match="at least 2"):
        parse_count("count", 1, "the number of folds", least=2)


def test_numbers_are_no_truth_values_and_no_text() -> None:
    assert [is_number(each) for each in (1, 1.5, np.float16(1), np.int8(1))] == [True] * 4
    assert [is_number(each) for each in (True, np.bool_(1), "1", 1j, None)] == [False] * 5
    assert [is_whole(each) for each in (1, np.int8(1), 1.0, True)] == [True, True, False, False]
