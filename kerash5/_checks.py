"""Checks of option values that are the same wherever they are given: one rule, one wording."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from kerash5._errors import OptionError


def is_whole(value: object) -> TypeGuard[int | np.integer[Any]]:
    """Say whether a value is a whole number, of Python or NumPy. True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float | np.integer[Any] | np.floating[Any]]:
    """Say whether a value is a real number, of Python or NumPy. True and False are none."""
    return is_whole(value) or isinstance(value, float | np.floating)


def parse_count(name: str, value: object, meaning: str, *, least: int = 1) -> int:
    """Return a whole number of at least `least` as an int.

    Args:
        name: Of the option.
        value: What was given.
        meaning: What it is, such as "the number of rows in a batch".
        least: The smallest that makes sense.

    Raises:
        OptionError: It is another type, or less.
    """
    if not is_whole(value) or value < least:
        raise OptionError(f"{name}={value!r}; it is {meaning}: a whole number, at least {least}")
    return int(value)
