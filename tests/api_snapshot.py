"""The public names and their signatures, as text: a change of them shows in a diff.

`KERAS_BACKEND=... python -m tests.api_snapshot` writes tests/api.txt.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kerash5

FILE: Final = Path(__file__).with_name("api.txt")


def snapshot() -> str:
    """Return a line for each public name, and for each public member of a class."""
    lines: list[str] = []
    for name in sorted(kerash5.__all__):
        if name.startswith("__"):
            continue
        value = getattr(kerash5, name)
        if inspect.ismodule(value):
            lines += [f"{name}.{each}" for each in sorted(value.__all__)]
        elif inspect.isclass(value) and issubclass(value, Exception):
            bases = ", ".join(base.__name__ for base in value.__bases__)
            lines.append(f"{name}({bases})")
        else:
            lines.append(f"{name}{signature_of(value)}")
            if inspect.isclass(value):
                lines += [f"    {line}" for line in members_of(value)]
    return "\n".join([*lines, ""])


def members_of(kind: type) -> Iterator[str]:
    """Yield a line for each public member that a class of ours declares."""
    own = [each for each in kind.__mro__ if each.__module__.startswith("kerash5")]
    found: dict[str, Any] = {}
    for each in reversed(own):
        found.update(vars(each))
    for name in sorted(found):
        if name.startswith("_"):
            continue
        value = inspect.getattr_static(kind, name)
        if isinstance(value, property):
            yield f"{name}: property"
        elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            yield f"{name}{signature_of(getattr(kind, name))}"


def signature_of(value: Any) -> str:
    """Return the arguments with their defaults, without types."""
    parameters = inspect.signature(value).parameters.values()
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return str(inspect.Signature(bare))


if __name__ == "__main__":
    FILE.write_text(snapshot(), encoding="utf-8")
