"""The tables of results: made of result files alone, and as the pages show them."""

from dataclasses import replace
from pathlib import Path

import pytest
import tables
from _harness import Outcome, ResultFile, environment, spread, take_turns

FAST = Outcome(case="gzip", way="ours", unit="rows/s", values=[90, 100, 120])
FULL = Outcome(case="gzip", way="NumPy", unit="rows/s", values=[100, 200, 120])


def test_the_pages_show_the_newest_results() -> None:
    stale = [
        page.name
        for page in tables.pages()
        if (text := page.read_text(encoding="utf-8")) != tables.fill(text)
    ]
    assert stale == [], "run python benchmarks/tables.py"


def write_results(folder: Path, name: str, *outcomes: Outcome) -> None:
    file = ResultFile.begin(name, packages=["pytest"], out=folder / f"{name}.jsonl")
    for outcome in outcomes:
        file.add(outcome)


def test_a_result_file_reads_back_what_was_written(tmp_path: Path) -> None:
    skipped = Outcome(case="gzip", way="other", skipped="not installed")
    write_results(tmp_path, "demo", FAST.compared(FULL), skipped)
    file, outcomes = ResultFile.read(tmp_path / "demo.jsonl")
    assert file.about["benchmark"] == "demo"
    assert file.about["versions"].keys() == {"pytest"}
    assert outcomes == [FAST.compared(FULL), skipped]
    assert outcomes[0].shares == [0.9, 0.5, 1.0]
    assert outcomes[0].of == "NumPy"


def test_a_result_file_goes_on_only_if_it_depends_on_the_same(tmp_path: Path) -> None:
    path = tmp_path / "demo.jsonl"
    write_results(tmp_path, "demo", FAST)
    file = ResultFile.begin("demo", packages=["pytest"], out=path, add=True)
    file.add(FULL)
    assert ResultFile.read(path)[1] == [FAST, FULL]
    with pytest.raises(SystemExit, match="differs in versions; leave out --add"):
        ResultFile.begin("demo", out=path, add=True)
    assert ResultFile.read(path)[1] == [FAST, FULL]


def test_the_environment_names_no_path() -> None:
    assert "/" not in str(environment(["pytest"]))


def test_each_marked_place_of_a_page_gets_its_table(tmp_path: Path) -> None:
    write_results(tmp_path / "box-2026-01-02", "demo", FULL, FAST.compared(FULL))
    page = "a\n<!-- table:demo -->\nold\n<!-- /table -->\nb <!-- /table -->\n"
    after = tables.fill(page, tmp_path)
    assert "| gzip | 120 (100 to 200) | 0.90 (0.50 to 1.00) |" in after
    assert "|  | NumPy, rows/s | ours, share of NumPy |" in after
    assert "old" not in after
    assert after.startswith("a\n<!-- table:demo -->\n")
    assert after.endswith("<!-- /table -->\nb <!-- /table -->\n")
    assert tables.fill(after, tmp_path) == after


def test_the_newest_results_of_each_machine_are_shown(tmp_path: Path) -> None:
    for folder in ("box-2-cores-2026-01-02", "box-2-cores-2026-11-01", "other-2025-01-01"):
        write_results(tmp_path / folder, "demo", FAST)
    found = [path.parent.name for path in tables.newest("demo", tmp_path)]
    assert found == ["box-2-cores-2026-11-01", "other-2025-01-01"]
    assert tables.make_table("demo", results=tmp_path).count("| gzip |") == 2


def test_parts_are_tables_of_their_own(tmp_path: Path) -> None:
    peer = Outcome(case="gzip", way="peer", unit="rows/s", values=[5.0], part="peers")
    write_results(tmp_path / "box-2026-01-02", "demo", FAST, peer)
    assert "peer" not in tables.make_table("demo", results=tmp_path)
    assert "peer" in tables.make_table("demo", "peers", tmp_path)
    with pytest.raises(SystemExit, match="no results for the table 'demo', part 'parts'"):
        tables.make_table("demo", "parts", tmp_path)


def test_notes_and_what_is_missing_stand_under_the_table(tmp_path: Path) -> None:
    noted = Outcome(case="gzip", way="peer", values=[1.0], note="shuffles 1,000 rows at a time")
    missing = Outcome(case="gzip", way="other", skipped="not installed")
    write_results(tmp_path / "box-2026-01-02", "demo", noted, missing)
    table = tables.make_table("demo", results=tmp_path)
    assert "* peer: shuffles 1,000 rows at a time\n" in table
    assert "* other: not measured, not installed\n" in table
    assert "\n`benchmarks/demo.py`; " in table


def test_a_note_on_a_row_names_the_row() -> None:
    cells = [
        Outcome(case=case, way=way, values=[1.0], note=f"about {case}")
        for case in ("a", "b")
        for way in ("x", "y")
    ]
    assert tables.subject(cells, note="about a") == "a"
    mixed = [replace(cells[0], note="odd"), *cells[1:]]
    assert tables.subject(mixed, note="odd") == "x, a"


def test_a_table_of_medians_leaves_the_spread_out(tmp_path: Path) -> None:
    write_results(tmp_path / "box-2026-01-02", "demo", replace(FULL, unit="").compared(FULL))
    page = "<!-- table:demo medians -->\n<!-- /table -->\n"
    after = tables.fill(page, tmp_path)
    assert "| gzip | 1.00 |" in after
    assert "|  | NumPy |" in after  # without a unit, a way says itself what it is
    assert "\nMedian of 3 rounds, `benchmarks/demo.py`; " in after
    assert tables.fill(after, tmp_path) == after


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (123456, "123,000"),
        (1000, "1,000"),
        (98.76, "98.8"),
        (9.876, "9.88"),
        (0.934, "0.93"),
        (0.0123, "0.01"),
        (0.00034, "0.0003"),
        (0, "0.00"),
    ],
)
def test_a_number_has_the_digits_that_mean_something(value: float, text: str) -> None:
    assert tables.write_number(value) == text


def test_every_way_has_its_turn_in_every_round_and_none_is_always_first() -> None:
    done: list[str] = []

    def way(name: str) -> int:
        done.append(name)
        return len(done)

    ways = {name: lambda name=name: way(name) for name in "abc"}
    rounds = list(take_turns(ways, rounds=3, warm_up=1))
    assert "".join(done) == "abcbcacababc"
    assert [list(found) for found in rounds] == [list("abc")] * 3
    assert rounds[0] == {"b": 4, "c": 5, "a": 6}


def test_the_spread_is_the_median_the_smallest_and_the_largest() -> None:
    assert spread([3, 1, 2, 10]) == (2.5, 1, 10)
