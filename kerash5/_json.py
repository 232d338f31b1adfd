"""Converts dataclasses to JSON text and back.

NaN and infinities become null, because JSON lacks them. null is read as NaN if the field is a
`float`, and as None if it is `float | None`. Tuples, mappings and nested dataclasses are read as
the declared type of the field; text, whole numbers and `Any` are not checked. Unknown fields,
written by later versions, are ignored.

Checkpoints have another dialect: an infinite metric must come back as it was, because a resumed fit
ranks its epochs by it. Messages of child processes in `h5` are dicts, one a line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from kerash5._errors import FileError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

_FORMAT: Final = 1
_UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_RESULTS: Final = "holds no results of a comparison ({}); kerash5 compare writes them"


def write_values(result: DataclassInstance) -> str:
    """Return a dataclass, with nested dataclasses, as JSON text."""
    return json.dumps({"format": _FORMAT, **_plain(asdict(result))}, indent=1, default=str)


def read_values(kind: type[T], text: str | bytes, what: str, refusal: str = _RESULTS) -> T:
    """Return the dataclass that `write_values` wrote.

    Args:
        kind: The dataclass.
        text: JSON text.
        what: The source of the text, for the message.
        refusal: The rest of the message, with {} for the reason.

    Raises:
        FileError: The text is something else, or has another format.
    """
    try:
        values = json.loads(text)
        if values.pop("format") != _FORMAT:
            raise FileError(
                f"{what} was written by another kerash5; upgrade with pip install -U kerash5"
            )
    except _UNREADABLE as error:
        raise FileError(f"{what} {refusal.format(repr(error))}") from error
    return parse_values(kind, values, what, refusal)


def parse_values(kind: type[T], values: Mapping[str, Any], what: str, refusal: str = _RESULTS) -> T:
    """Return a dataclass made from a dict read from JSON.

    Raises:
        FileError: A field is missing, or a numeric field is not a number.
    """
    try:
        return _parse_dataclass(kind, values)
    except _UNREADABLE as error:
        raise FileError(f"{what} {refusal.format(repr(error))}") from error


_hints: Final = cache(get_type_hints)


def _parse_dataclass(kind: type[T], values: Mapping[str, Any]) -> T:
    earlier: Callable[[Mapping[str, Any]], T] | None = getattr(kind, "from_values", None)
    if earlier is not None:  # also reads formats of earlier versions
        return earlier(values)
    hints = _hints(kind)
    return kind(
        **{name: _parse(hints[name], value) for name, value in values.items() if name in hints}
    )


def _parse(hint: Any, value: Any) -> Any:  # noqa: ANN401  JSON, whatever it holds
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _parse_union(hint, value)
    if hint is float:
        return math.nan if value is None else float(value)
    if is_dataclass(hint):
        return _parse_dataclass(hint, value)  # type: ignore[arg-type]  # a class, not an instance
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{value!r} is no list")
        return tuple(_parse(get_args(hint)[0], item) for item in value)
    if origin in (dict, Mapping):
        return {name: _parse(get_args(hint)[1], item) for name, item in value.items()}
    return value


def _parse_union(hint: Any, value: Any) -> Any:  # noqa: ANN401  JSON, whatever it holds
    kinds = get_args(hint)
    if Any in kinds:  # a number, or lists of numbers
        if isinstance(value, list):
            return [_parse_union(hint, item) for item in value]
        return math.nan if value is None else value
    if value is None and NoneType in kinds:
        return None
    return _parse(next(kind for kind in kinds if kind is not NoneType), value)


def _plain(value: Any) -> Any:  # noqa: ANN401  JSON, whatever it holds
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
