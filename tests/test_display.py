"""How public objects look in a console and in a notebook: short, and without their memory."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kerash5 as k5
from kerash5._display import Text, given_fields, html_table
from kerash5.assets import digits_train
from tests.test_run import RUN

SOURCE = k5.Source(digits_train(), x="image", y="label")
SHOWN: dict[str, Any] = {
    "run": RUN,
    "source": SOURCE,
    "column": k5.Column("image", shape=(28, 28, 1)),
    "split": k5.split_rows(5000, 0.2),
    "plan": k5.Plan(num_rows=5000, batch_size=50),
    "rates": k5.LearningRates((0.1, 0.2), (1.0, 0.5)),
    "sizes": k5.BatchSizes([]),
    "comparison": k5.Comparison.load(
        Path(__file__).parents[1] / "docs" / "example-report" / "comparison-1.json"
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_an_object_is_shown_in_one_short_line(name: str) -> None:
    shown = repr(SHOWN[name])
    assert len(shown) < 200
    assert "\n" not in shown
    assert shown.startswith(f"{type(SHOWN[name]).__name__}(")


def test_a_run_says_how_it_went() -> None:
    assert repr(RUN) == (
        "Run(mlp on jax, done, 2 epochs, best val_loss 0.5000 in epoch 2, "
        "test: loss 0.5000  accuracy 0.7500, 'runs/mlp')"
    )


def test_a_run_is_a_table_of_its_epochs_in_a_notebook() -> None:
    page = RUN._repr_html_()
    assert [html.unescape(each) for each in re.findall(r"<th>(.*?)</th>", page)] == [
        "epoch",
        "seconds",
        "rows/s",
        "loss",
        "val_loss",
    ]
    assert re.findall(r"<td>(.*?)</td>", page)[:5] == ["1", "1.0", "100", "0.5000", "0.6000"]
    assert "<td>2 (best)</td>" in page


def test_only_what_was_given_of_a_column_is_shown() -> None:
    assert repr(k5.Column("image")) == "Column(path='image')"
    assert repr(SHOWN["column"]) == "Column(path='image', shape=(28, 28, 1))"
    assert given_fields(k5.Column("a", pad_to=3, pad_value=0)) == "path='a', pad_to=3"


def test_a_description_is_shown_line_by_line() -> None:
    text = SOURCE.describe()
    assert repr(text) == str(text)
    assert "\n" in text
    assert SOURCE._repr_html_() == f"<pre>{html.escape(text)}</pre>"


def test_html_cannot_be_smuggled_in() -> None:
    assert "<b>" not in Text("<b>")._repr_html_()
    assert "<b>" not in html_table("<b>", ["<b>"], [["<b>"]])


def test_a_figure_is_shown_in_a_notebook_and_written_where_there_is_a_path(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rates = k5.LearningRates(tuple(np.geomspace(1e-4, 1, 30)), tuple(np.linspace(2, 1, 30)))
    for drawn in (RUN.plot(), rates.plot()):
        assert drawn._repr_png_().startswith(b"\x89PNG")
    assert RUN.plot(tmp_path / "curves.svg") == str(tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_bytes().lstrip().startswith(b"<?xml")
    assert rates.plot(tmp_path / "rates.png") == str(tmp_path / "rates.png")


def test_what_is_no_image_is_refused_with_the_cure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(k5.OptionError, match=r"is no image; end it with \.png"):
        RUN.plot(tmp_path / "curves.xlsx")


def test_verdicts_are_there_at_once_and_name_what_is_damaged() -> None:
    found = k5.verify(digits_train())
    assert (len(found), found.is_sound) == (3, True)
    assert repr(found) == "3 of 3 data sets sound"
    assert repr(type(found)([k5.Verdict("a/b", "damaged", "cut short")])).splitlines() == [
        "0 of 1 data sets sound",
        "a/b: damaged: cut short",
    ]
    with pytest.raises(k5.FileMissingError):
        k5.verify("nowhere.h5")  # without a loop over it


def test_a_description_of_a_file_keeps_its_lines() -> None:
    assert repr(k5.describe(digits_train())).startswith("digits-train.hdf5: 3 data sets")
