import gc
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5.h5.reading._buffers import Memory, empty

BIG = (400, 100, 10)  # 400 kB


def address_of(array: np.ndarray) -> int:
    return int(array.ctypes.data)


@pytest.fixture
def memory() -> Memory:
    return Memory(most_free=1 << 20)


@pytest.mark.parametrize("dtype", ["u1", ">i4", "f8", [("a", "u1"), ("b", "f4")]])
@pytest.mark.parametrize("shape", [(), (0,), (3, 4), BIG, (0, 1000, 1000)])
def test_an_array_is_what_numpy_would_make(
    memory: Memory, shape: tuple[int, ...], dtype: str
) -> None:
    found = memory.empty(shape, dtype)
    assert found.shape == shape
    assert found.dtype == np.dtype(dtype)
    assert found.flags.c_contiguous
    assert found.flags.writeable


def test_memory_comes_back_when_the_last_view_is_gone(memory: Memory) -> None:
    first = memory.empty(BIG, "u1")
    place, view = address_of(first), first[5:7].reshape(-1)
    view[:] = 7
    del first
    other = memory.empty(BIG, "u1")
    assert address_of(other) != place
    other[:] = 0
    assert (view == 7).all()
    del view
    assert address_of(memory.empty(BIG, "u1")) == place
    # Another shape and type, and a few rows less, fit as well.
    assert address_of(memory.empty((999, 100), "f4")) == place


def test_what_is_free_is_bounded(memory: Memory) -> None:
    arrays = [memory.empty(BIG, "u1") for _ in range(8)]
    del arrays
    assert 0 < sum(size * len(same) for size, same in memory._free.items()) <= 1 << 20
    memory.clear()
    assert not memory._free


def test_an_array_in_a_cycle_gives_its_memory_back(memory: Memory) -> None:
    cycle: list[object] = [memory.empty(BIG, "u1")]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert sum(len(same) for same in memory._free.values()) == 1


@pytest.mark.timeout(60)
def test_threads_never_share_memory(memory: Memory) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(300):
            array = memory.empty(BIG, "u1")
            array[...] = number
            again = array.copy()
            if not (again == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_batches_share_one_memory() -> None:
    array = empty(BIG, "u1")
    array[...] = 3
    assert_array_equal(array, np.full(BIG, 3, "u1"))
