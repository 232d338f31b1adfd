"""A transform may keep what it returns: batches are right, however many threads read ahead."""

import multiprocessing
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5.batches._batches import Batches, open_batches
from kerash5.batches._options import BatchOptions
from kerash5.batches._transform import Transform
from kerash5.h5 import write

ROWS: Final = 93  # the last of the batches is short
SIZE: Final = 10
X: Final = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)
Y: Final = np.arange(ROWS)
MASK: Final = np.arange(SIZE, dtype=np.float32)

Function = Callable[[Any, Any], Any]


class Pair(NamedTuple):
    left: Any
    right: Any


def never() -> Any:
    raise AssertionError("this batch need not be read again")


def open_with(folder: Path, transform: Any, **options: Any) -> Batches:
    if not (folder / "a.h5").exists():
        write(folder / "a.h5", x=X, y=Y)
    asked = {"batch_size": SIZE, "shuffle": False, "cache": 0, "transform": transform, **options}
    return open_batches(folder / "a.h5", "x", "y", None, BatchOptions(**asked))


# Memory that is filled anew for each batch. Between that and the return other threads have time.


def one_buffer() -> Function:
    buffer = np.empty((SIZE, 4), np.float32)

    def fill(x: Any, y: Any) -> Any:
        buffer[: len(x)] = x + 1
        time.sleep(1e-4)
        return buffer[: len(x)], y

    return fill


def whole_buffer() -> Function:
    buffer = np.zeros((SIZE, 4), np.float32)

    def fill(x: Any, y: Any) -> Any:
        if len(x) < SIZE:
            return x, y
        buffer[:] = x
        time.sleep(1e-4)
        return buffer, y

    return fill


def buffer_of_the_first_batch() -> Function:
    found: list[Any] = []

    def fill(x: Any, y: Any) -> Any:
        if not found:
            found.append(np.empty_like(x))
        buffer = found[0][: len(x)]
        np.multiply(x, 2, out=buffer)
        time.sleep(1e-4)
        return buffer, y

    return fill


def two_buffers_in_turns() -> Function:
    buffers = [np.empty((SIZE, 4), np.float32) for _ in range(2)]

    def fill(x: Any, y: Any) -> Any:
        buffers.reverse()
        buffers[0][: len(x)] = x * 3
        time.sleep(1e-4)
        return buffers[0][: len(x)], y

    return fill


def dict_of_buffers() -> Function:
    kept = {"a": np.empty((SIZE, 4), np.float32), "b": np.empty((SIZE, 4), np.float32)}

    def fill(x: Any, y: Any) -> Any:
        if len(x) < SIZE:
            return {"a": x, "b": -x}, y
        kept["a"][:], kept["b"][:] = x, -x
        time.sleep(1e-4)
        return kept, y

    return fill


def list_that_is_kept() -> Function:
    kept: list[Any] = [None, None]

    def fill(x: Any, y: Any) -> Any:
        if kept[0] is None:
            kept[0] = np.empty((SIZE, 4), np.float32)
        if len(x) < SIZE:
            return [x, y]
        kept[0][:], kept[1] = x, y
        time.sleep(1e-4)
        return kept

    return fill


def view_that_is_kept() -> Function:
    view = np.empty((2 * SIZE, 4), np.float32)[::2]

    def fill(x: Any, y: Any) -> Any:
        if len(x) < SIZE:
            return x, y
        view[:] = x
        time.sleep(1e-4)
        return view, y

    return fill


def memory_that_is_no_array() -> Function:
    memory = bytearray(SIZE * 4 * 4)

    def fill(x: Any, y: Any) -> Any:
        found = np.frombuffer(memory, np.float32).reshape(SIZE, 4)
        found[: len(x)] = x
        time.sleep(1e-4)
        return found[: len(x)], y

    return fill


def named_tuple_of_buffers() -> Function:
    pair = Pair(np.empty((SIZE, 4), np.float32), np.empty(SIZE))

    def fill(x: Any, y: Any) -> Any:
        if len(x) < SIZE:
            return Pair(x, y), y
        pair.left[:], pair.right[:] = x, y
        time.sleep(1e-4)
        return pair, y

    return fill


def buffer_after_some_batches() -> Function:
    buffer = np.empty((SIZE, 4), np.float32)

    def fill(x: Any, y: Any) -> Any:
        if y[0] < 40:
            return x + 1, y
        buffer[: len(x)] = x + 1
        time.sleep(1e-3)
        return buffer[: len(x)], y

    return fill


def constant_mask() -> Function:
    return lambda x, y: ({"x": x * 2, "mask": MASK[: len(x)]}, y)


def constant_mask_and_rows_changed_in_place() -> Function:
    def change(x: Any, y: Any) -> Any:
        x += 1
        time.sleep(1e-4)
        return (x, MASK[: len(x)]), y

    return change


TRANSFORMS: Final = [
    *(one_buffer, whole_buffer, buffer_of_the_first_batch, two_buffers_in_turns, dict_of_buffers),
    *(list_that_is_kept, view_that_is_kept, memory_that_is_no_array, named_tuple_of_buffers),
    *(buffer_after_some_batches, constant_mask, constant_mask_and_rows_changed_in_place),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize("make", TRANSFORMS, ids=lambda make: make.__name__)
def test_batches_that_are_read_ahead_keep_their_rows(
    tmp_path: Path, make: Callable[[], Function], threads: int
) -> None:
    # Each copied at once, in one thread.
    plain = open_with(tmp_path, None, threads=0)
    function = make()
    expected = [copied(function(*copied(plain.read(step)))) for step in range(len(plain))]
    batches = open_with(tmp_path, make(), threads=threads)
    for _ in range(2):
        for one, other in zip(list(batches.epoch(0)), expected, strict=True):
            assert_same(one, tuple(other))


def copied(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: copied(part) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [copied(part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return np.array(tree)


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, part in one.items():
            assert_same(part, other[key])
    elif isinstance(one, tuple | list):
        for part, twin in zip(one, other, strict=True):
            assert_same(part, twin)
    else:
        assert_array_equal(one, other)


@pytest.mark.timeout(60)
def test_two_data_sets_with_one_buffer_do_not_disturb_each_other(tmp_path: Path) -> None:
    function = one_buffer()
    train = open_with(tmp_path, function, threads=2, rows=slice(0, 60))
    validation = open_with(tmp_path, function, threads=2, rows=slice(60, 93))
    feed = train.epoch(0)
    first = [next(feed)]
    others = list(validation.epoch(0))
    found = [x for x, _ in (*first, *feed, *others)]
    assert_array_equal(np.concatenate(found), X + 1)


# What is not kept is not copied.


def test_fresh_arrays_are_handed_on_as_they_are() -> None:
    seen: list[int] = []

    def make(x: Any, y: Any) -> Any:
        fresh = x * 2
        seen.append(fresh.ctypes.data)
        return {"twice": fresh, "again": fresh, "part": fresh[1:], "x": x, "last": x[-1:]}, y

    x, y = X[:SIZE].copy(), Y[:SIZE]
    ((found, labels),) = [Transform(make, ("x", "y")).apply((x, y), never)]
    assert found["twice"] is found["again"]
    assert found["twice"].ctypes.data == seen[0]
    assert np.shares_memory(found["part"], found["twice"])
    assert found["x"] is x
    assert np.shares_memory(found["last"], x)
    assert labels is y


class Kept:
    """Arrays that a transform refers to from one call to the next."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def __call__(self, array: Any) -> Any:
        self.all.append(array)
        return array


LEAVES: Final = st.sampled_from(["fresh", "view", "kept", "view of kept", "input", "number"])
TREES: Final = st.recursive(
    LEAVES,
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.lists(parts, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), parts, max_size=3)
    ),
    max_leaves=6,
)


def built(tree: Any, x: Any, keep: Kept) -> Any:
    if isinstance(tree, dict):
        return {key: built(part, x, keep) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)([built(part, x, keep) for part in tree])
    fresh = np.arange(6.0)
    makers: dict[str, Callable[[], Any]] = {
        "fresh": lambda: fresh,
        "view": lambda: fresh[::2],
        "kept": lambda: keep(fresh),
        "view of kept": lambda: keep(fresh)[1:],
        "input": lambda: x[1:],
        "number": lambda: 3.5,
    }
    return makers[tree]()


@given(TREES)
def test_a_batch_shares_memory_with_a_transform_never_and_is_copied_only_then(tree: Any) -> None:
    keep = Kept()
    pointers: list[int] = []

    def make(x: Any) -> Any:
        found = built(tree, x, keep)
        pointers.extend(array.ctypes.data for array in arrays_of(found))
        return found

    x = np.arange(4.0)
    (found,) = Transform(make, ("x",)).apply((x,), never)
    if keep.all:
        for array in arrays_of(found):
            assert not any(np.shares_memory(array, kept) for kept in keep.all)
    else:
        assert [array.ctypes.data for array in arrays_of(found)] == pointers


def arrays_of(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [array for part in tree.values() for array in arrays_of(part)]
    if isinstance(tree, tuple | list):
        return [array for part in tree for array in arrays_of(part)]
    return [tree] if isinstance(tree, np.ndarray) else []


def test_a_dict_of_another_kind_becomes_a_plain_one() -> None:
    def turn(x: Any, y: Any) -> Any:
        return OrderedDict(b=x, a=y), y

    (found, _) = Transform(turn, ("x", "y")).apply((X, Y), never)
    assert type(found) is dict


# Threads and processes.


@pytest.mark.timeout(60)
def test_calls_run_beside_each_other_while_nothing_is_kept(tmp_path: Path) -> None:
    meeting = threading.Barrier(3, timeout=30)

    def meet(x: Any, y: Any) -> Any:
        meeting.wait()
        return x + 1, y

    batches = open_with(tmp_path, meet, threads=3, rows=slice(0, 90))
    assert len(list(batches.epoch(0))) == 9


def double(x: Any, y: Any) -> Any:
    return x * 2, y


def test_batches_with_a_transform_can_be_pickled(tmp_path: Path) -> None:
    batches = pickle.loads(pickle.dumps(open_with(tmp_path, double)))
    assert_array_equal(batches.read(0)[0], X[:SIZE] * 2)


@pytest.mark.timeout(60)
@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_within_a_call_can_make_its_own(tmp_path: Path) -> None:
    function, begun, go_on = one_buffer(), threading.Event(), threading.Event()
    is_here = True

    def hold(x: Any, y: Any) -> Any:
        if is_here:
            begun.set()
            go_on.wait(30)
        return function(x, y)

    batches = open_with(tmp_path, hold, threads=0)
    go_on.set()
    batches.read(0)  # from now on one call at a time
    begun.clear()
    go_on.clear()
    thread = threading.Thread(target=batches.read, args=(1,))
    thread.start()
    assert begun.wait(30)
    is_here = False
    child = multiprocessing.get_context("fork").Process(target=batches.read, args=(2,))
    child.start()
    child.join(20)
    code = child.exitcode
    child.kill()
    go_on.set()
    thread.join()
    assert code == 0
