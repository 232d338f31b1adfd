"""Apply a user's transform to batches on several threads, and copy results it may reuse.

A transform may reuse memory that it returns: one buffer that it fills for each batch, or one
constant. Batches are read ahead and stacked, so such memory is copied before the next call can
write to it. Reference counts right after the call show whether the transform retains memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from copy import deepcopy
from sys import getrefcount
from typing import Any, Final, final
from weakref import WeakKeyDictionary

import numpy as np

from kerash5._errors import OptionError
from kerash5.batches._transform_result import check_entries
from kerash5.batches.cache._store import Shared
from kerash5.h5.reading._timers import clocked

Batch = tuple[Any, ...]

# Arrays of these types are immutable.
_IMMUTABLE: Final = frozenset({"jax", "jaxlib", "tensorflow"})
_TRACED: Final = (np.ndarray, dict, tuple, list)
_NONE: Final[tuple[Any, ...]] = ()
_CONSTANTS: Final = (type(None), str, bytes, bool, int, float, complex, np.generic)


@final
class Transform:
    """Apply a function to batches; picklable if the function is.

    Args:
        function: Called with the entries of a batch; returns as many.
        roles: Names of the entries, for messages.
    """

    def __init__(self, function: Callable[..., Any], roles: tuple[str, ...]) -> None:
        self._function = function
        self._roles = roles
        self._calls = _calls_of(function)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the function and roles only, not the state of this process."""
        return Transform, (self._function, self._roles)

    def apply(self, batch: Batch, read_again: Callable[[], Batch]) -> Batch:
        """Return the transformed batch, in memory that is not written to later.

        Args:
            batch: The batch; the function may modify it in place.
            read_again: Returns the same batch, unmodified.

        Raises:
            OptionError: The function did not return a batch.
        """
        ticket = self._calls.enter()
        if ticket is not None:
            is_kept = False
            try:
                found, is_kept = self._call(batch)
            finally:
                was_beside_others = self._calls.leave(ticket, is_kept=is_kept)
            if not is_kept or not was_beside_others:
                return found
            batch = read_again()  # another thread may have written to this memory
        with self._calls.alone():
            return self._call(batch)[0]

    @clocked("transform")
    def _call(self, batch: Batch) -> tuple[Batch, bool]:
        """Return the transformed batch, and whether the function retains memory of it."""
        inputs: dict[int, Any] = {}
        _note_all(batch, inputs)
        box = [self._function(*batch)]  # so that no local variable refers to the result
        box[0] = check_entries(box[0], self._roles)
        is_kept = _is_kept(box, inputs)
        return tuple([_own(part, inputs, is_kept=is_kept) for part in box[0]]), is_kept


@final
class _Chain:
    """Two transforms, one after the other; picklable if they are."""

    def __init__(self, first: Callable[..., Any], second: Callable[..., Any]) -> None:
        self._first = first
        self._second = second

    def __call__(self, *batch: Any) -> Any:  # noqa: ANN401  a batch
        """Return what the second makes of what the first returns."""
        found = self._first(*batch)
        is_batch = len(batch) > 1 and isinstance(found, tuple | list)
        return self._second(*found) if is_batch else self._second(found)

    def __repr__(self) -> str:
        return f"{self._second!r} after {self._first!r}"


def chain_transforms(
    first: Callable[..., Any] | None, second: Callable[..., Any] | None
) -> Callable[..., Any] | None:
    """Return a transform that calls both of two, of which each may be None.

    Raises:
        OptionError: One of them cannot be called.
    """
    for each in (first, second):
        if each is not None and not callable(each):
            raise OptionError(f"transform={each!r}; it is a function of x[, y[, sample_weight]]")
    return _Chain(first, second) if first is not None and second is not None else second or first


@final
class _Calls(Shared):
    """Running calls of one function, on all threads.

    Calls run concurrently until one of them returns memory that the function retains.
    """

    def __init__(self) -> None:
        self._is_one_at_a_time = False
        self.after_fork()
        self._share()

    def after_fork(self) -> None:
        """Reset calls and locks, which belong to the parent process."""
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._running = 0
        self._begun = 0

    def enter(self) -> int | None:
        """Begin a concurrent call; return None if it has to run alone."""
        with self._changed:
            if self._is_one_at_a_time:
                return None
            self._running += 1
            self._begun += 1
            return self._begun if self._running == 1 else 0

    def leave(self, ticket: int, *, is_kept: bool) -> bool:
        """End a call, and return whether another call overlapped it."""
        with self._changed:
            self._running -= 1
            self._is_one_at_a_time |= is_kept
            self._changed.notify_all()
            return ticket != self._begun

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other call runs, and block new ones."""
        with self._turn:
            with self._changed:
                self._changed.wait_for(lambda: self._running == 0)
            yield


# Several data sets, such as training and validation data, may share one transform.
_CALLS: Final[WeakKeyDictionary[Callable[..., Any], _Calls]] = WeakKeyDictionary()


def _calls_of(function: Callable[..., Any]) -> _Calls:
    try:
        return _CALLS.setdefault(function, _Calls())
    except TypeError:  # not hashable, or not weakly referenceable
        return _Calls()


def _is_kept(box: list[Any], inputs: dict[int, Any]) -> bool:
    """Return whether anything besides a batch refers to its memory.

    Args:
        box: List with the batch; the only reference to it, unless the function retains it.
        inputs: All objects of the batch that was passed to the transform, by id; these never count.
    """
    nodes: dict[int, Any] = {}
    references = _note_all(box, nodes)
    counts = _count_references(nodes)
    for number, node in nodes.items():
        if number in inputs or node is box:
            continue
        if not isinstance(node, _TRACED):
            if not _is_constant(node):
                return True
        elif counts[number] - references[number] > _FREE and (
            isinstance(node, np.ndarray) or node  # the empty tuple is a singleton
        ):
            return True
    return False


def _note_all(tree: Any, nodes: dict[int, Any]) -> dict[int, int]:  # noqa: ANN401  a batch
    """Add all objects of a tree, and the owners of their memory, to `nodes`, by id.

    Returns:
        Number of references to each object from within the tree.
    """
    nodes[id(tree)] = tree
    references = {id(tree): 0}
    waiting = [tree]
    while waiting:
        for child in _children(waiting.pop()):
            number = id(child)
            if number in references:
                references[number] += 1
            else:
                references[number] = 1
                nodes[number] = child
                waiting.append(child)
    return references


def _children(node: Any) -> Collection[Any]:  # noqa: ANN401  a part of a batch
    if isinstance(node, np.ndarray):
        return _NONE if node.base is None else (node.base,)
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, (tuple, list)) else _NONE


def _count_references(nodes: dict[int, Any]) -> dict[int, int]:
    return {number: getrefcount(node) for number, node in nodes.items()}


# Of objects only in `nodes`. Measured, because Python versions count their own stack or do not.
_FREE: Final = _count_references({0: np.empty(1)})[0]


def _is_constant(node: Any) -> bool:  # noqa: ANN401  no array of NumPy
    if isinstance(node, _CONSTANTS):
        return True
    return type(node).__module__.partition(".")[0] in _IMMUTABLE


def _own(tree: Any, inputs: dict[int, Any], *, is_kept: bool) -> Any:  # noqa: ANN401  a part of a batch
    """Return part of a batch as dicts and tuples, copied if its memory is retained."""
    if isinstance(tree, dict):  # Keras would match an OrderedDict by order, not by name
        return {key: _own(part, inputs, is_kept=is_kept) for key, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [_own(part, inputs, is_kept=is_kept) for part in tree]
        # TensorFlow does not accept lists.
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    if not is_kept or id(tree) in inputs:
        return tree
    if isinstance(tree, np.ndarray):
        return tree.copy()
    return tree if _is_constant(tree) else deepcopy(tree)
