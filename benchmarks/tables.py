"""Which tables do the results of the benchmarks make, and do the pages show them?

    python benchmarks/tables.py           # write the tables into the pages
    python benchmarks/tables.py --check   # exit 1 and name the pages that are not as they should be
    python benchmarks/tables.py --show training_loop

A page says `<!-- table:NAME -->`, or `<!-- table:NAME/PART -->` where a benchmark makes several,
and `<!-- /table -->`; ` medians` after the name leaves the spread out. What stands between is made
of the newest benchmarks/results/*/NAME.jsonl of each machine: one row per case, one column per way,
in the order measured. A cell is the share of what counts as 1, or the value where nothing does: the
median, then the smallest and the largest.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from _harness import RESULTS, ROOT, Outcome, ResultFile, spread

PAGES: Final = ("README.md", "docs/*.md", "benchmarks/*.md", "examples/*.md")
_TABLE: Final = re.compile(
    r"(?P<open><!-- table:(?P<name>\w+)(?:/(?P<part>[\w-]+))?(?P<medians> medians)? -->\n)"
    r".*?(?P<close><!-- /table -->)",
    re.DOTALL,
)


def main() -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if not so")
    parser.add_argument("--show", metavar="NAME[/PART]", help="print one table")
    options = parser.parse_args()
    if options.show:
        name, _, part = options.show.partition("/")
        print(make_table(name, part))
        return 0
    changed = []
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = fill(before)
        if after != before:
            changed.append(page.relative_to(ROOT).as_posix())
            if not options.check:
                page.write_text(after, encoding="utf-8")
    if changed and options.check:
        print(f"{', '.join(changed)}: run python benchmarks/tables.py", file=sys.stderr)
    return int(bool(changed) and options.check)


def pages() -> list[Path]:
    """Return the pages that may hold tables."""
    return [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]


def fill(text: str, results: Path = RESULTS) -> str:
    """Return the text of a page with its tables as they should be."""

    def filled(found: re.Match[str]) -> str:
        name, part, medians = found["name"], found["part"] or "", bool(found["medians"])
        return found["open"] + make_table(name, part, results, medians=medians) + found["close"]

    return _TABLE.sub(filled, text)


def make_table(name: str, part: str = "", results: Path = RESULTS, *, medians: bool = False) -> str:
    """Return the tables of a benchmark, one for each machine.

    Raises:
        SystemExit: There are no such results.
    """
    texts = []
    for path in newest(name, results):
        file, outcomes = ResultFile.read(path)
        chosen = [outcome for outcome in outcomes if outcome.part == part]
        if chosen:
            notes = write_notes(chosen, file.about, medians=medians)
            texts.append(f"{write_table(chosen, medians=medians)}\n{notes}\n")
    if not texts:
        raise SystemExit(f"no results for the table {name!r}, part {part!r}, in {results}")
    return "\n" + "\n".join(texts) + "\n"


def newest(name: str, results: Path) -> list[Path]:
    """Return the newest file of results of each machine."""
    found: dict[str, Path] = {}
    for path in sorted(results.glob(f"*/{name}.jsonl")):  # of one machine, dates sort
        machine = re.sub(r"-\d{4}-\d\d-\d\d$", "", path.parent.name)
        found[machine] = path
    return [found[machine] for machine in sorted(found)]


def write_table(outcomes: Sequence[Outcome], *, medians: bool = False) -> str:
    """Return the cells: a row per case, a column per way, in the order of the file."""
    cases = list(dict.fromkeys(outcome.case for outcome in outcomes))
    ways = list(dict.fromkeys(outcome.way for outcome in outcomes))
    cells = {(outcome.case, outcome.way): outcome for outcome in outcomes}
    units = {way: unit_of([cells.get((case, way)) for case in cases]) for way in ways}
    lines = [
        "| " + " | ".join(["", *(f"{way}{units[way]}" for way in ways)]) + " |",
        "|---|" + "---:|" * len(ways),
    ]
    for case in cases:
        row = [write_cell(cells.get((case, way)), medians=medians) for way in ways]
        lines.append("| " + " | ".join([case, *row]) + " |")
    return "\n".join(lines) + "\n"


def unit_of(outcomes: Iterable[Outcome | None]) -> str:
    """Return what the head of a column says besides the name of the way."""
    measured = [outcome for outcome in outcomes if outcome and outcome.values]
    if not measured:
        return ""
    if measured[0].unit and all(outcome.shares for outcome in measured):
        return f", share of {measured[0].of}"
    return f", {measured[0].unit}" if measured[0].unit else ""


def write_cell(outcome: Outcome | None, *, medians: bool = False) -> str:
    """Return the median, and unless told not to, the smallest and the largest."""
    if outcome is None or not outcome.values:
        return "-"
    middle, low, high = map(write_number, spread(outcome.shares or outcome.values))
    return middle if medians or low == high else f"{middle} ({low} to {high})"


def write_number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    if abs(value) >= 10:
        return f"{value:.3g}"
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.1g}"


def write_notes(
    outcomes: Sequence[Outcome], about: Mapping[str, Any], *, medians: bool = False
) -> str:
    """Return what stands under a table: notes, what is missing and why, machine and versions."""
    notes = dict.fromkeys(outcome.note for outcome in outcomes if outcome.note)
    lines = [f"* {subject(outcomes, note=note)}: {note}" for note in notes]
    reasons = dict.fromkeys(outcome.skipped for outcome in outcomes if outcome.skipped)
    lines += [f"* {subject(outcomes, skipped=why)}: not measured, {why}" for why in reasons]
    rounds = {len(outcome.values) for outcome in outcomes if outcome.values}
    most = max(rounds, default=0)
    what = "Median" if medians else "Median (smallest to largest)"
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    source = (
        f"{what} of {most} rounds, " * (most > 1) + f"`benchmarks/{about['benchmark']}.py`; "
        f"{about['processor']}, {about['cores']} core{'s' * (about['cores'] != 1)}, "
        f"{about['memory_gb']} GB, {about['system']}, "
        f"Python {about['python']}{', ' * bool(versions)}{versions}; "
        f"{about['date']}, commit {about['commit']}."
    )
    return "\n".join([*lines, *[""] * bool(lines), source])


def subject(outcomes: Sequence[Outcome], **said: str) -> str:
    """Return what a note speaks of: all of a way, all of a case, or some cells."""
    ((about, text),) = said.items()
    cells = [outcome for outcome in outcomes if getattr(outcome, about) == text]
    for name in ("way", "case"):
        first = getattr(cells[0], name)
        if cells == [outcome for outcome in outcomes if getattr(outcome, name) == first]:
            return str(first)
    return "; ".join(f"{outcome.way}, {outcome.case}" for outcome in cells)


if __name__ == "__main__":
    sys.exit(main())
