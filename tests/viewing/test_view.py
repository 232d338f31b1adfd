"""Contact sheets: which columns and rows are drawn, and how the axes of a row are understood."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import kerash5 as k5
from kerash5.assets import digits_test
from kerash5.report.runs import _pictures
from kerash5.viewing import _sheet, _view
from kerash5.viewing._cells import MAX_PIXELS, find_row_shape, find_scale
from kerash5.viewing._sheet import Sheet

RNG = np.random.default_rng(0)
BYTES = np.dtype(np.uint8)


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[Sheet]:
    """Return the list of all that is drawn."""
    drawn: list[Sheet] = []

    def note(sheet: Sheet) -> Any:
        drawn.append(sheet)
        return _sheet.draw_sheet(sheet)

    monkeypatch.setattr(_view, "draw_sheet", note)
    return drawn


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pets.h5"
    with h5py.File(path, "w") as made:
        made["image"] = RNG.integers(0, 255, (30, 9, 16, 3)).astype("u1")
        made.create_dataset("label", data=[("cat", "dog", "cow")[n % 3] for n in range(30)])
        made["angle"] = np.linspace(0, 1, 30)
        made["signal"] = RNG.random((30, 50))
        made["one hot"] = np.eye(5)[np.arange(30) % 5]
        made["cube"] = np.zeros((30, 5, 6, 7))
    return path


# What is drawn


def test_the_columns_that_describe_suggests_are_drawn_with_names_of_classes(
    file: Path, sheets: list[Sheet]
) -> None:
    figure = k5.view(file)
    (sheet,) = sheets
    assert sheet.title == "pets.h5: image, all 30 rows"
    assert sheet.labels is not None
    assert sheet.labels[:3] == ["cat", "dog", "cow"]
    with h5py.File(file) as source:
        assert sheet.rows[4].tolist() == source["image"][4].tolist()
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:  # as a notebook shows it
        assert min(picture.size) > 300


@pytest.mark.parametrize(
    ("rows", "drawn"),
    [
        ("0:4", ([0, 1, 2, 3], "rows 0 to 3 of 30")),
        ("28:64", ([28, 29], "rows 28 to 29 of 30")),
        ("0:30:10", ([0, 10, 20], "3 rows of 30")),
        ("-2:", ([28, 29], "rows 28 to 29 of 30")),
        ("7", ([7], "row 7 of 30")),
        ("5, 2,-1", ([5, 2, 29], "3 rows of 30")),
        (slice(4), ([0, 1, 2, 3], "rows 0 to 3 of 30")),
        (slice(-2, None), ([28, 29], "rows 28 to 29 of 30")),
        (slice(0, 30, 10), ([0, 10, 20], "3 rows of 30")),
        ([5, 2, -1], ([5, 2, 29], "3 rows of 30")),
    ],
    ids=str,
)
def test_rows_are_ranges_or_numbers(
    rows: Any, drawn: tuple[list[int], str], file: Path, sheets: list[Sheet], tmp_path: Path
) -> None:
    k5.view(file, rows=rows, out=tmp_path / "a.png")
    assert sheets[0].numbers == drawn[0]
    assert sheets[0].title == f"pets.h5: image, {drawn[1]}"


@pytest.mark.parametrize(
    ("y", "labels"),
    [("angle", ["0", "0.0345"]), ("one hot", ["0", "1"]), ("signal", None)],
)
def test_labels_are_numbers_or_the_place_of_a_one(
    y: str, labels: list[str] | None, file: Path, sheets: list[Sheet], tmp_path: Path
) -> None:
    k5.view(file, y=y, rows="0:2", out=tmp_path / "a.png")
    found = sheets[0].labels
    assert found is not None
    assert found == labels or (labels is None and found[0].endswith(", ..."))


def test_another_column_is_drawn_without_the_labels_of_the_suggested_one(
    file: Path, sheets: list[Sheet], tmp_path: Path
) -> None:
    k5.view(file, x="signal", out=tmp_path / "a.png")
    k5.view(file, x="image", out=tmp_path / "a.png")
    assert sheets[0].labels is None
    assert sheets[0].shape.kind == "lines"
    assert sheets[1].labels is not None


# The axes of a row


@pytest.mark.parametrize(
    ("shape", "kind", "drawn"),
    [
        ((28, 28), "gray", (28, 28)),
        ((28, 28, 1), "gray", (28, 28)),
        ((1, 28, 28), "gray", (28, 28)),
        ((8, 9, 3), "color", (8, 9, 3)),
        ((3, 8, 9), "color", (8, 9, 3)),
        ((4, 20, 30), "color", (20, 30, 4)),
        ((50,), "lines", (50,)),
        ((1, 50), "lines", (50,)),
        ((50, 3), "lines", (50, 3)),
        ((3, 50), "lines", (50, 3)),
        ((2000, 1000), "gray", None),
        ((100_000,), "lines", None),
    ],
    ids=str,
)
def test_the_axes_of_a_row_are_told_by_their_lengths(
    shape: tuple[int, ...], kind: str, drawn: tuple[int, ...] | None
) -> None:
    found = find_row_shape("x", shape, BYTES)
    row = np.arange(np.prod(shape)).reshape(shape)
    made = found.prepare(row)
    assert found.kind == kind
    if drawn is None:
        assert max(made.shape) <= 4 * MAX_PIXELS
        return
    assert made.shape == drawn
    channel = 1 if len(drawn) == 3 or shape == (50, 3) else 0
    if kind == "color":
        first = shape[0] == drawn[2]
        assert made[2, 3, channel] == (row[channel, 2, 3] if first else row[2, 3, channel])


@pytest.mark.parametrize("shape", [(), (1,), (5, 6, 7), (3, 20, 3), (5, 5), (2, 3, 4, 5)], ids=str)
def test_rows_that_are_neither_images_nor_curves_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(k5.ShapeError, match="which is neither an image"):
        find_row_shape("x", shape, BYTES)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(k5.ColumnError, match="cannot be drawn"):
        find_row_shape("x", (9, 9), np.dtype("c8"))


@pytest.mark.parametrize(
    ("values", "span", "is_plain"),
    [
        (np.array([[0, 200]], np.uint8), (0, 255), True),
        (np.array([[0, 16]], np.uint8), (0, 16), False),
        (np.array([[0.1, 0.9]]), (0, 1), True),
        (np.array([[-2.0, np.nan, 4.0]]), (-2, 4), False),
        (np.array([[np.nan]]), (0, 1), False),
        (np.array([[3, 3]]), (3, 3), False),
    ],
    ids=str,
)
def test_one_range_of_values_goes_for_all_rows(
    values: np.ndarray, span: tuple[float, float], is_plain: bool
) -> None:
    scale = find_scale([values], "gray")
    assert ((scale.low, scale.high), scale.is_plain) == (span, is_plain)
    fractions = scale.apply(values)
    assert ((fractions >= 0) & (fractions <= 1) | np.isnan(fractions)).all()


# The picture


def test_the_pixels_of_an_image_are_in_the_picture(tmp_path: Path) -> None:
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[0, :4, :, 0], image[0, 4:, :, 2] = 255, 255
    k5.write(tmp_path / "a.h5", image=np.repeat(image, 2, 0))
    k5.view(tmp_path / "a.h5", x="image", out=tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red, blue = ((pixels == color).all(axis=2) for color in ((255, 0, 0), (0, 0, 255)))
    assert red.sum() > 2000
    assert blue.sum() == pytest.approx(red.sum(), rel=0.1)
    assert np.nonzero(red)[0].mean() < np.nonzero(blue)[0].mean()  # red is above


@pytest.mark.parametrize("count", [1, 2, 5, 60, 64, 100])
def test_a_sheet_leaves_few_places_empty(count: int) -> None:
    columns = _sheet._choose_columns(count, 1.0)
    assert 1 <= columns <= count
    assert -count % columns <= 4


def test_the_digits_of_the_package_are_drawn(tmp_path: Path) -> None:
    out = tmp_path / "digits.png"
    assert k5.view(digits_test(), rows="0:20", out=out) == str(out)
    assert out.read_bytes()[:4] == b"\x89PNG"


# What is refused


def test_what_cannot_be_drawn_is_one_sentence(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    k5.write(tmp_path / "numbers.h5", time=np.arange(4.0))
    cases: list[tuple[Path, dict[str, Any], type[Exception], str]] = [
        (file, {"x": "cube"}, k5.ShapeError, "shape \\(5, 6, 7\\)"),
        (file, {"x": "imagee"}, k5.UnknownColumnError, "imagee"),
        (file, {"rows": "40:50"}, k5.RowError, "numbered 0 to 29"),
        (file, {"rows": "3,30"}, k5.RowError, "no row 30"),
        (file, {"rows": "few"}, k5.OptionError, "write a range"),
        (file, {"rows": "0:9:0"}, k5.OptionError, "at least 1"),
        (tmp_path / "numbers.h5", {}, k5.ColumnError, "name one with -x"),
        (tmp_path / "none.h5", {}, k5.FileMissingError, "none.h5"),
    ]
    for path, options, kind, said in cases:
        with pytest.raises(kind, match=said):
            k5.view(path, out=out, **options)
    assert not out.exists()


def test_only_pictures_are_replaced(file: Path, tmp_path: Path) -> None:
    for name, kind, said in (
        ("notes.txt", k5.OptionError, "is no image"),
        ("notes", k5.FileError, "is no PNG"),
        ("notes.png", k5.FileError, "is no PNG"),
    ):
        out = tmp_path / name
        out.write_text("mine")
        with pytest.raises(kind, match=said):
            k5.view(file, rows="0:2", out=out)
        assert out.read_text() == "mine"
    k5.view(file, rows="0:2", out=tmp_path / "a.svg")
    k5.view(file, rows="0:3", out=tmp_path / "a.svg")
    with pytest.raises(k5.FileError, match="is a folder"):
        k5.view(file, out=tmp_path)
    k5.view(file, rows="0:1", out=tmp_path / "a.png")
    k5.view(file, rows="0:2", out=tmp_path / "a.png")


def test_without_matplotlib_the_cure_is_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise k5.BackendError("figures need matplotlib: pip install 'kerash5[report]'")

    monkeypatch.setattr(_view, "new_figure", refuse)
    with pytest.raises(k5.BackendError, match=r"kerash5\[report\]"):
        k5.view(file, out=tmp_path / "a.png")
    assert _pictures.new_figure(1, 1) is not None
