"""What a reader sees of the page, in a Chromium without a window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from kerash5.report import write_report
from tests.comparison.simulated import make_comparison, make_parity
from tests.report.browser import Browser, find_chromium, open_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    with open_browser(chromium) as found:
        yield found


@pytest.fixture(scope="module", params=["one", "several"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a report of one comparison, or of several."""
    # As wide as it gets: one backend is hundreds of times slower than another.
    speeds = {"jax": 34_000.0, "tensorflow": 8_000.0, "torch": 120.0}
    made = make_comparison(speeds, settings=("plain", "tuned"), batch_sizes=(50, 256))
    wrong = make_parity("torch", "tuned", forward=1.2e-3)
    parities = [
        wrong if (p.contender, p.setting) == ("torch", "tuned") else p for p in made.parities
    ]
    made = replace(made, parities=tuple(parities))
    folder = tmp_path_factory.mktemp("report")
    write_report(made if request.param == "one" else [made, make_comparison()], folder)
    return (folder / "report.html").as_uri()


def test_a_reader_sees_the_title_and_the_verdict_first(browser: Browser, url: str) -> None:
    browser.open(url, width=1200)
    assert browser.evaluate("document.title") == "Which backend is fastest for convnet?"
    verdict = browser.evaluate("document.querySelector('.headline').innerText")
    assert "fastest" in verdict or "comparisons" in verdict
    assert "JAX" in browser.evaluate("document.querySelector('.verdict').innerText")
    # On the first screen, without scrolling.
    assert (
        browser.evaluate("document.querySelector('.headline').getBoundingClientRect().bottom") < 900
    )


@pytest.mark.parametrize("width", [320, 400, 700, 1200])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_the_window_and_nothing_complains(
    browser: Browser, url: str, width: int, theme: Literal["light", "dark"]
) -> None:
    browser.open(url, width=width, theme=theme)
    root = "document.documentElement"
    assert browser.evaluate(f"{root}.clientWidth") == width
    assert browser.evaluate(f"{root}.scrollWidth") <= width
    assert browser.complaints() == []
    assert browser.requests() == [url]


def test_dark_and_light_are_told_apart_and_readable(browser: Browser, url: str) -> None:
    seen = {}
    for theme in ("light", "dark"):
        browser.open(url, width=1200, theme=theme)
        seen[theme] = [
            luminance(browser.evaluate(f"getComputedStyle({where}).{what}"))
            for where, what in (
                ("document.body", "backgroundColor"),
                ("document.body", "color"),
                ("document.querySelector('figure text')", "fill"),
            )
        ]
    assert seen["light"][0] > 0.9
    assert seen["dark"][0] < 0.1
    for paper, *inks in seen.values():
        for ink in inks:
            low, high = sorted((paper, ink))
            assert (high + 0.05) / (low + 0.05) > 7  # contrast of WCAG, level AAA


def test_the_page_prints(browser: Browser, url: str, tmp_path: Path) -> None:
    browser.open(url, width=1200, theme="dark")
    browser.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def luminance(color: str) -> float:
    """Return the relative luminance of "rgb(r, g, b)", from 0 to 1 (WCAG 2)."""
    parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
