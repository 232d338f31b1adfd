"""Windows of series, beside NumPy's own windows of the arrays."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import kerash5 as k5
from kerash5._errors import ColumnError, FileMissingError, OptionError, UnknownColumnError
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5.layouts._window_reader import WindowReader
from kerash5.h5.reading import _chunk_readers
from tests.served import STORED, Serving, assert_serves, servings, store


@dataclass(frozen=True)
class Case:
    """Series, and how they are cut."""

    lengths: tuple[int, ...]  # of each file's
    value_shape: tuple[int, ...]
    dtype: str
    layout: str
    chunk: int
    length: int
    stride: int
    rate: int
    y_at: Any

    def series(self, number: int) -> NDArray[Any]:
        count = self.lengths[number]
        size = count * int(np.prod(self.value_shape))
        values = np.random.default_rng(number).integers(0, 100, size)
        return values.reshape(count, *self.value_shape).astype(self.dtype)

    def windows(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return x and y as NumPy has them."""
        span = (self.length - 1) * self.rate + 1
        after = {"last": span - 1, "next": span - 1 + self.rate, "window": 0}
        offset = after.get(self.y_at, self.y_at)
        x = np.moveaxis(sliding_window_view(values, span, axis=0)[..., :: self.rate], -1, 1)
        x = x[: len(values) - max(span, offset + 1) + 1 : self.stride]
        y = values[offset :: self.stride][: len(x)] if self.y_at != "window" else x
        return {"x": np.ascontiguousarray(x), "y": np.ascontiguousarray(y)}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    length = draw(st.integers(1, 7))
    rate = draw(st.integers(1, 4))
    y_at = draw(st.sampled_from(["last", "next", "window", 0, 3, 20]))
    least = (length - 1) * rate + 1 + (rate if y_at == "next" else 0)
    least = max(least, y_at + 1) if isinstance(y_at, int) else least
    lengths = draw(st.lists(st.integers(least, least + 40), min_size=1, max_size=3))
    return Case(
        tuple(lengths),
        tuple(draw(st.lists(st.integers(1, 3), max_size=2))),
        draw(st.sampled_from(["<f4", ">i2", "u1", "f8"])),
        draw(st.sampled_from(list(STORED))),
        draw(st.integers(1, 30)),
        length,
        draw(st.integers(1, 9)),
        rate,
        y_at,
    )


@given(
    case=cases(),
    rows=st.lists(st.integers(0, 1000), max_size=30),
    serving=servings(),
    reader=st.sampled_from(["auto", "direct", "h5py"]),
)
def test_windows_are_those_of_numpy(
    case: Case, rows: list[int], serving: Serving, reader: Any
) -> None:
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        parts: list[Mapping[str, NDArray[Any]]] = []
        for number in range(len(case.lengths)):
            values = case.series(number)
            store(Path(folder) / f"{number}.h5", {"signal": values}, case.layout, [case.chunk])
            parts.append(case.windows(values))
        source = k5.windows_from_series(
            f"{folder}/*.h5",
            x="signal",
            y="signal",
            length=case.length,
            stride=case.stride,
            sampling_rate=case.rate,
            y_at=case.y_at,
            reader=reader,
        )
        # NumPy joins arrays in the byte order of the machine.
        expected = {
            name: np.concatenate([part[name] for part in parts]).astype(case.dtype) for name in "xy"
        }
        assert_serves(source, expected, rows, serving)
        assert source.part_starts.tolist() == [0, *np.cumsum([len(part["x"]) for part in parts])]


@given(
    starts=st.lists(st.integers(0, 900), min_size=1, max_size=30).map(sorted),
    length=st.integers(1, 9),
    rate=st.sampled_from([1, 2, 3, 11, 40]),
    is_chunked=st.booleans(),
    slab=st.sampled_from([1, 200, 1 << 20]),
)
def test_any_windows_are_read_whatever_is_read_at_a_time(
    starts: list[int], length: int, rate: int, is_chunked: bool, slab: int
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="kerash5-") as folder,
        pytest.MonkeyPatch.context() as m,
    ):
        m.setattr("kerash5.h5.layouts._window_reader._SLAB_BYTES", slab)
        m.setattr("kerash5.h5.layouts._window_reader._COPY_BYTES", slab)
        values = np.arange(1300, dtype="f4")
        store(Path(folder) / "a.h5", {"x": values}, "gzip" if is_chunked else "contiguous", [64])
        source = k5.windows_from_series(f"{folder}/a.h5", x="x", length=length, sampling_rate=rate)
        wanted = [start for start in starts if start < len(source)]
        found = source.read(wanted)["x"]
        positions = np.array(wanted, np.int64)[:, None] + np.arange(length) * rate
        assert_array_equal(found, values[positions])


# What is read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    values = np.arange(1000, dtype="f4")
    path = tmp_path / "a.h5"
    store(path, {"signal": values, "state": (values // 100).astype("u1")}, "gzip", [50])
    with h5py.File(path, "a") as file:
        file["word"] = [f"w{i // 500}" for i in range(1000)]
        file["short"] = np.arange(999)
        file["pair"] = np.zeros((1000, 2), "i2")
    return path


def count_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of each chunk that is decoded."""
    found: list[int] = []
    decode = _chunk_readers.ChunkedReader._decode

    def note(self: Any, number: int, *rest: Any) -> None:
        found.append(number)
        decode(self, number, *rest)

    monkeypatch.setattr(_chunk_readers.ChunkedReader, "_decode", note)
    return found


@pytest.mark.parametrize("order", ["sorted", "shuffled", "sparse"])
def test_a_chunk_is_decoded_once_for_all_windows_asked_for(
    order: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = k5.windows_from_series(path, x="signal", length=20)
    rows = np.arange(len(source))
    if order == "shuffled":
        rows = np.random.default_rng(0).permutation(rows)
    if order == "sparse":
        rows = rows[::23]
    decoded = count_chunks(monkeypatch)
    source.read(rows)
    assert sorted(decoded) == list(range(20))


def test_an_epoch_over_windows_decodes_little_more_than_each_chunk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    store(path, {"x": np.arange(200_000, dtype="f4")}, "gzip", [1000])
    source = k5.windows_from_series(path, x="x", length=50)
    options = BatchOptions(shuffle="chunks", cache="16MB", batch_size=256, threads=2)
    decoded = count_chunks(monkeypatch)
    batches = open_batches(source, None, None, None, options)
    assert sum(len(batch[0]) for batch in batches.epoch(0)) == len(source)
    assert 200 <= len(decoded) <= 200 * 1.3


def test_windows_that_begin_in_a_large_chunk_are_no_block_larger_than_it(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    store(path, {"x": np.zeros(4_000_000, "f4")}, "gzip", [2_000_000])
    (reader,) = k5.windows_from_series(path, x="x", length=100).columns["x"].parts
    assert isinstance(reader, WindowReader)
    assert reader.block_rows * reader.row_bytes <= 8_000_000


def test_values_that_lie_far_apart_are_read_alone(path: Path) -> None:
    source = k5.windows_from_series(path, x="signal", length=3, sampling_rate=400)
    assert source.read([0, 199])["x"].tolist() == [[0, 400, 800], [199, 599, 999]]


# Columns


def test_y_may_be_any_data_set_or_none(path: Path) -> None:
    source = k5.windows_from_series(path, x="signal", y="word", length=10, stride=490)
    assert source.class_names == ("w0", "w1")
    assert source.read([0, 1, 2])["y"].tolist() == [0, 0, 1]
    assert list(k5.windows_from_series(path, x="signal", length=10).columns) == ["x"]


def test_a_column_says_what_windows_become(path: Path) -> None:
    x = k5.Column("pair", shape=(8, 2, 1), dtype="float32")
    y = k5.Column("state", one_hot=10)
    source = k5.windows_from_series(path, x=x, y=y, length=8)
    found = source.read([92, 93])
    assert found["x"].shape == (2, 8, 2, 1)
    assert found["x"].dtype == np.float32
    assert found["y"].argmax(1).tolist() == [0, 1]
    with pytest.raises(k5.ShapeError, match=r"rows of shape \(8, 2\), which cannot become \(8, 3"):
        k5.windows_from_series(path, x=k5.Column("pair", shape=(8, 3)), length=8)


def test_a_column_says_what_a_series_is_made_of(path: Path, tmp_path: Path) -> None:
    names = h5py.enum_dtype({"low": 0, "high": 1}, basetype="u1")
    beside = tmp_path / "beside" / "y.h5"
    beside.parent.mkdir()
    with h5py.File(path, "a") as file:
        file["across"] = np.arange(2000).reshape(2, 1000)
    with h5py.File(beside, "w") as file:
        file["mood"] = (np.arange(1000) > 500).astype("u1").astype(names)
    x, y = k5.Column("across", axis=1, select=[1]), k5.Column("mood", file=beside)
    source = k5.windows_from_series(path, x=x, y=y, length=2, y_at="next")
    assert source.class_names == ("low", "high")
    found = source.read([498, 499])
    assert found["x"].tolist() == [[[1498], [1499]], [[1499], [1500]]]
    assert found["y"].tolist() == [0, 1]


def test_open_data_sets_name_the_series(path: Path) -> None:
    with h5py.File(path) as file:
        source = k5.windows_from_series(x=file["signal"], length=4)
    assert source.read([996])["x"].tolist() == [[996, 997, 998, 999]]


def test_windows_describe_themselves(path: Path) -> None:
    source = k5.windows_from_series(
        path, x="signal", y="state", length=50, stride=5, sampling_rate=2, y_at="next"
    )
    text = source.describe()
    assert "each row is a window of 50 values, 2 apart" in text
    assert "every 5 values of a file; its y is the value after its last one" in text
    assert "straight from the file (chunk map)" in text
    assert (
        "the value 7 after its first"
        in k5.windows_from_series(path, x="signal", y="state", length=50, y_at=7).describe()
    )


@pytest.mark.parametrize(
    "other", [{"length": 9}, {"stride": 2}, {"sampling_rate": 2}, {"y_at": "next"}], ids=str
)
def test_another_cut_has_another_fingerprint(other: dict[str, Any], path: Path) -> None:
    options: dict[str, Any] = {"length": 10, "stride": 1, "sampling_rate": 1, "y_at": "last"}
    first = k5.windows_from_series(path, x="signal", y="state", **options)
    second = k5.windows_from_series(path, x="signal", y="state", **{**options, **other})
    assert first.fingerprint() != second.fingerprint()
    assert first.fingerprint() == first.select(x="x", y="y").fingerprint()


def test_a_wrong_value_is_named_by_its_window(path: Path) -> None:
    source = k5.windows_from_series(path, x=k5.Column("signal", dtype="uint8"), length=10)
    with pytest.raises(ColumnError, match=r"row 300 of '.*a\.h5'"):
        source.read([0, 300])


# What makes no sense


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": 0}, "length=0; it is the number of values in a window"),
        ({"length": 2.5}, "length=2.5"),
        ({"stride": 0}, "stride=0; it is the number of values from one window"),
        ({"sampling_rate": 0}, "sampling_rate=0"),
        ({"y_at": "middle"}, "y_at='middle'; choose 'last', 'next', 'window'"),
        ({"y_at": -1}, "y_at=-1; choose"),
        ({"y_at": True}, "y_at=True; choose"),
        ({"y": None, "y_at": "next"}, "y_at='next' without y="),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], words: str, path: Path
) -> None:
    given = {"x": "signal", "y": "state", "length": 10, **options}
    with pytest.raises(OptionError, match=words.replace("?", r"\?")):
        k5.windows_from_series(path, **given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": 1001}, "has 1000 values, and a window of length=1001 takes 1001; choose"),
        ({"length": 600, "sampling_rate": 2}, "length=600 and sampling_rate=2 takes 1199"),
        ({"length": 1000, "y_at": "next"}, "length=1000 with y_at='next' takes 1001"),
        ({"length": 5, "y_at": 1000}, "length=5 with y_at=1000 takes 1001"),
    ],
    ids=str,
)
def test_a_series_shorter_than_a_window_is_refused(
    options: dict[str, Any], words: str, path: Path
) -> None:
    with pytest.raises(ColumnError, match=rf"series 'signal' of .*a\.h5' .*{words}"):
        k5.windows_from_series(path, x="signal", y="state", **options)


def test_series_that_are_not_aligned_are_refused(path: Path) -> None:
    words = r"series of .*a\.h5' differ in length: 'signal' has 1000 values, 'short' 999"
    with pytest.raises(ColumnError, match=words):
        k5.windows_from_series(path, x="signal", y="short", length=5)


def test_what_is_not_there_is_said(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownColumnError, match="'sginal'"):
        k5.windows_from_series(path, x="sginal", length=5)
    with pytest.raises(FileMissingError, match="no file matches"):
        k5.windows_from_series(tmp_path / "*.hdf5", x="signal", length=5)
