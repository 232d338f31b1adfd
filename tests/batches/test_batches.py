"""Batches: source rows in the plan's order, whatever the store, the threads and the process."""

import multiprocessing
import operator
import pickle
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import (
    ColumnError,
    OptionError,
)
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.batches.cache import ResidentRows, WindowRows
from kerash5.h5 import Column, Source, write
from tests.batches.made import (
    CHUNK_ROWS,
    KINDS,
    NUM_ROWS,
    WINDOW_CACHE,
    Kind,
    W,
    X,
    Y,
    assert_batches,
    assert_rows,
    every_kind,
    make_file,
    open_kind,
    open_plain,
    reading_threads,
)


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
