"""Several comparisons on one page: of other machines, other days, other models.

They stand one below the other. No ratio is ever made of numbers from two of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from kerash5._errors import OptionError
from kerash5.comparison._results import Comparison


def merge_comparisons(paths: Sequence[str | os.PathLike[str]]) -> tuple[Comparison, ...]:
    """Read comparisons for one report, the earliest first.

    Args:
        paths: Files, or folders that `kerash5 compare` wrote.

    Returns:
        One for each path, for `write_report`.

    Raises:
        OptionError: There is no path, or two hold the same comparison.
        FileMissingError: There is none at a path.
        FileError: A file is no comparison, or of another version.
    """
    if not paths:
        raise OptionError("nothing to merge; name the JSON files of comparisons, or their folders")
    found: dict[str, str] = {}
    comparisons = []
    for path in paths:
        comparison, name = Comparison.load(path), os.fspath(path)
        text = comparison.to_json()
        if text in found:
            raise OptionError(
                f"{found[text]!r} and {name!r} hold the same comparison; name it once"
            )
        found[text] = name
        comparisons.append(comparison)
    return tuple(sorted(comparisons, key=lambda comparison: comparison.started))
