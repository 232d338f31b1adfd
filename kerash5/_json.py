"""Results as JSON text and back: dataclasses of plain values, nothing else.

NaN and infinities become null, for JSON has none; null comes back as NaN where a number stands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kerash5._errors import FileError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

_FORMAT: Final = 1


def write_values(result: DataclassInstance) -> str:
    """Return a result, and all it holds, as JSON text."""
    return json.dumps({"format": _FORMAT, **_plain(asdict(result))}, indent=1, default=str)


def read_values(text: str | bytes, what: str) -> dict[str, Any]:
    """Return what `write_values` wrote, as a dict.

    Args:
        text: JSON text.
        what: Where it is from, for the error.

    Raises:
        FileError: The text is something else, or of another format.
    """
    try:
        values = json.loads(text)
        if values.pop("format") != _FORMAT:
            raise FileError(
                f"{what} was written by another kerash5; upgrade with pip install -U kerash5"
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise no_results(what, error) from error
    return dict(values)


def parse_fields(kind: type[T], values: Mapping[str, Any], what: str) -> T:
    """Make a dataclass of a dict; names that a later version noted besides are passed over.

    Raises:
        FileError: A field is missing, or is no number where one must be.
    """
    try:
        return kind(
            **{f.name: _typed(values[f.name], f.type) for f in fields(kind) if f.name in values}
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise no_results(what, error) from error


def no_results(what: str, error: Exception) -> FileError:
    """Return the error that says that a text is something else."""
    return FileError(
        f"{what} holds no results of a comparison ({error!r}); kerash5 compare writes them"
    )


def _typed(value: Any, annotation: object) -> Any:  # noqa: ANN401  JSON, whatever it holds
    # Annotations are text, for the module of the dataclasses postpones them; text is enough.
    if annotation == "float":
        return math.nan if value is None else float(value)
    if annotation == "tuple[float, ...]":
        return tuple(math.nan if item is None else float(item) for item in value)
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:  # noqa: ANN401  JSON, whatever it holds
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
