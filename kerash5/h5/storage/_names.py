"""Names of objects that differ in one place, such as sample_1, sample_2: found, and in which order.

A `NamePattern` is a path with a field in it, as in "sample_{row}/image". Nothing here reads data.
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
    """Return what sorts names as people do: sample_2 before sample_10."""
    pieces = [
        (not piece.isdigit(), int(piece) if piece.isdigit() else 0, piece)
        for piece in _DIGITS.split(name)
        if piece
    ]
    return [(is_text, number, text if is_text else "") for is_text, number, text in pieces], name


@final
@dataclass(frozen=True, slots=True)
class NamePattern:
    """A path in a file of which one name has a field, in braces, that stands for any text.

    Args:
        path: Such as "sample_{row}/image", or "sample_{row:d}/image" for numbers alone. What
            follows an @ is the name of an attribute.
        field: The field, such as "row". It may come again: it is then the same text.
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
        """The path up to and with the first name that has the field."""
        names = self.path.partition("@")[0].strip("/").split("/")
        first = next(place for place, name in enumerate(names) if self._marks.search(name))
        return "/".join(names[: first + 1])

    def fill(self, value: str) -> str:
        """Return the path of one of the objects."""
        return self._marks.sub(lambda _: value, self.path)

    def find(self, file: H5File, handle: h5py.File, *, allow_external: bool) -> list[str]:
        """Return what the field stands for in the names of a file, in natural order.

        Args:
            file: The file.
            handle: It, opened.
            allow_external: As in `Source`.

        Raises:
            UnknownColumnError: The group that the names should be in is not there.
            ColumnError: No name fits.
        """
        folder, _, name = self.stem.rpartition("/")
        first, kind, *others = self._marks.split(name)
        value = r"\d+" if ":d" in {kind, *others} else ".+"
        texts = map(re.escape, others[::2])  # between the marks lie their kinds
        shape = re.compile(
            re.escape(first) + f"(?P<value>{value})" + "(?P=value)".join(texts), re.DOTALL
        )
        where = find_object(handle, folder or "/", allow_external=allow_external)
        names = list(where) if isinstance(where, h5py.Group) else []
        values = [found["value"] for each in names if (found := shape.fullmatch(each))]
        if not values:
            raise ColumnError(f"nothing in {file.path!r} fits {self.stem!r}; {what_is_in(file)}")
        return sorted(values, key=natural_key)
