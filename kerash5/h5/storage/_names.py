"""Find and sort the names of objects that differ in one field, such as sample_1, sample_2.

A `NamePattern` is a path with a field, as in "sample_{row}/image". Nothing here reads data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import final

import h5py

from kerash5._errors import ColumnError, OptionError
from kerash5.h5.storage._file import H5File
from kerash5.h5.storage._find import find_object, what_is_in

_DIGITS = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Return the key that sorts names in natural order: sample_2 before sample_10."""
    pieces = [
        (not piece.isdigit(), int(piece) if piece.isdigit() else 0, piece)
        for piece in _DIGITS.split(name)
        if piece
    ]
    return [(is_text, number, text if is_text else "") for is_text, number, text in pieces], name


@final
@dataclass(frozen=True, slots=True)
class NamePattern:
    """A path in a file with a field in braces in one name, which matches any text.

    Args:
        path: The path, such as "sample_{row}/image", or "sample_{row:d}/image" to match only
            numbers. A name after an @ is that of an attribute.
        field: The field, such as "row". Where it occurs more than once, it is the same text.
    """

    path: str
    field: str

    def __post_init__(self) -> None:
        if not self._marks.search(self.path.partition("@")[0]):
            raise OptionError(
                f"{self.path!r} has no {{{self.field}}}, which stands for what differs from one to "
                f"the next, as in 'sample_{{{self.field}}}/image'"
            )

    @property
    def _marks(self) -> re.Pattern[str]:
        return re.compile(rf"\{{{self.field}(:d)?\}}")

    @property
    def stem(self) -> str:
        """The path up to and including the first name that has the field."""
        names = self.path.partition("@")[0].strip("/").split("/")
        first = next(place for place, name in enumerate(names) if self._marks.search(name))
        return "/".join(names[: first + 1])

    def fill(self, value: str) -> str:
        """Return the path with the field replaced by `value`."""
        return self._marks.sub(lambda _: value, self.path)

    def find(self, file: H5File, handle: h5py.File, *, allow_external: bool) -> list[str]:
        """Return the values of the field in the names of a file, in natural order.

        Args:
            file: The file.
            handle: The open handle of the file.
            allow_external: As in `Source`.

        Raises:
            UnknownColumnError: The group of the names does not exist.
            ColumnError: No name matches.
        """
        folder, _, name = self.stem.rpartition("/")
        first, kind, *others = self._marks.split(name)
        value = r"\d+" if ":d" in {kind, *others} else ".+"
        texts = map(re.escape, others[::2])  # every second piece is the kind of a field
        shape = re.compile(
            re.escape(first) + f"(?P<value>{value})" + "(?P=value)".join(texts), re.DOTALL
        )
        where = find_object(handle, folder or "/", allow_external=allow_external)
        names = list(where) if isinstance(where, h5py.Group) else []
        values = [found["value"] for each in names if (found := shape.fullmatch(each))]
        if not values:
            raise ColumnError(f"nothing in {file.path!r} fits {self.stem!r}; {what_is_in(file)}")
        return sorted(values, key=natural_key)
