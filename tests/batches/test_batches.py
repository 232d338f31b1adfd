"""Batches: source rows in the plan's order, whatever the store, the threads and the process."""

import multiprocessing
import operator
import os
import pickle
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kerash5._errors import (
    ColumnError,
    DamagedFileError,
    FileChangedError,
    OptionError,
    RowError,
)
from kerash5.batches._batches import Batch, Batches, BatchOptions, open_batches, parse_selection
from kerash5.batches.cache import INDEX_BYTES, DirectRows, ResidentRows, WindowRows
from kerash5.h5 import Column, Source, write

NUM_ROWS: Final = 203
X: Final = np.arange(NUM_ROWS * 6, dtype=np.uint16).reshape(NUM_ROWS, 3, 2)
Y: Final = np.arange(NUM_ROWS, dtype=np.int64) * 3
W: Final = np.linspace(0, 1, NUM_ROWS, dtype=np.float32)
ROW_BYTES: Final = 12 + 8 + 4
CHUNK_ROWS: Final = 8


@dataclass(frozen=True)
class Kind:
    """A way in which batches can come about."""

    store: type
    compression: Any
    cache: Any
    shuffle: Any = "auto"
    spills: bool = False


WINDOW_CACHE: Final = 4 * CHUNK_ROWS * (ROW_BYTES + INDEX_BYTES)
KINDS: Final = {
    "contiguous": Kind(DirectRows, None, 1024),
    "contiguous in memory": Kind(ResidentRows, None, "auto"),
    "contiguous in chunks": Kind(DirectRows, None, 4096, "chunks"),
    "resident": Kind(ResidentRows, "gzip", "auto"),
    "resident in chunks": Kind(ResidentRows, "gzip", "auto", "chunks"),
    "resident in order": Kind(ResidentRows, "gzip", "auto", shuffle=False),
    "windows": Kind(WindowRows, "gzip", WINDOW_CACHE),
    "windows in order": Kind(WindowRows, "gzip", WINDOW_CACHE, shuffle=False),
    "spilled": Kind(ResidentRows, "gzip", 0, spills=True),
    "spilled in order": Kind(ResidentRows, "gzip", 0, shuffle=False, spills=True),
    "spilled though windows fit": Kind(ResidentRows, "gzip", WINDOW_CACHE, "rows", spills=True),
    "no cache": Kind(DirectRows, "gzip", 0),
    "no cache in order": Kind(DirectRows, "gzip", 0, shuffle=False),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def make_file(folder: Path, compression: Any = "gzip", name: str = "data.h5") -> Path:
    path = folder / name
    chunk_rows = CHUNK_ROWS if compression else None
    write(path, compression=compression, chunk_rows=chunk_rows, x=X, y=Y, w=W)
    return path


def open_kind(folder: Path, kind: Kind, **options: Any) -> Batches:
    """Write the file of a kind, and open it."""
    path = make_file(folder, kind.compression)
    options = {"batch_size": 10, "cache": kind.cache, "shuffle": kind.shuffle, **options}
    if kind.spills:
        options["scratch"] = folder
    batches = open_batches(path, "x", "y", "w", BatchOptions(**options))
    assert type(batches._store) is kind.store
    return batches


def open_plain(folder: Path, x: Any = "x", y: Any = "y", w: Any = None, **options: Any) -> Batches:
    """Open a compressed file that fits the cache."""
    return open_batches(make_file(folder), x, y, w, BatchOptions(**{"batch_size": 10, **options}))


def assert_rows(batch: Batch, rows: NDArray[np.int64]) -> None:
    x, y, w = batch
    assert_array_equal(x, X[rows])
    assert_array_equal(y, Y[rows])
    assert_array_equal(w, W[rows])
    assert (x.dtype, y.dtype, w.dtype) == (X.dtype, Y.dtype, W.dtype)


def assert_batches(found: Iterable[Batch], batches: Batches, steps: range) -> None:
    """Check that these are the batches of these steps, and no more."""
    for step, batch in zip(steps, found, strict=True):
        assert_rows(batch, batches.plan.rows(step))


def reading_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("kerash5")]


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    yield
    assert reading_threads() == []


# The law: a batch is a pure function of files, plan and step


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [0, 1, 4])
@every_kind
def test_batches_are_source_rows_in_the_plans_order(
    tmp_path: Path, kind: Kind, threads: int
) -> None:
    batches = open_kind(tmp_path, kind, threads=threads)
    assert len(batches) == 21
    for epoch in range(3):
        steps = range(epoch * len(batches), (epoch + 1) * len(batches))
        assert_batches(batches.epoch(epoch), batches, steps)


@every_kind
def test_each_row_comes_once_per_epoch(tmp_path: Path, kind: Kind) -> None:
    batches = open_kind(tmp_path, kind)
    for epoch in range(2):
        served = np.concatenate([y for _, y, _ in batches.epoch(epoch)])
        assert_array_equal(np.sort(served), Y)


@every_kind
def test_steps_read_in_any_order_are_those_of_the_epoch(tmp_path: Path, kind: Kind) -> None:
    batches = open_kind(tmp_path, kind)
    for step in np.random.default_rng(0).permutation(3 * len(batches)).tolist():
        assert_rows(batches.read(step), batches.plan.rows(step))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("start", [1, 13, 20])
@pytest.mark.parametrize("threads", [0, 1, 3])
@every_kind
def test_an_epoch_can_begin_in_its_middle(
    tmp_path: Path, kind: Kind, threads: int, start: int
) -> None:
    batches = open_kind(tmp_path, kind, threads=threads)
    assert_batches(batches.epoch(1, start), batches, range(21 + start, 42))


def test_an_epoch_that_begins_at_its_end_is_empty(tmp_path: Path) -> None:
    assert list(open_plain(tmp_path).epoch(0, 21)) == []


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (0, -1), (0, 22)])
def test_an_epoch_that_is_not_there_is_refused_at_once(
    tmp_path: Path, epoch: int, start: int
) -> None:
    with pytest.raises(OptionError, match=f"epoch {epoch} from batch {start}; .* 0 to 21"):
        open_plain(tmp_path).epoch(epoch, start)


@pytest.mark.timeout(60)
@every_kind
def test_shards_share_the_rows(tmp_path: Path, kind: Kind) -> None:
    served = []
    for index in range(3):
        folder = tmp_path / str(index)
        folder.mkdir()
        batches = open_kind(folder, kind, shard=(index, 3), seed=4)
        assert len(batches) == 7
        served += [y for _, y, _ in batches.epoch(1)]
    assert_array_equal(np.sort(np.concatenate(served)), Y)


def test_several_files_are_one(tmp_path: Path) -> None:
    for number, part in enumerate(np.array_split(np.arange(NUM_ROWS), 3)):
        write(tmp_path / f"{number}.h5", chunk_rows=CHUNK_ROWS, x=X[part], y=Y[part], w=W[part])
    for cache in ("auto", WINDOW_CACHE, 0):
        options = BatchOptions(batch_size=10, cache=cache)
        batches = open_batches(tmp_path / "*.h5", "x", "y", "w", options)
        assert_batches(batches.epoch(0), batches, range(21))


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f8"])
def test_a_foreign_byte_order_becomes_this_machines(tmp_path: Path, dtype: str) -> None:
    write(tmp_path / "big.h5", x=X.astype(dtype), y=Y)
    (x, _) = open_batches(tmp_path / "big.h5", "x", "y", None, BatchOptions(shuffle=False)).read(0)
    assert x.dtype.isnative
    assert_array_equal(x, X[:32])


def test_text_labels_become_class_ids(tmp_path: Path) -> None:
    write(tmp_path / "text.h5", x=np.arange(4), y=["dog", "cat", "cat", "emu"])
    options = BatchOptions(shuffle=False)
    (_, y) = open_batches(tmp_path / "text.h5", "x", "y", None, options).read(0)
    assert y.tolist() == [1, 0, 0, 2]


# What a batch looks like


def test_a_batch_has_what_was_asked_for(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    for y, w, roles in [
        (None, None, ("x",)),
        ("y", None, ("x", "y")),
        ("y", "w", ("x", "y", "sample_weight")),
        (None, "w", ("x", "sample_weight")),
    ]:
        batches = open_batches(path, "x", y, w, BatchOptions())
        assert batches.roles == roles
        assert len(batches.read(0)) == len(roles)


def test_columns_come_in_the_nested_form_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "nested.h5"
    arrays = {name: np.arange(20) * 100 + number for number, name in enumerate("abcde")}
    grouped: dict[str, Any] = {"group/a": arrays["a"], "group/b": arrays["b"]}
    write(path, **grouped, c=arrays["c"], d=arrays["d"], e=arrays["e"])
    x = {"left": "group/a", "right": ("group/b", {"deep": Column("c", dtype="float32")})}
    batches = open_batches(path, x, ["d", "e"], None, BatchOptions(batch_size=7, shuffle=False))
    found_x, found_y = batches.read(0)
    assert list(found_x) == ["left", "right"]
    assert_array_equal(found_x["left"], arrays["a"][:7])
    assert isinstance(found_x["right"], tuple)
    assert_array_equal(found_x["right"][0], arrays["b"][:7])
    assert_array_equal(found_x["right"][1]["deep"], arrays["c"][:7])
    assert found_x["right"][1]["deep"].dtype == np.float32
    assert isinstance(found_y, tuple)
    assert_array_equal(found_y[1], arrays["e"][:7])
    assert batches.tree("y") == ("y/0", "y/1")
    assert set(batches.source.columns) == {
        *("x/left", "x/right/0", "x/right/1/deep", "y/0", "y/1"),
    }


def test_names_that_look_alike_do_not_take_each_others_place(tmp_path: Path) -> None:
    x = {"a/b": "x", "a": {"b": "y"}, 0: "w", "0": "y"}
    (found,) = open_plain(tmp_path, x, None, shuffle=False).read(0)
    assert_array_equal(found["a/b"], X[:10])
    assert_array_equal(found["a"]["b"], Y[:10])
    assert_array_equal(found[0], W[:10])
    assert_array_equal(found["0"], Y[:10])


def test_one_data_set_may_be_both_x_and_y(tmp_path: Path) -> None:
    x, y = open_plain(tmp_path, "x", "x").read(0)
    assert_array_equal(x, y)
    assert not np.shares_memory(x, y)


def test_a_source_brings_its_columns_along(tmp_path: Path) -> None:
    source = Source(make_file(tmp_path), x="x", y="y", sample_weight="w", other="w")
    batches = open_batches(source, None, None, None, BatchOptions())
    assert batches.roles == ("x", "y", "sample_weight")
    assert_rows(batches.read(0), batches.plan.rows(0))


def test_a_sources_columns_can_be_chosen_by_name(tmp_path: Path) -> None:
    source = Source(make_file(tmp_path), image="x", label="y")
    x, y = open_batches(source, {"in": "image"}, "label", None, BatchOptions(shuffle=False)).read(0)
    assert_array_equal(x["in"], X[:32])
    assert_array_equal(y, Y[:32])


def test_a_source_without_x_and_a_column_for_a_source_are_refused(tmp_path: Path) -> None:
    source = Source(make_file(tmp_path), image="x")
    with pytest.raises(ColumnError, match=r"has no column named 'x'; make it with x="):
        open_batches(source, None, None, None, BatchOptions())
    with pytest.raises(ColumnError, match=r"pass a Column .*to the Source"):
        open_batches(source, Column("image"), None, None, BatchOptions())
    with pytest.raises(ColumnError, match="no column 'label'"):
        open_batches(source, "image", "label", None, BatchOptions())


# Transforms


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [0, 3])
def test_a_transform_is_called_once_per_batch_with_whole_arrays(
    tmp_path: Path, threads: int
) -> None:
    calls: list[int] = []

    def negate(x: Any, y: Any, w: Any) -> Any:
        calls.append(len(x))
        return -x.astype(np.int64), y + 1, w

    batches = open_plain(tmp_path, w="w", transform=negate, threads=threads)
    for epoch in range(2):  # in the second, all rows are in memory
        calls.clear()
        for step, (x, y, w) in enumerate(batches.epoch(epoch), start=epoch * 21):
            rows = batches.plan.rows(step)
            assert_array_equal(x, -X[rows].astype(np.int64))
            assert_array_equal(y, Y[rows] + 1)
            assert_array_equal(w, W[rows])
        assert sorted(calls) == [3, *[10] * 20]


def test_a_transform_of_x_alone_returns_x_alone(tmp_path: Path) -> None:
    batches = open_plain(tmp_path, y=None, transform=lambda x: {"x": x})
    assert list(batches.read(0)[0]) == ["x"]


class OddError(Exception):
    """Not one of ours."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_error_in_a_transform_reaches_the_caller_as_it_is(tmp_path: Path, threads: int) -> None:
    def fail_late(x: Any, y: Any) -> Any:
        if 50 * 3 in y:
            raise OddError("row 50")
        return x, y

    batches = open_plain(tmp_path, transform=fail_late, threads=threads, shuffle=False)
    found = batches.epoch(0)
    for _ in range(5):
        next(found)
    with pytest.raises(OddError, match=r"^row 50$") as caught:
        next(found)
    assert "fail_late" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert list(found) == []


def forget(*_batch: Any) -> None:
    """Return nothing."""


WRONG_RETURNS: Final[dict[str, tuple[Callable[..., Any], str]]] = {
    "forgotten": (forget, r"returned None; it is called with \(x, y\) and must return a tuple"),
    "one": (lambda *batch: batch[:1], r"returned tuple of 1; it is called with \(x, y\)"),
    "three": (lambda *batch: (*batch, batch[0]), "returned tuple of 3"),
    "an array": (lambda *batch: batch[0], "returned ndarray; it is called with"),
    "a dict": (lambda x, y: {"x": x, "y": y}, "returned dict; it is called with"),
}


@pytest.mark.parametrize(("transform", "words"), WRONG_RETURNS.values(), ids=WRONG_RETURNS)
def test_a_transform_that_returns_something_else_is_told(
    tmp_path: Path, transform: Any, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        open_plain(tmp_path, transform=transform).read(0)


def test_a_transform_of_x_alone_that_forgets_to_return_is_told(tmp_path: Path) -> None:
    batches = open_plain(tmp_path, y=None, transform=forget)
    with pytest.raises(
        OptionError, match=r"returned None; it is called with \(x\) and must return the sam"
    ):
        batches.read(0)


def test_a_transform_may_return_a_list(tmp_path: Path) -> None:
    assert isinstance(open_plain(tmp_path, transform=lambda x, y: [x, y]).read(0), tuple)


def test_a_transform_that_cannot_be_called_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="transform='scale'; it is a function"):
        open_plain(tmp_path, transform="scale")


# The order for evaluation


@pytest.mark.timeout(60)
@pytest.mark.parametrize("rows", [None, [30, 5, 5, 202, 0, 100]], ids=["all rows", "some rows"])
@every_kind
def test_the_given_order_is_that_of_the_rows_asked_for(
    tmp_path: Path, kind: Kind, rows: Any
) -> None:
    if kind.store is WindowRows and rows:
        rows = [*rows, *range(202, 20, -1)]  # enough of them to be too many for the cache
    options = {"rows": rows, "drop_last": True, "batch_size": 5}
    path = make_file(tmp_path, kind.compression)
    options = {"cache": kind.cache, "shuffle": kind.shuffle, **options}
    batches = open_batches(path, "x", "y", "w", BatchOptions(**options)).in_given_order()
    wanted = np.arange(NUM_ROWS) if rows is None else np.array(rows)
    for epoch in range(2):
        assert_rows(
            tuple(map(np.concatenate, zip(*batches.epoch(epoch), strict=True))),
            wanted,
        )


def test_the_given_order_shares_what_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = open_plain(tmp_path, w="w", shuffle="chunks")
    list(batches.epoch(0))
    monkeypatch.delattr(Source, "load_range")
    monkeypatch.delattr(Source, "load_rows")
    ordered = batches.in_given_order()
    assert_batches(ordered.epoch(0), ordered, range(21))


def test_another_number_of_threads_gives_the_same_batches(tmp_path: Path) -> None:
    batches = open_plain(tmp_path, w="w")
    other = batches.with_threads(1)
    assert other.plan is batches.plan
    assert_batches(other.epoch(2), batches, range(42, 63))


def test_other_rows_of_the_source_come_with_the_same_options(tmp_path: Path) -> None:
    batches = open_plain(tmp_path, w="w", batch_size=4, shuffle=False).with_rows(slice(10, 20))
    assert [len(y) for _, y, _ in batches.epoch(0)] == [4, 4, 2]
    assert_rows(batches.read(2), np.array([18, 19]))


def test_other_rows_share_what_is_in_memory_if_it_includes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = open_plain(tmp_path, w="w", rows=slice(0, 96))
    list(batches.epoch(0))
    other = batches.with_rows([90, 3, 3], shuffle=False)
    beyond = batches.with_rows([90, 96], shuffle=False)
    assert batches.fits_memory
    assert_rows(beyond.read(0), np.array([90, 96]))
    monkeypatch.delattr(Source, "load_range")
    assert_rows(other.read(0), np.array([90, 3, 3]))


def test_only_what_stays_in_memory_is_said_to_fit_it(tmp_path: Path) -> None:
    for name, kind in KINDS.items():
        folder = tmp_path / name
        folder.mkdir()
        is_kept = kind.store is ResidentRows and not kind.spills
        assert open_kind(folder, kind).fits_memory == is_kept


def test_batches_go_on_after_a_release(tmp_path: Path) -> None:
    batches = open_kind(tmp_path, KINDS["windows"])
    for epoch in range(2):
        assert_batches(batches.epoch(epoch), batches, range(epoch * 21, epoch * 21 + 21))
        batches.release()


# Look-ahead


def wait_until(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.001)


@pytest.mark.timeout(60)
def test_a_few_batches_are_read_ahead_and_no_more(tmp_path: Path) -> None:
    read: list[int] = []

    def note(x: Any, y: Any) -> Any:
        read.append(int(y[0]))
        return x, y

    found = open_plain(tmp_path, transform=note, threads=2).epoch(0)
    assert read == []  # nothing before the first is asked for
    next(found)
    wait_until(lambda: len(read) == 3)
    time.sleep(0.05)
    assert len(read) == 3  # threads + 1
    for _ in range(4):
        next(found)
    wait_until(lambda: len(read) == 7)


def test_large_batches_are_read_ahead_within_a_budget(tmp_path: Path) -> None:
    write(tmp_path / "wide.h5", compression=None, x=np.zeros((8, 6 << 20), np.uint8))
    options = BatchOptions(batch_size=2, threads=4)  # 12 MiB a batch, of 32
    assert open_batches(tmp_path / "wide.h5", "x", None, None, options)._depth == 2


def test_rows_in_memory_need_no_threads(tmp_path: Path) -> None:
    batches = open_plain(tmp_path, threads=3)
    list(batches.epoch(0))
    found = batches.epoch(1)
    next(found)
    assert reading_threads() == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["finished", "closed", "dropped", "left in mid-loop"])
@every_kind
def test_no_thread_outlives_the_iterator(tmp_path: Path, kind: Kind, how: str) -> None:
    batches = open_kind(tmp_path, kind, threads=3)
    found: Any = batches.epoch(0)
    next(found)
    assert reading_threads()
    if how == "finished":
        list(found)
    elif how == "closed":
        found.close()
    elif how == "left in mid-loop":
        for number, _ in enumerate(found):
            if number == 5:
                break
    del found
    assert reading_threads() == []
    # What was under way when the iterator went does no harm.
    assert_batches(batches.epoch(0), batches, range(21))


def test_an_iterator_never_started_starts_no_thread(tmp_path: Path) -> None:
    found = open_plain(tmp_path, threads=3).epoch(0)
    assert reading_threads() == []
    del found


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["contiguous", "resident", "windows", "no cache"])
def test_two_iterators_at_once_do_not_disturb_each_other(tmp_path: Path, name: str) -> None:
    batches = open_kind(tmp_path, KINDS[name], threads=2)
    for step, (one, other) in enumerate(zip(batches.epoch(0), batches.epoch(3), strict=True)):
        assert_rows(one, batches.plan.rows(step))
        assert_rows(other, batches.plan.rows(63 + step))


# Bad luck


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_changes_in_mid_epoch_is_noticed_with_the_next_batch(
    tmp_path: Path, name: str
) -> None:
    batches = open_kind(tmp_path, KINDS[name], threads=0)
    found = batches.epoch(0)
    next(found)
    os.utime(tmp_path / "data.h5", ns=(1, 1))
    with pytest.raises(FileChangedError, match=r"data\.h5' was written to or replaced"):
        next(found)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [0, 2])
@every_kind
def test_a_file_that_is_gone_is_noticed_once_the_batches_read_before_are_served(
    tmp_path: Path, kind: Kind, threads: int
) -> None:
    batches = open_kind(tmp_path, kind, threads=threads)
    found = batches.epoch(0)
    next(found)
    (tmp_path / "data.h5").unlink()
    served: list[Batch] = []
    with pytest.raises(FileChangedError, match="is gone now"):
        served.extend(found)
    assert len(served) <= threads + 1


@pytest.mark.parametrize("name", ["resident", "resident in order"])
def test_a_file_that_changes_when_all_is_in_memory_is_noticed_too(
    tmp_path: Path, name: str
) -> None:
    batches = open_kind(tmp_path, KINDS[name])
    list(batches.epoch(0))
    write(tmp_path / "data.h5", overwrite=True, x=X[:10], y=Y[:10], w=W[:10])
    with pytest.raises(FileChangedError, match=r"had .* bytes and has"):
        batches.read(0)


def damage_chunk(path: Path, column: str, number: int) -> None:
    """Overwrite a stored chunk with bytes that do not inflate."""
    with h5py.File(path) as file:
        chunk = file[column].id.get_chunk_info(number)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize("name", ["resident in order", "windows in order", "no cache in order"])
def test_a_damaged_chunk_stops_the_epoch_where_it_lies(
    tmp_path: Path, name: str, threads: int
) -> None:
    kind = KINDS[name]
    path = make_file(tmp_path)
    damage_chunk(path, "y", 12)  # rows 96 to 103
    options = BatchOptions(batch_size=8, cache=kind.cache, shuffle=False, threads=threads)
    batches = open_batches(path, "x", "y", "w", options)
    assert type(batches._store) is kind.store
    for _ in range(2):  # it is there the second time, too
        served: list[Batch] = []
        with pytest.raises(DamagedFileError, match=r"'y' in .*data\.h5' is damaged: chunk \(96"):
            served.extend(batches.epoch(0))
        # Its window, at the most, is lost with it.
        assert 96 - 4 * CHUNK_ROWS <= 8 * len(served) <= 96
        assert_array_equal(np.concatenate([y for _, y, _ in served]), Y[: 8 * len(served)])
    assert_rows(batches.read(25), np.array([200, 201, 202]))


# Other processes


@every_kind
def test_pickled_batches_are_the_same(tmp_path: Path, kind: Kind) -> None:
    batches = open_kind(tmp_path, kind, seed=5)
    next(iter(batches.epoch(0)))
    again = pickle.loads(pickle.dumps(batches))
    assert_batches(again.epoch(1), batches, range(21, 42))


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_batches_can_be_read_in_another_process(tmp_path: Path, method: str) -> None:
    for number, name in enumerate(["contiguous", "resident", "windows"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        batches = open_kind(folder, KINDS[name])
        batches.read(3)  # handles are open here
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            for step in (3, 25):
                batch = executor.submit(operator.methodcaller("read", step), batches).result()
                assert_rows(batch, batches.plan.rows(step))


# Options, and what is wrong with them


SELECTIONS: list[Any] = [
    pytest.param(None, None, id="None"),
    pytest.param(slice(None), None, id="all"),
    pytest.param(slice(0, 99), None, id="more than all"),
    pytest.param(slice(2, 5), [2, 3, 4], id="slice"),
    pytest.param(slice(-3, None), [7, 8, 9], id="slice from the end"),
    pytest.param(slice(None, None, -1), list(range(9, -1, -1)), id="reversed"),
    pytest.param(slice(1, 9, 3), [1, 4, 7], id="strided"),
    pytest.param([5, 1, 1], [5, 1, 1], id="indices"),
    pytest.param(np.array([3], np.uint8), [3], id="small unsigned"),
    pytest.param(range(3), [0, 1, 2], id="range"),
    pytest.param([True] * 3 + [False] * 7, [0, 1, 2], id="mask"),
    pytest.param([], [], id="none at all"),
]


@pytest.mark.parametrize(("rows", "expected"), SELECTIONS)
def test_rows_are_selected_by_slice_mask_or_number(rows: Any, expected: list[int] | None) -> None:
    found = parse_selection(rows, 10)
    assert (found if found is None else found.tolist()) == expected
    assert found is None or found.dtype == np.int64


def test_a_selection_is_a_copy() -> None:
    rows = np.array([1, 2])
    found = parse_selection(rows, 10)
    rows[0] = 9
    assert found is not None
    assert found.tolist() == [1, 2]


def test_a_small_slice_of_a_billion_rows_needs_no_array_of_them() -> None:
    found = parse_selection(slice(-2, None), 10**15)
    assert found is not None
    assert found.tolist() == [10**15 - 2, 10**15 - 1]


WRONG_SELECTIONS: list[Any] = [
    pytest.param([10], r"rows= selects row 10, outside \[0, 10\)", id="past the end"),
    pytest.param([3, -1], r"rows= selects row -1, outside \[0, 10\)", id="negative"),
    pytest.param([True] * 9, r"mask rows= has shape \(9,\); .* the 10 rows", id="short mask"),
    pytest.param([0.5], "rows= is float64", id="floats"),
    pytest.param([[1, 2]], r"of shape \(1, 2\)", id="two axes"),
    pytest.param([[1], [1, 2]], "rows= is ragged", id="ragged"),
    pytest.param(5, r"rows= is int64 of shape \(\)", id="one number"),
    pytest.param("1", "rows= is <U1", id="text"),
    pytest.param(slice(0, 5, 0), "slice step cannot be zero", id="slice by zero"),
    pytest.param(slice(0.5), "slice indices must be integers", id="slice by half"),
]


@pytest.mark.parametrize(("rows", "words"), WRONG_SELECTIONS)
def test_a_selection_that_makes_no_sense_says_why(rows: Any, words: str) -> None:
    with pytest.raises(RowError, match=words):
        parse_selection(rows, 10)


WRONG: list[Any] = [
    pytest.param({"batch_size": 0}, "batch_size=0; .* at least 1", id="batch of none"),
    pytest.param({"shuffle": "batch"}, "shuffle='batch'; choose 'rows'", id="shuffle"),
    pytest.param({"shuffle": 0}, "shuffle=0; choose", id="shuffle by number"),
    pytest.param({"seed": None}, "seed=None", id="seed"),
    pytest.param({"rows": []}, "rows= selects none", id="no rows"),
    pytest.param({"rows": slice(5), "shard": (0, 6)}, "5 rows .* by 6 shards", id="shards"),
    pytest.param({"shard": (3, 3)}, r"shard=\(3, 3\); it is \(index, count\)", id="shard past"),
    pytest.param({"shard": "first"}, "shard='first'; give", id="shard text"),
    pytest.param({"shard": "12"}, "shard='12'; give", id="shard of digits"),
    pytest.param({"shard": 2}, "shard=2; give", id="shard number"),
    pytest.param({"shard": (0.5, 2)}, r"shard=\(0\.5, 2\); give", id="shard half"),
    pytest.param({"shard": (0, 1, 2)}, "give .index, count", id="shard of three"),
    pytest.param({"scratch": "nowhere"}, "scratch='nowhere' is no folder; give", id="scratch"),
    pytest.param({"scratch": 5}, "scratch=5 is no folder", id="scratch number"),
    pytest.param({"threads": -1}, "threads=-1; it is the number", id="threads"),
    pytest.param({"threads": 1.5}, r"threads=1\.5", id="threads half"),
    pytest.param({"threads": True}, "threads=True", id="threads bool"),
    pytest.param({"cache": "lots"}, "cache='lots'; give bytes", id="cache"),
    pytest.param(
        {"cache": 100, "shuffle": "chunks"},
        "needs at least one chunk of rows in memory, .* raise cache=",
        id="chunks without cache",
    ),
    pytest.param({"batch_size": 500, "drop_last": True}, "drops everything", id="all dropped"),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_an_option_that_makes_no_sense_says_why_before_the_first_batch(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        open_plain(tmp_path, **options)


WRONG_COLUMNS: list[Any] = [
    pytest.param((None, "y", None), ColumnError, "no x: name the data set", id="no x"),
    pytest.param(("image", None, None), ColumnError, "'image'", id="unknown"),
    pytest.param(((), None, None), OptionError, r"x=\(\); pass a data set's path", id="empty"),
    pytest.param(({}, None, None), OptionError, r"x=\{\}; pass a data set's path", id="empty dict"),
    pytest.param((5, None, None), OptionError, "x=5; pass a data set's path", id="number"),
    pytest.param((("x", 5), None, None), OptionError, "x/1=5; pass", id="number inside"),
]


@pytest.mark.parametrize(("columns", "error", "words"), WRONG_COLUMNS)
def test_columns_that_make_no_sense_say_why(
    tmp_path: Path, columns: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        open_plain(tmp_path, *columns)


def test_a_compound_column_names_its_fields_and_the_cure(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "compound.h5", "w") as file:
        file["x"] = np.zeros(3, [("left", "i4"), ("right", "f4")])
    with pytest.raises(ColumnError, match=r"fields left, right, .*; name one, Column"):
        open_batches(tmp_path / "compound.h5", "x", None, None, BatchOptions())


def test_a_file_without_rows_says_so(tmp_path: Path) -> None:
    write(tmp_path / "empty.h5", x=np.empty((0, 3)), y=np.empty(0))
    with pytest.raises(ColumnError, match="has no rows"):
        open_batches(tmp_path / "empty.h5", "x", "y", None, BatchOptions())


def test_the_shard_of_a_group_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kerash5.batches._options.find_shard", lambda: (1, 3))
    for name in "ab":
        (tmp_path / name).mkdir()
    assert open_plain(tmp_path / "a", shard="auto").plan.shard == (1, 3)
    assert open_plain(tmp_path / "b", shard=[1, 2]).plan.shard == (1, 2)


# The choices, in words


def test_the_default_explains_itself(tmp_path: Path) -> None:
    for name, words in {
        "contiguous": "because single rows are fast to read",
        "resident": "because the data fit the cache",
        "windows": "because the data do not fit the cache .* raise cache= for shuffle='rows'",
        "no cache": "because one chunk does not fit the cache .* this is slow, so raise cache=",
        "windows in order": "given order in every epoch, because shuffle= requests it",
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        batches = open_kind(folder, KINDS[name])
        assert re.search(words, batches.describe())
        assert batches._store.describe() in batches.describe()
        assert batches.source.describe() in batches.describe()


@pytest.mark.parametrize("shuffle", ["chunks", False])
@pytest.mark.parametrize("num_chunks", [1, 2, 3, 4, 7, 12, 25])
def test_the_windows_fit_the_cache(tmp_path: Path, num_chunks: int, shuffle: Any) -> None:
    cache = num_chunks * CHUNK_ROWS * ROW_BYTES
    batches = open_plain(tmp_path, w="w", cache=cache, shuffle=shuffle)
    assert isinstance(batches._store, WindowRows)
    most = min(2, num_chunks)
    assert batches._store._max_windows == most
    assert most * batches.plan.window_blocks * CHUNK_ROWS * ROW_BYTES <= cache
    for step in (0, 3, 1):
        assert_array_equal(batches.read(step)[0], X[batches.plan.rows(step)])
    # And use most of it: all but a chunk each, and what is known of a row beside its data.
    assert batches.plan.window_blocks == max(
        1, cache // 2 // (CHUNK_ROWS * (ROW_BYTES + INDEX_BYTES))
    )


@pytest.mark.parametrize(
    ("cache", "kept"),
    [
        (811, None),
        (812, "sample_weight"),
        (812 + 1623, "sample_weight"),
        (812 + 1624, "sample_weight and y"),
    ],
    ids=["none fits", "one fits", "one fits, nearly two", "two fit"],
)
def test_the_smallest_columns_stay_in_memory_where_not_all_can(
    tmp_path: Path, cache: int, kept: str | None
) -> None:
    batches = open_kind(tmp_path, KINDS["contiguous"], cache=cache)
    assert (f"; {kept} in memory" if kept else "from the file\n") in batches.describe() + "\n"
    for step in (0, 1, 0):
        rows = batches.plan.rows(step)
        x, y, w = batches.read(step)
        assert_array_equal(x, X[rows])
        assert_array_equal(y, Y[rows])
        assert_array_equal(w, W[rows])


def test_compressed_labels_that_fit_leave_the_rest_cheap_to_reach(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = X
        file.create_dataset("y", data=Y, chunks=(20,), compression="gzip")
    for cache, store, shuffle in ((1624, DirectRows, "rows"), (1623, WindowRows, "chunks")):
        options = BatchOptions(batch_size=10, cache=cache)
        batches = open_batches(tmp_path / "a.h5", "x", "y", None, options)
        assert (type(batches._store), batches.plan.shuffle) == (store, shuffle)
        x, y = batches.read(3)
        assert_array_equal(x, X[batches.plan.rows(3)])
        assert_array_equal(y, Y[batches.plan.rows(3)])


def test_a_scratch_folder_changes_no_batch_and_says_what_it_saves(tmp_path: Path) -> None:
    plain = open_kind(tmp_path, KINDS["no cache"])
    assert "are decoded to serve 0.0 MB; pass scratch= a folder with 0.0 MB" in plain.describe()
    assert "chunks'" not in plain.describe()
    spilled = plain.offer_scratch(tmp_path)
    assert isinstance(spilled._store, ResidentRows)
    assert not spilled.fits_memory
    assert f"a scratch file in {str(tmp_path)!r}" in spilled.describe()
    assert spilled.plan.fingerprint() == plain.plan.fingerprint()
    for step in range(2 * len(plain)):
        for found, expected in zip(spilled.read(step), plain.read(step), strict=True):
            assert_array_equal(found, expected)
    assert spilled.offer_scratch(tmp_path / "another") is spilled
    ordered = spilled.in_given_order()._store
    assert isinstance(ordered, ResidentRows)
    assert ordered._resident is spilled._store._resident  # decoded once for both


@pytest.mark.parametrize("name", ["contiguous", "resident", "windows"])
def test_a_scratch_folder_is_not_used_where_it_is_of_no_use(tmp_path: Path, name: str) -> None:
    given = open_kind(tmp_path, KINDS[name], scratch=tmp_path)  # which checks the store
    assert "scratch file" not in given.describe()
    other = tmp_path / "other"
    other.mkdir()
    offered = open_kind(other, KINDS[name]).offer_scratch(tmp_path)
    assert type(offered._store) is KINDS[name].store
    assert "scratch file" not in offered.describe()


def test_what_fits_memory_is_not_read_from_scratch(tmp_path: Path) -> None:
    spilled = open_kind(tmp_path, KINDS["spilled"], cache=CHUNK_ROWS * ROW_BYTES - 1)
    few = spilled.with_rows([0, 1], cache=CHUNK_ROWS * ROW_BYTES)
    assert few.fits_memory
    assert_array_equal(np.sort(few.read(0)[1]), Y[:2])


def test_labels_in_longer_chunks_do_not_widen_the_windows(tmp_path: Path) -> None:
    num_rows, row = 3000, np.zeros(600, np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        x = file.create_dataset("x", (num_rows, 600), "u1", chunks=(8, 600), compression="gzip")
        x[...] = row
        y = np.arange(num_rows, dtype=np.uint8)
        file.create_dataset("y", data=y, chunks=(num_rows,), compression="gzip")
    options = BatchOptions(batch_size=10, cache=200_000)
    batches = open_batches(tmp_path / "a.h5", "x", "y", None, options)
    assert isinstance(batches._store, WindowRows)
    assert batches.plan.window_blocks == (200_000 - 3000) // 2 // (8 * (600 + INDEX_BYTES))
    assert batches.describe().endswith("being read; y in memory")
    for step, (_, labels) in enumerate(batches.epoch(0)):
        assert_array_equal(labels, y[batches.plan.rows(step)])


@pytest.mark.parametrize("name", ["contiguous in chunks", "resident in chunks"])
def test_chunks_need_no_room_for_windows_where_rows_are_cheap(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    cache = NUM_ROWS * ROW_BYTES if kind.store is ResidentRows else 0
    path = tmp_path / "one.h5"
    chunk_rows = NUM_ROWS if kind.compression else None
    write(path, compression=kind.compression, chunk_rows=chunk_rows, x=X, y=Y, w=W)
    options = BatchOptions(batch_size=10, cache=cache, shuffle="chunks")
    batches = open_batches(path, "x", "y", "w", options)
    assert_batches(batches.epoch(0), batches, range(21))
