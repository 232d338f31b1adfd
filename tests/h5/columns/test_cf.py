"""`cf=`: the attributes of netCDF's conventions, one value at a time in Python's own numbers."""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerash5 as k5
from kerash5._errors import ColumnError, OptionError
from kerash5._options import format_columns, parse_columns
from kerash5.h5 import Column, Source
from tests.column_kinds import check_rows, new_folder, row_lists

# What CF 8.1 and 2.5.1 make of stored types and the type of scale_factor and add_offset.
TYPES = {
    ("i1", "f4"): "f4",
    ("u1", "f8"): "f8",
    ("i2", "f4"): "f4",
    (">i2", "f8"): "f8",
    ("i4", "f4"): "f8",
    ("i4", "f8"): "f8",
    ("f4", "f4"): "f4",
    ("f4", "f8"): "f8",
    ("f8", "f4"): "f8",
    ("i2", "i2"): "f4",
    ("i4", "i8"): "f8",
}


def unpack(value: Any, attributes: dict[str, Any], kind: np.dtype) -> float:
    """Unpack one value as the conventions say."""
    missing = [*np.atleast_1d(attributes.get("missing_value", [])), *[attributes.get("_FillValue")]]
    if any(value == one for one in missing if one is not None):
        return math.nan
    low, high = attributes.get("valid_range", (None, None))
    low, high = attributes.get("valid_min", low), attributes.get("valid_max", high)
    if (low is not None and value < low) or (high is not None and value > high):
        return math.nan
    out = kind.type(value)
    if "scale_factor" in attributes:
        out = kind.type(out * kind.type(attributes["scale_factor"]))
    if "add_offset" in attributes:
        out = kind.type(out + kind.type(attributes["add_offset"]))
    return float(out)


@st.composite
def packed(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any], np.dtype]:
    """Draw stored values, their attributes and the type that they are unpacked to."""
    (stored, scale), made = draw(st.sampled_from(sorted(TYPES.items())))
    kind = np.dtype(stored)
    values = np.array(draw(st.lists(st.integers(0, 9), min_size=8, max_size=8)), kind).reshape(4, 2)
    attributes: dict[str, Any] = {}
    if draw(st.booleans()):
        attributes["scale_factor"] = np.dtype(scale).type(draw(st.sampled_from([0.5, 0.1, 3])))
    if draw(st.booleans()) or not attributes:
        attributes["add_offset"] = np.dtype(scale).type(draw(st.sampled_from([20, 0.1])))
    if draw(st.booleans()):
        attributes["_FillValue"] = kind.newbyteorder("=").type(draw(st.integers(0, 9)))
    if draw(st.booleans()):
        attributes["missing_value"] = np.array([draw(st.integers(0, 9)), 7], kind)
    limits = draw(st.sampled_from([None, "valid_range", "valid_min", "valid_max"]))
    if limits is not None:
        attributes[limits] = np.array([2, 6] if limits == "valid_range" else 4, kind)
    return values, attributes, np.dtype(made)


@settings(max_examples=60)
@given(case=packed(), data=st.data())
def test_values_are_unpacked_as_the_conventions_say(case: Any, data: Any) -> None:
    values, attributes, kind = case
    with new_folder() as folder, h5py.File(folder / "a.h5", "w") as file:
        file["x"] = values
        file["x"].attrs.update(attributes)
        file.close()
        rows = data.draw(row_lists(4))
        expected = np.array([unpack(v, attributes, kind) for v in values.flat], kind)
        check_rows(
            folder / "a.h5", Column("x", cf=True), expected.reshape(4, 2), rows, batches=False
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["int"] = np.array([1, 2, 3], "i2")
        file["int"].attrs["_FillValue"] = np.int16(2)
        file["long"] = np.array([1, 2, 3], "i4")
        file["long"].attrs["missing_value"] = np.int32(2)
        file["byte"] = np.array([1, -1, -2], "i1")
        file["byte"].attrs.update({"_Unsigned": "true", "_FillValue": np.int8(-1)})
        file["plain"] = np.array([1, 2, 3], "i2")
        file["wide"] = np.array([1, 2, 3], "i2")
        file["wide"].attrs.update({"scale_factor": 0.5, "valid_range": np.array([0.9, 1.1])})
        file["text"] = np.array([b"a", b"b", b"c"])
        file["text"].attrs["_FillValue"] = b" "
        file["odd"] = np.array([1, 2, 3], "i2")
        file["odd"].attrs["scale_factor"] = "0.1"
    return tmp_path / "a.h5"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("int", np.array([1, math.nan, 3], "f4")),
        ("long", np.array([1, math.nan, 3], "f8")),
        ("byte", np.array([1, math.nan, 254], "f4")),
        ("wide", np.array([math.nan, 1, math.nan], "f8")),
        ("plain", np.array([1, 2, 3], "i2")),
    ],
)
def test_missing_values_are_nan(name: str, expected: np.ndarray, path: Path) -> None:
    check_rows(path, Column(name, cf=True), expected, [2, 0, 1], batches=False)


def test_false_reads_what_is_stored_without_a_warning(path: Path) -> None:
    check_rows(path, Column("int", cf=False), np.array([1, 2, 3], "i2"), [2, 0, 1])


def test_none_warns_and_names_both(path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Column\('int', cf=True\) applies them, cf=False reads"):
        Source(path, x="int")


def test_describe_and_the_fingerprint_tell_it(path: Path) -> None:
    applied = Source(path, x=Column("wide", cf=True))
    assert "scale_factor, valid_range applied" in applied.describe()
    assert applied.fingerprint() != Source(path, x=Column("wide", cf=False)).fingerprint()


@pytest.mark.parametrize("name", ["text", "odd"])
def test_what_cannot_be_unpacked_is_refused(name: str, path: Path) -> None:
    with pytest.raises(ColumnError, match=r"leave cf= out|pass cf=False"):
        Source(path, x=Column(name, cf=True))


@pytest.mark.parametrize("value", [0, 1, "yes"], ids=repr)
def test_it_is_true_or_false(value: Any) -> None:
    with pytest.raises(OptionError, match="choose True, False, or leave it out"):
        Column("x", cf=value)


def test_it_survives_a_config() -> None:
    for column in (Column("x", cf=False), Column("x", cf=True, complex="phase")):
        assert parse_columns(format_columns(column)) == column


# complex


@pytest.mark.parametrize("kind", ["c8", "c16", ">c8", "pair"])
@pytest.mark.parametrize("way", ["channels", "magnitude", "phase"])
def test_complex_numbers_become_real_ones(kind: str, way: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(5, 3)) + 1j * rng.normal(size=(5, 3))
    values = values.astype("c8" if kind == "pair" else kind)
    stored = values
    if kind == "pair":
        stored = np.empty(values.shape, [("re", "f4"), ("im", "f4")])
        stored["re"], stored["im"] = values.real, values.imag
    k5.write(tmp_path / "b.h5", y=np.zeros(5))
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        file["x"] = stored
    native = values.astype(values.dtype.newbyteorder("="))
    expected = {
        "channels": np.stack([native.real, native.imag], axis=-1),
        "magnitude": np.abs(native),
        "phase": np.angle(native),
    }[way]
    source = Source(tmp_path / "b.h5", x=Column("x", complex=way))
    found = source.read([4, 0, 4])["x"]
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected[[4, 0, 4]], rtol=1e-6)
    check_rows(tmp_path / "b.h5", Column("x", complex=way), source.read(range(5))["x"], [1, 1, 0])


def test_real_numbers_have_no_imaginary_part(path: Path) -> None:
    with pytest.raises(ColumnError, match=r"holds int16 values; they have no imaginary part"):
        Source(path, x=Column("plain", complex="phase"))


def test_a_way_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(OptionError, match="choose 'channels', 'magnitude', 'phase'"):
        Column("x", complex="real")  # type: ignore[arg-type]
