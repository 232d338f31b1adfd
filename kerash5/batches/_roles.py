"""The roles of a batch, x, y and sample weights: each a column, or a tuple or dict of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import h5py
import numpy as np

from kerash5._backends import loaded_backend, narrows_integers
from kerash5._errors import ColumnError, OptionError
from kerash5.h5 import Column, Source
from kerash5.h5.columns._cast import MisfitError, cast

ColumnSpec = str | Column | Sequence["ColumnSpec"] | Mapping[str, "ColumnSpec"]
Tree = str | tuple["Tree", ...] | dict[Any, "Tree"]  # the same structure, with names of columns

ROLES: Final = ("x", "y", "sample_weight")


def columns_of_source(
    source: Source, specs: Mapping[str, ColumnSpec]
) -> tuple[Source, dict[str, Tree]]:
    if not specs:
        specs = {role: role for role in ROLES if role in source.columns}
        if "x" not in specs:
            raise ColumnError(
                f"{source!r} has no column named 'x'; make it with x=..., or pass x= here"
            )
    flat, trees = flatten_roles(specs)
    if not all(isinstance(spec, str) for spec in flat.values()):
        raise ColumnError(
            "columns of a Source are named by strings; pass a Column or an open data set to the "
            "Source itself"
        )
    return source.select(**{name: str(spec) for name, spec in flat.items()}), trees


def flatten_roles(
    specs: Mapping[str, ColumnSpec],
) -> tuple[dict[str, str | Column], dict[str, Tree]]:
    flat: dict[str, str | Column] = {}
    return flat, {role: _flatten(role, spec, flat) for role, spec in specs.items()}


def _flatten(name: str, spec: ColumnSpec, flat: dict[str, str | Column]) -> Tree:
    """Add the columns of a nested structure to `flat`; return the structure of their names."""
    if isinstance(spec, str | h5py.Dataset | Column):
        while name in flat:  # {"a/b": ..., "a": {"b": ...}}
            name += "'"
        flat[name] = spec
        return name
    if isinstance(spec, Mapping) and spec:
        return {key: _flatten(f"{name}/{key}", value, flat) for key, value in spec.items()}
    if isinstance(spec, Sequence) and len(spec):
        return tuple(_flatten(f"{name}/{number}", value, flat) for number, value in enumerate(spec))
    raise _no_column(name, spec)


def _no_column(name: str, spec: object) -> OptionError:
    """Return the error for a value that is not a column."""
    shown, cure = repr(spec), ""
    if isinstance(spec, np.ndarray):
        shown, cure = f"an array of shape {spec.shape}", "; k5.write writes arrays to a file"
    return OptionError(
        f"{name}={shown}; pass a data set's path, an open h5py.Dataset, a Column, or a tuple or "
        f"dict of them{cure}"
    )


def names_in(tree: Tree) -> list[str]:
    """Return the names of the columns of a role."""
    if isinstance(tree, str):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree
    return [name for part in parts for name in names_in(part)]


def fill_tree(tree: Tree, columns: Mapping[str, np.ndarray]) -> object:
    return map_tree(tree, columns.__getitem__)


def map_tree(tree: Any, function: Callable[[Any], object]) -> Any:  # noqa: ANN401  of any leaves
    """Return the tree with a function applied to each leaf."""
    if isinstance(tree, dict):
        return {key: map_tree(part, function) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(map_tree(part, function) for part in tree)
    return function(tree)


def check_feedable(source: Source, trees: Mapping[str, Tree], *, is_transformed: bool) -> None:
    """Raise `ColumnError` if a model cannot use a column, and say what to do.

    Args:
        source: The columns.
        trees: Names of the columns of each role.
        is_transformed: Whether a transform may convert text and complex values to numbers.
    """
    backend = loaded_backend()
    for role, tree in trees.items():
        for name in names_in(tree):
            column = source.columns[name]
            dtype, path = column.dtype, column.column.path
            if column.is_text:
                _check_text(name, path, backend, is_transformed=is_transformed)
                continue
            if is_transformed and (dtype.kind in "biufc" or dtype.names):
                continue
            if dtype.kind not in "biufc":
                _refuse_kind(name, path, dtype)
            if role != "y" and column.is_named_by_itself:
                raise ColumnError(
                    f"column {path!r} ({name}) has text, which would become class ids, but only "
                    "y has labels; encode it in a transform=, which gets the text, name the ids: "
                    f"Column({path!r}, labels=[...]), or give the text to a layer of TensorFlow: "
                    f"Column({path!r}, dtype=str)"
                )
            if dtype.kind == "c":
                raise ColumnError(
                    f"column {path!r} ({name}) has {dtype} values, whose imaginary parts Keras "
                    f"would drop; convert them to real numbers: Column({path!r}, "
                    "complex='channels'), or 'magnitude', or a transform="
                )
            if dtype.char == "g":
                raise ColumnError(
                    f"column {path!r} ({name}) has {dtype} values, which no backend supports; cast "
                    f"them: Column({path!r}, dtype='float64')"
                )
            if dtype.name == "uint64" and backend == "torch":
                raise ColumnError(
                    f"column {path!r} ({name}) has {dtype} values, which PyTorch does not support; "
                    f"cast them: Column({path!r}, dtype='int64')"
                )


def _check_text(name: str, path: str, backend: str | None, *, is_transformed: bool) -> None:
    """Raise `ColumnError` if nothing would make numbers of text."""
    if not is_transformed and backend in ("jax", "torch"):
        raise ColumnError(
            f"column {path!r} ({name}) is text (dtype=str), which Keras takes on TensorFlow alone, "
            f"and not on {backend}; make numbers of it in a transform=, or leave dtype=str out and "
            f"say what the ids are: Column({path!r}, labels=[...])"
        )


def _refuse_kind(name: str, path: str, dtype: np.dtype) -> NoReturn:
    if dtype.names:
        raise ColumnError(
            f"column {path!r} ({name}) has the fields {', '.join(dtype.names)}, and a model takes "
            f"numbers; name one, Column({path!r}, field={dtype.names[0]!r}), or a list of them, or "
            "make numbers of them in a transform="
        )
    raise ColumnError(
        f"column {path!r} ({name}) has {dtype} values, but a model needs numbers; write it again "
        "as numbers"
    )


def find_texts(source: Source, trees: Mapping[str, Tree]) -> dict[str, np.ndarray]:
    """Return the texts of text columns that are not labels, by class id; shape (num_texts,)."""
    return {
        name: np.array(source.columns[name].class_names, object)
        for role, tree in trees.items()
        for name in names_in(tree)
        if role != "y" and source.columns[name].is_named_by_itself
    }


def check_integers(source: Source, finished: Mapping[str, np.ndarray]) -> None:
    """Raise `ColumnError` if JAX, which converts 64-bit integers to 32 bits, would wrap a value.

    Args:
        source: The columns.
        finished: Rows of the columns.
    """
    for name, rows in finished.items():
        path = source.columns[name].column.path
        check_narrowing(rows, f"column {path!r} ({name})", f"Column({path!r}, dtype='float32')")


def check_narrowing(array: Any, subject: str, cure: str) -> None:  # noqa: ANN401  of any framework
    """Raise `ColumnError` if JAX, which converts 64-bit integers to 32 bits, would wrap a value.

    Args:
        array: Array of any dtype; only 64-bit integers are checked.
        subject: Origin of the array, for the message.
        cure: What to use instead, for the message.
    """
    dtype = array.dtype
    if getattr(dtype, "kind", "") not in ("i", "u") or dtype.itemsize != 8:
        return
    if not narrows_integers():
        return
    narrow = np.dtype(f"{dtype.kind}4")
    try:
        cast(np.asarray(array), narrow)
    except MisfitError as misfit:
        raise ColumnError(
            f"{subject} has {misfit}, but JAX converts {dtype} to {narrow}; use {cure}, or "
            "jax.config.update('jax_enable_x64', True)"
        ) from None
