"""Many ranges with one call: the bytes that `pread` gives, or a word about which are missing."""

import errno
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from kerash5._errors import DamagedFileError, FileChangedError
from kerash5.h5 import Source
from kerash5.h5.reading import _batched_pread, _descriptors
from kerash5.h5.storage._file import H5File, find_file

NUM_BYTES: Final = 50_000
BYTES: Final = np.random.default_rng(0).integers(0, 256, NUM_BYTES, np.uint8)

works_here = pytest.mark.skipif(
    _batched_pread._borrow() is None, reason="this system has no io_submit"
)


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A file of random bytes."""
    path = tmp_path_factory.mktemp("gather") / "bytes"
    BYTES.tofile(path)
    number = os.open(path, os.O_RDONLY)
    yield number
    os.close(number)


def ints(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def positions_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(sizes) - sizes


@works_here
@given(
    runs=st.lists(
        st.tuples(
            st.integers(0, NUM_BYTES + 100),
            st.integers(0, 9) | st.sampled_from([4095, 4096, 4097, 20_000]),
        ),
        max_size=40,
    ),
    repeats=st.sampled_from([1, 1, 9, 30]),
)
@example(runs=[], repeats=1)
@example(runs=[(NUM_BYTES - 1, 1)], repeats=256)
@example(runs=[(NUM_BYTES - 1, 1)], repeats=257)
def test_a_run_is_what_pread_gives_or_is_said_to_be_unread(
    descriptor: int, runs: list[tuple[int, int]], repeats: int
) -> None:
    offsets = ints([offset for offset, _ in runs] * repeats)
    sizes = ints([size for _, size in runs] * repeats)
    out = np.zeros(int(sizes.sum()), np.uint8)
    unread = set(
        _batched_pread.gather(descriptor, offsets, sizes, out, positions_of(sizes)).tolist()
    )
    for number, (offset, size) in enumerate(runs * repeats):
        expected = os.pread(descriptor, size, offset)
        assert (number in unread) == (len(expected) < size)
        place = int(positions_of(sizes)[number])
        assert out[place : place + len(expected)].tobytes() == expected


def test_a_run_outside_its_array_is_refused_before_a_byte_is_read(descriptor: int) -> None:
    out = np.zeros(10, np.uint8)
    for sizes, positions in (([5, 5], [0, 6]), ([5, -1], [0, 5]), ([5, 5], [-1, 5])):
        with pytest.raises(ValueError, match="outside its array"):
            _batched_pread.gather(descriptor, ints([0, 0]), ints(sizes), out, ints(positions))
    assert not out.any()


@works_here
def test_a_descriptor_that_is_closed_leaves_everything_unread() -> None:
    out = np.zeros(3, np.uint8)
    ones = np.ones(3, np.int64)
    assert_array_equal(_batched_pread.gather(1 << 20, ones, ones, out, np.arange(3)), [0, 1, 2])


@works_here
def test_threads_gather_side_by_side(descriptor: int) -> None:
    def check(seed: int) -> bool:
        offsets = np.random.default_rng(seed).integers(0, NUM_BYTES - 50, 300)
        sizes = np.full(300, 50)
        out = np.zeros(300 * 50, np.uint8)
        assert not len(_batched_pread.gather(descriptor, offsets, sizes, out, positions_of(sizes)))
        return bool((out.reshape(300, 50) == BYTES[offsets[:, None] + np.arange(50)]).all())

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(check, range(64)))
    assert len(_batched_pread._FREE) <= 9


@works_here
def test_an_error_in_the_middle_gives_the_queue_back(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    destroyed = []
    destroy = _batched_pread._Context.destroy

    def breaking(*_: Any) -> None:
        raise KeyboardInterrupt

    def counting(context: Any) -> None:
        destroyed.append(context)
        destroy(context)

    monkeypatch.setattr(_batched_pread._Context, "read", breaking)
    monkeypatch.setattr(_batched_pread._Context, "destroy", counting)
    kept = list(_batched_pread._FREE)
    with pytest.raises(KeyboardInterrupt):
        _batched_pread.gather(descriptor, ints([0]), ints([1]), np.zeros(1, np.uint8), ints([0]))
    assert len(destroyed) == 1
    assert destroyed[0] not in _batched_pread._FREE
    assert len(_batched_pread._FREE) >= len(kept) - 1


# As readers use it


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as a system that has no such call."""
    monkeypatch.setattr(_batched_pread, "_FREE", [])
    monkeypatch.setattr(_batched_pread._KERNEL, "numbers", None)


@pytest.mark.parametrize("is_forbidden", [False, True], ids=["allowed", "forbidden"])
@pytest.mark.parametrize("row_shape", [(), (0,), (1,), (3, 5), (1 << 20,)], ids=str)
def test_rows_of_every_size_are_what_h5py_gives(
    tmp_path: Path,
    row_shape: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_forbidden: bool,
) -> None:
    values = np.random.default_rng(1).integers(0, 256, (12, *row_shape), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = values
    if is_forbidden:
        forbid(monkeypatch)
    rows = [7, 3, 3, 11, 0, 4, 5, 6, 7, 2]
    for chosen in (rows, rows[:2], []):
        assert_array_equal(Source(tmp_path / "a.h5", x="x").read(chosen)["x"], values[chosen])


def test_where_it_is_forbidden_is_found_out_once(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(most: int, _: object) -> int:
        asked.append(most)
        return -1

    monkeypatch.setattr(_batched_pread, "_FREE", [])
    monkeypatch.setattr(_batched_pread._KERNEL, "numbers", _batched_pread._KERNEL.numbers)
    monkeypatch.setattr(_batched_pread._KERNEL, "setup", refuse, raising=False)
    for _ in range(3):
        unread = _batched_pread.gather(
            descriptor, ints([0]), ints([1]), np.zeros(1, np.uint8), ints([0])
        )
        assert_array_equal(unread, [0])
    assert len(asked) <= 1


def test_places_beyond_2_gib_are_reached(tmp_path: Path) -> None:
    path = tmp_path / "sparse.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("x", (5 << 20, 1024), "u1")  # 5 GiB, of which nothing is used
        for row in (0, (2 << 20) - 1, 2 << 20, 4 << 20, (5 << 20) - 1):
            dataset[row] = row % 251
    rows = np.array([(5 << 20) - 1, 0, 2 << 20, 9, (2 << 20) - 1, 4 << 20])
    found = Source(path, x="x").read(rows)["x"]
    assert_array_equal(found[:, 0], np.where(rows == 9, 0, rows % 251))
    assert_array_equal(found, np.repeat(found[:, :1], 1024, axis=1))


@pytest.fixture
def cut_file(tmp_path: Path) -> H5File:
    """A file that lost its second half after it was found."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(NUM_BYTES, np.uint8)
    file = find_file(tmp_path / "a.h5")
    _descriptors._DESCRIPTORS.get(file)
    os.truncate(tmp_path / "a.h5", NUM_BYTES // 2)
    return file


def test_bytes_that_were_cut_off_are_an_error_and_no_signal(cut_file: H5File) -> None:
    offsets, sizes = np.arange(0, NUM_BYTES - 10, 100), np.full(NUM_BYTES // 100, 10)
    with pytest.raises(FileChangedError, match=r"had .* bytes and has 25000"):
        _descriptors.read_byte_ranges(
            cut_file,
            "x",
            offsets=offsets,
            sizes=sizes,
            out=np.zeros(int(sizes.sum()), np.uint8),
            positions=positions_of(sizes),
        )


def test_bytes_that_never_were_there_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(100, np.uint8)
    size = path.stat().st_size
    offsets, sizes = ints([size - 2, size - 2, 0, 0, 0, size - 2]), ints([1, 2, 3, 3, 3, 3])
    with pytest.raises(DamagedFileError, match=f"ends at byte {size}, 1 bytes early"):
        _descriptors.read_byte_ranges(
            find_file(path),
            "x",
            offsets=offsets,
            sizes=sizes,
            out=np.zeros(int(sizes.sum()), np.uint8),
            positions=positions_of(sizes),
        )


# From a disk

ROWS: Final = np.random.default_rng(2).integers(0, 256, (64, 30_000), np.uint8)
SHUFFLED: Final = 8 * np.random.default_rng(3).permutation(8)  # far from each other in the file


@pytest.fixture(params=["contiguous", "chunks", "small chunks"])
def rows_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of rows in one layout."""
    path, rows = tmp_path / "a.h5", ROWS if request.param != "small chunks" else ROWS[:, :3000]
    options: dict[str, Any] = {"chunks": (1, rows.shape[1]), "compression": "gzip"}
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=rows, **({} if request.param == "contiguous" else options))
    return path


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the place of each run that is announced."""
    found: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *call: found.append(call[1]), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    return found


def forget_pages(path: Path) -> None:
    """Have the file read from its disk next time, or skip."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        for _ in range(20):  # pages that another processor is busy with stay
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.preadv(descriptor, [bytearray(1)], path.stat().st_size // 2, os.RWF_NOWAIT)
            time.sleep(0.05)
    except BlockingIOError:
        return
    except (AttributeError, OSError):
        pytest.skip("this system does not tell what is in memory")
    finally:
        os.close(descriptor)
    pytest.skip("this file system keeps everything in memory")


def test_only_what_comes_from_the_disk_is_announced(
    rows_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(rows_path, x="x")
    expected = source.read(SHUFFLED)["x"]
    forget_pages(rows_path)
    announced: list[int] = []
    advise = os.posix_fadvise

    def counting(descriptor: int, offset: int, size: int, advice: int) -> None:
        announced.append(offset)
        advise(descriptor, offset, size, advice)

    monkeypatch.setattr(os, "posix_fadvise", counting)
    assert_array_equal(source.read(SHUFFLED)["x"], expected)
    assert announced
    announced.clear()
    assert_array_equal(source.read(SHUFFLED)["x"], expected)
    assert not announced


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_where_nobody_tells_what_is_in_memory_all_is_announced(
    rows_path: Path, announced: list[int], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source = Source(rows_path, x="x")
    expected = source.read(SHUFFLED)["x"]
    read = os.preadv

    def refusing(descriptor: int, positions: Any, offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(number, os.strerror(number))
        return read(descriptor, positions, offset)

    monkeypatch.setattr(os, "preadv", refusing)
    _descriptors._DESCRIPTORS._open.clear()
    announced.clear()
    for _ in range(2):
        assert_array_equal(source.read(SHUFFLED)["x"], expected)
    assert len(announced) >= 2


def test_half_of_a_run_that_is_in_memory_is_read_to_its_end(
    rows_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(rows_path, x="x")
    expected = source.read(SHUFFLED)["x"]
    read = os.preadv

    def halving(descriptor: int, positions: Any, offset: int, flags: int = 0) -> int:
        return read(
            descriptor, [place[: len(place) // 2 + 1] for place in positions], offset, flags
        )

    monkeypatch.setattr(os, "preadv", halving)
    assert_array_equal(source.read(SHUFFLED[:3])["x"], expected[:3])
    assert_array_equal(source.read(SHUFFLED)["x"], expected)


def _read_in_child(source: Source, rows: NDArray[np.int64], queue: Any) -> None:
    queue.put(source.read(rows)["x"])


@works_here
@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_child_process_gathers_with_a_queue_of_its_own(tmp_path: Path, method: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(500)
    source, rows = Source(tmp_path / "a.h5", x="x"), np.random.default_rng(0).permutation(500)
    source.read(rows)
    assert _batched_pread._FREE
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(source, rows, queue))
    child.start()
    assert_array_equal(queue.get(timeout=30), rows)
    child.join(30)
    assert_array_equal(source.read(rows)["x"], rows)
