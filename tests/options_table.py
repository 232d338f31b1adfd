"""The tables of arguments in docs/api.md, made of the docstrings.

`python -m tests.options_table` writes them; `test_docs` fails where they differ.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

from docstring_parser import parse

from kerash5._options import DataOptions, TrainerOptions
from kerash5.feeds._keras import H5Dataset

PAGE: Final = Path(__file__).parents[1] / "docs" / "api.md"
OPTIONS: Final[dict[str, Any]] = {
    "H5Dataset": H5Dataset,
    "H5DataModule": DataOptions,
    "Trainer": TrainerOptions,
}


def table_of(options: Any) -> str:
    """Return a table with a row for each argument of a class."""
    described = {
        each.arg_name: " ".join((each.description or "").split())
        for each in parse(inspect.getdoc(options) or "").params
    }
    rows = ["| argument | meaning |", "|---|---|"]
    for each in inspect.signature(options).parameters.values():
        default = "" if each.default is each.empty else f"={each.default!r}"
        rows.append(f"| `{each.name}{default}` | {described[each.name]} |")
    return "\n".join(rows)


def with_tables(text: str) -> str:
    """Return a page with its tables of options as they are declared."""
    for name, options in OPTIONS.items():
        before, heading, after = text.partition(f"### `{name}`\n\n")
        table, _, rest = after.partition("\n\n")
        if not table.startswith("| argument"):
            raise ValueError(f"{PAGE.name} has no table of arguments below {name!r}")
        text = f"{before}{heading}{table_of(options)}\n\n{rest}"
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
