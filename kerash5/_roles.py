"""What a batch consists of: x, y and sample weights, each a column or a tuple or dict of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from kerash5._errors import ColumnError, OptionError
from kerash5.h5 import Column, Source

ColumnSpec = str | Column | Sequence["ColumnSpec"] | Mapping[str, "ColumnSpec"]
Tree = str | tuple["Tree", ...] | dict[Any, "Tree"]  # the same, with columns' names for columns

ROLES: Final = ("x", "y", "sample_weight")


def columns_of_source(
    source: Source, specs: Mapping[str, ColumnSpec]
) -> tuple[Source, dict[str, Tree]]:
    if not specs:
        specs = {role: role for role in ROLES if role in source.columns}
        if "x" not in specs:
            raise ColumnError(
                f"{source!r} has no column named 'x'; make it with x=..., or say which column is x"
            )
    flat, trees = flatten_roles(specs)
    if any(isinstance(spec, Column) for spec in flat.values()):
        raise ColumnError(
            "columns of a Source are named by strings; give the Column to the Source itself"
        )
    return source.select(**{name: str(spec) for name, spec in flat.items()}), trees


def flatten_roles(
    specs: Mapping[str, ColumnSpec],
) -> tuple[dict[str, str | Column], dict[str, Tree]]:
    flat: dict[str, str | Column] = {}
    return flat, {role: _flatten(role, spec, flat) for role, spec in specs.items()}


def _flatten(name: str, spec: ColumnSpec, flat: dict[str, str | Column]) -> Tree:
    """Put the columns of a nested form into `flat`; return the form with names in their place."""
    if isinstance(spec, str | Column):
        while name in flat:  # {"a/b": ..., "a": {"b": ...}}
            name += "'"
        flat[name] = spec
        return name
    if isinstance(spec, Mapping) and spec:
        return {key: _flatten(f"{name}/{key}", value, flat) for key, value in spec.items()}
    if isinstance(spec, Sequence) and len(spec):
        return tuple(_flatten(f"{name}/{number}", value, flat) for number, value in enumerate(spec))
    raise OptionError(
        f"{name}={spec!r}; it is a data set's path, a Column, or a tuple or dict of them"
    )


def fill_tree(tree: Tree, columns: Mapping[str, np.ndarray]) -> object:
    if isinstance(tree, str):
        return columns[tree]
    if isinstance(tree, dict):
        return {key: fill_tree(value, columns) for key, value in tree.items()}
    return tuple(fill_tree(value, columns) for value in tree)


def leaves(tree: Tree) -> tuple[str, ...]:
    """Return the names of the columns in a tree, in its order."""
    if isinstance(tree, str):
        return (tree,)
    parts = tree.values() if isinstance(tree, dict) else tree
    return tuple(name for part in parts for name in leaves(part))
