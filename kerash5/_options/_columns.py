"""Columns as YAML values, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerash5._errors import OptionError
from kerash5.h5 import Column

ColumnOption = str | dict[str, Any] | list[Any]
Columns = str | Column | Sequence["Columns"] | Mapping[str, "Columns"]


def parse_columns(spec: ColumnOption | None) -> Any:  # noqa: ANN401  Columns, or None for None
    """Return the columns for `Source` from their form in YAML.

    A mapping with "path" is one `Column`; another is several columns by name; a list is a tuple.

    Raises:
        OptionError: A column has a setting that `Column` does not know.
    """
    if isinstance(spec, Mapping):
        if "path" not in spec:
            return {name: parse_columns(part) for name, part in spec.items()}
        try:
            return Column(**spec)
        except OptionError as error:
            raise OptionError(f"column {dict(spec)!r}: {error}") from None
    return tuple(parse_columns(part) for part in spec) if isinstance(spec, list) else spec


def format_columns(spec: Columns | None) -> ColumnOption | None:
    """Return columns as plain YAML values; `parse_columns` is the inverse."""
    if isinstance(spec, Column):
        values = {
            "path": spec.path,
            "shape": None if spec.shape is None else list(spec.shape),
            "dtype": None if spec.dtype is None else str(np.dtype(spec.dtype)),
            "one_hot": spec.one_hot,
            "labels": _format_labels(spec.labels),
            **spec.kind_options(),
        }
        said = {name: value for name, value in values.items() if value is not None}
        return spec.path if set(said) == {"path"} else said
    if isinstance(spec, Mapping):
        return {name: format_columns(part) for name, part in spec.items()}
    if spec is None or isinstance(spec, str):
        return spec
    return [format_columns(part) for part in spec]


def _format_labels(labels: Sequence[object] | Mapping[Any, int] | None) -> Any:  # noqa: ANN401  YAML
    if labels is None:
        return None
    if isinstance(labels, Mapping):
        return {_format_label(value): int(number) for value, number in labels.items()}
    return [_format_label(value) for value in labels]


def _format_label(value: object) -> object:
    if isinstance(value, bytes):  # decoded as `Column` does
        return value.decode("utf-8", "backslashreplace")
    return value.item() if isinstance(value, np.generic) else value
