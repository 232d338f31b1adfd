"""Windows: no more than there is room for, each block loaded once, nobody stuck."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError
from kerash5.batches.cache import (
    WindowRows,
)
from kerash5.batches.cache._window import next_window
from kerash5.h5 import Source
from kerash5.h5.reading import _buffers
from kerash5.order._blocks import Blocks
from kerash5.order._plan import Plan
from tests.batches.cache.stores import (
    BLOCK_BYTES,
    NUM_ROWS,
    STORES,
    Counted,
    Y,
    assert_rows,
    make_plan,
    make_windows,
    walk,
)

# Windows


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [3, 16, 50])
@pytest.mark.parametrize("rows", [None, np.arange(0, NUM_ROWS, 3)], ids=["all", "a third"])
@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("as_views", [False, True])
def test_no_more_windows_are_held_than_there_is_room_for(  # noqa: PLR0917  what it crosses
    source: Source,
    memory: Counted,
    rows: Any,
    batch_size: int,
    threads: int,
    most: int,
    as_views: bool,
) -> None:
    options = {"batch_size": batch_size, "rows": rows}
    plan, blocks = make_plan(source, **options)
    store = WindowRows(source, plan, blocks, max_windows=most)
    for _ in walk(store, range(2 * plan.steps_per_epoch), threads, as_views=as_views):
        pass
    assert 0 < memory.peak <= most * 2 * BLOCK_BYTES


@pytest.mark.timeout(60)
@pytest.mark.parametrize("most", [1, 2])
def test_no_more_windows_are_held_when_threads_ask_for_anything(
    source: Source, memory: Counted, most: int
) -> None:
    store = WindowRows(source, *make_plan(source), max_windows=most)
    steps = np.random.default_rng(2).integers(0, 90, 400).tolist()
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(store.read, steps))
    assert 0 < memory.peak <= most * 2 * BLOCK_BYTES


class Noting(Executor):
    """Does nothing with what it is given, until it is told to."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.futures: list[Future[Any]] = []

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        """Note what is to be called."""
        self.calls.append(partial(function, *arguments, **options))
        self.futures.append(Future())
        return self.futures[-1]

    def do(self) -> None:
        """Call the next one."""
        self.calls.pop(0)()
        self.futures.pop(0).set_result(None)


def first_step_of(plan: Plan, number: int) -> int:
    """Return the first step of epoch 0 that begins in a window."""
    return next(step for step in range(99) if plan.spans(step)[0].window.number == number)


def test_helpers_are_sent_once_for_a_window_and_anew_when_an_epoch_begins_anew(
    source: Source,
) -> None:
    store, first, second = make_windows(source), Noting(), Noting()
    for _ in range(3):
        store.advance(0, first, 2)
    assert len(first.calls) == 2
    first.do()  # the window of step 0
    for _ in range(3):
        store.advance(0, first, 2)
    assert len(first.calls) == 1 + 2  # and the next one
    for future in first.futures:
        future.cancel()
    for _ in range(3):
        store.advance(0, second, 2)
    assert len(second.calls) == 2
    second.do()
    assert sorted(store._windows.numbers()) == [(0, 0), (0, 1)]
    store.advance(0, second, 2)
    assert len(second.calls) == 1


def test_a_helper_that_comes_too_late_loads_nothing(source: Source) -> None:
    store, executor = make_windows(source), Noting()
    store.advance(0, executor, 1)
    later = first_step_of(make_plan(source)[0], 3)
    store.advance(later, executor, 1)
    executor.do()
    assert not store._windows.numbers()
    executor.do()
    assert store._windows.numbers() == [(0, 3)]


def test_the_next_window_is_read_once_the_first_is_there_after_a_jump(source: Source) -> None:
    store, executor = make_windows(source), Noting()
    for step in (0, first_step_of(make_plan(source)[0], 4)):
        store.advance(step, executor)
        assert not executor.calls  # whoever takes the step loads its window
        store.read(step)
        for _ in range(2):
            store.advance(step, executor)
        assert len(executor.calls) == 1
        executor.do()
        store.advance(step, executor)
        assert not executor.calls


def test_what_is_released_is_gone(source: Source, memory: Counted) -> None:
    store = make_windows(source)
    store.read(0)
    assert memory.live > 0
    store.release()
    assert memory.live == 0
    assert_rows(store.read(0), make_plan(source)[0].rows(0))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("most", [1, 2])
def test_each_block_is_loaded_once_per_epoch(
    source: Source, ranges: Counter[tuple[int, int]], threads: int, most: int
) -> None:
    # Windows of 64 rows, wider than the batches in flight.
    plan, blocks = make_plan(source, window_blocks=8)
    store = WindowRows(source, plan, blocks, max_windows=most)
    for _ in walk(store, range(plan.steps_per_epoch), threads):
        pass
    following = plan.window_rows(next_window(plan, plan.spans(plan.steps_per_epoch - 1)[-1].window))
    starts, stops = blocks.bounds(np.arange(len(blocks)))
    ahead = set(blocks.of_rows(following).tolist())  # may have been read for the next epoch
    for block, bounds in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        assert ranges[bounds] == 1 or (ranges[bounds] == 2 and block in ahead)


@pytest.mark.timeout(60)
def test_the_next_window_is_read_while_one_is_served(
    source: Source, ranges: Counter[tuple[int, int]]
) -> None:
    plan, _ = make_plan(source, window_blocks=4)
    store = make_windows(source, window_blocks=4)
    steps = walk(store, range(plan.steps_per_epoch), threads=1)
    next(steps)
    next(steps)
    steps.close()  # waits for what is under way
    assert sum(ranges.values()) == 8


@pytest.mark.timeout(60)
def test_a_walk_that_begins_at_the_end_of_a_window_is_not_stuck(source: Source) -> None:
    # The only thread then needs the window that it was asked to read ahead.
    plan, _ = make_plan(source, batch_size=4, window_blocks=1)
    for first in range(plan.steps_per_epoch):
        store = make_windows(source, batch_size=4, window_blocks=1)
        for step, loaded in walk(store, range(first, first + 6), threads=1):
            assert_rows(loaded, plan.rows(step))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["resident", "windows"])
def test_an_error_reaches_everyone_who_waits_and_is_forgotten_when_it_has_passed(
    source: Source, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store, plan = STORES[name](source), make_plan(source)[0]
    is_broken = True

    def breaking(load: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            if is_broken:
                raise DamagedFileError("rows are damaged")
            load(*arguments)

        return call

    for method in ("load_runs", "load_rows_to"):
        monkeypatch.setattr(Source, method, breaking(getattr(Source, method)))
    with ThreadPoolExecutor(8) as executor:
        for future in [executor.submit(store.read, 0) for _ in range(40)]:
            assert isinstance(future.exception(), DamagedFileError)
    is_broken = False
    assert_rows(store.read(0), plan.rows(0))


@pytest.mark.parametrize("as_views", [False, True])
def test_memory_is_used_again(
    source: Source, monkeypatch: pytest.MonkeyPatch, as_views: bool
) -> None:
    monkeypatch.setattr(_buffers, "_SMALLEST", 0)
    lent: list[NDArray[Any]] = []  # held, so that no other array comes to lie where one was
    lend = _buffers._Loan.__init__

    def lending(loan: Any, memory: NDArray[Any], owner: _buffers.Memory) -> None:
        if owner is store._windows.memory and not any(memory is other for other in lent):
            lent.append(memory)
        lend(loan, memory, owner)

    monkeypatch.setattr(_buffers._Loan, "__init__", lending)
    store, steps = make_windows(source), make_plan(source)[0].steps_per_epoch
    for _ in walk(store, range(3 * steps), threads=2, as_views=as_views):
        pass
    assert 2 <= len(lent) <= 3 * 2  # by chance twice where a window failed to wait


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Rows that are cut into 6 chunks each; the labels' chunks hold many more rows."""
    path = tmp_path_factory.mktemp("tiled") / "a.h5"
    rng = np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        x = rng.integers(0, 255, (NUM_ROWS, 5, 4), np.uint8)
        file.create_dataset("x", data=x, chunks=(32, 2, 3), compression="gzip")
        file.create_dataset("y", data=Y, chunks=(100,), compression="gzip")
    return Source(path, x="x", y="y")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("most", [1, 2])
def test_threads_share_the_chunks_that_rows_are_cut_into(
    tiled: Source, threads: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards: set[tuple[int, int]] = set()
    load = Source.load_rows_to

    def counting(
        source: Source, rows: Any, out: Any, positions: Any = None, shard: tuple[int, int] = (0, 1)
    ) -> None:
        shards.add(shard)
        load(source, rows, out, positions, shard)

    expected = tiled.read(np.arange(NUM_ROWS))
    monkeypatch.setattr(Source, "load_rows_to", counting)
    blocks = Blocks(tiled.part_starts, 32)
    plan = Plan(NUM_ROWS, 10, "chunks", block_starts=blocks.block_starts(None), window_blocks=1)
    store = WindowRows(tiled, plan, blocks, max_windows=most)
    for step, loaded in walk(store, range(2 * plan.steps_per_epoch), threads):
        for name in ("x", "y"):
            assert_array_equal(loaded[name], expected[name][plan.rows(step)])
    assert shards == {(number, 6) for number in range(6)}
