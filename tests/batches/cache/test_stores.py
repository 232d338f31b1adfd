"""Stores: the same rows from each, resident, spilled or direct, in threads and forks."""

import errno
import gc
import multiprocessing
import os
import pickle
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError, FileChangedError, FileError
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.batches.cache import (
    AbstractRows,
)
from kerash5.batches.cache._storage import ScratchFile
from kerash5.h5 import Source, write
from kerash5.h5.storage._file import H5File
from tests.batches.cache.stores import (
    BLOCK_BYTES,
    NUM_ROWS,
    ROW_BYTES,
    STORES,
    Counted,
    X,
    Y,
    assert_rows,
    make_direct,
    make_half_direct,
    make_plan,
    make_resident,
    make_spilled,
    make_windows,
    walk,
)

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
