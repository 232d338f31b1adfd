"""The page: one file that needs nothing else and says what the findings say."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from kerash5._errors import BackendError, OptionError
from kerash5.comparison._machine import Machine
from kerash5.comparison._results import Comparison
from kerash5.report import write_report
from kerash5.report._page import render_page
from tests.comparison.simulated import make_comparison, make_parity, spoil

VOID: Final = {"meta", "br", "link", "img", "input", "hr"}


class Outline(HTMLParser):
    """Reads a page: its texts, its ids, what it would load, and whether its tags match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.links += [
            str(values[name]) for name in ("href", "src", "xlink:href") if values.get(name)
        ]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.texts.setdefault(self._open[-1], []).append(" ".join(data.split()))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    made = make_comparison(settings=("plain", "tuned"), batch_sizes=(50, 256))
    wrong = make_parity("torch", "tuned", forward=1.2e-3)
    return replace(
        made,
        parities=tuple(
            wrong if (p.contender, p.setting) == ("torch", "tuned") else p for p in made.parities
        ),
        notes=("Two cores <b>shared</b> & busy.</script><script>alert(1)</script>",),
    )


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    return render_page([comparison])


def test_the_page_is_html_from_its_first_letter(page: str) -> None:
    assert page.startswith("<!DOCTYPE html>")


def test_tags_match_and_ids_are_unique(page: str) -> None:
    ids = Outline(page).ids
    assert len(ids) == len(set(ids))
    assert len(ids) > 50


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    outline = Outline(page)
    assert outline.links
    assert [link for link in outline.links if link.removeprefix("#") not in outline.ids] == []
    without_data = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"https?:|@import|url\((?!#)|<script", without_data)
    assert "default-src 'none'" in page


def test_what_is_referred_to_by_style_is_there(page: str) -> None:
    ids = set(Outline(page).ids)
    clips = set(re.findall(r"url\(#([^)]+)\)", page))
    assert clips
    assert clips <= ids


def test_the_verdict_stands_on_top(page: str) -> None:
    outline = Outline(page)
    assert outline.texts["h1"] == ["Which backend is fastest for convnet?"]
    assert outline.texts["title"][0] == outline.texts["h1"][0]
    first = outline.texts["p"][1]
    assert first.startswith("TensorFlow trains convnet fastest on this machine, in all 4 tables")
    assert page.index(first) < page.index("<table")


def test_settings_stand_side_by_side(page: str) -> None:
    heads = Outline(page).texts["th"]
    assert heads[:2] == ["model.fit", "Trainer"]
    assert heads[2:10] == [
        *("Backend", "Rows/s", "ms/step", "/ fastest"),
        *("Rows/s", "ms/step", "/ fastest", "Trainer / model.fit"),
    ]


def test_a_backend_that_fails_parity_is_grey_with_its_reason(page: str) -> None:
    reasons = Outline(page).texts["em"]
    assert any(
        reason.startswith("Trainer: it failed the parity check: forward differs")
        for reason in reasons
    )
    assert '<tr class="grey">' in page  # its line under parity
    assert 'class="grey"' in page[: page.index('<tr class="grey">')]  # its cells under speed


def test_figures_are_named_for_those_who_cannot_see_them(page: str) -> None:
    figures = re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 4  # speeds at two batch sizes, first steps, losses
    for figure in figures:
        assert re.match(r'<svg viewBox="[^"]+" role="img" aria-labelledby="(\S+)-t \1-d">', figure)
        assert re.search(r"<title id=\S+>[^<]{10,}</title>\s*<desc id=\S+>[^<]{10,}</desc>", figure)


def test_figures_take_every_colour_from_the_page(page: str) -> None:
    for figure in re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL):
        assert not re.search(r"#[0-9a-fA-F]{6}\b", figure)
        for variable in set(re.findall(r"var\((--\w+)\)", figure)):
            assert f"{variable}:" in page


def test_speeds_far_apart_are_drawn_on_a_logarithmic_scale(page: str) -> None:
    far = render_page([make_comparison({"jax": 34_000.0, "torch": 120.0})])
    assert "per second, logarithmic" in far
    assert "per second, logarithmic" not in page


def test_the_numbers_are_in_the_page_and_cannot_break_out_of_it(
    page: str, comparison: Comparison
) -> None:
    (data,) = re.findall(
        r'<script type="application/json" id="data-1">(.*?)</script>', page, flags=re.DOTALL
    )
    assert Comparison.from_json(data).to_json() == comparison.to_json()
    assert "<script>alert" not in page
    assert "&lt;b&gt;shared&lt;/b&gt; &amp; busy." in page


def test_one_comparison_always_gives_the_same_page(page: str, comparison: Comparison) -> None:
    assert render_page([comparison]) == page


# Incomplete comparisons.


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(make_comparison(repeats=1), id="one round"),
        pytest.param(make_comparison({"jax": 400.0}), id="one backend"),
        pytest.param(
            replace(make_comparison(), samples=(), parities=(), is_complete=False), id="nothing yet"
        ),
        pytest.param(
            spoil(make_comparison(), "jax", status="missing", error="no jax"), id="missing"
        ),
        pytest.param(
            spoil(make_comparison(), "jax", epoch_losses=(float("nan"),) * 4), id="NaN losses"
        ),
        pytest.param(
            spoil(make_comparison(), "jax", import_seconds=float("nan")), id="no start times"
        ),
        pytest.param(
            spoil(make_comparison(), "jax", peak_host_bytes=None, final_loss=float("nan")),
            id="no memory, no loss",
        ),
        pytest.param(
            replace(make_comparison(), machine=Machine(), versions={}, notes=()), id="no machine"
        ),
        pytest.param(make_comparison({f"mine-{n}": 100.0 + n for n in range(9)}), id="strangers"),
    ],
)
def test_what_there_is_of_a_comparison_is_shown(made: Comparison) -> None:
    outline = Outline(render_page([made]))
    assert len(outline.ids) == len(set(outline.ids))
    text = " ".join(outline.texts["p"])
    assert "nan" not in text.lower().split()


# Several comparisons.


def test_several_comparisons_stand_apart_on_one_page(comparison: Comparison) -> None:
    other = make_comparison({"jax": 900.0, "torch": 500.0}, repeats=3)
    other = replace(other, machine=Machine(processor="Another CPU", cores=16, gpus=("A GPU",)))
    outline = Outline(render_page([comparison, other]))
    assert len(outline.ids) == len(set(outline.ids))
    assert {"#comparison-1", "#comparison-2"} <= set(outline.links)
    heads = outline.texts["h2"]
    assert heads[0].startswith("Example CPU")
    assert heads[1].startswith("Another CPU, 16 cores, A GPU")
    assert "In each of 5 or 3 rounds" in " ".join(outline.texts["p"])


# Files.


def test_the_report_is_written_as_page_markdown_and_numbers(
    tmp_path: Path, comparison: Comparison
) -> None:
    folder = tmp_path / "new" / "report"
    paths = write_report(comparison, folder)
    assert [Path(path).name for path in paths] == ["report.html", "report.md", "comparison.json"]
    assert Comparison.load(folder).to_json() == comparison.to_json()
    assert json.loads((folder / "comparison.json").read_text())["method"]["model"] == "convnet"
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(p).name for p in paths)


def test_the_numbers_of_several_have_a_file_each(tmp_path: Path, comparison: Comparison) -> None:
    paths = write_report([comparison, make_comparison()], tmp_path)
    assert [Path(path).name for path in paths[2:]] == ["comparison-1.json", "comparison-2.json"]


def test_no_comparison_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no comparison to report"):
        write_report([], tmp_path)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib.figure"])
def test_without_its_packages_the_error_says_what_to_install(
    package: str, tmp_path: Path, comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match=r"pip install 'kerash5\[report\]'"):
        write_report(comparison, tmp_path)
    assert list(tmp_path.iterdir()) == []
