"""Merge comparisons of several machines, days or models into one report.

They appear one below the other. Ratios are never computed across comparisons.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from kerash5._errors import OptionError
from kerash5.comparison._results import Comparison


def merge_comparisons(paths: Sequence[str | os.PathLike[str]]) -> tuple[Comparison, ...]:
    """Read comparisons for one report, earliest first.

    Args:
        paths: JSON files, or folders that `kerash5 compare` wrote.

    Returns:
        One comparison per path, for `write_report`.

    Raises:
        OptionError: No path is given, or two contain the same comparison.
        FileMissingError: A path has no comparison.
        FileError: A file is not a comparison, or is of another version.
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
                f"{found[text]!r} and {name!r} contain the same comparison; name it once"
            )
        found[text] = name
        comparisons.append(comparison)
    return tuple(sorted(comparisons, key=lambda comparison: comparison.started))
