"""The report as Markdown and in the terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from kerash5.comparison._results import Comparison
from kerash5.report import render_terminal
from kerash5.report._text import render_markdown
from tests.comparison.simulated import ENGINES, make_comparison, make_parity, spoil


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    made = make_comparison(settings=("plain", "tuned"))
    wrong = make_parity("torch", "tuned", forward=1.2e-3)
    kept = [p for p in made.parities if (p.contender, p.setting) != ("torch", "tuned")]
    return replace(made, parities=(*kept, wrong), notes=("a|b *c* <d>",))


def printed(comparison: Comparison, *, width: int = 100) -> str:
    stream = io.StringIO()
    render_terminal(comparison, Console(file=stream, width=width, force_terminal=False))
    return stream.getvalue()


def tables_of(markdown: str) -> list[list[list[str]]]:
    """Return the cells of each Markdown table, the head first."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in markdown.splitlines():
        if line.startswith("|"):
            cells = line.replace("\\|", "/").strip("|").split("|")
            if not inside:
                tables.append([])
            tables[-1].append([cell.strip() for cell in cells])
        inside = line.startswith("|")
    return tables


def test_markdown_has_whole_tables_one_per_setting(comparison: Comparison) -> None:
    tables = tables_of(render_markdown([comparison]))
    assert len(tables) == 7  # plain, tuned, costs, engines, parity, settings, versions
    assert all(len(row) == len(table[0]) for table in tables for row in table)
    plain, tuned = tables[:2]
    assert [row[0] for row in plain[2:]] == ["TensorFlow", "PyTorch", "JAX"]
    assert tuned[0][-1] == "Trainer / model.fit"
    assert tuned[-1][0].startswith("*PyTorch (it failed the parity check: forward differs")
    assert tuned[-1][1].endswith(r"\*")


def test_markdown_begins_with_the_verdict_and_ends_with_the_method(comparison: Comparison) -> None:
    lines = render_markdown([comparison]).splitlines()
    assert lines[0] == "# Which backend is fastest for convnet?"
    assert lines[2].startswith(
        "**TensorFlow trains convnet fastest on this machine, in both tables"
    )
    assert lines[-1].startswith("**Unstable.**")


def test_markdown_takes_what_was_noted_as_it_stands(comparison: Comparison) -> None:
    assert r"* a\|b \*c\* \<d\>" in render_markdown([comparison]).splitlines()


def test_markdown_of_several_has_a_part_for_each(comparison: Comparison) -> None:
    text = render_markdown([comparison, make_comparison({"jax": 1.0, "torch": 2.0})])
    assert text.count("# Which backend is fastest for convnet?") == 2
    assert text.count("How it was measured") == 1


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_gets_verdict_tables_and_caveats_within_its_width(
    comparison: Comparison, width: int
) -> None:
    text = printed(comparison, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    flat = " ".join(text.split())
    assert flat.startswith("TensorFlow trains convnet fastest on this machine, in both tables")
    assert "Batch size 50, model.fit" in flat
    assert "not ranked" in flat
    assert "* a|b *c* <d>" in flat  # no markup of rich's own


def test_the_engine_of_each_contender_is_told(comparison: Comparison) -> None:
    tables = tables_of(render_markdown([comparison]))
    (engines,) = (table for table in tables if "Engine" in table[0])
    told = {row[0].replace("\\", ""): row[1] for row in engines[2:]}
    assert len(told) == 6  # three backends in two settings
    plain = {text for name, text in told.items() if "model.fit" in name}
    assert plain == {ENGINES["plain"]}
    assert set(told.values()) == set(ENGINES.values())
    assert ENGINES["tuned"] in printed(comparison, width=300)


def test_engines_that_differ_between_processes_are_all_told(comparison: Comparison) -> None:
    first, *others = comparison.samples
    mixed = replace(comparison, samples=(replace(first, engine="another one"), *others))
    assert f"{ENGINES[first.setting]}" in render_markdown([mixed])
    assert "another one" in render_markdown([mixed])


def test_results_without_engines_have_no_table_of_them(comparison: Comparison) -> None:
    old = replace(comparison, samples=tuple(replace(s, engine="") for s in comparison.samples))
    assert "Engine of the steps" in render_markdown([comparison])
    assert "Engine of the steps" not in render_markdown([old])


def test_brackets_are_no_markup_to_the_terminal() -> None:
    error = "not installed: pip install 'kerash5[tensorflow]' [/bold]"
    text = printed(spoil(make_comparison(), "tensorflow", status="missing", error=error))
    assert "kerash5[tensorflow]' [/bold]" in " ".join(text.split())


def test_a_comparison_without_results_is_told_as_such() -> None:
    text = printed(replace(make_comparison(), samples=(), is_complete=False))
    assert "no backend gave a valid result" in " ".join(text.split())
