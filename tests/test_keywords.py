"""Options that are declared once, and keywords that do not exist."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import Any

import pytest

from kerash5._errors import OptionError
from kerash5._keywords import documents, names_keywords, takes
from kerash5._options import DataOptions, ModelOptions, TrainerOptions, text_options


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a box.

    Args:
        width: In metres.
        height: In metres,
            upwards.
    """

    width: int = 1
    height: int = 2


@documents(Sizes)
class Box:
    """A box.

    Raises:
        OptionError: A size is none.
    """

    @takes(Sizes, "Box", cures={"depth": "a box is flat"})
    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes


def test_a_constructor_takes_the_fields_of_its_options() -> None:
    assert Box(width=3).sizes == Sizes(width=3)
    assert str(inspect.signature(Box)) == "(*, width: 'int' = 1, height: 'int' = 2)"


def test_help_has_the_arguments_before_the_errors() -> None:
    text = inspect.getdoc(Box) or ""
    assert text.startswith("A box.\n\nArgs:\n    width: In metres.\n    height: In metres,\n")
    assert text.index("upwards.") < text.index("Raises:") < text.index("A size is none.")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("depth", "Box has no option 'depth': a box is flat"),
        ("widht", "Box has no option 'widht'; did you mean 'width'?"),
        ("colour", "Box has no option 'colour'; it takes width, height"),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_right_one(name: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Box(**{name: 1})
    assert str(caught.value) == message


def test_a_function_keeps_its_signature_and_its_result() -> None:
    @names_keywords("double", cures={})
    def double(value: int, *, times: int = 1) -> int:
        return value << times

    assert double(3, times=2) == 12
    assert list(inspect.signature(double).parameters) == ["value", "times"]
    untyped: Any = double
    with pytest.raises(OptionError, match="did you mean 'times'"):
        untyped(3, time=2)


@pytest.mark.parametrize("options", [DataOptions, ModelOptions, TrainerOptions])
def test_every_option_is_documented(options: Any) -> None:
    documented = inspect.getdoc(options) or ""
    for each in fields(options):
        assert f"\n    {each.name}: " in documented, each.name
    for option in text_options(options):
        assert option.help.endswith("."), option.name
