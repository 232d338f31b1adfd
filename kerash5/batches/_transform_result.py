"""Checks what a transform returned: arrays of equally many rows, alike in every batch.

What a model makes of such a batch is not known here: see `feeds._keras_structure`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, final

import numpy as np

from kerash5._errors import OptionError
from kerash5.batches._roles import check_narrowing, map_tree

_MAX_SHOWN: Final = 6  # keys in a message

Entries = tuple[Any, ...]


def check_entries(returned: Any, roles: tuple[str, ...]) -> Entries:  # noqa: ANN401  a user's
    """Return what a transform returned as one entry per role.

    Raises:
        OptionError: It has another number of entries, or is None.
    """
    if len(roles) == 1 and returned is not None:
        return (returned,)
    if isinstance(returned, tuple | list) and len(returned) == len(roles):
        return tuple(returned)
    number = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
    kind = "None" if returned is None else f"{type(returned).__name__}{number}"
    named = ", ".join(roles)
    raise OptionError(
        f"transform returned {kind}; it takes ({named}) and returns "
        f"{'the same' if len(roles) == 1 else 'a tuple of the same'}: end it with "
        f"'return {named}'"
    )


@final
class ResultCheck:
    """Checks the batches of one transform.

    Args:
        roles: The names of the entries, such as ("x", "y").
    """

    def __init__(self, roles: tuple[str, ...]) -> None:
        self._roles = roles
        self._first: dict[str, Any] = {}  # the structure of the first batch

    def check(self, batch: Entries, num_rows: int) -> None:
        """Check one batch.

        Args:
            batch: One entry per role.
            num_rows: The rows that the transform was called with.

        Raises:
            OptionError: An entry holds something else than arrays of equally many rows, or complex
                values, or another structure than in the first batch.
            ColumnError: JAX would wrap its integers of 64 bits.
        """
        counts: dict[str, int] = {}
        for role, entry in zip(self._roles, batch, strict=True):
            if entry is None and role != "x":  # Keras takes None for no labels, and no weights
                continue
            for name, leaf in _named_leaves(role, entry):
                _check_array(role, entry, name, leaf)
                _check_values(name, leaf)
                counts[name] = _count_rows(name, leaf, num_rows)
        _check_counts(counts, num_rows)
        self._check_structure(batch)

    def _check_structure(self, batch: Entries) -> None:
        structure = map_tree(batch, lambda leaf: leaf is None)
        first = self._first.setdefault("structure", structure)
        if structure == first:
            return
        for role, here, there in zip(self._roles, structure, first, strict=True):
            if here != there:
                raise OptionError(
                    f"transform returned {describe_tree(here)} for {role} in one batch and "
                    f"{describe_tree(there)} in another; return the same keys and the same number "
                    "of arrays for every batch"
                )


def describe_tree(tree: Any) -> str:  # noqa: ANN401  a tree of any leaves
    """Return in words what a tree holds: its keys, its number of arrays, or "an array"."""
    if isinstance(tree, dict):
        keys = sorted(map(repr, tree))
        shown = ", ".join(keys[:_MAX_SHOWN]) + (", ..." if len(keys) > _MAX_SHOWN else "")
        return f"a dict with the {'key' if len(keys) == 1 else 'keys'} {shown}" if keys else "{}"
    if isinstance(tree, tuple | list):
        return f"a {type(tree).__name__} of {len(tree)}"
    return "None" if tree is None or tree is True else "an array"


def _named_leaves(name: str, tree: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  a user's
    """Yield each leaf with its name: x, x['key'], x[0]."""
    if isinstance(tree, dict):
        for key, part in tree.items():
            yield from _named_leaves(f"{name}[{key!r}]", part)
    elif isinstance(tree, tuple | list):
        for number, part in enumerate(tree):
            yield from _named_leaves(f"{name}[{number}]", part)
    else:
        yield name, tree


def _check_array(role: str, entry: Any, name: str, leaf: Any) -> None:  # noqa: ANN401  a user's
    is_nested = isinstance(entry, tuple | list)
    is_array = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    if is_array and not (is_nested and isinstance(leaf, np.generic)):
        return
    if leaf is None:
        cure = "leave that key or place out, in every batch"
        cure = cure if name != role else "return the arrays that the model takes"
        raise OptionError(f"transform returned None for {name}, and arrays were expected; {cure}")
    if is_nested and isinstance(leaf, int | float | np.generic):
        raise OptionError(
            f"transform returned a sequence of {len(entry)} with numbers in it for "
            f"{role}, and one array was expected; return np.stack({role}), with its rows padded "
            "to one length if they differ in length"
        )
    raise OptionError(
        f"transform returned {type(leaf).__name__} for {name}, and an array with one row for each "
        "row of the batch was expected; return np.asarray(...) of it"
    )


def _count_rows(name: str, leaf: Any, num_rows: int) -> int:  # noqa: ANN401  an array
    if len(leaf.shape) == 0:
        raise OptionError(
            f"transform returned a single value for {name}, and an array of {num_rows} rows was "
            "expected; return one value a row, such as np.full(len(x), value)"
        )
    return int(leaf.shape[0])


def _check_counts(counts: dict[str, int], num_rows: int) -> None:
    """Raise `OptionError` if arrays differ in their number of rows, or have none.

    All may have another number than the transform was called with: rows are folded into volumes,
    dropped, or made twice. Where each row needs an answer, see `H5Dataset.check_answerable`.
    """
    first, count = next(iter(counts.items()))
    other = next((name for name in counts if counts[name] != count), None)
    if other is not None:
        raise OptionError(
            f"transform returned {count} rows for {first} and {counts[other]} for {other}, and was "
            f"called with {num_rows}; return arrays that have a row for each row in common"
        )
    if count == 0:
        raise OptionError(
            f"transform returned no rows for the {num_rows} it was called with; leave rows out "
            "with rows= of the data set, or give them the sample_weight 0"
        )


def _check_values(name: str, leaf: Any) -> None:  # noqa: ANN401  an array
    dtype = leaf.dtype
    kind = getattr(dtype, "kind", "")
    if kind == "c" or getattr(dtype, "is_complex", False):
        raise OptionError(
            f"transform returned {dtype} values for {name}, of which Keras would drop the "
            "imaginary parts; return real numbers, such as np.stack([x.real, x.imag], -1)"
        )
    if kind == "O" and not all(isinstance(value, str | bytes) for value in leaf.flat):
        raise OptionError(
            f"transform returned an array of Python objects for {name}, as NumPy makes of rows "
            "that differ in length, and numbers were expected; pad the rows to one length"
        )
    check_narrowing(
        leaf, f"{name}, as transform= returns it,", "values that fit, such as x.astype('float32')"
    )
