"""Options of batches: what is selected, what is refused, and the choices in words."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kerash5._errors import (
    ColumnError,
    OptionError,
    RowError,
)
from kerash5.batches._batches import BatchOptions, open_batches, parse_selection
from kerash5.batches.cache import INDEX_BYTES, DirectRows, ResidentRows, WindowRows
from kerash5.h5 import write
from tests.batches.made import (
    CHUNK_ROWS,
    KINDS,
    NUM_ROWS,
    ROW_BYTES,
    W,
    X,
    Y,
    assert_batches,
    open_kind,
    open_plain,
    reading_threads,
)


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    yield
    assert reading_threads() == []


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
