"""Stores: the same rows from each, never more in memory than the cache allows, never stuck."""

import errno
import gc
import multiprocessing
import os
import pickle
import re
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError, FileChangedError, FileError, OptionError
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.batches.cache import (
    AUTO_CACHE_BYTES,
    AbstractRows,
    DirectRows,
    ResidentBlocks,
    ResidentRows,
    WindowRows,
    parse_cache,
)
from kerash5.batches.cache._storage import ScratchFile
from kerash5.batches.cache._window import next_window
from kerash5.h5 import Runs, Source, write
from kerash5.h5.reading import _buffers
from kerash5.h5.reading._buffers import _BATCHES, Memory
from kerash5.h5.storage._file import H5File
from kerash5.order._blocks import Blocks
from kerash5.order._plan import Plan

NUM_ROWS: Final = 150
BLOCK_ROWS: Final = 8
ROW_BYTES: Final = 3 * 2 + 8  # of x and y below
BLOCK_BYTES: Final = BLOCK_ROWS * ROW_BYTES
X: Final = np.arange(NUM_ROWS * 3, dtype=np.uint16).reshape(NUM_ROWS, 3)
Y: Final = np.arange(NUM_ROWS, dtype=np.int64) * 7


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Two files of compressed rows, read as one; the first ends inside a block."""
    folder = tmp_path_factory.mktemp("arena")
    for name, rows in (("a.h5", slice(0, 60)), ("b.h5", slice(60, NUM_ROWS))):
        write(folder / name, chunk_rows=BLOCK_ROWS, x=X[rows], y=Y[rows])
    return Source(folder / "*.h5", x="x", y="y")


def make_plan(
    source: Source, batch_size: int = 5, window_blocks: int = 2, rows: Any = None, **options: Any
) -> tuple[Plan, Blocks]:
    blocks = Blocks(source.part_starts, source.block_rows)
    block_starts = blocks.block_starts(rows)
    options = {"shuffle": "chunks", **options}
    plan = Plan(
        NUM_ROWS,
        batch_size,
        rows_to_serve=rows,
        block_starts=block_starts,
        window_blocks=window_blocks,
        **options,
    )
    return plan, blocks


def make_windows(source: Source, **options: Any) -> WindowRows:
    return WindowRows(source, *make_plan(source, **options))


def make_resident(source: Source, **options: Any) -> ResidentRows:
    return ResidentRows(source, *make_plan(source, **options))


def make_direct(source: Source, **options: Any) -> DirectRows:
    return DirectRows(source, make_plan(source, **options)[0], "for a test")


def make_half_direct(source: Source, **options: Any) -> DirectRows:
    plan, blocks = make_plan(source, **options)
    kept = ResidentBlocks(source.select(y="y"), blocks, plan.rows_to_serve)
    return DirectRows(source, plan, "for a test", kept)


def make_one_window(source: Source, **options: Any) -> WindowRows:
    return WindowRows(source, *make_plan(source, **options), max_windows=1)


def make_half_windows(source: Source, **options: Any) -> WindowRows:
    plan, blocks = make_plan(source, **options)
    kept = ResidentBlocks(source.select(y="y"), blocks, plan.rows_to_serve)
    return WindowRows(source, plan, blocks, kept)


def make_spilled(source: Source, **options: Any) -> ResidentRows:
    plan, blocks = make_plan(source, **options)
    return ResidentRows(source, plan, blocks, scratch=str(Path(source.paths[0]).parent))


def make_half_spilled(source: Source, **options: Any) -> ResidentRows:
    plan, blocks = make_plan(source, **options)
    kept = ResidentBlocks(source.select(y="y"), blocks, plan.rows_to_serve)
    folder = str(Path(source.paths[0]).parent)
    return ResidentRows(source, plan, blocks, scratch=folder, pinned=kept)


STORES: Final = {
    "direct": make_direct,
    "half direct": make_half_direct,
    "resident": make_resident,
    "windows": make_windows,
    "one window": make_one_window,
    "half windows": make_half_windows,
    "spilled": make_spilled,
    "half spilled": make_half_spilled,
}


def assert_rows(loaded: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> None:
    assert_array_equal(loaded["x"], X[rows])
    assert_array_equal(loaded["y"], Y[rows])


def walk(
    store: AbstractRows, steps: range, threads: int, *, as_views: bool = False
) -> Generator[tuple[int, Any], None, None]:
    """Take steps as `Batches` does: a few in flight, and the store told of the oldest."""
    with ThreadPoolExecutor(threads) as executor:
        if as_views:
            for step in steps:
                store.advance(step, executor, threads)
                yield step, store.view(step)
            return
        futures = [executor.submit(store.read, step) for step in steps[: threads + 1]]
        for step in steps:
            store.advance(step, executor)
            yield step, futures.pop(0).result()
            coming = step + threads + 1
            if coming in steps:
                futures.append(executor.submit(store.read, coming))


class Counted:
    """Counts the decoded bytes that are alive, and the most there ever were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.live = self.peak = self.total = 0
        self._lock = threading.Lock()
        allocate, lend = Source.allocate, Memory.empty

        def counting(source: Source, num_rows: int) -> dict[str, NDArray[Any]]:
            arrays = allocate(source, num_rows)
            for array in arrays.values():
                self._note(array)
            return arrays

        def lending(memory: Memory, *arguments: Any) -> NDArray[Any]:
            array = lend(memory, *arguments)
            if memory is not _BATCHES:
                self._note(array)
            return array

        monkeypatch.setattr(Source, "allocate", counting)
        monkeypatch.setattr(Memory, "empty", lending)

    def _note(self, array: NDArray[Any]) -> None:
        self._count(array.nbytes)
        weakref.finalize(array, self._count, -array.nbytes)

    def _count(self, num_bytes: int) -> None:
        with self._lock:
            self.live += num_bytes
            self.total += max(num_bytes, 0)
            self.peak = max(self.peak, self.live)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """Count how often each range of rows is loaded."""
    found: Counter[tuple[int, int]] = Counter()
    load_runs, load_rows_to = Source.load_runs, Source.load_rows_to

    def counting_runs(source: Source, runs: Runs, out: Any) -> None:
        found.update((start, stop) for start, stop, _ in runs)
        load_runs(source, runs, out)

    def counting_rows(
        source: Source, rows: Any, out: Any, positions: Any = None, shard: tuple[int, int] = (0, 1)
    ) -> None:
        if shard[0] == 0 and positions is not None:  # None: not a window
            blocks = Blocks(source.part_starts, source.block_rows).of_rows(rows)
            for block in np.unique(blocks):
                some = rows[blocks == block]
                found[int(some[0]), int(some[-1]) + 1] += 1
        load_rows_to(source, rows, out, positions, shard)

    monkeypatch.setattr(Source, "load_runs", counting_runs)
    monkeypatch.setattr(Source, "load_rows_to", counting_rows)
    return found


# Equality is the law


@settings(max_examples=120)
@given(data=st.data())
def test_every_store_gives_the_plans_rows(source: Source, data: st.DataObject) -> None:
    numbers = st.integers(0, NUM_ROWS - 1) | st.integers(55, 70)  # and many around the border
    rows = data.draw(st.none() | st.lists(numbers, min_size=2, max_size=60))
    count = data.draw(st.integers(1, 2))
    options: dict[str, Any] = {
        "rows": None if rows is None else np.array(sorted(rows)),
        "batch_size": data.draw(st.integers(2, 40)),
        "window_blocks": data.draw(st.integers(1, 6)),
        "shuffle": data.draw(st.sampled_from(["chunks", False])),
        "shard": (data.draw(st.integers(0, count - 1)), count),
        "seed": data.draw(st.integers(0, 5)),
    }
    plan, _ = make_plan(source, **options)
    stores = [make(source, **options) for make in STORES.values()]
    steps = st.integers(0, 3 * plan.steps_per_epoch)
    for step in data.draw(st.lists(steps, min_size=1, max_size=6)):
        for store in stores:
            assert_rows(store.read(step), plan.rows(step))


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_a_row_that_is_asked_for_twice_comes_twice(
    source: Source, make: Callable[..., AbstractRows]
) -> None:
    # As many rows as lie between the first and the last, and yet not all of those between.
    store = make(source, rows=np.array([0, 0, 2, 66, 67, 67]), shuffle=False, batch_size=6)
    assert_rows(store.read(0), np.array([0, 0, 2, 66, 67, 67]))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [3, 16, 50])
@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_threads_that_look_ahead_get_the_plans_rows(
    source: Source, make: Callable[..., AbstractRows], batch_size: int, threads: int
) -> None:
    plan, _ = make_plan(source, batch_size)
    store = make(source, batch_size=batch_size)
    for step, loaded in walk(store, range(3 * plan.steps_per_epoch), threads):
        assert_rows(loaded, plan.rows(step))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_threads_that_ask_for_anything_at_once_get_the_plans_rows(
    source: Source, make: Callable[..., AbstractRows]
) -> None:
    plan, _ = make_plan(source)
    store = make(source)
    steps = np.random.default_rng(1).integers(0, 90, 600).tolist()
    with ThreadPoolExecutor(8) as executor:
        for step, loaded in zip(steps, executor.map(store.read, steps), strict=True):
            assert_rows(loaded, plan.rows(step))


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
@pytest.mark.parametrize("first", ["read", "view"])
@pytest.mark.parametrize("second", ["read", "view"])
def test_a_batch_is_the_callers_to_write_on(
    source: Source, make: Callable[..., AbstractRows], first: str, second: str
) -> None:
    plan, _ = make_plan(source)
    store = make(source)
    getattr(store, first)(0)["x"][:] = 0
    assert_rows(getattr(store, second)(0), plan.rows(0))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [3, 16, 50])
@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_what_is_handed_out_stays_what_it_was(
    source: Source, make: Callable[..., AbstractRows], batch_size: int, threads: int
) -> None:
    # Although the memory of windows is used again.
    plan, _ = make_plan(source, batch_size)
    steps = range(3 * plan.steps_per_epoch)
    for step, loaded in list(
        walk(make(source, batch_size=batch_size), steps, threads, as_views=True)
    ):
        assert_rows(loaded, plan.rows(step))


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_a_pickled_store_gives_the_same_and_carries_no_data(
    source: Source, make: Callable[..., AbstractRows]
) -> None:
    plan, _ = make_plan(source)
    store = make(source)
    empty = len(pickle.dumps(store))
    for step in range(plan.steps_per_epoch):
        store.read(step)
    text = pickle.dumps(store)
    assert len(text) == empty
    assert_rows(pickle.loads(text).read(3), plan.rows(3))


def test_stores_say_in_words_where_rows_come_from(source: Source) -> None:
    assert make_direct(source).describe() == "each batch is read when it is due, for a test"
    assert make_half_direct(source).describe().endswith("for a test; y in memory")
    assert "two windows are in memory at a time" in make_windows(source).describe()
    assert "0.0 MB decoded, within the cache" in make_resident(source).describe()


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


# Resident


def test_a_resident_store_loads_only_blocks_with_rows_to_serve(
    source: Source, ranges: Counter[tuple[int, int]], memory: Counted
) -> None:
    rows = np.array([0, 1, 70, 149])
    plan, _ = make_plan(source, rows=rows, batch_size=4)
    store = make_resident(source, rows=rows, batch_size=4)
    assert not store.is_in_memory()
    assert_rows(store.read(0), plan.rows(0))
    assert store.is_in_memory()
    assert ranges == {(0, 8): 1, (68, 76): 1, (148, 150): 1}
    assert memory.peak == 18 * ROW_BYTES


@pytest.mark.timeout(60)
def test_a_resident_store_loads_each_block_once_however_many_ask(
    source: Source, ranges: Counter[tuple[int, int]]
) -> None:
    store = make_resident(source, batch_size=50)
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(store.read, [0, 1, 2] * 20))
    assert set(ranges.values()) == {1}
    assert sum(stop - start for start, stop in ranges) == NUM_ROWS


def test_another_plan_shares_what_is_resident(
    source: Source, ranges: Counter[tuple[int, int]]
) -> None:
    store = make_resident(source)
    for step in range(30):
        store.read(step)
    ranges.clear()
    plan = make_plan(source)[0].in_given_order()
    other = store.with_plan(plan)
    assert other.is_in_memory()
    assert_rows(other.read(2), plan.rows(2))
    assert not ranges


def _measure_windows(path: str, report: Any) -> None:
    """Walk 12 epochs in windows; report the memory before, and after each epoch."""
    process = psutil.Process()
    options = BatchOptions(batch_size=64, cache="4MB", threads=2)
    found = [process.memory_info().rss]
    batches = open_batches(path, "x", None, None, options)
    for epoch in range(12):
        for _ in batches.epoch(epoch):
            pass
        found.append(process.memory_info().rss)
    report.put((type(batches._store).__name__, found))


@pytest.mark.timeout(120)
def test_memory_stays_within_the_budget_over_many_epochs(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:  # 48 MB decoded
        x = file.create_dataset("x", (12_000, 4000), "u1", chunks=(40, 4000), compression="lzf")
        x[...] = np.arange(4000, dtype=np.uint8)
    context = multiprocessing.get_context("spawn")
    report = context.Queue()
    child = context.Process(target=_measure_windows, args=(str(path), report))
    child.start()
    store, found = report.get(timeout=100)
    child.join(20)
    assert store == "WindowRows"
    growth = np.array(found[1:]) - found[0]
    assert growth.max() < (4 << 20) + 4 * 64 * 4000 + (30 << 20)  # of 48 MB
    assert growth[6:].max() - growth[3] < 4 << 20  # flat


# Spilled


def folder_of(source: Source) -> Path:
    return Path(source.paths[0]).parent


def test_spilled_blocks_are_decoded_once_and_leave_no_file(
    source: Source, ranges: Counter[tuple[int, int]], memory: Counted
) -> None:
    store, plan = make_spilled(source), make_plan(source)[0]
    before = sorted(folder_of(source).iterdir())
    for step in range(3 * plan.steps_per_epoch):
        assert_rows(store.read(step), plan.rows(step))
        assert sorted(folder_of(source).iterdir()) == before
    assert set(ranges.values()) == {1}
    assert memory.peak == BLOCK_BYTES  # one block at a time
    assert store.is_spilled
    assert not store.is_in_memory()
    assert "decoded once into a scratch file in" in store.describe()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc to count descriptors in")
def test_a_spilled_store_that_is_gone_holds_no_file(source: Source) -> None:
    def count() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    make_direct(source).read(0)
    before = count()
    store = make_spilled(source)
    store.read(0)
    assert count() == before + 1
    del store
    assert count() == before


def test_a_file_system_without_nameless_files_will_do(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    before = sorted(folder_of(source).iterdir())
    store, plan = make_spilled(source), make_plan(source)[0]
    assert_rows(store.read(0), plan.rows(0))
    assert sorted(folder_of(source).iterdir()) == before


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_says_so_and_leaves_nothing(
    source: Source, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(folder_of(source).iterdir())
    store, plan = make_spilled(source), make_plan(source)[0]
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse, raising=False)
        with pytest.raises(FileError, match=r"no room for 0\.0 MB .* on a larger disk"):
            store.read(0)
    assert sorted(folder_of(source).iterdir()) == before
    assert_rows(store.read(0), plan.rows(0))  # once there is room


def test_a_limit_on_file_sizes_says_so(source: Source) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(FileError, match=r"no room for .* MB of decoded rows"):
            make_spilled(source).read(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_scratch_file_that_lost_its_end_is_an_error(source: Source) -> None:
    store = make_spilled(source, batch_size=NUM_ROWS)
    store.read(0)
    storage = store._resident._storage
    assert isinstance(storage, ScratchFile)
    os.truncate(storage._file._descriptor, 10)
    with pytest.raises(DamagedFileError, match=r"the scratch file in .* ends early"):
        store.read(1)


def test_a_spilled_file_is_announced_in_the_log(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "kerash5"):
        make_spilled(source).read(0)
    assert "decoded once into a scratch file in" in caplog.text


# Columns of which some stay in memory


def test_a_column_that_is_kept_is_read_once(
    source: Source, ranges: Counter[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, ...]] = []
    load = Source.load_rows

    def counting(source: Source, rows: NDArray[np.int64]) -> Any:
        read.append(tuple(source.columns))
        return load(source, rows)

    monkeypatch.setattr(Source, "load_rows", counting)
    store, plan = make_half_direct(source), make_plan(source)[0]
    for step in range(2 * plan.steps_per_epoch):
        assert list(store.read(step)) == ["x", "y"]
    assert set(read) == {("x",)}
    assert set(ranges.values()) == {1}


# Files that change


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_only_the_files_of_a_batch_are_looked_at(
    tmp_path: Path, make: Callable[..., AbstractRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        rows = slice(number * 15, number * 15 + 15)
        write(tmp_path / f"{number}.h5", chunk_rows=5, x=X[rows], y=Y[rows])
    source = Source(tmp_path / "*.h5", x="x", y="y")
    store = make(source, shuffle=False, window_blocks=3)
    for step in range(30):  # all is read, where it is kept
        store.read(step)
    looked_at = []
    check = H5File.check_unchanged

    def counting(file: H5File) -> None:
        looked_at.append(file.path)
        check(file)

    monkeypatch.setattr(H5File, "check_unchanged", counting)
    store.read(29)
    assert set(looked_at) == {str(tmp_path / "9.h5")}
    (tmp_path / "9.h5").write_bytes(b"something else")
    store.read(26)
    with pytest.raises(FileChangedError, match=r"9\.h5' had .* bytes and has 14"):
        store.read(27)


# Forks


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("name", STORES)
def test_a_child_forked_while_threads_read_is_not_stuck(
    source: Source, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store, plan = STORES[name](source), make_plan(source)[0]
    parent, is_reading, may_read = os.getpid(), threading.Event(), threading.Event()

    def blocking(load: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if os.getpid() == parent:
                is_reading.set()
                assert may_read.wait(30)
            return load(*arguments)

        return call

    for method in ("load_runs", "load_rows", "load_rows_to"):
        monkeypatch.setattr(Source, method, blocking(getattr(Source, method)))
    reading = threading.Thread(target=store.read, args=(0,))
    reading.start()
    assert is_reading.wait(30)

    def check() -> None:
        assert_rows(store.read(0), plan.rows(0))
        assert_rows(store.read(9), plan.rows(9))

    child = multiprocessing.get_context("fork").Process(target=check)
    child.start()
    child.join(20)
    is_stuck = child.is_alive()
    child.kill()
    may_read.set()
    reading.join()
    assert not is_stuck
    assert child.exitcode == 0


def test_a_child_keeps_what_was_resident_before_the_fork(
    source: Source, ranges: Counter[tuple[int, int]]
) -> None:
    store = make_resident(source)
    for step in range(30):
        store.read(step)
    ranges.clear()
    store._resident.after_fork()
    store.read(4)
    assert not ranges


# The cache


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that sets the free memory."""

    def pretend(num_bytes: int) -> None:
        memory = psutil.virtual_memory()._replace(available=num_bytes)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    pretend(10**12)
    return pretend


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(
    ("cache", "num_bytes"),
    [
        *((0, 0), (1, 1), (12_345, 12_345), (np.int64(7), 7), (2e9, 2 * 10**9)),
        *(("2GB", 2 * 10**9), ("2 gb", 2 * 10**9), ("2G", 2 * 10**9), ("1.5kB", 1500)),
        *(("512 MiB", 512 << 20), ("512mi", 512 << 20), (" 3 TiB ", 3 << 40), ("1 KiB", 1024)),
        *(("100", 100), ("100 B", 100), ("0", 0)),
        *((0.5, 5 * 10**11), (1.0, 10**12), (np.float32(0.25), 25 * 10**10), (0.0, 0)),
        *(("0.5", 5 * 10**11), ("auto", AUTO_CACHE_BYTES)),
    ],
    ids=repr,
)
def test_a_cache_is_bytes_or_a_size_or_a_share_of_free_memory(cache: Any, num_bytes: int) -> None:
    assert parse_cache(cache) == num_bytes


def test_an_automatic_cache_leaves_most_of_a_small_memory_alone(
    free: Callable[[int], None],
) -> None:
    free(100 << 20)
    assert parse_cache("auto") == 25 << 20


@pytest.mark.parametrize(
    "cache",
    [
        *(-1, -0.5, 1.5, float("nan"), float("inf"), True, None, [1], b"2GB"),
        *("", "GB", "2 XB", "2ib", "-2GB", "1e9", "2GB or so", "half", "1.5"),
    ],
    ids=repr,
)
def test_a_cache_that_is_none_of_these_says_what_it_may_be(cache: Any) -> None:
    words = rf"cache={re.escape(repr(cache))}; give bytes, a size such as '2GB'"
    with pytest.raises(OptionError, match=words):
        parse_cache(cache)


def test_the_folder_of_a_source_is_not_written_to(source: Source) -> None:
    folder = Path(source.paths[0]).parent
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    for make in STORES.values():
        make(source).read(0)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_what_callers_bring_back_at_once_is_not_kept_beyond_the_windows(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_buffers, "_SMALLEST", 0)
    plan, _ = make_plan(source, window_blocks=4)
    store = make_windows(source, window_blocks=4)
    batches = list(walk(store, range(plan.steps_per_epoch), threads=2, as_views=True))
    assert len(batches) == plan.steps_per_epoch
    del batches
    gc.collect()
    kept = sum(size * len(same) for size, same in store._windows.memory._free.items())
    assert 0 < kept <= 2 * 2 * _buffers.round_up(1)  # two windows of two small columns
