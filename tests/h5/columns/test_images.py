"""`decode="image"`: encoded images as arrays, as Pillow gives them."""

import io
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image

from kerash5._errors import BackendError, ColumnError, OptionError
from kerash5._options import format_columns, parse_columns
from kerash5.h5 import Column, Source
from tests.column_kinds import check_rows, new_folder, row_lists


def encode(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def images(shape: tuple[int, ...], count: int = 4) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *shape), "u1")


def write(path: Path, encoded: list[bytes], form: str, chunks: Any = None) -> None:
    longest = max(map(len, encoded))
    with h5py.File(path, "w") as file:
        if form == "vlen":
            stored = file.create_dataset("x", (len(encoded),), h5py.vlen_dtype("u1"), chunks=chunks)
            for number, data in enumerate(encoded):
                stored[number] = np.frombuffer(data, "u1")
            return
        padded = np.array([list(data.ljust(longest, b"\0")) for data in encoded], "u1")
        if form == "opaque":
            file["x"] = padded.view(f"V{longest}")[:, 0]
        else:
            file.create_dataset("x", data=padded, chunks=chunks and (*chunks, longest))


@settings(max_examples=30)
@given(
    data=st.data(),
    form=st.sampled_from(["vlen", "fixed", "opaque"]),
    kind=st.sampled_from(["PNG", "JPEG"]),
    shape=st.sampled_from([(5, 7), (6, 4, 3)]),
    num_parts=st.integers(1, 2),
)
def test_images_are_those_of_pillow(
    data: Any, form: str, kind: str, shape: tuple[int, ...], num_parts: int
) -> None:
    encoded = [encode(one, kind) for one in images(shape, 3 * num_parts)]
    expected = np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in encoded])
    with new_folder() as folder:
        paths = [folder / f"{number}.h5" for number in range(num_parts)]
        for number, path in enumerate(paths):
            chunks = data.draw(st.sampled_from([None, (2,)]))
            write(path, encoded[3 * number : 3 * number + 3], form, chunks)
        check_rows(paths, Column("x", decode="image"), expected, data.draw(row_lists(len(encoded))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    first, second, third, _ = images((5, 7, 3))
    small, gray = images((4, 4, 3))[0], images((5, 7))[0]
    encoded = [encode(one) for one in (first, second, third, small, gray)]
    write(tmp_path / "a.h5", [*encoded, b"no image"], "vlen")
    return tmp_path / "a.h5"


def test_an_image_of_another_size_names_its_row_and_the_cure(path: Path) -> None:
    source = Source(path, x=Column("x", decode="image"))
    assert source.columns["x"].shape == (5, 7, 3)
    words = (
        r"row 3 of column 'x' .* is an image of shape \(4, 4, 3\) uint8, and the first .*resize="
    )
    with pytest.raises(ColumnError, match=words):
        source.read([0, 3])
    with pytest.raises(ColumnError, match=words):
        source.load_range(2, 4, source.allocate(2))


def test_resize_makes_them_agree(path: Path) -> None:
    source = Source(path, x=Column("x", decode="image", resize=(2, 3), select=(..., 0)))
    found = source.read([3, 0])["x"]
    assert found.shape == (2, 2, 3)
    image = Image.fromarray(images((4, 4, 3))[0]).resize((3, 2), Image.Resampling.BILINEAR)
    assert_array_equal(found[0], np.asarray(image)[..., 0])
    assert "decoded as images, resized to (2, 3)" in source.describe()


def test_a_gray_image_among_colours_is_coloured(path: Path) -> None:
    found = Source(path, x=Column("x", decode="image")).read([4])["x"][0]
    assert_array_equal(found, np.repeat(images((5, 7))[0][..., None], 3, axis=-1))


def test_what_is_no_image_names_its_row(path: Path) -> None:
    with pytest.raises(ColumnError, match=r"row 5 of column 'x' .* does not decode as an image"):
        Source(path, x=Column("x", decode="image")).read([0, 5])


def test_without_pillow_its_installation_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(BackendError, match=r"needs Pillow: pip install 'kerash5\[images\]'"):
        Source(path, x=Column("x", decode="image"))


def test_numbers_are_no_images(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros((3, 4))
        file["byte"] = np.zeros((3, 4), "u1")
    with pytest.raises(ColumnError, match=r"rows are float64 of shape \(4,\), not bytes"):
        Source(tmp_path / "a.h5", x=Column("x", decode="image"))
    with pytest.raises(ColumnError, match=r"row 0 of column 'byte' .* does not decode"):
        Source(tmp_path / "a.h5", x=Column("byte", decode="image"))


@pytest.mark.parametrize(
    "options",
    [{"decode": "jpeg"}, {"resize": (2, 2)}, {"decode": "image", "resize": 2}],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_at_once(options: Any) -> None:
    with pytest.raises(OptionError, match="column 'x'"):
        Column("x", **options)


def test_it_survives_a_config() -> None:
    column = Column("x", decode="image", resize=(2, 3))
    assert parse_columns(format_columns(column)) == column
