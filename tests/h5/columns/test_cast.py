"""Casts lose nothing without a word: compared, value by value, with Python's exact numbers."""

import math
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, OptionError
from kerash5.batches._batches import BatchOptions, open_batches
from kerash5.h5 import Column, Source
from kerash5.h5.columns._cast import MisfitError, cast, find_misfits, may_lose, why_not_cast
from tests.strategies import random_values

NAMES: Final = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16")
NUMBERS: Final = (*NAMES, ">i2", ">u4", ">i8", ">f2", ">f8", ">c8")
EDGES: Final = [
    *(
        sign * 2**power + near
        for power in (7, 8, 15, 16, 31, 32, 63, 64)
        for near in (-1, 0, 1)
        for sign in (1, -1)
    ),
    *(
        0,
        1,
        -1,
        2,
        300,
        0.5,
        -0.0,
        0.7,
        65504.0,
        65519.0,
        65520.0,
        1e30,
        -1e30,
        1e300,
        3.4028235e38,
    ),
    *(math.nan, math.inf, -math.inf, 1 + 2j, 1e300 + 1j, complex(0, math.nan), 3 + 0j),
]


def survives(value: Any, dtype: np.dtype) -> bool:
    """Say by exact arithmetic whether a value of NumPy may be cast to a type."""
    if np.iscomplexobj(value):
        parts = [value.real, value.imag]
        if dtype.kind != "c":
            return value.imag == 0 and survives(value.real, dtype)
        return all(survives(part, dtype) for part in parts)
    number = value.item()
    if dtype.kind in "biu":
        if isinstance(number, float) and not math.isfinite(number):
            return False
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        exact = Fraction(number)
        return exact.denominator == 1 and low <= exact <= high
    if isinstance(number, float) and not math.isfinite(number):
        return True
    # IEEE 754, 4.3.1: what is rounded to nearest and lies half a unit past the largest number, or
    # further, becomes infinite.
    limits = np.finfo(dtype)
    largest = Fraction(float(limits.max))
    ulp = largest - Fraction(float(np.nextafter(limits.max, limits.dtype.type(0))))
    return abs(Fraction(number)) < largest + ulp / 2


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Draw values of which many lie at the edges of some type."""
    dtype = np.dtype(draw(st.sampled_from(NUMBERS)))
    values = random_values(
        dtype, (draw(st.integers(0, 6)),), np.random.default_rng(draw(st.integers(0, 99)))
    )
    own = [edge for edge in EDGES if dtype.kind == "c" or not isinstance(edge, complex)]
    with np.errstate(all="ignore"):
        edges = np.array(draw(st.lists(st.sampled_from(own), max_size=6)) or [0])
        if edges.dtype == object:
            edges = edges.astype(np.complex128 if dtype.kind == "c" else np.float64)
        return np.concatenate(
            [edges.real.astype(dtype) if dtype.kind != "c" else edges.astype(dtype), values]
        ).astype(dtype)


@given(values=arrays(), name=st.sampled_from(NUMBERS))
@example(values=np.array([2**63], "u8"), name="i4")
@example(values=np.array([2.0**63], "f8"), name="i8")
@example(values=np.array([2.0**64], "f4"), name="u8")
@example(values=np.array([65519.9, 65520.0], "f8"), name="f2")
@example(values=np.array([65519, 65520], "u2"), name="f2")
@example(values=np.array([math.nan, math.inf, 1e300], "f8"), name="f4")
def test_a_cast_keeps_every_value_or_names_the_first_that_it_cannot(
    values: np.ndarray, name: str
) -> None:
    dtype = np.dtype(name)
    lost = np.array([not survives(value, dtype) for value in values], bool)
    assert_array_equal(find_misfits(values, dtype), lost)
    assert may_lose(values.dtype, dtype) or not lost.any()
    if lost.any():
        with pytest.raises(MisfitError) as caught:
            cast(values, dtype)
        assert caught.value.place == np.flatnonzero(lost)[0]
    else:
        with np.errstate(all="ignore"):
            expected = values.real.astype(dtype) if dtype.kind != "c" else values.astype(dtype)
        assert cast(values, dtype).dtype == dtype
        assert cast(values, dtype).tobytes() == expected.tobytes()


def test_blocks_are_checked_to_the_last_value() -> None:
    values = np.zeros((140_000, 2))
    values[-1, 1] = 0.5
    with pytest.raises(
        MisfitError, match=r"0\.5, which int32 cannot hold: it holds whole"
    ) as caught:
        cast(values, np.dtype("i4"))
    assert caught.value.place == 279_999
    values[-1, 1] = 7
    assert cast(values, np.dtype("i4"))[-1, 1] == 7


def test_types_that_hold_every_value_are_not_looked_at() -> None:
    assert not may_lose(np.dtype("u1"), np.dtype("f4"))
    assert not may_lose(np.dtype("i8"), np.dtype("f4"))
    assert not may_lose(np.dtype(">f4"), np.dtype("f8"))
    assert may_lose(np.dtype("f8"), np.dtype("f4"))
    assert may_lose(np.dtype("u2"), np.dtype("f2"))


def test_extended_precision_is_cast_as_it_should_be() -> None:
    values = np.array([1.5, 2.0], np.longdouble)
    assert_array_equal(cast(values, np.dtype("f8")), [1.5, 2.0])
    with pytest.raises(MisfitError, match="which int8 cannot hold"):
        cast(values, np.dtype("i1"))


@pytest.mark.parametrize(
    ("stored", "wanted"), [("i8", "U1"), ("f4", "S9"), ("V5", "f4"), ("V5", "V3"), ("i4", "M8[s]")]
)
def test_numbers_become_numbers_alone(stored: str, wanted: str) -> None:
    assert why_not_cast(np.dtype(stored), np.dtype(wanted)) is not None


# Columns


MISFITS: Final = {
    "300 as uint8": (
        np.arange(257),
        "uint8",
        256,
        "256, which uint8 cannot hold: it holds whole numbers from 0 to 255",
    ),
    "-1 as uint8": (np.array([0, -1, 5]), "uint8", 1, "-1, which uint8 cannot hold"),
    "2**63 as int64": (np.array([5, 2**63], "u8"), "int64", 1, "9223372036854775808, which int64"),
    "NaN as int32": (np.array([1, np.nan]), "int32", 1, "nan, which int32 cannot hold"),
    "0.7 as int64": (np.array([0, 1, 0.7]), "int64", 2, "0.7, which int64 cannot hold"),
    "1e30 as float16": (
        np.array([1.0, 1e30]),
        "float16",
        1,
        "1e\\+30, which float16 cannot hold: its largest number is 65504",
    ),
    "imaginary": (
        np.array([1, 1 + 2j]),
        "float32",
        1,
        r"\(1\+2j\), which float32 cannot hold: it has no imaginary part",
    ),
    "2 as bool": (np.array([0, 1, 2]), "bool", 2, "2, which bool cannot hold: it holds 0 and 1"),
}
misfits = pytest.mark.parametrize(
    ("values", "dtype", "row", "words"), MISFITS.values(), ids=MISFITS
)


def write_columns(path: Path, values: np.ndarray, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=values, **options)
        file.create_dataset("wide", data=np.repeat(values[:, None], 9, 1), **options)
        file["x"] = np.zeros((len(values), 3), "f4")
    return path


@misfits
def test_a_source_names_the_row_whose_value_does_not_fit(
    tmp_path: Path, values: np.ndarray, dtype: str, row: int, words: str
) -> None:
    path = write_columns(tmp_path / "a.h5", values)
    source = Source(path, v=Column("v", dtype=dtype))
    with pytest.raises(
        ColumnError, match=rf"column 'v' holds in row {row} of '.*a.h5' the value {words}"
    ):
        source.read(np.arange(len(values))[::-1][: len(values) - row])
    fine = np.arange(row)
    assert_array_equal(source.read(fine)["v"], values[:row])


@misfits
def test_labels_that_do_not_fit_are_refused_when_the_data_set_is_made(
    tmp_path: Path, values: np.ndarray, dtype: str, row: int, words: str
) -> None:
    path, y = write_columns(tmp_path / "a.h5", values), Column("v", dtype=dtype)
    with pytest.raises(
        ColumnError, match=rf"column 'v' holds in row {row} of '.*' the value {words}"
    ):
        open_batches(path, "x", y, None, BatchOptions())
    with pytest.raises(ColumnError, match=f"in row {row}"):
        open_batches(path, "x", {"a": "x", "b": y}, None, BatchOptions())
    rows = slice(0, row)  # what is not served is not looked at
    (_, served) = open_batches(path, "x", y, None, BatchOptions(rows=rows, shuffle=False)).read(0)
    assert_array_equal(served, values[: min(row, 32)])


def test_the_file_that_holds_the_value_is_named(tmp_path: Path) -> None:
    for name in "ab":
        write_columns(tmp_path / f"{name}.h5", np.array([1, 2, 300 if name == "b" else 3]))
    source = Source(tmp_path / "*.h5", v=Column("v", dtype="uint8"))
    with pytest.raises(ColumnError, match=r"in row 2 of '.*b\.h5' the value 300"):
        source.read(range(6))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("cache", [0, 8_000, "auto"], ids=["direct", "windows", "resident"])
@pytest.mark.parametrize(
    "storage", [{}, {"chunks": (50, 9), "compression": "gzip"}], ids=["contiguous", "chunked"]
)
@pytest.mark.parametrize("reader", ["auto", "direct", "h5py"])
def test_every_way_of_reading_refuses_the_row(
    tmp_path: Path, reader: Any, storage: dict[str, Any], cache: Any, threads: int
) -> None:
    path = tmp_path / "a.h5"
    values = np.arange(1000 * 9, dtype="i4").reshape(1000, 9) % 200
    with h5py.File(path, "w") as file:
        file.create_dataset("wide", data=values, **storage)
    options = BatchOptions(cache=cache, threads=threads)
    batches = open_batches(path, Column("wide", dtype="u1"), None, None, options, reader=reader)
    rows = np.concatenate([batches.plan.rows(step) for step in range(len(batches))])
    served = np.concatenate([x for (x,) in batches.epoch(0)])
    assert_array_equal(served, values[rows])
    assert served.dtype == np.uint8
    values[777, 4] = 256
    path = tmp_path / "b.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("wide", data=values, **storage)
    batches = open_batches(path, Column("wide", dtype="u1"), None, None, options, reader=reader)
    with pytest.raises(ColumnError, match=r"column 'wide' holds in row 777 of .* the value 256"):
        for _ in batches.epoch(0):
            pass


def test_text_types_for_numbers_are_refused_at_once(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "a.h5", np.arange(3))
    with pytest.raises(
        OptionError, match="dtype='<U2' of column 'v': int64 values cannot become <U2"
    ):
        Source(path, v=Column("v", dtype="U2"))
    with pytest.raises(OptionError, match="choose a type of numbers"):
        Source(path, v=Column("v", dtype="U2", one_hot=3))


def test_a_source_with_a_cast_pickles(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "a.h5", np.arange(300))
    source = pickle.loads(pickle.dumps(Source(path, v=Column("v", dtype="u1"))))
    with pytest.raises(ColumnError, match="row 256"):
        source.read([1, 256])
