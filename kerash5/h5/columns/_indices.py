"""What `select=` may be: a NumPy index that is applied to each row. Parsed once, printed back."""

from __future__ import annotations

import operator
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np

from kerash5._checks import is_whole
from kerash5._errors import OptionError

Index: TypeAlias = int | slice | EllipsisType | list[int]
Select: TypeAlias = Index | tuple[Index, ...] | str


def parse_select(select: object, path: str) -> Any:  # noqa: ANN401  Index, or a tuple of them
    """Return an index with Python's own numbers in it.

    Args:
        select: An int, a slice, an Ellipsis, a list of ints, a tuple of these, or such an index as
            text: "-6:-1", ":, 0", "[5, 8, 11]".
        path: The column, for messages.

    Raises:
        OptionError: It is not valid.
    """
    try:
        if isinstance(select, str):
            return _parse_text(select)
        if isinstance(select, tuple):
            parts = _check_tuple(tuple(_parse_one(part) for part in select))
            return parts or Ellipsis
        return _parse_one(select)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"select={select!r} of column {path!r}: {error}; it is a NumPy index of a row: an int, "
            "a slice, a list of ints, Ellipsis or a tuple of them, such as (slice(None), 0) or "
            "':, 0'"
        ) from None


def format_select(select: Any) -> int | list[int] | str:  # noqa: ANN401  as `parse_select` gives it
    """Return an index as a YAML type; `parse_select` reads it back."""
    if isinstance(select, int | list):
        return select
    return _format(select)


def format_index(select: Any) -> str:  # noqa: ANN401  likewise
    """Return an index as Python writes it between brackets."""
    return str(format_select(select))


def _format(select: Any) -> str:  # noqa: ANN401  likewise
    if isinstance(select, tuple):
        return ", ".join(map(_format, select)) + ("," if len(select) == 1 else "")
    if isinstance(select, slice):
        bounds = ["" if bound is None else str(bound) for bound in (select.start, select.stop)]
        return ":".join(bounds if select.step is None else [*bounds, str(select.step)])
    return "..." if select is Ellipsis else str(select)


def _parse_one(part: object) -> Any:  # noqa: ANN401  Index
    if isinstance(part, bool | np.bool_):
        raise TypeError("a mask is no index of these")
    if part is Ellipsis:
        return part
    if isinstance(part, slice):
        bounds = [
            None if bound is None else operator.index(bound)
            for bound in (part.start, part.stop, part.step)
        ]
        if bounds[2] == 0:
            raise ValueError("the step of a slice is not 0")
        return slice(*bounds)
    if isinstance(part, list | np.ndarray | range):
        if not len(part) or not all(is_whole(number) for number in part):
            raise TypeError("a list holds ints, at least one")
        return [int(number) for number in part]
    return operator.index(part)  # type: ignore[arg-type]  # a TypeError is what is asked for


def _check_tuple(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    if sum(part is Ellipsis for part in parts) > 1:
        raise ValueError("it has two Ellipsis")
    if sum(isinstance(part, list) for part in parts) > 1:
        raise ValueError("it has two lists")
    return parts


def _parse_text(text: str) -> Any:  # noqa: ANN401  Index, or a tuple of them
    inner, numbers = text, None
    if "[" in text:  # one list, whose commas are its own
        before, _, rest = text.partition("[")
        listed, closed, after = rest.partition("]")
        if not closed:
            raise ValueError("a bracket is not closed")
        numbers = [int(number) for number in listed.split(",") if number.strip()]
        inner = f"{before}L{after}"
    parts = [part.strip() for part in inner.split(",")]
    is_tuple = len(parts) > 1
    if is_tuple and not parts[-1]:  # "0," is a tuple of one
        parts.pop()
    found = tuple(_parse_one(numbers if part == "L" else _parse_word(part)) for part in parts)
    return _check_tuple(found) if is_tuple else found[0]


def _parse_word(word: str) -> object:
    if word == "...":
        return Ellipsis
    if ":" not in word:
        return int(word)
    bounds = [int(bound) if bound.strip() else None for bound in word.split(":")]
    if len(bounds) > 3:
        raise ValueError(f"{word!r} is no slice")
    return slice(*bounds)
