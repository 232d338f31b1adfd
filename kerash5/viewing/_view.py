"""Choose the columns and the rows of a file that are drawn, and write the picture."""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from kerash5._errors import ColumnError, FileError, OptionError, RowError
from kerash5.h5 import Source, describe
from kerash5.h5.columns._columns import ResolvedColumn
from kerash5.h5.storage._file import StrPath
from kerash5.report.runs._pictures import finish_figure, new_figure
from kerash5.viewing._cells import find_row_shape, find_scale
from kerash5.viewing._sheet import Sheet, draw_sheet

Rows = str | slice | Sequence[int]

_MAX_ROWS: Final = 400  # of a sheet
_RANGE: Final = re.compile(r"(-?\d*):(-?\d*)(?::(\d+))?")
_PNG: Final = b"\x89PNG"


def view(
    path: StrPath,
    *,
    x: str | None = None,
    y: str | None = None,
    rows: Rows = "0:64",
    out: StrPath | None = None,
) -> Any:  # noqa: ANN401  see `finish_figure`
    """Draw rows of a file, with their labels, as a contact sheet.

    Images are gray or coloured, with channels first or last; rows of one axis are curves. One range
    of values goes for all rows.

    Args:
        path: The file, or a glob pattern.
        x: The data set that is drawn; None for the one that `describe` suggests.
        y: The data set of labels; None for the one that `describe` suggests beside x, if any.
        rows: Which rows: a slice or row numbers, as text "0:64", "1000:2000:25" or "3,7,12";
            negative ones count from the end.
        out: The PNG (or .svg, .pdf) to write; None to return the figure, which a notebook shows.

    Returns:
        The path of the picture, or the figure.

    Raises:
        ColumnError: No data set to draw is found, or its values are no numbers.
        ShapeError: Its rows are neither images nor curves.
        RowError: There are no such rows.
        FileError: The file cannot be read, or the picture not written.
        BackendError: matplotlib is not installed.

    Examples:
        >>> view(digits_test(), rows="0:20", out="digits.png")
        'digits.png'
    """
    new_figure(1, 1)  # before the file is read: raises without matplotlib
    name = os.fspath(path)
    if out is not None:
        _check_out(os.fspath(out))
    x, y = _choose_columns(name, x, y)
    source = (
        Source(name, untrusted=True, x=x) if y is None else Source(name, untrusted=True, x=x, y=y)
    )
    title = f"{os.path.basename(name)}: {x}"
    return finish_figure(draw_sheet(_make_sheet(source, title, x, y, rows)), out)


def _make_sheet(source: Source, title: str, x: str, y: str | None, rows: Rows) -> Sheet:
    drawn = source.columns["x"]
    shape = find_row_shape(x, drawn.shape, drawn.dtype)
    numbers = _parse_rows(rows, len(source))
    images, labels = [], []
    for number in numbers:  # one at a time: 64 large images need not fit in memory
        row = source.read([number])
        images.append(shape.prepare(row["x"][0]))
        labels.append("" if y is None else _format_label(row["y"][0], source.columns["y"]))
    scale = find_scale(images, shape.kind)
    span = f"values from {scale.low:.3g} to {scale.high:.3g}"
    return Sheet(
        title=f"{title}{_describe_rows(numbers, len(source))}",
        note="; ".join(
            [*([] if scale.is_plain else [span]), *([] if y is None else [f"labels: {y}"])]
        ),
        shape=shape,
        scale=scale,
        rows=images,
        numbers=numbers,
        labels=None if y is None else labels,
    )


def default_out(name: str) -> str:
    """Return the name of a picture of a file, in the current folder."""
    stem = os.path.splitext(os.path.basename(name))[0].replace("*", "").replace("?", "")
    return f"{stem or 'rows'}.png"


def _check_out(target: str) -> None:
    """Raise `FileError` if the picture would replace something that is no picture."""
    place = Path(target)
    if place.is_dir():
        raise FileError(f"{target!r} is a folder; name a file in it")
    is_png = place.suffix.lower() in ("", ".png")  # what other endings are is checked on writing
    if is_png and place.is_file() and place.stat().st_size and _begin(place) != _PNG:
        raise FileError(f"{target!r} exists and is no PNG; choose another path with --out")


def _begin(place: Path) -> bytes:
    with place.open("rb") as stream:
        return stream.read(len(_PNG))


def _choose_columns(path: str, x: str | None, y: str | None) -> tuple[str, str | None]:
    """Return what is drawn: what was asked for, completed by what `describe` suggests."""
    if x is not None and y is not None:
        return x, y
    files = json.loads(describe(path, as_json=True))["files"]
    found: dict[str, Any] = next(
        (each for each in (file["can_be_trained_on"] for file in files) if each is not None), {}
    )
    suggested = {key: _without_field(found.get(key)) for key in ("x", "y")}
    if x is None and (suggested["x"] is None or found["command"] is None):
        raise ColumnError(
            f"no data set of {path!r} looks like the input of a model; name one with -x NAME "
            f"(kerash5 describe {path} lists them)"
        )
    if x is not None and x != suggested["x"]:
        return x, y  # labels of other rows, perhaps
    return suggested["x"] or "", y or suggested["y"]


def _without_field(name: str | None) -> str | None:
    return None if name is None else name.replace("{split}", "train")


def _parse_rows(rows: Rows, num_rows: int) -> list[int]:
    """Return row numbers; ranges end where the rows do."""
    asked = _read_rows(rows) if isinstance(rows, str) else rows
    if isinstance(asked, slice):
        if asked.step == 0:
            raise OptionError(f"rows={rows!r}; the step of a range is at least 1")
        numbers = list(range(num_rows)[asked])
    else:
        try:
            numbers = [operator.index(each) for each in asked]
        except TypeError as error:
            raise OptionError(f"rows={rows!r}; give a slice, or row numbers") from error
        wrong = [number for number in numbers if not -num_rows <= number < num_rows]
        if wrong:
            raise RowError(f"there is no row {wrong[0]}; rows are numbered 0 to {num_rows - 1}")
        numbers = [number % num_rows for number in numbers]
    if not numbers:
        raise RowError(f"rows={rows!r} are no rows; they are numbered 0 to {num_rows - 1}")
    if len(numbers) > _MAX_ROWS:
        raise OptionError(
            f"rows={rows!r} are {len(numbers)} rows, and a sheet has at most {_MAX_ROWS}; take a "
            f"part of them, or every {-(-len(numbers) // _MAX_ROWS)}th"
        )
    return numbers


def _read_rows(text: str) -> slice | list[int]:
    """Return what a text such as "0:64" or "3,7" means."""
    if found := _RANGE.fullmatch(text.strip()):
        return slice(*(int(part) if part else None for part in found.groups()))
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise OptionError(
            f"rows={text!r}; write a range such as 0:64 or 0:1000:10, or numbers such as 3,7"
        ) from error


def _describe_rows(numbers: list[int], num_rows: int) -> str:
    if len(numbers) == num_rows:
        return f", all {num_rows:,} rows"
    if len(numbers) == 1:
        return f", row {numbers[0]:,} of {num_rows:,}"
    is_range = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    which = f"rows {numbers[0]:,} to {numbers[-1]:,}" if is_range else f"{len(numbers)} rows"
    return f", {which} of {num_rows:,}"


def _format_label(value: np.ndarray, column: ResolvedColumn) -> str:
    """Return a label as text: the name of a class, a number, or the position of a one-hot 1."""
    flat = np.asarray(value).reshape(-1)
    if len(flat) > 1 and np.isin(flat, (0, 1)).all() and flat.sum() == 1:
        flat = np.array([int(flat.argmax())])
    if len(flat) != 1:
        shown = ", ".join(f"{one:.3g}" if flat.dtype.kind == "f" else str(one) for one in flat[:3])
        return f"{shown}, ..." if len(flat) > 3 else shown
    one = flat[0]
    names = column.class_names
    if names is not None and 0 <= int(one) < len(names):
        return names[int(one)]
    return f"{one:.3g}" if flat.dtype.kind == "f" else str(one)
