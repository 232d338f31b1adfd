"""The kind of rows that are not entries of axis 0, for descriptions and for resuming."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowKind:
    """What the rows of a source are.

    Args:
        made_by: The function that makes such a source.
        words: What a row is, as in "each row is a window of 50 values".
        options: What else decides which values are in which row; plain values, for JSON.
    """

    made_by: str
    words: str
    options: Mapping[str, object]

    def fingerprint(self) -> list[object]:
        """Return the values that are equal for two sources with the same rows."""
        return [self.made_by, dict(self.options)]
