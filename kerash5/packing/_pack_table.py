"""Write a CSV table as columns: numbers, classes, and images that a column has the paths of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from kerash5._errors import ColumnError
from kerash5.h5 import open_writer
from kerash5.packing._images import BLOCK, ImageFile, Images, Step
from kerash5.packing._table import Table, TableColumn

_ROWS: Final = 4096  # of numbers, that are written at a time


def pack_table(
    path: str,
    out: str,
    *,
    image: str | None,
    label: str | None,
    size: tuple[int, int] | None,
    skip_bad: bool,
    overwrite: bool,
    step: Step,
) -> tuple[int, Images | None, list[str]]:
    """Write a table; return the number of rows, the images, and sentences about the columns."""
    table = Table(path)
    label_column = None if label is None else table.find(label)
    if label_column is not None:
        table.check_label(label_column)
    image_column = None if image is None else table.find(image)
    others = [
        column
        for column in table.columns.values()
        if column is not label_column and column is not image_column
    ]
    images: Images | None
    if image_column is not None:
        images = _find_images(table, image_column, size, skip_bad=skip_bad, step=step)
        blocks, num_rows = _join(table, images), len(images.files)
        features: list[TableColumn] = []
    else:
        images, blocks, num_rows = None, _without_images(table), table.num_rows
        features = [each for each in others if each.kind in ("integer", "number")]
    layout = _Layout(label_column, features, [each for each in others if each not in features])
    layout.check(path)
    attributes = {"x_columns": ", ".join(each.name for each in features)} if features else {}
    with open_writer(out, num_rows, overwrite=overwrite, attributes=attributes) as writer:
        for pixels, cells in blocks:
            rows = layout.encode(cells)
            writer.append(rows if pixels is None else {"image": pixels, **rows})
            if images is None:
                step()
    return num_rows, images, layout.describe()


class _Layout:
    """Which columns of a table become which data sets."""

    def __init__(
        self,
        label: TableColumn | None,
        features: Sequence[TableColumn],
        others: Sequence[TableColumn],
    ) -> None:
        self._label = label
        self._features = features
        self._others = others
        is_exact = all(each.is_exact_in_float32() for each in features)
        self._dtype = np.float32 if is_exact else np.float64

    def check(self, path: str) -> None:
        """Raise if two data sets would have one name."""
        taken = {"image", *(["x"] if self._features else []), *(["label"] if self._label else [])}
        for each in self._others:
            if each.name in taken:
                raise ColumnError(
                    f"column {each.name!r} of {path!r} has the name of a data set that is made of "
                    "other columns; rename it"
                )

    def encode(self, cells: dict[str, list[str]]) -> dict[str, np.ndarray]:
        """Return the rows of every data set."""
        rows: dict[str, np.ndarray] = {}
        if self._features:
            columns = [each.encode(cells[each.name]) for each in self._features]
            rows["x"] = np.stack(columns, axis=1).astype(self._dtype)
        if self._label is not None:
            rows["label"] = self._label.encode(cells[self._label.name])
        for each in self._others:
            rows[each.name] = each.encode(cells[each.name])
        return rows

    def describe(self) -> list[str]:
        """Return sentences about cells that are missing."""
        return [
            f"column {each.name!r} has {each.num_empty} empty cells, which are NaN"
            for each in (*self._features, *self._others)
            if each.num_empty and each.kind == "number"
        ]


def _find_images(
    table: Table,
    column: TableColumn,
    size: tuple[int, int] | None,
    *,
    skip_bad: bool,
    step: Step,
) -> Images:
    folder = os.path.dirname(table.path)
    names = [name for cells in table.blocks(_ROWS) for name in cells[column.name]]
    files = [ImageFile(os.path.join(folder, name), name) for name in names]
    return Images(files, size, repr(table.path), skip_bad=skip_bad, step=step)


_Block = tuple[np.ndarray | None, dict[str, list[str]]]


def _without_images(table: Table) -> Iterator[_Block]:
    for cells in table.blocks(_ROWS):
        yield None, cells


def _join(table: Table, images: Images) -> Iterator[_Block]:
    """Yield blocks of images, and the cells of the same rows."""
    wanted, kept = set(images.rows), _Cells(table)
    for _, pixels in images.blocks():
        yield pixels, kept.take(wanted, len(pixels))


class _Cells:
    """The cells of a table, read in step with its images."""

    def __init__(self, table: Table) -> None:
        self._rows = (
            row for cells in table.blocks(BLOCK) for row in zip(*cells.values(), strict=True)
        )
        self._names = list(table.columns)
        self._at = 0

    def take(self, wanted: set[int], count: int) -> dict[str, list[str]]:
        """Return the cells of the next rows that are among those wanted."""
        found: list[tuple[str, ...]] = []
        while len(found) < count:
            row = next(self._rows)
            if self._at in wanted:
                found.append(row)
            self._at += 1
        return {
            name: list(cells)
            for name, cells in zip(self._names, zip(*found, strict=True), strict=True)
        }
