"""What `pack` makes of folders of images, NumPy's files and tables, and what it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from PIL import Image

import kerash5 as k5
from kerash5.packing import _arrays, _images, _labels, _pack_table, _table

RNG = np.random.default_rng(0)


def draw(path: Path, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> np.ndarray:
    """Write an image of random pixels, and return them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode in ("L", "I;16") else (*size, len(mode))
    dtype = np.uint16 if mode == "I;16" else np.uint8
    pixels = RNG.integers(0, 255, shape).astype(dtype)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images of two classes, and what is not one."""
    folder = tmp_path / "photos"
    for name in ("dog/1.png", "cat/2.png", "cat/1.png"):
        draw(folder / name)
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    return folder


# Folders


def test_a_folder_becomes_images_with_named_labels_in_the_order_of_keras(
    photos: Path, tmp_path: Path
) -> None:
    deep = draw(photos / "cat" / "a" / "0.PNG")
    done = k5.pack(photos, tmp_path / "out.h5")
    assert (done.summary, done.num_skipped) == ("4 images of 2 classes", 0)
    with h5py.File(tmp_path / "out.h5") as file:
        names = [b"cat/1.png", b"cat/2.png", b"cat/a/0.PNG", b"dog/1.png"]
        assert file["file"][()].tolist() == names
        assert file["label"][()].tolist() == [0, 0, 0, 1]
        assert file["image"].dtype == np.uint8
        assert file["image"][2].tolist() == deep.tolist()
    source = k5.Source(tmp_path / "out.h5", x="image", y="label")
    assert source.class_names == ("cat", "dog")


def test_a_class_without_images_keeps_its_number(photos: Path, tmp_path: Path) -> None:
    (photos / "bird").mkdir()
    k5.pack(photos, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["label"][()].tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    ("modes", "shape", "dtype"),
    [
        (("L", "L"), (8, 6), np.uint8),
        (("L", "RGB"), (8, 6, 3), np.uint8),
        (("RGBA", "RGB"), (8, 6, 3), np.uint8),
        (("I;16", "I;16"), (8, 6), np.uint16),
    ],
    ids=str,
)
def test_images_are_gray_only_if_all_of_them_are(
    modes: tuple[str, str], shape: tuple[int, ...], dtype: type, tmp_path: Path
) -> None:
    pixels = [draw(tmp_path / "in" / "a" / f"{n}.png", mode=mode) for n, mode in enumerate(modes)]
    k5.pack(tmp_path / "in", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert (file["image"].shape[1:], file["image"].dtype) == (shape, dtype)
        if modes[0] == modes[1]:
            assert file["image"][1].tolist() == pixels[1].tolist()


def test_images_of_several_sizes_are_resized_or_refused(photos: Path, tmp_path: Path) -> None:
    draw(photos / "dog" / "2.png", (4, 4))
    with pytest.raises(k5.ColumnError, match=r"2 sizes .*'cat/1.png' is 8x6.*'dog/2.png' 4x4"):
        k5.pack(photos, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()
    k5.pack(photos, tmp_path / "out.h5", size=(5, 7))
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["image"].shape == (4, 5, 7, 3)


def spoil(photos: Path) -> None:
    """Add three images that cannot be read; one of them says so only when it is decoded."""
    (photos / "cat" / "0.png").write_bytes(b"no image")
    whole = (photos / "cat" / "1.png").read_bytes()
    (photos / "dog" / "0.png").write_bytes(whole[: len(whole) // 2])
    (photos / "dog" / "2.png").write_bytes(b"")


def test_all_images_that_cannot_be_read_are_counted_and_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(photos)
    with pytest.raises(k5.FileError) as caught:
        k5.pack(photos, tmp_path / "out.h5")
    words = str(caught.value)
    assert words.startswith("3 images of ")
    for name in ("'cat/0.png' (row 0: ", "'dog/0.png' (row 3: ", "'dog/2.png' (row 5: "):
        assert name in words
    assert "--skip-bad" in words
    monkeypatch.setattr(_images, "_NAMED", 1)
    with pytest.raises(k5.FileError, match=r"'cat/0.png' \(row 0: .*\) and 2 more; "):
        k5.pack(photos, tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_images_that_cannot_be_read_are_left_out_if_asked(photos: Path, tmp_path: Path) -> None:
    spoil(photos)
    done = k5.pack(photos, tmp_path / "out.h5", skip_bad=True)
    assert done.num_skipped == 3
    assert "left out 3 images that cannot be read: 'cat/0.png'" in done.notes[0]
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["file"][()].tolist() == [b"cat/1.png", b"cat/2.png", b"dog/1.png"]
        assert file["label"][()].tolist() == [0, 0, 1]


def test_a_cut_image_in_the_last_block_leaves_no_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_images, "BLOCK", 1)
    whole = (photos / "cat" / "1.png").read_bytes()
    (photos / "dog" / "9.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(k5.FileError, match="1 images of"):
        k5.pack(photos, tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("what", ["nothing", "loose images"])
def test_a_folder_without_classes_is_refused(what: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    if what == "loose images":
        draw(tmp_path / "in" / "a.png")
    with pytest.raises(k5.FileError, match="a folder for each class"):
        k5.pack(tmp_path / "in", tmp_path / "out.h5")


# Arrays

DTYPES = st.sampled_from(["u1", ">i2", "<f4", "f8", "?", "c8", "S3", "<U2"])


@settings(deadline=None, max_examples=40)
@given(data=st.data(), compressed=st.booleans(), order=st.sampled_from("CF"))
def test_arrays_of_npz_files_are_kept(data: st.DataObject, compressed: bool, order: Any) -> None:
    shapes = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
    values = {
        name: np.asarray(data.draw(arrays_of.arrays(data.draw(DTYPES), data.draw(shapes))))
        for name in ("x", "folder/y", "z")
    }
    with pytest.MonkeyPatch.context() as patch, _folder() as folder:
        patch.setattr(_arrays, "_BLOCK_BYTES", 32)
        save = np.savez_compressed if compressed else np.savez
        stored: dict[str, Any] = {n: np.asarray(one, order=order) for n, one in values.items()}
        save(folder / "in.npz", **stored)
        done = k5.pack(folder / "in.npz", folder / "out.h5")
        assert done.summary == "3 arrays"
        with h5py.File(folder / "out.h5") as file:
            for name, one in values.items():
                expected = np.char.encode(one, "utf-8") if one.dtype.kind == "U" else one
                assert file[name].shape == one.shape
                if one.dtype.kind in "SU":
                    assert file[name][()].tolist() == expected.tolist()
                else:
                    assert file[name].dtype == one.dtype
                    assert file[name][...].tobytes() == expected.tobytes()


def _folder() -> Any:
    import contextlib
    import tempfile

    @contextlib.contextmanager
    def lend() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    return lend()


def test_an_npy_file_is_one_data_set(tmp_path: Path) -> None:
    values = RNG.random((40, 3))
    np.save(tmp_path / "in.npy", values)
    k5.pack(tmp_path / "in.npy", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"][()].tolist() == values.tolist()


def test_arrays_that_hdf5_does_not_store_are_refused(tmp_path: Path) -> None:
    for values in (np.array([{}], object), np.array(["2026-01-01"], "M8[D]")):
        np.savez(tmp_path / "in.npz", x=np.zeros(3), y=values)
        with pytest.raises(k5.ColumnError, match=r"array 'y' of .* holds"):
            k5.pack(tmp_path / "in.npz", tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("size", [0, 10, 200])
def test_a_damaged_file_of_numpy_is_one_sentence(ending: str, size: int, tmp_path: Path) -> None:
    stream = io.BytesIO()
    if ending == "npy":
        np.save(stream, RNG.random(300))
    else:
        np.savez(stream, x=RNG.random(300))
    path = tmp_path / f"in.{ending}"
    path.write_bytes(stream.getvalue()[:size])
    with pytest.raises(k5.FileError, match=r"damaged|cut short"):
        k5.pack(path, tmp_path / "out.h5")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


# Tables


def write_table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_numbers_of_a_table_are_one_matrix_and_texts_are_classes(mark: str, tmp_path: Path) -> None:
    lines = ("a,b,kind,color", "1,0.5,x,red", "2,,y,blue", "3,2.5,x,red")
    path = write_table(tmp_path / "t.csv", *(line.replace(",", mark) for line in lines))
    done = k5.pack(path, tmp_path / "out.h5", label="kind")
    assert done.notes == ("column 'b' has 1 empty cells, which are NaN",)
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(file) == ["color", "label", "x"]
        assert file.attrs["x_columns"] == "a, b"
        assert np.array_equal(file["x"][()], [[1, 0.5], [2, np.nan], [3, 2.5]], equal_nan=True)
        assert file["x"].dtype == np.float32
        assert file["label"][()].tolist() == [0, 1, 0]
        assert h5py.check_enum_dtype(file["color"].dtype) == {"blue": 0, "red": 1}


def test_numbers_that_float32_does_not_have_are_kept(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", "a,label", f"{2**24 + 1},0.5", "2,1.5")
    k5.pack(path, tmp_path / "out.h5", label="label")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["x"][()].tolist() == [[2**24 + 1], [2]]
        assert file["label"][()].tolist() == [0.5, 1.5]


def test_a_table_of_paths_becomes_images(photos: Path, tmp_path: Path) -> None:
    names = ("dog/1.png", "cat/1.png", "cat/2.png")
    lines = [f"photos/{name},{name[:3]},{n}" for n, name in enumerate(names)]
    path = write_table(tmp_path / "t.csv", "path,species,age", *lines)
    k5.pack(path, tmp_path / "out.h5", image="path", label="species")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["label"][()].tolist() == [1, 0, 0]
        assert file["age"][()].tolist() == [0, 1, 2]
        for row, name in enumerate(names):
            assert file["image"][row].tolist() == np.asarray(Image.open(photos / name)).tolist()


@pytest.mark.parametrize("block", [1, 2, 64])
def test_rows_of_images_that_are_left_out_are_left_out_of_all_columns(
    block: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_images, "BLOCK", block)
    monkeypatch.setattr(_pack_table, "BLOCK", block)
    spoil(photos)
    names = ("cat/0.png", "dog/1.png", "dog/0.png", "cat/none.png", "cat/1.png", "dog/2.png")
    lines = [f"photos/{name},{n}" for n, name in enumerate(names)]
    path = write_table(tmp_path / "t.csv", "path,number", *lines)
    with pytest.raises(k5.FileError, match="4 images of"):
        k5.pack(path, tmp_path / "out.h5", image="path")
    done = k5.pack(path, tmp_path / "out.h5", image="path", label="number", skip_bad=True)
    assert done.num_skipped == 4
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["label"][()].tolist() == [1, 4]


def test_many_different_texts_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_labels, "MAX_CLASSES", 2)
    monkeypatch.setattr(_table, "MAX_CLASSES", 2)
    path = write_table(tmp_path / "t.csv", "x,name", "1,a", "2,bé", "3,c")
    k5.pack(path, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["name"][()].tolist() == [b"a", "bé".encode(), b"c"]


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        (["a,b", "1,2"], {"label": "c"}, "has no column 'c'; it has 'a', 'b'"),
        (["a,b", "1,2", "1,"], {"label": "b"}, "1 rows of .* have no 'b', the first in line 3"),
        (["a,b", "1,2,3"], {}, "line 2 of .* has 3 cells, and the first line 2"),
        (["1,2", "3,4"], {}, "has numbers, not names"),
        (["a,a", "3,4"], {}, "names a column 'a'"),
        (["a,b"], {}, "has no rows below its names"),
        ([""], {}, "is empty"),
        (["a,label", "t,u"], {"label": "a"}, "'label' of .* has the name of a data set"),
        (["a,b", "1,2"], {"size": (3, 3)}, "name the column of their paths with --image"),
    ],
    ids=str,
)
def test_a_table_that_cannot_be_packed_says_why(
    lines: list[str], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "t.csv", *lines)
    with pytest.raises(k5.KerasH5Error, match=said):
        k5.pack(path, tmp_path / "out.h5", **options)
    assert [each.name for each in tmp_path.iterdir()] == ["t.csv"]


# What goes for all


def test_what_is_packed_and_its_options_must_go_together(photos: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(k5.FileMissingError, match="no folder or file"):
        k5.pack(tmp_path / "none", tmp_path / "out.h5")
    with pytest.raises(k5.FileError, match="is not packed by its ending"):
        k5.pack(tmp_path / "a.pdf", tmp_path / "out.h5")
    with pytest.raises(k5.OptionError, match="label='a' does not go with"):
        k5.pack(photos, tmp_path / "out.h5", label="a")
    with pytest.raises(k5.OptionError, match="size="):
        k5.pack(photos, tmp_path / "out.h5", size=(0, 3))


def test_an_existing_file_is_replaced_only_if_asked(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out.h5").write_bytes(b"mine")
    with pytest.raises(k5.FileError, match="exists"):
        k5.pack(photos, tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == b"mine"
    k5.pack(photos, tmp_path / "out.h5", overwrite=True)


def test_what_was_packed_is_suggested_to_train_on(photos: Path, tmp_path: Path) -> None:
    k5.pack(photos, tmp_path / "out.h5")
    (found,) = json.loads(k5.describe(tmp_path / "out.h5", as_json=True))["files"]
    assert (found["can_be_trained_on"]["x"], found["can_be_trained_on"]["y"]) == ("image", "label")
