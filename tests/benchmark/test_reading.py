"""What `kerash5 bench` measures, and what it says of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rich.console import Console

from kerash5._errors import ColumnError, FileError, FileMissingError, OptionError
from kerash5.benchmark import Reading, bench, reading_table, reading_verdict
from kerash5.benchmark import _ways as ways

QUICK: Any = {"rounds": 2, "seconds": 0.05, "batch_size": 32}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        rows = np.arange(400 * 64, dtype=np.uint8).reshape(400, 8, 8)
        file.create_dataset("image", data=rows, chunks=(10, 8, 8), compression="gzip")
        file["label"] = np.arange(400) % 7
        file["few"] = np.zeros(3)
    return path


def test_every_way_has_one_speed_per_round(path: Path) -> None:
    reading = bench(path, cache="1MB", **QUICK)
    assert reading.columns == ("image", "label")
    assert (reading.num_rows, reading.row_bytes) == (400, 64 + 8)
    assert reading.fits
    assert set(reading.speeds) == {ways.FIRST, ways.LATER, ways.H5PY, ways.MEMORY}
    assert {len(speeds) for speeds in reading.speeds.values()} == {2}
    assert all(speed > 0 for speeds in reading.speeds.values() for speed in speeds)


def test_what_does_not_fit_the_cache_is_measured_with_one_that_holds_it(path: Path) -> None:
    reading = bench(path, cache="8KB", rewrite=True, **QUICK)
    assert not reading.fits
    assert {ways.CACHED, ways.SAMPLE, ways.REWRITTEN} < set(reading.speeds)
    assert reading.num_sampled == 400


def test_the_columns_can_be_named(path: Path) -> None:
    assert bench(path, x="label", **QUICK).columns == ("label",)
    assert bench(path, x="image", y="label", **QUICK).columns == ("image", "label")


def test_memory_is_left_alone_where_rows_would_not_fit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "_MEMORY_FRACTION", 0.0)
    reading = bench(path, **QUICK)
    assert ways.MEMORY not in reading.speeds
    assert "all rows need 0.0 GB" in reading.skipped[ways.MEMORY]
    assert reading.ratio(ways.LATER, ways.MEMORY) is None
    assert "arrays in memory" not in reading_verdict(reading)


def test_all_figures_are_written_as_json(path: Path, tmp_path: Path) -> None:
    reading = bench(path, **QUICK)
    reading.save(tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["speeds"] == reading.speeds
    assert written["num_rows"] == 400
    with pytest.raises(FileError, match="name a file in an existing folder"):
        reading.save(tmp_path / "no" / "out.json")


def test_bad_input_is_refused_in_words(path: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="rounds=0"):
        bench(path, rounds=0)
    with pytest.raises(FileMissingError, match=r"gone\.h5"):
        bench(tmp_path / "gone.h5")
    with pytest.raises(ColumnError, match="'imag'"):
        bench(path, x="imag", **QUICK)
    with h5py.File(tmp_path / "words.h5", "w") as file:
        file["words"] = ["a", "b"]
    with pytest.raises(ColumnError, match="no data set of numbers"):
        bench(tmp_path / "words.h5")


def made(speeds: Mapping[str, Sequence[float]], **changes: Any) -> Reading:
    """Return a reading of 1,000 rows of 1 MB with these speeds."""
    values: dict[str, Any] = {
        "path": "a.h5",
        "columns": ("image",),
        "num_rows": 1000,
        "row_bytes": 10**6,
        "batch_size": 32,
        "cache_bytes": 10**8,
        "fits": False,
        "order": "",
        "speeds": speeds,
        "skipped": {},
        "num_sampled": 64,
        "environment": {},
    }
    return Reading(**{**values, **changes})


FULL = [1000.0, 2000.0]
ADVICE: Mapping[str, tuple[Mapping[str, Sequence[float]], str]] = {
    "as fast as memory": ({ways.LATER: [900, 1800]}, "no change is needed"),
    "a larger cache": (
        {ways.LATER: [100, 200], ways.CACHED: [900, 1800]},
        "set cache='1050MB', which caches all rows and reads 9.0 times as fast",
    ),
    "to rewrite": (
        {ways.LATER: [100, 200], ways.SAMPLE: [50, 50], ways.REWRITTEN: [150, 150]},
        "its first 64 rows are read 3.0 times as fast",
    ),
    "not to rewrite": (
        {ways.LATER: [100, 200], ways.SAMPLE: [50, 50], ways.REWRITTEN: [50, 55]},
        "neither other settings nor rewriting the file helped",
    ),
    "to measure more": ({ways.LATER: [100, 200]}, "--rewrite measures"),
}


@pytest.mark.parametrize(("speeds", "advice"), ADVICE.values(), ids=ADVICE)
def test_the_advice_is_what_was_measured(
    speeds: Mapping[str, Sequence[float]], advice: str
) -> None:
    verdict = reading_verdict(made({ways.MEMORY: FULL, ways.H5PY: [10, 20], **speeds}))
    assert advice in verdict
    assert verdict.endswith(".")


def test_shares_are_of_the_same_round() -> None:
    reading = made({ways.MEMORY: [100, 1000, 10], ways.LATER: [50, 500, 5]})
    assert reading.ratio(ways.LATER, ways.MEMORY) == 0.5


def test_the_table_has_a_line_for_each_way_and_says_what_is_missing() -> None:
    reading = made({ways.LATER: FULL}, path="some.h5", skipped={ways.MEMORY: "all rows need 99 GB"})
    console = Console(width=120)
    with console.capture() as captured:
        console.print(reading_table(reading))
    assert "1,500" in captured.get()
    assert "all rows need 99 GB" in captured.get()
    assert "some.h5: shuffled batches of 32 rows" in captured.get()
