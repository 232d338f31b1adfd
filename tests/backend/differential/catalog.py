"""All kinds, by subject."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import keras

from tests.backend.differential.kind import Kind

_PACKAGE: Final = "tests.backend.differential.kinds"


@cache
def all_kinds() -> Mapping[str, tuple[Kind, ...]]:
    """Return the kinds of every module in `kinds`, by the module's name."""
    folder = Path(__file__).with_name("kinds")
    names = sorted(module.name for module in pkgutil.iter_modules([str(folder)]))
    return {name: importlib.import_module(f"{_PACKAGE}.{name}").KINDS for name in names}


@cache
def kinds_here() -> tuple[tuple[str, Kind], ...]:
    """Return (subject, kind) for all that are run on the backend that is set."""
    backend = keras.backend.backend()
    return tuple(
        (subject, kind)
        for subject, kinds in all_kinds().items()
        for kind in kinds
        if backend in kind.backends
    )
