"""A CSV table: what its columns are, found in one pass, and their values, read in another."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from kerash5._errors import ColumnError, FileError, LabelError, UnknownColumnError
from kerash5.packing._labels import MAX_CLASSES, class_dtype

Kind = Literal["integer", "number", "classes", "text"]

_DELIMITERS: Final = ",;\t|"
_INT64: Final = 1 << 63
_EXACT_FLOAT32: Final = 1 << 24  # whole numbers up to which float32 has them all


@dataclass(slots=True)
class TableColumn:
    """What the cells of a column are, as far as they have been seen."""

    name: str
    is_integer: bool = True
    is_number: bool = True
    num_empty: int = 0
    first_empty: int = 0  # its line
    largest: int = 0
    longest: int = 0  # bytes of UTF-8
    values: dict[str, None] | None = field(default_factory=dict)  # None: more than MAX_CLASSES

    def add(self, cell: str, line: int) -> None:
        """Note a cell."""
        if not cell:
            self.first_empty = self.first_empty or line
            self.num_empty += 1
            return
        self.longest = max(self.longest, len(cell.encode()))
        if self.is_number:
            self._add_number(cell)
        if self.values is not None:
            self.values[cell] = None
            if len(self.values) > MAX_CLASSES:
                self.values = None

    def _add_number(self, cell: str) -> None:
        try:
            if self.is_integer:
                self.largest = max(self.largest, abs(int(cell)))
                self.is_integer = self.largest < _INT64
                return
        except ValueError:
            self.is_integer = False
        try:
            float(cell)
        except ValueError:
            self.is_number = False

    @property
    def kind(self) -> Kind:
        """What the column is stored as."""
        if self.is_number and self.num_empty and not self.longest:
            return "text"  # nothing but empty cells
        if self.is_number:
            return "integer" if self.is_integer and not self.num_empty else "number"
        return "text" if self.values is None else "classes"

    @property
    def classes(self) -> list[str]:
        """The names of its classes; an empty cell is the class "" of its own."""
        return sorted(self.values or ()) if not self.num_empty else ["", *sorted(self.values or ())]

    def is_exact_in_float32(self) -> bool:
        """Return whether float32 has all of its values, as far as whole numbers go."""
        return not self.is_integer or self.largest <= _EXACT_FLOAT32

    def encode(self, cells: list[str]) -> np.ndarray:
        """Return cells as an array of the type of the column, shape (n,)."""
        if self.kind == "integer":
            return np.array([int(cell) for cell in cells], np.int64)
        if self.kind == "number":
            return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)
        if self.kind == "classes":
            ids = {name: number for number, name in enumerate(self.classes)}
            return np.array([ids[cell] for cell in cells]).astype(class_dtype(self.classes))
        return np.array([cell.encode() for cell in cells], f"S{max(1, self.longest)}")


class Table:
    """A CSV file with names in its first line.

    Args:
        path: The file, in UTF-8; its delimiter is that of the first line.

    Raises:
        FileError: It cannot be read as a table.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.num_rows = 0
        self._delimiter = ","
        lines = self._read_lines()
        _, names = next(lines, (0, []))
        self._check_names(names)
        self.columns = {name: TableColumn(name) for name in names}
        for line, cells in lines:
            for column, cell in zip(self.columns.values(), cells, strict=True):
                column.add(cell, line)
            self.num_rows += 1
        if not self.num_rows:
            raise FileError(f"{path!r} has no rows below its names; nothing can be packed")

    def find(self, name: str) -> TableColumn:
        """Return a column by its name."""
        if name not in self.columns:
            raise UnknownColumnError(
                f"{self.path!r} has no column {name!r}; it has {', '.join(map(repr, self.columns))}"
            )
        return self.columns[name]

    def check_label(self, column: TableColumn) -> None:
        """Raise `LabelError` if some rows have no label."""
        if column.num_empty:
            raise LabelError(
                f"{column.num_empty} rows of {self.path!r} have no {column.name!r}, the first in "
                f"line {column.first_empty}; remove these rows, or fill them in"
            )

    def blocks(self, rows: int) -> Iterator[dict[str, list[str]]]:
        """Yield the cells of some rows at a time, by the names of their columns."""
        lines = self._read_lines()
        next(lines)
        block: list[list[str]] = []
        for _, cells in lines:
            block.append(cells)
            if len(block) == rows:
                yield self._by_name(block)
                block = []
        if block:
            yield self._by_name(block)

    def _by_name(self, block: list[list[str]]) -> dict[str, list[str]]:
        return {
            name: list(cells)
            for name, cells in zip(self.columns, zip(*block, strict=True), strict=True)
        }

    def _read_lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of each line that is not empty, and its cells."""
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as stream:
                first = stream.readline()
                self._delimiter = max(_DELIMITERS, key=first.count)
                stream.seek(0)
                reader = csv.reader(stream, delimiter=self._delimiter)
                width = 0
                for cells in reader:
                    if not cells:
                        continue
                    width = width or len(cells)
                    if len(cells) != width:
                        raise FileError(
                            f"line {reader.line_num} of {self.path!r} has {len(cells)} cells, and "
                            f"the first line {width}; quote cells that contain "
                            f"{self._delimiter!r}, or repair the line"
                        )
                    yield reader.line_num, [cell.strip() for cell in cells]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise FileError(
                f"{self.path!r} cannot be read as a CSV table ({error}); save it as CSV in UTF-8"
            ) from error

    def _check_names(self, names: list[str]) -> None:
        if not names:
            raise FileError(f"{self.path!r} is empty; the first line has the names of the columns")
        if all(_is_number(name) for name in names):
            raise FileError(
                f"the first line of {self.path!r} has numbers, not names of columns; add a line "
                "with names, such as a,b,label"
            )
        wrong = [name for name in names if names.count(name) > 1 or not name or "/" in name]
        if wrong:
            raise ColumnError(
                f"{self.path!r} names a column {wrong[0]!r}; each needs a name of its own, without "
                "a slash"
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
