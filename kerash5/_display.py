"""How objects look in a console and in a notebook."""

from __future__ import annotations

import html
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Text(str):
    """A text that consoles and notebooks show line by line, as it would be printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the text itself: what a console shows of an expression."""
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self)}</pre>"


class Described:
    """Base of objects that a notebook shows by what `describe` returns."""

    __slots__ = ()

    @abstractmethod
    def describe(self) -> str:
        """Return a description, some lines of text."""

    def _repr_html_(self) -> str:
        return Text(self.describe())._repr_html_()


def html_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as HTML, for notebooks.

    Args:
        title: A line above the table.
        head: The names of the columns.
        rows: The cells of each row, as text.
    """
    cells = "".join(f"<th>{html.escape(each)}</th>" for each in head)
    lines = [
        "<tr>" + "".join(f"<td>{html.escape(each)}</td>" for each in row) + "</tr>" for row in rows
    ]
    return (
        f"<p>{html.escape(title)}</p>"
        f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def given_fields(instance: DataclassInstance) -> str:
    """Return the fields of a dataclass that differ from their defaults, as "name=value, ..."."""
    shown = [(each.name, getattr(instance, each.name), each.default) for each in fields(instance)]
    return ", ".join(
        f"{name}={value!r}"
        for name, value, default in shown
        if not (value is default or (type(value) is type(default) and value == default))
    )
