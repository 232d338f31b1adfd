"""Options as text: on the command line, and in config.yaml."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Final, get_type_hints

import yaml
from docstring_parser import parse as parse_docstring

from kerash5._errors import OptionError
from kerash5._options._data import DataOptions
from kerash5._options._model import ModelOptions
from kerash5._options._trainer import TrainerOptions
from kerash5._options._types import AS_TEXT

_MAX_VALUES: Final = 100_000  # in a config.yaml


@dataclass(frozen=True, slots=True)
class TextOption:
    """An option of the command line and of config.yaml.

    Args:
        name: Name of the field.
        type: Type of the value.
        default: The value if the option is not given.
        help: Help text.
    """

    name: str
    type: Any
    default: Any
    help: str


def text_options(options: type[DataOptions | ModelOptions | TrainerOptions]) -> list[TextOption]:
    """Return the options of a dataclass whose values can be written as text, in order."""
    described = {
        each.arg_name: each.description for each in parse_docstring(options.__doc__).params
    }
    hints = get_type_hints(options)
    return [
        TextOption(
            each.name,
            each.metadata.get(AS_TEXT, hints[each.name]),
            _default_of(each),
            " ".join((described[each.name] or "").split()),
        )
        for each in fields(options)
        if AS_TEXT not in each.metadata or each.metadata[AS_TEXT] is not None
    ]


def _default_of(option: Field[Any]) -> Any:  # noqa: ANN401  whatever it is
    return option.default if option.default_factory is MISSING else option.default_factory()


def check_aliases(text: str, what: str) -> None:
    """Raise if YAML aliases expand to too many values.

    Nested lists of nine aliases each, nine levels deep, expand to a billion values from 500 bytes.

    Args:
        text: The YAML text.
        what: The file, for the message.

    Raises:
        OptionError: Expanded, it would have more than 100,000 values.
        yaml.YAMLError: The text is not YAML.
    """
    counts: dict[int, int] = {}

    def count(node: yaml.Node | None) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in counts:
            counts[id(node)] = _MAX_VALUES + 1  # a list that contains itself
            values = (pair if isinstance(pair, tuple) else (pair,) for pair in node.value)
            counts[id(node)] = 1 + sum(count(value) for pair in values for value in pair)
        return counts[id(node)]

    if count(yaml.compose(text, Loader=yaml.SafeLoader)) > _MAX_VALUES:
        raise OptionError(
            f"{what}: its aliases (*name) stand for more than {_MAX_VALUES} values; write the "
            "values that are meant"
        )
