"""Kinds whose verdict is not a good one for a reason that is known."""

from __future__ import annotations

from typing import Final

from tests.backend.differential.harness import Result, Verdict

GOOD: Final = ("equal", "slower")

# (backend, kind) -> (verdict, why).
EXPECTED: Final[dict[tuple[str, str], tuple[Verdict, str]]] = {}


def is_expected(result: Result) -> bool:
    """Say whether a result is equal, or what is known of its kind."""
    if result.verdict in GOOD:
        return True
    known = EXPECTED.get((result.backend, result.kind))
    return known is not None and known[0] == result.verdict
