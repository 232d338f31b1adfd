"""Check what a transform returned: arrays with equally many rows, alike in every batch.

`feeds._keras_structure` checks whether a model accepts such a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from kerash5._errors import OptionError
from kerash5.batches._roles import check_narrowing, map_tree

_MAX_SHOWN: Final = 6  # keys in a message

Entries = tuple[Any, ...]


def check_entries(returned: Any, roles: tuple[str, ...]) -> Entries:  # noqa: ANN401  a user's
    """Return the result of a transform as one entry per role.

    Raises:
        OptionError: The number of entries is wrong, or it returned None.
    """
    if len(roles) == 1 and returned is not None:
        return (returned,)
    if isinstance(returned, tuple | list) and len(returned) == len(roles):
        return tuple(returned)
    number = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
    kind = "None" if returned is None else f"{type(returned).__name__}{number}"
    named = ", ".join(roles)
    raise OptionError(
        f"transform returned {kind}; it is called with ({named}) and must return "
        f"{'the same' if len(roles) == 1 else 'a tuple of the same'}: end it with "
        f"'return {named}'"
    )


@final
class ResultCheck:
    """Check the batches of one transform.

    Args:
        roles: Names of the entries, such as ("x", "y").
    """

    def __init__(self, roles: tuple[str, ...]) -> None:
        self._roles = roles
        self._first: dict[str, Any] = {}  # the structure of the first batch

    def check(self, batch: Entries, num_rows: int) -> None:
        """Check one batch.

        Args:
            batch: One entry per role.
            num_rows: Number of rows the transform was called with.

        Raises:
            OptionError: An entry is not made of arrays with equally many rows, has complex values,
                or has another structure than in the first batch.
            ColumnError: JAX would wrap 64-bit integers.
        """
        counts: dict[str, int] = {}
        for role, entry in zip(self._roles, batch, strict=True):
            if entry is None and role != "x":  # in Keras, None means no labels or no weights
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
                    f"transform returned {describe_tree(here)} for {role} in one batch but "
                    f"{describe_tree(there)} in another; return the same keys and the same number "
                    "of arrays for every batch"
                )


@dataclass(frozen=True, slots=True)
class Made:
    """What a transform makes of one batch, as a model needs to know it.

    Attributes:
        input_shape: Shape of one row of x; a tuple or dict of shapes if x is one of arrays.
        has_ids: Whether y is one array of integers, one for each row.
        num_one_hot: The width of y if it is one array of one-hot rows; None if it is not.
    """

    input_shape: Any
    has_ids: bool
    num_one_hot: int | None

    @classmethod
    def of(cls, batch: Entries) -> Made:
        """Return what a batch is made of."""
        y = batch[1] if len(batch) > 1 else None
        shape = map_tree(batch[0], lambda leaf: tuple(int(size) for size in leaf.shape[1:]))
        if y is None or isinstance(y, dict | tuple | list):
            return cls(shape, has_ids=False, num_one_hot=None)
        values = np.asarray(y)
        is_id = values.dtype.kind in "iub" and values.shape[1:] in ((), (1,))
        ones = (values == 1).sum(-1) == 1 if values.ndim == 2 else np.zeros(1, bool)
        is_one_hot = values.ndim == 2 and values.shape[1] > 1 and bool(ones.all())
        is_one_hot = is_one_hot and bool(((values == 0) | (values == 1)).all())
        return cls(shape, is_id, values.shape[1] if is_one_hot else None)


def describe_tree(tree: Any) -> str:  # noqa: ANN401  a tree of any leaves
    """Return a description of a tree: its keys, its number of arrays, or "an array"."""
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
        cure = "omit that key or entry, in every batch"
        cure = cure if name != role else "return the arrays that the model expects"
        raise OptionError(f"transform returned None for {name}, but arrays were expected; {cure}")
    if is_nested and isinstance(leaf, int | float | np.generic):
        raise OptionError(
            f"transform returned a sequence of {len(entry)} with numbers in it for "
            f"{role}, but one array was expected; return np.stack({role}), with its rows padded "
            "to one length if they differ in length"
        )
    raise OptionError(
        f"transform returned {type(leaf).__name__} for {name}, but an array with one row per "
        "row of the batch was expected; return np.asarray(...) of it"
    )


def _count_rows(name: str, leaf: Any, num_rows: int) -> int:  # noqa: ANN401  an array
    if len(leaf.shape) == 0:
        raise OptionError(
            f"transform returned a single value for {name}, but an array of {num_rows} rows was "
            "expected; return one value per row, such as np.full(len(x), value)"
        )
    return int(leaf.shape[0])


def _check_counts(counts: dict[str, int], num_rows: int) -> None:
    """Raise `OptionError` if arrays differ in their number of rows, or have none.

    The number may differ from the one the transform was called with: it may fold rows into volumes,
    drop rows, or repeat them. `ServedData.check_answerable` requires one output per row.
    """
    first, count = next(iter(counts.items()))
    other = next((name for name in counts if counts[name] != count), None)
    if other is not None:
        raise OptionError(
            f"transform returned {count} rows for {first} and {counts[other]} for {other}, but was "
            f"called with {num_rows} rows; return arrays with equally many rows"
        )
    if count == 0:
        raise OptionError(
            f"transform returned no rows for the {num_rows} it was called with; exclude rows "
            "with rows= of the data set, or set their sample_weight to 0"
        )


def _check_values(name: str, leaf: Any) -> None:  # noqa: ANN401  an array
    dtype = leaf.dtype
    kind = getattr(dtype, "kind", "")
    if kind == "c" or getattr(dtype, "is_complex", False):
        raise OptionError(
            f"transform returned {dtype} values for {name}, whose imaginary parts Keras would "
            "drop; return real numbers, such as np.stack([x.real, x.imag], -1)"
        )
    if kind == "O" and not all(isinstance(value, str | bytes) for value in leaf.flat):
        raise OptionError(
            f"transform returned an array of Python objects for {name}, as NumPy creates for rows "
            "that differ in length, but numbers were expected; pad the rows to one length"
        )
    check_narrowing(
        leaf, f"{name}, as transform= returns it,", "values that fit, such as x.astype('float32')"
    )
