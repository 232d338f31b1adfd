"""The public surface is what tests/api.txt says it is."""

from __future__ import annotations

from tests import api_snapshot


def test_the_public_names_and_signatures_are_those_of_the_snapshot() -> None:
    expected = api_snapshot.FILE.read_text(encoding="utf-8")
    assert api_snapshot.snapshot() == expected, "run python -m tests.api_snapshot"
