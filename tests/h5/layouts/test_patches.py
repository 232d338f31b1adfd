"""Patches of volumes, beside the slices that NumPy takes."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import kerash5 as k5
from kerash5._errors import ColumnError, OptionError, UnknownColumnError
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5.layouts._patches import Grid, PatchReader, choose_block
from kerash5.h5.reading import _chunk_readers
from tests.served import STORED, Serving, assert_serves, servings, store


@dataclass(frozen=True)
class Case:
    """Volumes, and how they are cut."""

    sizes: tuple[tuple[int, ...], ...]  # of each file's
    rest: tuple[int, ...]  # the axes after those that are cut
    dtype: str
    layout: str
    chunk: tuple[int, ...]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    border: Any

    def volume(self, number: int) -> NDArray[Any]:
        shape = (*self.sizes[number], *self.rest)
        values = np.random.default_rng(number).integers(1, 100, shape)
        return values.astype(self.dtype)

    def patches(self, volume: NDArray[Any]) -> list[NDArray[Any]]:
        """Return what NumPy's slices give, one after another."""
        starts = []
        for size, length, step in zip(volume.shape, self.shape, self.stride, strict=False):
            whole = list(range(0, size - length + 1, step))
            if self.border != "drop" and (not whole or whole[-1] + length < size):
                last = whole[-1] + step if whole else 0
                if last < size:
                    whole.append(min(last, size - length) if self.border == "shift" else last)
            starts.append(whole)
        found = []
        for corner in product(*starts):
            patch = np.zeros((*self.shape, *volume.shape[len(self.shape) :]), volume.dtype)
            box = tuple(slice(a, a + n) for a, n in zip(corner, self.shape, strict=True))
            inside = volume[box]
            patch[tuple(map(slice, inside.shape))] = inside
            found.append(patch)
        return found


@st.composite
def cases(draw: st.DrawFn) -> Case:
    num_axes = draw(st.integers(1, 3))
    shape = draw(st.tuples(*[st.integers(1, 4)] * num_axes))
    border = draw(st.sampled_from(["drop", "pad", "shift"]))
    least = [1] * num_axes if border == "pad" else shape
    sizes = st.tuples(*(st.integers(low, low + 7) for low in least))
    rest = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    return Case(
        tuple(draw(st.lists(sizes, min_size=1, max_size=2))),
        rest,
        draw(st.sampled_from(["<f4", ">i2", "u1"])),
        draw(st.sampled_from(list(STORED))),
        draw(st.tuples(*[st.integers(1, 6)] * (num_axes + len(rest)))),
        shape,
        draw(st.tuples(*[st.integers(1, 5)] * num_axes)),
        border,
    )


@given(
    case=cases(),
    rows=st.lists(st.integers(0, 1000), max_size=20),
    serving=servings(),
    reader=st.sampled_from(["auto", "direct", "h5py"]),
)
def test_patches_are_those_of_numpy(
    case: Case, rows: list[int], serving: Serving, reader: Any
) -> None:
    expected: dict[str, list[NDArray[Any]]] = {"x": [], "y": []}
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        for number in range(len(case.sizes)):
            raw = case.volume(number)
            label = (raw.reshape(*case.sizes[number], -1)[..., 0] > 50).astype("u1")
            store(Path(folder) / f"{number}.h5", {"raw": raw}, case.layout, case.chunk)
            store(Path(folder) / f"{number}.h5", {"label": label}, "gzip", case.chunk)
            expected["x"] += case.patches(raw)
            expected["y"] += case.patches(label)
        source = k5.patches_from_volumes(
            f"{folder}/*.h5",
            x="raw",
            y="label",
            shape=case.shape,
            stride=case.stride,
            border=case.border,
            reader=reader,
        )
        stacked = {"x": np.stack(expected["x"]), "y": np.stack(expected["y"])}
        stacked["x"] = stacked["x"].astype(case.dtype)
        assert_serves(source, stacked, rows, serving)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    raw = np.arange(64 * 64 * 48, dtype="u4").reshape(64, 64, 48)
    path = tmp_path / "a.h5"
    store(path, {"raw": raw, "label": (raw % 2).astype("u1")}, "gzip", [16, 16, 16])
    with h5py.File(path, "a") as file:
        file["flat"], file["other"] = raw[0], raw[:, :, :-1]
    return path


def count_chunks(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Return how often each chunk is decoded from now on."""
    found: Counter[int] = Counter()
    decode = _chunk_readers.ChunkedReader._decode

    def note(self: Any, number: int, *rest: Any) -> None:
        found[number] += 1
        decode(self, number, *rest)

    monkeypatch.setattr(_chunk_readers.ChunkedReader, "_decode", note)
    return found


@pytest.mark.parametrize("stride", [16, 8, (4, 16, 16)], ids=str)
def test_a_chunk_is_decoded_once_for_all_patches_asked_for(
    stride: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = k5.patches_from_volumes(path, x="raw", shape=(16, 16, 16), stride=stride)
    decoded = count_chunks(monkeypatch)
    source.read(np.random.default_rng(0).permutation(len(source)))
    assert set(decoded.values()) == {1}
    assert len(decoded) == 4 * 4 * 3


def test_a_patch_decodes_the_chunks_it_touches(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = k5.patches_from_volumes(path, x="raw", shape=(8, 8, 48))
    decoded = count_chunks(monkeypatch)
    source.read([9])
    assert sorted(decoded) == [0, 1, 2]


def test_an_epoch_over_patches_decodes_each_chunk_about_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = k5.patches_from_volumes(path, x="raw", shape=(8, 8, 8))
    options = BatchOptions(shuffle="chunks", cache="1MB", batch_size=8, threads=2)
    decoded = count_chunks(monkeypatch)
    batches = open_batches(source, None, None, None, options)
    assert sum(len(batch[0]) for batch in batches.epoch(0)) == len(source) == 8 * 8 * 6
    assert sum(decoded.values()) <= 1.3 * 48


@pytest.mark.parametrize(
    ("counts", "shape", "chunk", "expected"),
    [
        ((4, 4, 4), 16, 16, 1),  # a patch is a chunk
        ((4, 4, 4), 32, 16, 1),  # of several chunks, none of which another one has
        ((4, 4, 4), 16, 1000, 64),  # all in one chunk
        ((4, 4, 4), 16, 32, 32),  # two layers share their chunks
    ],
    ids=str,
)
def test_a_block_is_as_many_patches_as_share_chunks(
    counts: tuple[int, ...], shape: int, chunk: int, expected: int
) -> None:
    grid = Grid(tuple(n * shape for n in counts), (shape,) * 3, (shape,) * 3, "drop")
    assert grid.counts == counts
    assert choose_block(grid, (chunk,) * 3, shape**3) == expected
    assert choose_block(grid, None, shape**3) == 1


def test_blocks_keep_to_their_lines() -> None:
    grid = Grid((18 * 32,) * 3, (32,) * 3, (32,) * 3, "drop")  # two patches of a chunk each way
    assert choose_block(grid, (64,) * 3, 32**3) == 2 * 18
    grid = Grid((17 * 32,) * 3, (32,) * 3, (32,) * 3, "drop")
    assert choose_block(grid, (64,) * 3, 32**3) % 17 == 0


def test_threads_may_share_the_chunks_of_patches(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerash5.h5.layouts._patches._LARGE_BYTES", 1)
    source = k5.patches_from_volumes(path, x="raw", shape=(24, 24, 24), border="pad")
    assert source.num_shards == 8
    rows = np.array([5, 17, 0, 5])
    out = {"x": np.full((4, 24, 24, 24), 7, "u4")}
    for shard in range(3):
        source.load_rows_to(rows, out, np.array([3, 2, 0, 1]), (shard, 3))
    expected = k5.patches_from_volumes(
        path, x="raw", shape=(24, 24, 24), border="pad", reader="h5py"
    ).read(rows)
    assert_array_equal(out["x"][[3, 2, 0, 1]], expected["x"])


# Columns and words


def test_patches_describe_themselves(path: Path) -> None:
    source = k5.patches_from_volumes(path, x="raw", y="label", shape=[16, 16, 16], stride=8)
    text = source.describe()
    assert "each row is a patch of (16, 16, 16), every (8, 8, 8) values of a volume, whole" in text
    assert "straight from the file (chunk map)" in text
    assert isinstance(source.columns["x"].parts[0], PatchReader)


@pytest.mark.parametrize("other", [{"shape": (8, 8, 9)}, {"stride": 4}, {"border": "pad"}], ids=str)
def test_another_cut_has_another_fingerprint(other: dict[str, Any], path: Path) -> None:
    options: dict[str, Any] = {"shape": (8, 8, 8), "stride": 8, "border": "drop"}
    first = k5.patches_from_volumes(path, x="raw", **options)
    second = k5.patches_from_volumes(path, x="raw", **{**options, **other})
    assert first.fingerprint() != second.fingerprint()
    origins = [one.columns["x"].parts[0].origin for one in (first, second)]
    assert origins[0] != origins[1]


def test_a_column_says_what_patches_become(path: Path) -> None:
    x = k5.Column("raw", shape=(8, 8, 8, 1), dtype="float32")
    found = k5.patches_from_volumes(path, x=x, shape=(8, 8, 8)).read([0])["x"]
    assert found.shape == (1, 8, 8, 8, 1)
    assert found.dtype == np.float32


# What makes no sense


def test_volumes_of_other_values_are_refused(tmp_path: Path) -> None:
    store(tmp_path / "a.h5", {"raw": np.zeros((20, 20, 20), "u4")}, "gzip", [8, 8, 8])
    store(tmp_path / "b.h5", {"raw": np.zeros((20, 20, 20), "f4")}, "gzip", [8, 8, 8])
    with pytest.raises(ColumnError, match=r"'raw' differs between files: .*uint32 .*float32 .*b"):
        k5.patches_from_volumes(tmp_path / "*.h5", x="raw", shape=(8, 8, 8))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (0, 8, 8)}, "shape=0; it is the values of a patch along each axis"),
        ({"shape": ()}, r"shape=\(\); it is the values"),
        ({"shape": "big"}, "shape='big'"),
        ({"stride": 0}, "stride=0; it is the values from one patch to the next"),
        ({"stride": (8, 8)}, r"stride=\(8, 8\) for patches of shape=\(8, 8, 8\); give one"),
        ({"border": "wrap"}, "border='wrap'; choose 'drop', 'pad' or 'shift'"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], words: str, path: Path
) -> None:
    with pytest.raises(OptionError, match=words):
        k5.patches_from_volumes(path, **{"x": "raw", "shape": (8, 8, 8), **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"x": "flat"}, r"'flat' of .*a\.h5' has 2 axes, \(64, 48\), and patches"),
        ({"shape": (8, 8, 49)}, r"is of size \(64, 64, 48\), smaller than a patch of shape=\(8, 8"),
        ({"y": "other"}, r"differ in size: 'raw' has \(64, 64, 48\), 'other' \(64, 64, 47\)"),
        ({"y": "flat"}, "'flat' of .* has 2 axes"),
    ],
    ids=str,
)
def test_volumes_that_cannot_be_cut_are_refused(
    options: dict[str, Any], words: str, path: Path
) -> None:
    with pytest.raises(ColumnError, match=words):
        k5.patches_from_volumes(path, **{"x": "raw", "shape": (8, 8, 8), **options})
    with pytest.raises(UnknownColumnError, match="'volume'"):
        k5.patches_from_volumes(path, x="volume")
