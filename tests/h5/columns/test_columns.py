import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kerash5._errors import ColumnError, KerasH5Error, LabelError, OptionError, ShapeError
from kerash5.h5 import Column, Source
from kerash5.h5.columns import _class_ids


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = np.arange(5 * 6, dtype="u1").reshape(5, 2, 3)
        file["label"] = np.array([2, 0, 1, 0, 2], "u1")
        file["big"] = np.array([2, 0, 1, 0, 2], ">i8")
        file["row"] = np.array([[2], [0], [1], [0], [2]], "i4")
        file["pair"] = np.array([[2, 0], [0, 1], [1, 1], [0, 0], [2, 2]], "i4")
        file["flag"] = np.array([True, False, True, True, False])
        file["float"] = np.array([0.5, 1, 2, 3, 4], "f4")
        animals = ["dog", "cat", "cow", "cat", "dög"]
        file.create_dataset("name", data=animals, dtype=h5py.string_dtype())
        file["bytes"] = np.array([a.encode() for a in animals], "S4")
        file["names"] = np.array([[b"a", b"b"], [b"b", b"b"], [b"c", b"a"]] + 2 * [[b"a", b"a"]])
        file["ids"] = np.array([30, 10, 20, 10, 30], "i2")
    return tmp_path / "a.h5"


def read(path: Path, column: Column | str, rows: Any = (0, 1, 2, 3, 4)) -> np.ndarray:
    return Source(path, x=column).read(rows)["x"]


# shape and dtype


def test_rows_take_the_shape_asked_for(path: Path) -> None:
    source = Source(path, x=Column("image", shape=(3, 2, 1)))
    assert source.columns["x"].shape == (3, 2, 1)
    assert_array_equal(source.read([4])["x"][0].ravel(), np.arange(24, 30))
    assert source.read([])["x"].shape == (0, 3, 2, 1)


def test_a_shape_of_another_size_names_both(path: Path) -> None:
    words = r"'image' has rows of shape \(2, 3\), which cannot become \(7,\): 6 values against 7"
    with pytest.raises(ShapeError, match=words):
        Source(path, x=Column("image", shape=(7,)))


@pytest.mark.parametrize("shape", ["28", 28, (2.5,), (2, None), (-1, 6)], ids=repr)
def test_a_shape_that_is_no_tuple_of_lengths_is_an_error(shape: Any) -> None:
    with pytest.raises(OptionError, match="shape="):
        Column("image", shape=shape)


def test_a_shape_of_numpy_integers_is_a_shape() -> None:
    lengths: Any = [np.int64(2), np.uint8(3)]
    assert Column("image", shape=lengths).shape == (2, 3)


def test_batches_are_cast_to_the_type_asked_for(path: Path) -> None:
    found = read(path, Column("image", dtype="float32"))
    assert found.dtype == np.float32
    assert found[4, 1, 2] == 29


def test_without_a_type_the_stored_one_stays(path: Path) -> None:
    assert read(path, "image").dtype == np.uint8
    assert read(path, "big").dtype == np.dtype(">i8")


def test_a_type_that_does_not_exist_is_an_error_at_once() -> None:
    with pytest.raises(OptionError, match=r"dtype='float17' of column 'image'"):
        Column("image", dtype="float17")


@pytest.mark.parametrize("name", ["", "/", "//", None, 3], ids=repr)
def test_a_column_needs_the_path_of_a_data_set(name: Any) -> None:
    with pytest.raises(OptionError, match="needs the path of a data set"):
        Column(name)


def test_leading_and_double_slashes_mean_nothing(path: Path) -> None:
    assert_array_equal(read(path, "/label/"), read(path, "//label"))


# one_hot


@pytest.mark.parametrize("name", ["label", "big", "row"])
def test_integer_labels_become_one_hot_rows(name: str, path: Path) -> None:
    source = Source(path, x=Column(name, one_hot=4))
    assert source.columns["x"].shape == (4,)
    found = source.read([0, 1, 1])["x"]
    assert found.dtype == np.float32
    assert_array_equal(found, [[0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]])


def test_several_labels_a_row_become_one_hot_each(path: Path) -> None:
    found = read(path, Column("pair", one_hot=3, dtype="int8"))
    assert (found.shape, found.dtype) == ((5, 2, 3), np.dtype("i1"))
    assert_array_equal(found[1], [[1, 0, 0], [0, 1, 0]])


def test_booleans_become_one_hot_rows(path: Path) -> None:
    assert_array_equal(read(path, Column("flag", one_hot=2), [0, 1]), [[0, 1], [1, 0]])


def test_text_becomes_one_hot_rows(path: Path) -> None:
    assert_array_equal(read(path, Column("name", one_hot=4), [0, 1]), np.eye(4)[[2, 0]])


def test_a_label_outside_one_hot_is_an_error(path: Path) -> None:
    with pytest.raises(LabelError, match=r"'label' holds label 2, outside \[0, 2\)"):
        read(path, Column("label", one_hot=2))


def test_floats_have_no_one_hot(path: Path) -> None:
    with pytest.raises(LabelError, match="holds float32 values; one_hot= takes integer labels"):
        read(path, Column("float", one_hot=2))


@pytest.mark.parametrize("count", [0, -1, 2.5, "3", True], ids=repr)
def test_one_hot_is_a_number_of_classes(count: Any) -> None:
    with pytest.raises(OptionError, match="one_hot="):
        Column("label", one_hot=count)


def test_shape_and_one_hot_exclude_each_other(path: Path) -> None:
    with pytest.raises(OptionError, match=r"both shape= and one_hot="):
        Source(path, x=Column("label", one_hot=3, shape=(1,)))


# labels


@pytest.mark.parametrize("name", ["name", "bytes"])
def test_text_finds_its_labels_by_itself_in_sorted_order(name: str, path: Path) -> None:
    source = Source(path, y=name)
    assert source.class_names == ("cat", "cow", "dog", "dög")
    found = source.read([4, 0, 1, 1, 2])["y"]
    assert found.dtype == np.int64
    assert found.tolist() == [3, 2, 0, 0, 1]


def test_text_in_several_columns_a_row_is_mapped_value_by_value(path: Path) -> None:
    assert read(path, "names", [2, 0]).tolist() == [[2, 0], [0, 1]]


def test_text_labels_agree_over_files_that_do_not_hold_the_same_words(tmp_path: Path) -> None:
    for name, words in (("a", ["cow", "dog"]), ("b", ["ant", "cow"])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("y", data=words, dtype=h5py.string_dtype())
    source = Source(tmp_path / "*.h5", y="y")
    assert source.class_names == ("ant", "cow", "dog")
    assert source.read([0, 1, 2, 3])["y"].tolist() == [1, 2, 0, 1]


def test_labels_are_found_however_many_rows_are_scanned_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_class_ids, "_SCAN_ROWS", 2)
    assert Source(path, y="name").class_names == ("cat", "cow", "dog", "dög")


@pytest.mark.parametrize(
    "labels",
    [
        ["dög", "dog", "cow", "cat"],
        ("dög", b"dog", "cow", b"cat"),
        np.array(["dög", "dog", "cow", "cat"]),
    ],
    ids=["list", "with bytes", "array"],
)
def test_a_sequence_gives_each_value_its_position(labels: Any, path: Path) -> None:
    source = Source(path, y=Column("name", labels=labels))
    assert source.class_names == ("dög", "dog", "cow", "cat")
    assert source.read([0, 1, 2, 3, 4])["y"].tolist() == [1, 3, 2, 3, 0]


def test_a_mapping_may_give_several_values_one_id(path: Path) -> None:
    labels = {"cat": 0, "cow": 1, "dog": 3, "dög": 3}
    source = Source(path, y=Column("bytes", labels=labels))
    assert source.read([0, 1, 2, 3, 4])["y"].tolist() == [3, 0, 1, 0, 3]
    assert source.class_names is not None
    assert source.class_names[:3] == ("cat", "cow", "2")


def test_numbers_may_have_labels_too(path: Path) -> None:
    assert read(path, Column("ids", labels=[10, 20, 30])).tolist() == [2, 0, 1, 0, 2]
    assert read(path, Column("ids", labels={30: 0, 20: 1, 10: 2})).tolist() == [0, 2, 1, 2, 0]


def test_a_value_without_a_label_is_an_error_that_names_it(path: Path) -> None:
    with pytest.raises(LabelError, match=r"column 'name' holds 'cow', .*'cat', 'dog', 'dög'"):
        read(path, Column("name", labels=["cat", "dog", "dög"]))
    with pytest.raises(LabelError, match=r"column 'ids' holds 30, .*'10', '20'"):
        read(path, Column("ids", labels=[10, 20]))


def test_many_labels_are_shortened_in_messages(path: Path) -> None:
    labels = [f"word {number}" for number in range(1000)]
    with pytest.raises(LabelError, match=r"'word 4', \.\.\. \(1000 in all\)"):
        read(path, Column("name", labels=labels))


@pytest.mark.parametrize(
    ("name", "labels"),
    [("ids", ["cat", "dog"]), ("name", [1, 2]), ("float", ["a"]), ("ids", [1, "a"])],
    ids=["text for numbers", "numbers for text", "text for floats", "mixed for numbers"],
)
def test_labels_of_another_kind_than_the_data_are_an_error(
    name: str, labels: list[object], path: Path
) -> None:
    with pytest.raises((LabelError, OptionError), match="labels"):
        read(path, Column(name, labels=labels))


@pytest.mark.parametrize(
    "labels",
    [
        [],
        {},
        {"cat": -1},
        {"cat": 0.5},
        {"cat": "0"},
        ["cat", "cat"],
        ["cat", b"cat"],
        "cat",
        7,
        [["a"], ["b", "c"]],
    ],
    ids=repr,
)
def test_labels_that_make_no_sense_are_an_error(labels: Any, path: Path) -> None:
    with pytest.raises(OptionError, match="labels="):
        Source(path, y=Column("name", labels=labels))


def test_bytes_that_are_no_text_keep_their_classes_apart(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"] = np.array([b"caf\xe9", b"caf\xe8", b"caf\xe9"], "S4")  # Latin-1
    source = Source(tmp_path / "a.h5", y="y")
    assert source.read([0, 1, 2])["y"].tolist() == [1, 0, 1]
    assert source.class_names is not None
    assert len(set(source.class_names)) == 2


def test_text_never_written_is_the_empty_word(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("y", (3,), h5py.string_dtype())[1] = "cat"
    source = Source(tmp_path / "a.h5", y="y")
    assert source.class_names == ("", "cat")
    assert source.read([1, 0])["y"].tolist() == [1, 0]


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@given(texts=st.lists(words, min_size=1, max_size=20), data=st.data())
def test_class_names_give_back_the_text_of_every_row(
    texts: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("text") / "a.h5"
    size = max(1, *(len(text.encode()) for text in texts))
    with h5py.File(path, "w") as file:
        file.create_dataset("any", data=texts, dtype=h5py.string_dtype())
        file.create_dataset("latest", data=texts, dtype=h5py.string_dtype(), compression="gzip")
        file["fixed"] = np.array([text.encode() for text in texts], f"S{size}")
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=20))
    for name in ("any", "latest", "fixed"):
        source = Source(path, y=name)
        assert source.class_names == tuple(sorted(set(texts)))
        assert [source.class_names[i] for i in source.read(rows)["y"]] == [texts[i] for i in rows]
    path.unlink()


# What goes with it


def test_a_resolved_column_pickles(path: Path) -> None:
    column = Source(path, x=Column("name", labels={"cat": 0, "cow": 1, "dog": 2, "dög": 2}))
    again: Source = pickle.loads(pickle.dumps(column))
    assert again.read([4, 0, 1])["x"].tolist() == [2, 2, 0]
    assert again.columns["x"].class_names == column.columns["x"].class_names


def test_sizes_are_those_of_loaded_rows(path: Path) -> None:
    source = Source(path, image="image", name="name", hot=Column("label", one_hot=9))
    sizes = {name: column.loaded_row_bytes for name, column in source.columns.items()}
    assert sizes == {"image": 6, "name": 8, "hot": 1}
    assert source.row_bytes == 15
    out = source.allocate(2)
    assert {name: (a.shape, a.dtype.str) for name, a in out.items()} == {
        "image": ((2, 2, 3), "|u1"),
        "name": ((2,), "<i8"),
        "hot": ((2,), "|u1"),
    }


def test_columns_of_different_length_are_named_with_their_lengths(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"], file["label"] = np.zeros((6, 2)), np.zeros(5)
    words = r"'.*a\.h5' differ in length: 'image' has 6 rows, 'label' 5"
    with pytest.raises(ColumnError, match=words) as caught:
        Source(tmp_path / "a.h5", x="image", y="label")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, KerasH5Error)
