"""Random stored arrays for Hypothesis: every way h5py stores numbers, and rows to ask for.

A `StoredArray` is only a description; `written` makes the file, `expected_rows` asks plain h5py.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

DTYPES: Final = {
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "int16 big endian": np.dtype(">i2"),
    "int32": np.dtype("<i4"),
    "uint32 big endian": np.dtype(">u4"),
    "int64 big endian": np.dtype(">i8"),
    "uint64": np.dtype("<u8"),
    "float16": np.dtype("<f2"),
    "float16 big endian": np.dtype(">f2"),
    "float32": np.dtype("<f4"),
    "float64 big endian": np.dtype(">f8"),
    "complex64": np.dtype("<c8"),
    "complex128 big endian": np.dtype(">c16"),
    "bool": np.dtype("?"),
    "enum": h5py.enum_dtype({"cat": 0, "dog": 1, "cow": 2}, basetype="i2"),
    "compound": np.dtype([("a", "<i2"), ("b", ">f8"), ("c", "?")]),
    "padded compound": np.dtype([("a", "u1"), ("b", "<f8"), ("c", "<i2", (2,))], align=True),
    "nested compound": np.dtype([("in", [("a", ">u2"), ("b", "<f4")]), ("out", "u1")]),
    "sub-array": np.dtype(("<f4", (3,))),
    "sub-array of two axes": np.dtype((">i2", (2, 3))),
    "opaque": np.dtype("V5"),
    "datetime as opaque": h5py.opaque_dtype(np.dtype("<M8[us]")),
}
LIBVERS: Final = ("earliest", "v108", "v110", "latest")
_COMPACT_BYTES: Final = 60_000  # HDF5 stores at most 64 KiB inside an object header


@dataclass(frozen=True)
class StoredArray:
    """One data set "x" of a file of its own, and rows to ask for."""

    dtype_name: str
    shape: tuple[int, ...]
    layout: str
    chunks: tuple[int, ...] | None
    filters: dict[str, Any]
    maxshape: tuple[int | None, ...] | None
    written_rows: int  # the rows that were written; what follows is fill value
    fill: bool
    libver: str
    userblock: int
    seed: int
    rows: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type as it was asked for."""
        dtype: np.dtype[Any] = DTYPES[self.dtype_name]
        return dtype

    def write(self, path: Path) -> None:
        """Make the file."""
        rng = np.random.default_rng(self.seed)
        with h5py.File(
            path, "w", libver=(self.libver, "latest"), userblock_size=self.userblock
        ) as file:
            created = self.shape if self.maxshape is None else (1, *self.shape[1:])
            dataset = file.create_dataset(
                "x",
                created,
                self.dtype,
                chunks=self.chunks or (True if self.layout == "auto-chunked" else None),
                maxshape=self.maxshape,
                fillvalue=random_values(self.dtype, (), rng)[()] if self.fill else None,
                dcpl=_creation(self.layout),
                **self.filters,
            )
            if self.maxshape is not None:
                dataset.resize(self.shape)
            if self.written_rows:
                values = random_values(self.dtype, (self.written_rows, *self.shape[1:]), rng)
                dataset[: self.written_rows] = values


def _takes_fill_value(dtype: np.dtype[Any]) -> bool:
    return dtype.subdtype is None and dtype.kind != "M"  # h5py has none for these


@contextmanager
def written(case: StoredArray) -> Iterator[Path]:
    """Lend the file of a stored array."""
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        path = Path(folder) / "drawn.h5"
        case.write(path)
        yield path


@st.composite
def stored_arrays(draw: st.DrawFn, *, dtype_names: tuple[str, ...] = tuple(DTYPES)) -> StoredArray:
    """Draw a data set of rank 1 to 4 in any layout, and rows of it in any order with repeats."""
    dtype_name = draw(st.sampled_from(dtype_names))
    dtype = DTYPES[dtype_name]
    num_rows = draw(st.integers(1, 24))
    shape = (num_rows, *draw(st.lists(st.integers(1, 6), max_size=3)))
    layouts = ["contiguous", "contiguous, allocated early", "chunked", "auto-chunked"]
    if int(np.prod(shape)) * dtype.itemsize < _COMPACT_BYTES:
        layouts.append("compact")
    layout = draw(st.sampled_from(layouts))
    is_chunked = "chunked" in layout
    maxshape = draw(_maxshapes(shape)) if is_chunked else None
    chunks = tuple(draw(st.integers(1, n)) for n in shape) if layout == "chunked" else None
    return StoredArray(
        dtype_name,
        shape,
        layout,
        chunks,
        draw(_filters()) if is_chunked else {},
        maxshape,
        draw(st.one_of(st.just(num_rows), st.integers(0, num_rows))),
        _takes_fill_value(dtype) and draw(st.booleans()),
        draw(st.sampled_from(LIBVERS)),
        draw(st.sampled_from([0, 0, 512, 2048])),
        draw(st.integers(0, 2**32 - 1)),
        tuple(draw(st.lists(st.integers(0, num_rows - 1), max_size=40))),
    )


def random_values(
    dtype: np.dtype[Any], shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[Any]:
    """Return values whose every bit is random, as far as the type allows; NaNs of all kinds too."""
    if dtype.subdtype is not None:
        base, extra = dtype.subdtype
        return random_values(base, shape + extra, rng)
    if dtype.names is not None:
        values = np.zeros(shape, dtype)
        for name in dtype.names:
            values[name] = random_values(dtype[name], shape, rng)
        return values
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if h5py.check_enum_dtype(dtype) is not None:
        return rng.integers(0, 3, shape).astype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).reshape(shape)


def expected_rows(path: Path, name: str, rows: Any) -> NDArray[Any]:
    """Return what plain h5py gives: the whole data set, then its rows."""
    with h5py.File(path, "r") as file:
        whole = np.asarray(file[name][()])
    return whole[np.asarray(rows, np.int64)]


def assert_same_bytes(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    """Check shape, type and every bit of every value; what pads a compound is free."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if expected.dtype.names is not None:
        for name in expected.dtype.names:
            assert_same_bytes(actual[name], expected[name])
    elif expected.dtype.kind == "O":
        assert actual.tolist() == expected.tolist()
    else:
        assert actual.tobytes() == expected.tobytes()


def _creation(layout: str) -> Any:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if layout == "compact":
        creation.set_layout(h5py.h5d.COMPACT)
    if layout == "contiguous, allocated early":
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    return creation


@st.composite
def _maxshapes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int | None, ...] | None:
    if draw(st.booleans()):
        return None
    return tuple(draw(st.sampled_from([None, n, n + 3])) for n in shape)


@st.composite
def _filters(draw: st.DrawFn) -> dict[str, Any]:
    compression = draw(st.sampled_from([None, "gzip", "lzf"]))
    return {
        **({"compression": compression} if compression else {}),
        **({"compression_opts": draw(st.integers(0, 9))} if compression == "gzip" else {}),
        "shuffle": draw(st.booleans()),
        "fletcher32": draw(st.booleans()),
    }
