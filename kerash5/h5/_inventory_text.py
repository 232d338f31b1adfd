"""Lines of text about the data sets of a file; those that differ in a number only share one line.

"sample_0/image", "sample_1/image", ... of one type and shape of row are "sample_{0 to 999}/image".
How data sets are read, and what to install, is said once for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kerash5.h5._inventory import Entry

_DIGITS: Final = re.compile(r"(\d+)")
_MIN_ALIKE: Final = 3  # data sets; two may be told apart
_LISTED: Final = 6  # numbers or names that are listed; of more, the first and the last
_CLASSES: Final = 8


def describe_entries(entries: Sequence[Entry]) -> list[str]:
    """Return the lines about data sets, and then how they are read."""
    groups = fold(entries)
    named = [(fold_name([each.path for each in group]), group) for group in groups]
    lines = [line for name, group in named for line in _describe_group(name, group)]
    return [*lines, *_describe_readers(named), *_describe_advice(entries)]


def fold(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return the data sets in groups of those that differ in numbers of their names only."""
    alike: dict[object, list[tuple[int, Entry]]] = {}
    for number, each in enumerate(entries):
        alike.setdefault(_kind_of(each), []).append((number, each))
    groups: list[list[tuple[int, Entry]]] = []
    for group in alike.values():
        groups += [group] if len(group) >= _MIN_ALIKE else [[one] for one in group]
    groups.sort(key=lambda group: group[0][0])  # the order of the file
    return [[each for _, each in group] for group in groups]


def _kind_of(each: Entry) -> object:
    """Return what data sets have in common that share a line."""
    storage = (each.storage or "").partition(" ")[0]
    what = (each.kind, each.row_shape, each.dtype, str(each.fields), storage, each.filters)
    more = (each.reader, each.units, each.packing, each.class_names, each.members)
    reason = (each.reason or "").replace(each.path, "")
    return _DIGITS.sub("0", each.path), what, more, reason


def fold_name(paths: Sequence[str]) -> str:
    """Return one name for paths that differ in numbers: "sample_{0 to 9}/image"."""
    columns = zip(*map(_DIGITS.split, paths), strict=True)
    return "".join(_fold_piece(list(dict.fromkeys(pieces))) for pieces in columns)


def _fold_piece(pieces: list[str]) -> str:
    if len(pieces) == 1:
        return pieces[0]
    pieces.sort(key=int)
    numbers = [int(piece) for piece in pieces]
    is_range = numbers[-1] - numbers[0] == len(numbers) - 1
    if is_range or len(pieces) > _LISTED:
        return f"{{{pieces[0]} to {pieces[-1]}}}"
    return f"{{{', '.join(pieces)}}}"


def _describe_group(name: str, group: Sequence[Entry]) -> Iterator[str]:
    """Yield the lines of one data set, or of several that share a line."""
    first = group[0]
    count = f" ({len(group)} data sets)" if len(group) > 1 else ""
    if first.kind == "not readable":
        yield f"  {name}{count}: {first.reason}"
        return
    units = f", units {first.units}" if first.units else ""
    yield f"  {name}{count}: {_describe_rows(group)}{_describe_storage(group)}{units}"
    if first.fields:
        fields = [f"{field} {kind}" for field, kind in first.fields.items()]
        yield f"    fields: {', '.join(fields)}"
    if first.class_names is not None:
        names = first.class_names
        more = " ..." if len(names) > _CLASSES else ""
        yield f"    {count_of(len(names), 'class')}: {', '.join(names[:_CLASSES])}{more}"
    if first.packing:
        yield f"    as stored; its attributes say {first.packing}"


def _describe_rows(group: Sequence[Entry]) -> str:
    first = group[0]
    if first.kind == "empty":
        return "empty (a null data space), no rows"
    if first.kind == "scalar":
        values = list(dict.fromkeys(each.value for each in group))
        value = f": {values[0]}" if len(values) == 1 and values[0] is not None else ""
        return f"a scalar, {first.dtype}{value}" if first.dtype else str(first.reason)
    lengths = sorted({each.num_rows or 0 for each in group})
    rows = count_of(lengths[-1], "row")
    if len(lengths) > 1:
        rows = f"{lengths[0]} to {rows}"
    shape = f"{tuple(first.row_shape)} " if first.row_shape else ""  # one number a row has none
    return f"{rows} of {shape}{first.dtype}"


def _describe_storage(group: Sequence[Entry]) -> str:
    texts = list(dict.fromkeys(each.storage for each in group if each.storage))
    if not texts:
        return ""
    filters = f", {' + '.join(group[0].filters)}" if group[0].filters else ", no filter"
    text = texts[0] if len(texts) == 1 else f"chunks of several shapes{filters}"
    stored = sum(each.num_stored_bytes or 0 for each in group)
    if not group[0].filters or not stored:
        return f", {text}"
    ratio = sum(each.num_bytes or 0 for each in group) / stored
    return f", {text}, packed {ratio:.1f} times"


def _describe_readers(named: Sequence[tuple[str, Sequence[Entry]]]) -> Iterator[str]:
    """Yield how the data sets are read, each way once."""
    ways: dict[str, list[str]] = {}
    for name, group in named:
        if group[0].reader:
            ways.setdefault(group[0].reader, []).append(name)
    for way, names in ways.items():
        through = "through " if way.startswith("h5py") else ""
        yield f"  read {through}{way}: {'all' if len(ways) == 1 else _list(names)}"


def _describe_advice(entries: Iterable[Entry]) -> Iterator[str]:
    for advice in dict.fromkeys(each.advice for each in entries if each.advice):
        yield f"  {advice}"


def _list(names: Sequence[str]) -> str:
    if len(names) <= _LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:_LISTED])} and {len(names) - _LISTED} more"


def count_of(number: int, what: str) -> str:
    """Return "1 row", "2 rows", "3 classes"."""
    if number == 1:
        return f"1 {what}"
    return f"{number} {what}{'es' if what.endswith('s') else 's'}"


def size_of(num_bytes: int) -> str:
    """Return a number of bytes as "12 kB" or "3.4 MB"."""
    if num_bytes < 100_000:
        return f"{num_bytes / 1e3:.1f} kB"
    return f"{num_bytes / 1e6:,.1f} MB"
