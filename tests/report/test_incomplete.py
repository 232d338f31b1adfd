"""Comparisons with holes: whatever is missing, the report says what there is and never breaks."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from kerash5._errors import OptionError
from kerash5.comparison._machine import Machine
from kerash5.comparison._results import Comparison, Sample
from kerash5.report import render_terminal, slower_than_baseline
from kerash5.report._findings import find_tables
from kerash5.report._page import render_page
from kerash5.report._text import render_markdown
from kerash5.report._verdict import find_verdict
from tests.comparison.simulated import make_comparison

WHOLE = make_comparison(repeats=3, settings=("plain", "tuned"))

NUMBERS = st.sampled_from([math.nan, 0.0, 1e-9, 1.0, 1e9])
TIMES = st.lists(st.sampled_from([math.nan, 0.0, 0.5, 1.0]), max_size=4).map(tuple)
HOLES = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["failed", "missing"]),
        "error": st.just("it broke"),
        "epoch_seconds": TIMES,
        "cached_epoch_seconds": TIMES,
        "epoch_losses": TIMES,
        "num_steps": st.sampled_from([0, 1]),
        "num_rows": st.sampled_from([0, 1]),
        "import_seconds": NUMBERS,
        "first_step_seconds": NUMBERS,
        "compile_cache": st.sampled_from(["cold", "warm", "none"]),
        "peak_host_bytes": st.none(),
        "final_loss": NUMBERS,
        "final_accuracy": NUMBERS,
        "load_before": NUMBERS,
        "environment": st.just({}),
    },
)


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    """Draw the whole comparison with some samples gone and others damaged."""
    samples: list[Sample] = []
    for sample in WHOLE.samples:
        changes: dict[str, Any] = draw(st.one_of(st.just({}), HOLES))
        if draw(st.integers(0, 4)):
            samples.append(replace(sample, **changes))
    parities = tuple(parity for parity in WHOLE.parities if draw(st.integers(0, 4)))
    machine = draw(
        st.sampled_from([WHOLE.machine, Machine(), Machine.from_values({"cores": "many"})])
    )
    return replace(
        WHOLE, samples=tuple(samples), parities=parities, machine=machine, is_complete=False
    )


@settings(max_examples=100)
@given(comparisons())
def test_every_contender_has_a_row_and_every_row_a_standing_or_a_reason(found: Comparison) -> None:
    tables = find_tables(found)
    assert [table.setting for table in tables] == ["plain", "tuned"]
    for table in tables:
        assert sorted(row.contender for row in table.rows) == sorted(WHOLE.method.contenders)
        for row in table.rows:
            assert row.is_ranked == (row.reason == "")
            assert not row.is_ranked or math.isfinite(row.speed.value)


@settings(max_examples=60)
@given(comparisons())
def test_what_is_left_is_told_in_words_without_holes(found: Comparison) -> None:
    verdict = find_verdict(found, find_tables(found))
    said = [verdict.headline, *verdict.details, *verdict.caveats, *verdict.remarks]
    assert all(text.endswith(".") and "nan" not in text.split() for text in said)
    assert "nan" not in render_markdown([found])
    stream = io.StringIO()
    render_terminal(found, Console(file=stream, width=80))
    assert "nan" not in stream.getvalue()


@settings(max_examples=60)
@given(comparisons(), comparisons())
def test_baselines_with_holes_are_compared_as_far_as_they_go(
    new: Comparison, old: Comparison
) -> None:
    with suppress(OptionError):  # they may share nothing
        slower = slower_than_baseline(new, replace(old, machine=new.machine))
        assert all("nan" not in found.sentence.split() for found in slower)


@settings(max_examples=8)  # half a second each, for its figures
@given(comparisons())
def test_a_page_with_holes_is_drawn(found: Comparison) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    assert render_page([found]).endswith("</html>")
