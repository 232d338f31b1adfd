"""Checks of option values, with the same rule and wording for all options."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from kerash5._errors import OptionError


def is_whole(value: object) -> TypeGuard[int | np.integer[Any]]:
    """Return whether a value is an integer of Python or NumPy; booleans are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float | np.integer[Any] | np.floating[Any]]:
    """Return whether a value is a real number of Python or NumPy; booleans are not."""
    return is_whole(value) or isinstance(value, float | np.floating)


def parse_count(name: str, value: object, meaning: str, *, least: int = 1) -> int:
    """Return a whole number of at least `least` as an int.

    Args:
        name: Name of the option.
        value: The value given.
        meaning: The meaning of the option, such as "the number of rows in a batch".
        least: The smallest valid value.

    Raises:
        OptionError: The value is not an integer, or less than `least`.
    """
    if not is_whole(value) or value < least:
        raise OptionError(f"{name}={value!r}; it is {meaning}: a whole number, at least {least}")
    return int(value)
