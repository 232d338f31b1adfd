import json
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import (
    ColumnError,
    FileChangedError,
    KerasH5Error,
    OptionError,
    RowError,
    UnknownColumnError,
)
from kerash5.h5 import Column, Source, close_files, describe
from tests.strategies import StoredArray, assert_same_bytes, expected_rows, stored_arrays, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = np.arange(100 * 6, dtype="i4").reshape(100, 6)
        file.create_dataset("packed", data=np.arange(100), chunks=(7,), compression="gzip")
        file.create_dataset("word", data=[f"w{i % 7}" for i in range(100)])
    return tmp_path / "a.h5"


# Rows


@pytest.mark.parametrize("row", [100, 10**12, -1, -100], ids=str)
def test_a_row_outside_the_data_is_an_error(row: int, path: Path) -> None:
    with pytest.raises(RowError, match=rf"row {row} is outside \[0, 100\)") as caught:
        Source(path, x="image").read([0, row])
    assert isinstance(caught.value, IndexError)


@pytest.mark.parametrize(
    "rows",
    [[0.0, 1.0], [True, False], 3, [[0, 1]], ["0"], [[0], [1, 2]], slice(3), None, [2**80]],
    ids=repr,
)
def test_what_is_no_flat_list_of_row_numbers_is_an_error(rows: Any, path: Path) -> None:
    with pytest.raises(RowError, match=r"rows must be|is outside"):
        Source(path, x="image").read(rows)


@pytest.mark.parametrize(
    "rows", [range(3, 0, -1), (3, 2, 1), np.array([3, 2, 1], "u1"), np.array([3, 2, 1], ">i8")]
)
def test_rows_of_any_integer_kind_are_taken(rows: Any, path: Path) -> None:
    assert Source(path, x="packed").read(rows)["x"].tolist() == [3, 2, 1]


# Columns


def test_a_source_without_columns_lists_what_there_is(path: Path) -> None:
    with pytest.raises(ColumnError, match=r"at least one column.*'image', 'packed', 'word'"):
        Source(path)


def test_a_column_that_is_neither_path_nor_column_is_an_error(path: Path) -> None:
    with pytest.raises(OptionError, match=r"column x=3; it is a data set's path, .*or a Column"):
        Source(path, x=3)  # type: ignore[arg-type]  # that is the point


def test_an_unknown_reader_is_an_error(path: Path) -> None:
    with pytest.raises(OptionError, match="reader='fast'; choose 'auto', 'direct' or 'h5py'"):
        Source(path, reader="fast", x="image")  # type: ignore[arg-type]  # that is the point


def test_select_renames_columns(path: Path) -> None:
    source = Source(path, x="image", y="packed").select(label="y")
    assert list(source.columns) == ["label"]
    assert source.read([5])["label"].tolist() == [5]


def test_select_of_an_unknown_column_lists_what_there_is(path: Path) -> None:
    with pytest.raises(ColumnError, match=r"no column 'z' in Source\(.*it has 'x', 'y'"):
        Source(path, x="image", y="packed").select(x="z")


def test_select_of_nothing_is_an_error(path: Path) -> None:
    with pytest.raises(ColumnError, match="at least one column"):
        Source(path, x="image").select()


def test_class_names_are_those_of_y_or_of_the_only_column_with_names(path: Path) -> None:
    labels = Column("packed", labels=[str(i) for i in range(3)])
    assert Source(path, x="image").class_names is None
    assert Source(path, z="word").class_names == tuple(f"w{i}" for i in range(7))
    assert Source(path, a="word", y=Column("word", labels=["w0"])).class_names == ("w0",)
    assert Source(path, a="word", b="word").class_names is None
    assert labels.labels == ["0", "1", "2"]


def test_a_source_describes_itself(path: Path) -> None:
    source = Source(path, x=Column("image", shape=(2, 3)), y="packed", z="word")
    lines = source.describe().splitlines()
    assert lines[0].startswith("100 rows in 1 file (")
    assert "  x: 'image', rows (2, 3) int32, contiguous" in lines
    assert "    read straight from the file (contiguous)" in lines
    assert "  y: 'packed', rows () int64, chunks (7,), gzip" in lines
    assert "    7 classes: w0, w1, w2, w3, w4, w5, w6" in lines
    assert repr(source) == f"Source({str(path)!r}, x='image', y='packed', z='word', 100 rows)"


def test_a_fingerprint_is_json_and_changes_with_the_data(path: Path, tmp_path: Path) -> None:
    source = Source(path, x="image")
    fingerprint = source.fingerprint()
    assert json.loads(json.dumps(fingerprint)) == fingerprint
    assert Source(path, x="image").fingerprint() == fingerprint
    assert Source(path, x="packed").fingerprint() != fingerprint
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["image"] = np.zeros((101, 6), "i4")
    assert Source(tmp_path / "b.h5", x="image").fingerprint() != fingerprint


def test_blocks_are_the_largest_chunk_and_single_rows_are_direct_only_if_all_are(
    path: Path,
) -> None:
    assert (Source(path, x="image").block_rows, Source(path, x="image").is_direct) == (1, True)
    both = Source(path, x="image", y="packed")
    assert (both.block_rows, both.is_direct) == (7, False)


# Many files


@given(case=stored_arrays(), others=st.lists(st.integers(0, 2**20), max_size=3), data=st.data())
def test_many_files_equal_their_concatenation(
    case: StoredArray,
    others: list[int],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("many")
    lengths = [data.draw(st.integers(1, case.shape[0])) for _ in others]
    with written(case) as first:
        paths = [first]
        for number, (seed, length) in enumerate(zip(others, lengths, strict=True)):
            paths.append(folder / f"{number}.h5")
            shorter = dict(vars(case), seed=seed, shape=(length, *case.shape[1:]), chunks=None)
            if shorter["layout"].startswith("chunked"):
                shorter["layout"] = "auto-chunked"
            shorter |= {"maxshape": None, "shapes": (), "mask": 0, "fill_time": "if set"}
            shorter["written_rows"] = min(length, case.written_rows)
            StoredArray(**shorter).write(paths[-1])
        paths.sort()
        parts = [expected_rows(p, "x", range(len_of(p))) for p in paths]
        starts = np.cumsum([0] + [len(part) for part in parts])
        whole = np.empty((starts[-1], *parts[0].shape[1:]), parts[0].dtype)
        for start, part in zip(starts, parts, strict=False):
            whole[start : start + len(part)] = part  # np.concatenate would turn the byte order
        rows = data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=40))
        source = Source([str(p) for p in reversed(paths)], x="x")
        assert source.part_starts.tolist() == starts.tolist()
        assert_same_bytes(source.read(rows)["x"], whole[rows])
    for path in folder.iterdir():
        path.unlink()


def len_of(path: Path) -> int:
    with h5py.File(path, "r") as file:
        return len(file["x"])


def test_files_of_a_pattern_are_concatenated_in_sorted_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        with h5py.File(tmp_path / f"part-{number}.h5", "w") as file:
            file["x"] = np.full(2, number)
    source = Source(tmp_path / "part-*.h5", x="x")
    assert [Path(p).name for p in source.paths] == ["part-1.h5", "part-10.h5", "part-2.h5"]
    assert source.read(range(6))["x"].tolist() == [1, 1, 10, 10, 2, 2]
    again = Source([tmp_path / f"part-{number}.h5" for number in (2, 1, 10)], x="x")
    assert again.read(range(6))["x"].tolist() == [1, 1, 10, 10, 2, 2]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (np.zeros((3, 2, 3), "u1"), r"rows of shape \(2, 2\) uint8 in .*a\.h5', of shape \(2, 3\)"),
        (
            np.zeros((3, 2, 2), "f4"),
            r"rows of uint8 in .*a\.h5' and of float32 in .*b\.h5'",
        ),
        (np.zeros((3, 4), "u1"), r"\(2, 2\) uint8 in .*a\.h5', of shape \(4,\) uint8 in .*b\.h5'"),
    ],
    ids=["shape", "type", "rank"],
)
def test_files_that_differ_are_both_named(other: np.ndarray, words: str, tmp_path: Path) -> None:
    for name, values in (("a", np.zeros((3, 2, 2), "u1")), ("b", other)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = values
    with pytest.raises(ColumnError, match=words):
        Source(tmp_path / "*.h5", x="x")


def test_a_column_missing_in_one_of_many_files_names_that_file(tmp_path: Path) -> None:
    for name, column in (("a", "x"), ("b", "xx")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file[column] = np.zeros(3)
    with pytest.raises(UnknownColumnError, match=r"no data set 'x' in '.*b\.h5'"):
        Source(tmp_path / "*.h5", x="x")


def test_columns_must_be_aligned_in_every_file(tmp_path: Path) -> None:
    for name, lengths in (("a", (3, 4)), ("b", (4, 3))):  # equal in sum, and still not aligned
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"], file["y"] = np.zeros(lengths[0]), np.zeros(lengths[1])
    with pytest.raises(ColumnError, match=r"a\.h5' differ in length: 'x' has 3 rows, 'y' 4"):
        Source(tmp_path / "*.h5", x="x", y="y")


def test_files_without_rows_among_others_add_nothing(tmp_path: Path) -> None:
    for name, length in (("a", 0), ("b", 2), ("c", 0), ("d", 1)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = np.arange(length)
            file.create_dataset("y", (length,), h5py.string_dtype())
    source = Source(tmp_path / "*.h5", x="x", y="y")
    assert source.read([2, 1, 0])["x"].tolist() == [0, 1, 0]
    assert source.read([2, 1, 0])["y"].tolist() == [0, 0, 0]


def test_a_change_in_any_of_many_files_is_seen(tmp_path: Path) -> None:
    for name in "abc":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["x"] = np.arange(2)
    source = Source(tmp_path / "*.h5", x="x")
    os.utime(tmp_path / "c.h5", ns=(1, 1))
    assert source.read([0, 3])["x"].tolist() == [0, 1]
    with pytest.raises(FileChangedError, match=r"c\.h5"):
        source.read([0, 5])
    with pytest.raises(FileChangedError, match=r"c\.h5"):
        source.check_unchanged()
    with pytest.raises(FileChangedError, match=r"c\.h5"):
        source.load_range(4, 6, source.allocate(2))


# Processes and threads


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_source_is_read_in_child_processes(method: str, path: Path) -> None:
    source = Source(path, x="image", y="packed", z="word")
    rows = [99, 0, 5, 5]
    here = source.read(rows)
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        there = pool.submit(source.read, rows).result(timeout=60)
        assert there.keys() == here.keys()
        for name, values in here.items():
            assert_same_bytes(there[name], values)
        os.utime(path, ns=(1, 1))
        with pytest.raises(FileChangedError, match="was written to or replaced"):
            pool.submit(source.read, rows).result(timeout=60)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.timeout(60)
def test_children_forked_while_threads_read_are_not_stuck(path: Path) -> None:
    source = Source(path, x="image", y="packed")
    stop = threading.Event()

    def read_on() -> None:
        while not stop.is_set():
            source.read(range(0, 100, 3))

    readers = [threading.Thread(target=read_on) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                found = source.read([99, 0])
                os._exit(0 if found["y"].tolist() == [99, 0] else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_pickles_hold_no_handles_and_are_small(path: Path) -> None:
    source = Source(path, x="image", y="packed", z="word")
    source.read([0])
    raw = pickle.dumps(source)
    assert len(raw) < 5000
    close_files()
    again: Source = pickle.loads(raw)
    assert_array_equal(again.read([7])["x"], source.read([7])["x"])
    assert again.fingerprint() == source.fingerprint()


def test_threads_that_read_at_once_all_get_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerash5.h5.storage._pool._MAX_OPEN", 2)
    monkeypatch.setattr("kerash5.h5.reading._descriptors._MAX_DESCRIPTORS", 2)
    for number in range(5):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            numbers = np.arange(100) + 100 * number
            file["x"] = numbers
            file.create_dataset("y", data=numbers, chunks=(7,), compression="lzf")
    source = Source(tmp_path / "*.h5", x="x", y="y")
    orders = [np.random.default_rng(seed).integers(0, 500, 200) for seed in range(32)]
    with ThreadPoolExecutor(8) as pool:
        for rows, found in zip(orders, pool.map(source.read, orders), strict=True):
            assert_array_equal(found["x"], rows)
            assert_array_equal(found["y"], rows)


# Real files

MUST_HAVES = (
    "h5fc_ext_none.h5",
    "h5fc_edge_v3.h5",
    "h5ex_d_checksum.h5",
    "isssue-523.hdf5",
    "nested-type-with-gaps.h5",
    "be_data.h5",
    "tfilters.h5",
    "tlayouto.h5",
    "train_catvnoncat.h5",
    "test_catvnoncat.h5",
    "sample_data_2_gzip.h5",
    "gh-4585.h5",
)


@pytest.mark.parametrize("name", MUST_HAVES)
def test_real_files_read_as_h5py_reads_them_or_say_why_not(name: str, corpus_dir: Path) -> None:
    golden = map(json.loads, (corpus_dir / "golden.jsonl").read_text().splitlines())
    records = [record for record in golden if Path(record["file"]).name == name]
    assert records
    for record in records:
        path = corpus_dir / record["file"]
        if record["open_error"]:
            with pytest.raises(KerasH5Error):
                Source(path, x="x")
        elif not record["crashes_h5py"]:  # those need a child process
            assert describe(path).startswith(name)
            for dataset in record["datasets"]:
                read_as_h5py(path, dataset)


def read_as_h5py(path: Path, record: dict[str, Any]) -> str | None:
    """Compare a data set of the corpus; return why it was refused, if it was."""
    try:
        source = Source(path, x=record["p"])
        rows = np.arange(min(len(source), 4096, (4 << 20) // max(1, source.row_bytes)))
        found = source.read(rows[::-1])["x"]
    except KerasH5Error as error:
        return str(error)
    with h5py.File(path, "r") as file:
        expected = file[record["p"]][: len(rows)][::-1]
    if source.class_names is None:
        assert_same_bytes(found, np.ascontiguousarray(expected))
    else:
        texts = [t.decode("utf-8", "backslashreplace") for t in expected.ravel().tolist()]
        assert [source.class_names[number] for number in found.ravel()] == texts
    return None


@pytest.mark.parametrize(
    "how", [{}, {"chunks": (2,), "compression": "gzip"}], ids=["plain", "gzip"]
)
def test_a_file_can_be_written_again_while_its_old_source_is_there(
    how: dict[str, Any], tmp_path: Path
) -> None:
    for start in (0, 10):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("x", data=np.arange(start, start + 6), **how)
        source = Source(tmp_path / "a.h5", x="x")
        assert source.read([5, 0])["x"].tolist() == [start + 5, start]
