"""Random stored arrays for Hypothesis: every way h5py stores numbers, and rows to ask for.

A `StoredArray` is only a description; `written` makes the file, `expected_rows` asks plain h5py.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from hypothesis import reject
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.stored_filters import StoredFilter, filter_lists, skip_filters

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


def _text(padding: int, charset: int) -> Callable[[], Any]:
    def make() -> Any:
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(6)
        kind.set_strpad(padding)
        kind.set_cset(charset)
        return kind

    return make


def _bfloat16() -> Any:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    return kind


def _short_int() -> Any:
    kind = h5py.h5t.STD_I32BE.copy()
    kind.set_precision(19)
    kind.set_offset(4)
    return kind


# What h5py converts on reading: text of all kinds, and numbers that NumPy has no type for.
TEXT_TYPES: Final = {
    "null-padded text": _text(h5py.h5t.STR_NULLPAD, h5py.h5t.CSET_ASCII),
    "null-terminated text": _text(h5py.h5t.STR_NULLTERM, h5py.h5t.CSET_ASCII),
    "space-padded text": _text(h5py.h5t.STR_SPACEPAD, h5py.h5t.CSET_ASCII),
    "UTF-8 text": _text(h5py.h5t.STR_NULLPAD, h5py.h5t.CSET_UTF8),
    "text of any length": lambda: h5py.h5t.py_create(h5py.string_dtype(), logical=True),
}
ODD_TYPES: Final = {**TEXT_TYPES, "bfloat16": _bfloat16, "int of 19 bits": _short_int}
LIBVERS: Final = ("earliest", "v108", "v110", "v112", "v114", "latest")
FILL_TIMES: Final = {
    "if set": h5py.h5d.FILL_TIME_IFSET,
    "on writing": h5py.h5d.FILL_TIME_ALLOC,
    "never": h5py.h5d.FILL_TIME_NEVER,
}
_WORDS: Final = np.array([b"", b"a", b"b c", b"caf\xc3\xa9", b"longer words", b" x"], object)
_COMPACT_BYTES: Final = 60_000  # HDF5 stores at most 64 KiB inside an object header


@dataclass(frozen=True)
class StoredArray:
    """One data set "x" of a file of its own, and rows to ask for."""

    dtype_name: str
    shape: tuple[int, ...]
    layout: str
    chunks: tuple[int, ...] | None
    filters: tuple[StoredFilter, ...]
    maxshape: tuple[int | None, ...] | None
    shapes: tuple[tuple[int, ...], ...]  # it had before, each written in part
    written_rows: int  # the rows that were written; what follows is fill value
    fill: bool
    fill_time: str
    mask: int  # of one chunk, written again without some of the filters
    libver: str
    userblock: int
    seed: int
    rows: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type as it was asked for."""
        return dtype_of(self.dtype_name)

    def write(self, path: Path) -> None:
        """Make the file."""
        if self.filters:
            import hdf5plugin  # noqa: F401  # registers its filters

        rng = np.random.default_rng(self.seed)
        with h5py.File(
            path, "w", libver=(self.libver, "latest"), userblock_size=self.userblock
        ) as file:
            self._write_values(self._create(file, rng), rng)
        if self.mask and self.written_rows and self.filters:
            # Opened again: HDF5 would later write what it still holds of the chunk itself.
            with h5py.File(path, "r+") as file:
                values = random_values(self.dtype, file["x"].chunks, rng)
                skip_filters(file["x"], values, self.filters, self.mask)

    def _create(self, file: h5py.File, rng: np.random.Generator) -> h5py.Dataset:
        created = self.shape if self.maxshape is None else (1, *self.shape[1:])
        return file.create_dataset(
            "x",
            created,
            h5py.Datatype(ODD_TYPES[self.dtype_name]())
            if self.dtype_name in ODD_TYPES
            else self.dtype,
            chunks=self.chunks or (True if self.layout == "auto-chunked" else None),
            maxshape=self.maxshape,
            fillvalue=random_values(self.dtype, (), rng)[()] if self.fill else None,
            dcpl=self._creation(),
        )

    def _write_values(self, dataset: h5py.Dataset, rng: np.random.Generator) -> None:
        if self.maxshape is not None:
            for shape in (*self.shapes, self.shape):
                dataset.resize(shape)
                low = [int(rng.integers(0, max(1, length))) for length in shape]
                box = tuple(
                    slice(start, min(start + 3, stop))
                    for start, stop in zip(low, shape, strict=True)
                )
                sides = tuple(side.stop - side.start for side in box)
                if shape != self.shape and all(sides):
                    dataset[box] = random_values(self.dtype, sides, rng)
        if self.written_rows:
            values = random_values(self.dtype, (self.written_rows, *self.shape[1:]), rng)
            dataset[: self.written_rows] = values

    def _creation(self) -> Any:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        if self.layout == "compact":
            creation.set_layout(h5py.h5d.COMPACT)
        if self.layout.endswith("allocated early"):
            creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(FILL_TIMES[self.fill_time])
        for entry in self.filters:
            entry.add_to(creation)
        return creation


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the type as h5py has it in memory."""
    if name in ODD_TYPES:
        dtype: np.dtype[Any] = h5py.Datatype(ODD_TYPES[name]()).dtype
        return dtype
    known: np.dtype[Any] = DTYPES[name]
    return known


def _takes_fill_value(dtype: np.dtype[Any]) -> bool:
    return dtype.subdtype is None and dtype.kind != "M"  # h5py has none for these


@contextmanager
def written(case: StoredArray) -> Iterator[Path]:
    """Lend the file of a stored array."""
    with tempfile.TemporaryDirectory(prefix="kerash5-") as folder:
        path = Path(folder) / "drawn.h5"
        try:
            case.write(path)
        except RuntimeError as error:
            # HDF5 does not resize some data sets of one chunk whose room was reserved early.
            if "constant message" not in str(error):
                raise
            reject()
        yield path


@st.composite
def stored_arrays(draw: st.DrawFn, *, dtype_names: tuple[str, ...] = tuple(DTYPES)) -> StoredArray:
    """Draw a data set of rank 1 to 5 in any layout, and rows of it in any order with repeats."""
    dtype_name = draw(st.sampled_from(dtype_names))
    dtype = dtype_of(dtype_name)
    num_rows = draw(st.integers(1, 24))
    shape = (num_rows, *draw(st.lists(st.integers(1, 6), max_size=4)))
    layouts = ["contiguous", "contiguous, allocated early"]
    layouts += ["chunked", "chunked", "chunked, allocated early", "auto-chunked"]
    if int(np.prod(shape)) * dtype.itemsize < _COMPACT_BYTES and not dtype.hasobject:
        layouts.append("compact")
    layout = draw(st.sampled_from(layouts))
    is_chunked = "chunked" in layout
    maxshape = draw(_maxshapes(shape)) if is_chunked else None
    chunks = draw(_chunks(maxshape or shape)) if layout.startswith("chunked") else None
    filters = draw(filter_lists(dtype)) if is_chunked and not dtype.hasobject else ()
    written_rows = draw(st.one_of(st.just(num_rows), st.integers(0, num_rows)))
    shapes = draw(st.lists(_earlier_shapes(maxshape), max_size=3)) if maxshape else []
    if dtype.hasobject:  # HDF5 cannot read such text back where it was never written
        written_rows, shapes = num_rows, []
    # What was never written, and never filled, reads as whatever memory held.
    is_determined = written_rows == num_rows and not shapes and not dtype.hasobject
    return StoredArray(
        dtype_name,
        shape,
        layout,
        chunks,
        filters,
        maxshape,
        tuple(shapes),
        written_rows,
        _takes_fill_value(dtype) and draw(st.booleans()),
        draw(st.sampled_from(list(FILL_TIMES) if is_determined else list(FILL_TIMES)[:2])),
        draw(st.integers(0, 2 ** len(filters) - 1)) if filters else 0,
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
    if h5py.check_string_dtype(dtype) is not None or dtype.kind == "S":
        return rng.choice(_WORDS, shape).astype(dtype)
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


@st.composite
def _maxshapes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int | None, ...] | None:
    if draw(st.booleans()):
        return None
    return tuple(draw(st.sampled_from([None, n, n + 3])) for n in shape)


@st.composite
def _chunks(draw: st.DrawFn, longest: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(draw(st.integers(1, n or 7)) for n in longest)


def _earlier_shapes(maxshape: tuple[int | None, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.integers(0, n or 9) for n in maxshape))
