"""H5DataModule: which rows train, validate and test, and that one id means one class in all."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
import yaml
from numpy.testing import assert_array_equal

import kerash5 as k5
from kerash5._errors import (
    ColumnError,
    DamagedFileError,
    ExternalDataError,
    FileMissingError,
    KerasH5Error,
    LabelError,
    OptionError,
    RowError,
    UnknownColumnError,
)
from kerash5._options import DataOptions
from kerash5.batches.cache import ResidentRows
from kerash5.feeds._served import served_by
from kerash5.h5 import _child

pytestmark = pytest.mark.one_backend

NUM_ROWS: Final = 40
# Four classes in unequal shares, in no order.
LABELS: Final = np.random.default_rng(3).permutation(np.repeat([0, 1, 2, 3], [20, 10, 8, 2]))


def write_rows(path: Path, labels: Any = LABELS, **columns: Any) -> str:
    """Write rows whose x is their number, with these labels; return the path."""
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(len(labels), dtype=np.int32)
        file["y"] = labels
        for name, values in columns.items():
            file[name] = values
    return str(path)


@pytest.fixture
def train(tmp_path: Path) -> str:
    return write_rows(tmp_path / "train.h5")


def copy_of(path: str, name: str = "copy.h5") -> str:
    """Return a file with the same rows beside it: to test on the file itself is refused."""
    return str(shutil.copy(path, Path(path).with_name(name)))


def open_module(train: str, test: Any = None, **options: Any) -> k5.H5DataModule:
    return k5.H5DataModule(train, test, **{"x": "x", "y": "y", "batch_size": 7, **options})


def rows_of(dataset: k5.H5Dataset | None) -> np.ndarray:
    """Return the row numbers that a data set serves in an epoch, as they come."""
    assert dataset is not None
    return np.concatenate([batch[0] for batch in dataset.batches(0)])


def labels_of(dataset: k5.H5Dataset | None) -> np.ndarray:
    assert dataset is not None
    return np.concatenate([batch[1] for batch in dataset.batches(0)])


# Which rows.

HELD_OUT: Final = np.zeros(NUM_ROWS, np.bool_)
HELD_OUT[[3, 5, 39]] = True
VALIDATIONS: Final[dict[str, tuple[Any, int]]] = {
    "a fraction": (0.25, 10),
    "a number": (10, 10),
    "a number of NumPy": (np.int64(10), 10),
    "a slice": (slice(35, None), 5),
    "row numbers": ([0, 39, 7], 3),
    "a mask": (HELD_OUT, 3),
}


@pytest.mark.parametrize(("validation", "count"), VALIDATIONS.values(), ids=VALIDATIONS)
def test_training_and_validation_are_disjoint_and_together_complete(
    train: str, validation: Any, count: int
) -> None:
    data = open_module(train, validation_split=validation)
    trained, validated = rows_of(data.train), rows_of(data.validation)
    assert len(validated) == count
    assert sorted([*trained, *validated]) == list(range(NUM_ROWS))


@pytest.mark.parametrize(
    ("validation", "rows"),
    [(slice(35, None), range(35, 40)), ([39, 0, 7], [39, 0, 7]), (HELD_OUT, [3, 5, 39])],
    ids=["a slice", "row numbers", "a mask"],
)
def test_rows_that_were_named_are_validated_in_their_order(
    train: str, validation: Any, rows: Any
) -> None:
    assert_array_equal(
        rows_of(open_module(train, validation_split=validation).validation), list(rows)
    )


def test_only_training_is_shuffled(train: str) -> None:
    data = open_module(train, copy_of(train), validation_split=0.5)
    assert list(rows_of(data.train)) != sorted(rows_of(data.train))
    assert list(rows_of(data.validation)) == sorted(rows_of(data.validation))
    assert_array_equal(rows_of(data.test), np.arange(NUM_ROWS))


def test_the_seed_draws_the_split_and_the_same_seed_the_same(train: str) -> None:
    def drawn(seed: int) -> list[int]:
        return list(rows_of(open_module(train, validation_split=0.5, seed=seed).validation))

    assert drawn(1) == drawn(1) != drawn(2)


def test_files_of_their_own_validate_whole_and_leave_training_whole(
    train: str, tmp_path: Path
) -> None:
    other = write_rows(tmp_path / "valid.h5", LABELS[:12])
    for validation in (other, Path(other), [other]):
        data = open_module(train, validation_data=validation)
        assert sorted(rows_of(data.train)) == list(range(NUM_ROWS))
        assert_array_equal(rows_of(data.validation), np.arange(12))


def test_without_validation_and_test_there_is_none(train: str) -> None:
    data = open_module(train)
    assert (data.validation, data.test) == (None, None)


def test_stratify_keeps_each_labels_share_to_within_a_row(train: str) -> None:
    data = open_module(train, validation_split=0.5, stratify=True)
    shares = Counter(labels_of(data.validation).tolist())
    assert shares == {0: 10, 1: 5, 2: 4, 3: 1}


def test_stratify_takes_one_hot_and_text_labels_too(train: str, tmp_path: Path) -> None:
    one_hot = open_module(train, y=k5.Column("y", one_hot=4), validation_split=0.5, stratify=True)
    assert labels_of(one_hot.validation).sum(axis=0).tolist() == [10, 5, 4, 1]
    text = write_rows(tmp_path / "text.h5", [f"class {label}" for label in LABELS])
    named = open_module(text, validation_split=0.5, stratify=True)
    assert Counter(labels_of(named.validation).tolist()) == {0: 10, 1: 5, 2: 4, 3: 1}


def test_rows_cut_the_training_file_before_it_is_split(train: str) -> None:
    data = open_module(train, copy_of(train), rows=20, validation_split=0.25)
    together = [*rows_of(data.train), *rows_of(data.validation)]
    assert len(together) == len(set(together)) == 20
    assert max(together) == 19
    assert len(rows_of(data.test)) == NUM_ROWS


@pytest.mark.parametrize(
    ("rows", "count"),
    [(slice(10, 20), 10), ([5, 3, 8], 3), (HELD_OUT, 3), (np.int64(4), 4)],
    ids=["a slice", "row numbers", "a mask", "a number of NumPy"],
)
def test_rows_are_a_selection_or_a_number(train: str, rows: Any, count: int) -> None:
    assert len(rows_of(open_module(train, rows=rows).train)) == count


def test_rows_given_in_an_order_keep_it_around_the_validation_rows(train: str) -> None:
    data = open_module(train, rows=[9, 2, 9, 5, 1], validation_split=[5], shuffle=False)
    assert rows_of(data.train).tolist() == [9, 2, 9, 1]


def test_validation_serves_every_row_where_training_drops_the_short_batch(train: str) -> None:
    data = open_module(train, copy_of(train), validation_split=10, drop_last=True)
    assert len(rows_of(data.train)) == 28  # of 30, in batches of seven
    assert (len(rows_of(data.validation)), len(rows_of(data.test))) == (10, NUM_ROWS)


# Memory and options.


def test_both_sides_of_a_split_share_what_is_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "packed.h5"
    k5.write(path, x=np.arange(NUM_ROWS), y=LABELS, chunk_rows=8)
    data = open_module(str(path), validation_split=0.25)
    assert served_by(data.train).fits_memory
    assert data.validation is not None
    stores = [served_by(part).batches.training._store for part in (data.train, data.validation)]
    assert isinstance(stores[0], ResidentRows)
    assert isinstance(stores[1], ResidentRows)
    assert stores[0]._resident is stores[1]._resident


def test_a_split_that_does_not_fit_divides_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "packed.h5"
    k5.write(path, x=np.arange(4000), y=np.zeros(4000, np.int64), chunk_rows=8)
    data = open_module(str(path), validation_split=0.25, cache=20_000)
    assert not served_by(data.train).fits_memory
    assert sorted([*rows_of(data.train), *rows_of(data.validation)]) == list(range(4000))


def test_transform_is_applied_to_all_three(train: str) -> None:
    data = open_module(
        train, copy_of(train), validation_split=0.25, transform=lambda x, y: (x, y + 100)
    )
    for part in (data.train, data.validation, data.test):
        assert labels_of(part).min() >= 100


def test_shape_classes_and_description_are_those_of_the_training_file(train: str) -> None:
    data = open_module(train, copy_of(train), x=k5.Column("x", shape=(1,)), validation_split=0.25)
    assert data.input_shape == (1,)
    assert data.num_classes == 4
    assert data.class_names is None
    for name in ("train: ", "validation: ", "test: "):
        assert f"\n{name}" in f"\n{data.describe()}"


def test_classes_are_counted_over_the_whole_file_not_over_the_rows_taken(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "sorted.h5", np.repeat([0, 1, 2, 3], 10))
    assert open_module(path, rows=5).num_classes == 4
    assert open_module(path, rows=5, validation_split=2).num_classes == 4


def test_values_that_are_no_labels_have_no_classes(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "real.h5", np.linspace(0, 1, 8))
    assert open_module(path).num_classes is None


# One id, one class.


def test_a_test_file_takes_the_ids_of_the_training_file(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.h5", ["cat", "dog", "emu"] * 4)
    test = write_rows(tmp_path / "test.h5", ["emu", "cat", "emu"])
    valid = write_rows(tmp_path / "valid.h5", ["dog"])
    data = open_module(train, test, validation_data=valid)
    assert data.class_names == ("cat", "dog", "emu")
    assert labels_of(data.test).tolist() == [2, 0, 2]
    assert labels_of(data.validation).tolist() == [1]
    for part in (data.test, data.validation):
        assert part is not None
        assert part.num_classes == 3


def test_text_columns_of_several_outputs_and_of_x_take_them_too(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.h5", ["a", "b", "c"], colour=["red", "sky", "tan"])
    test = write_rows(tmp_path / "test.h5", ["c"], colour=["tan"])
    data = open_module(
        train,
        test,
        x={"n": "x", "colour": k5.Column("colour", one_hot=3)},
        y=("y", k5.Column("colour", one_hot=3)),
    )
    assert data.test is not None
    x, y = data.test.read(0)
    assert x["colour"].tolist() == [[0, 0, 1]]
    assert y[0].tolist() == [2]
    assert y[1].tolist() == [[0, 0, 1]]


def test_labels_that_were_told_are_taken_as_told(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.h5", ["a", "b"])
    test = write_rows(tmp_path / "test.h5", ["b"])
    data = open_module(train, test, y=k5.Column("y", labels=["b", "a"]))
    assert labels_of(data.test).tolist() == [0]
    assert data.class_names == ("b", "a")


def test_a_label_that_training_never_saw_is_refused(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.h5", ["a", "b"])
    test = write_rows(tmp_path / "test.h5", ["b", "zebra"])
    with pytest.raises(LabelError, match=r"'zebra'.*not among its labels 'a', 'b'"):
        labels_of(open_module(train, test).test)


def write_groups(path: Path, *classes: str) -> k5.Source:
    with h5py.File(path, "w") as file:
        for number, name in enumerate(classes):
            file[f"{name}/image"] = np.full((3, 2, 2), number, np.uint8)
    return k5.classes_from_groups(path)


def test_sources_bring_their_columns_and_take_the_ids_of_training(tmp_path: Path) -> None:
    train = write_groups(tmp_path / "train.h5", "cat", "dog", "emu")
    same = write_groups(tmp_path / "same.h5", "cat", "dog", "emu")
    data = k5.H5DataModule(train, same, validation_split=1 / 3, stratify=True)
    assert labels_of(data.validation).tolist() == [0, 1, 2]
    assert labels_of(data.test).tolist() == [0] * 3 + [1] * 3 + [2] * 3
    # By itself its "emu" would have the id of "dog".
    fewer = write_groups(tmp_path / "fewer.h5", "cat", "emu")
    data = k5.H5DataModule(train, fewer, validation_split=1 / 3, stratify=True)
    assert labels_of(data.test).tolist() == [0] * 3 + [2] * 3
    assert data.test is not None
    assert (data.test.class_names, data.test.num_classes) == (("cat", "dog", "emu"), 3)
    with pytest.raises(LabelError, match=r"a group for class 'yak'.* 'cat', 'dog', 'emu' of the"):
        k5.H5DataModule(train, write_groups(tmp_path / "more.h5", "cat", "yak"))


def test_text_of_sources_takes_the_ids_of_training_too(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.h5", ["cat", "dog", "emu"] * 4)
    test = write_rows(tmp_path / "test.h5", ["emu", "dog", "emu"])
    for source in (k5.Source(train, x="x", y="y"), train):
        columns: Any = {} if isinstance(source, k5.Source) else {"x": "x", "y": "y"}
        other = k5.Source(test, x="x", y="y")
        held = k5.Source(copy_of(test), y="y", x="x")
        data = k5.H5DataModule(source, other, validation_data=held, **columns)
        assert labels_of(data.test).tolist() == labels_of(data.validation).tolist() == [2, 1, 2]
    groups = write_groups(tmp_path / "groups.h5", "dog", "emu")
    data = k5.H5DataModule(k5.Source(train, x="x", y="y"), groups)
    assert labels_of(data.test).tolist() == [1] * 3 + [2] * 3


def test_sources_with_labels_that_were_told_are_refused_with_a_cure(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "train.h5", ["cat", "dog"])
    train = k5.Source(path, x="x", y="y")
    test = k5.Source(copy_of(path), x="x", y=k5.Column("y", labels=["dog", "cat"]))
    with pytest.raises(ColumnError, match=r"class id 0 is 'dog' in.*Column\('y', labels=\[...\]\)"):
        k5.H5DataModule(train, test)


def test_data_sets_can_validate_and_test(tmp_path: Path, train: str) -> None:
    other = k5.H5Dataset(copy_of(train, "other.h5"), x="x", y="y", rows=slice(0, 9), batch_size=4)
    test = k5.H5Dataset(copy_of(train), x="x", y="y", batch_size=5)
    data = open_module(train, test, validation_data=other)
    assert (data.validation, data.test) == (other, test)
    assert sorted(rows_of(data.train)) == list(range(NUM_ROWS))
    assert set(data.config()["validation_data"]) == {"described"}
    source = k5.Source(train, x="x", y="y")
    assert k5.H5DataModule(source, validation_data=other).validation is other
    mine = k5.H5Dataset(train, x="x", y="y", rows=slice(0, 9))
    with pytest.raises(OptionError, match=r"9 of the 9 rows to validate on.*trained on"):
        open_module(train, validation_data=mine)
    text = write_rows(tmp_path / "text.h5", ["cat", "dog", "emu"])
    fewer = k5.H5Dataset(write_rows(tmp_path / "fewer.h5", ["dog"]), x="x", y="y")
    with pytest.raises(ColumnError, match=r"one id would mean two things.*classes_of=train"):
        open_module(text, validation_data=fewer)
    with pytest.raises(OptionError, match=r"train=.* is an H5Dataset.*give its file or Source"):
        open_module(test)  # type: ignore[arg-type]  # on purpose


# What config.yaml says.


def test_config_makes_the_same_module_again(train: str, tmp_path: Path) -> None:
    data = open_module(
        train,
        copy_of(train),
        x=k5.Column("x", shape=(1,), dtype=np.float32),
        y=k5.Column("y", labels={0: 0, 1: 1, 2: 1, 3: 0}),
        validation_split=0.25,
        stratify=True,
        rows=np.int64(20),
        seed=np.int64(5),
        shuffle="rows",
        threads=1,
        cache="1MB",
    )
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(data.config()))
    again = k5.H5DataModule.from_options(DataOptions(**yaml.safe_load(path.read_text())))
    for one, other in ((data.train, again.train), (data.validation, again.validation)):
        assert one is not None
        assert other is not None
        assert served_by(one).fingerprint() == served_by(other).fingerprint()
        for batch, same in zip(one.batches(0), other.batches(0), strict=True):
            assert_array_equal(batch[0], same[0])
            assert_array_equal(batch[1], same[1])
    assert data.config() == again.config()


def test_config_names_files_from_the_root(
    train: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copies = [copy_of(train, name) for name in ("valid.h5", "test.h5")]
    config = open_module("train.h5", ["test.h5"], validation_data="valid.h5").config()
    assert [config["train"], config["validation_data"], config["test"]] == [
        train,
        copies[0],
        copies[1:],
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("validation_split", slice(30, None)),
        ("validation_split", [1, 2, 3]),
        ("rows", np.arange(30)),
        ("transform", lambda x, y: (x, y)),
    ],
    ids=["a slice", "row numbers", "rows", "a function"],
)
def test_what_yaml_cannot_hold_is_described_in_words(train: str, name: str, value: Any) -> None:
    config = open_module(train, **{name: value}).config()
    assert set(config[name]) == {"described"}
    assert config[name]["described"]
    assert yaml.safe_load(yaml.safe_dump(config)) == config


# Errors.

ERRORS: Final[dict[str, tuple[dict[str, Any], type[KerasH5Error], str]]] = {
    "fraction of one": ({"validation_split": 1.0}, OptionError, "fraction between 0 and 1"),
    "true": ({"validation_split": True}, OptionError, "validation_split=True"),
    "every row": ({"validation_split": NUM_ROWS}, OptionError, "both sides of a split"),
    "all by a slice": ({"validation_split": slice(None)}, OptionError, "0 rows to train on and 40"),
    "none by a slice": (
        {"validation_split": slice(0, 0)},
        OptionError,
        "40 rows to train on and 0",
    ),
    "a row too far": ({"validation_split": [NUM_ROWS]}, RowError, "selects row 40"),
    "no rows": ({"rows": 0}, OptionError, "rows=0.*at least 1"),
    "more rows than there are": ({"rows": 41}, OptionError, "rows=41, and .* has only 40"),
    "repeated rows": ({"rows": [1, 1, 2, 3], "validation_split": 0.5}, OptionError, "repeats row"),
    "stratified slice": (
        {"validation_split": slice(0, 9), "stratify": True},
        OptionError,
        "stratify=True needs validation_split= as a fraction",
    ),
    "no such file": ({"validation_data": "no.h5"}, FileMissingError, "no.h5"),
    "no such column": ({"y": "yy"}, UnknownColumnError, "'yy'"),
    "batch size": ({"batch_size": 0}, OptionError, "batch_size=0"),
    "cache": ({"cache": "much", "validation_split": 0.5}, OptionError, "cache='much'"),
}


@pytest.mark.parametrize(("options", "kind", "words"), ERRORS.values(), ids=ERRORS)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    train: str, options: dict[str, Any], kind: type[KerasH5Error], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        open_module(train, **options)
    assert "\n" not in str(caught.value)


def test_a_missing_test_file_is_refused_at_once(train: str) -> None:
    with pytest.raises(FileMissingError):
        open_module(train, "no.h5")


def test_options_without_a_training_file_say_which_flag(train: str) -> None:
    with pytest.raises(OptionError, match=r"--data\.train"):
        k5.H5DataModule.from_options(DataOptions())
    with pytest.raises(OptionError, match="choose rows, chunks, false or auto"):
        k5.H5DataModule.from_options(DataOptions(train=train, shuffle=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["train", "test", "validation_data"])
def test_the_command_line_opens_files_in_a_child_process_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setattr(_child, "SECONDS", 8.0)
    words = np.array(["cat", "dog", "cow", "cat"], dtype=h5py.string_dtype())
    sound = write_rows(tmp_path / "words.h5", words.tolist())
    bad = tmp_path / "bad.h5"
    raw = bytearray(Path(sound).read_bytes())
    first_object = raw.index(b"GCOL") + 16
    raw[first_object : first_object + 16] = bytes(16)  # on which HDF5 hangs
    bad.write_bytes(raw)
    named: dict[str, Any] = {"train": sound, role: str(bad)}
    options = DataOptions(x="x", y="y", **named)
    with pytest.raises(DamagedFileError, match=r"bad\.h5' is damaged: HDF5 hangs on it"):
        k5.H5DataModule.from_options(options)


def test_data_outside_the_folder_need_a_yes(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "in").mkdir()
    for name in ("train.h5", "test.h5"):
        k5.write(tmp_path / "out" / name, x=np.zeros((12, 2)), y=np.arange(12) % 3)
        with h5py.File(tmp_path / "in" / name, "w") as file:
            for column in ("x", "y"):
                file[column] = h5py.ExternalLink(f"../out/{name}", f"/{column}")
    paths = tmp_path / "in" / "train.h5", tmp_path / "in" / "test.h5"
    with pytest.raises(ExternalDataError, match="allow_external=True"):
        k5.H5DataModule(*paths, x="x", y="y")
    data = k5.H5DataModule(*paths, x="x", y="y", validation_split=0.25, allow_external=True)
    assert data.test is not None
    assert (data.train.num_rows, data.test.num_rows, data.num_classes) == (9, 12, 3)
    assert data.config()["allow_external"] is True


def test_labels_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    k5.write(tmp_path / "a.h5", x=np.zeros((600, 2)), y=np.arange(600) % 3)
    dataset = k5.H5Dataset(tmp_path / "a.h5", x="x", y="y")
    reads: list[Any] = []
    read = k5.Source.read

    def noted(self: k5.Source, rows: Any) -> Any:
        reads.append(rows)
        return read(self, rows)

    monkeypatch.setattr(k5.Source, "read", noted)
    monkeypatch.setattr("kerash5.feeds.labels._facts._BLOCK_BYTES", 200 * 8)
    assert [dataset.num_classes for _ in range(3)] == [3, 3, 3]
    assert [len(rows) for rows in reads] == [256, 200, 144]
    assert dataset.select_rows([0, 3, 1]).num_classes == 2


def test_one_hot_labels_read_as_class_ids_are_balanced_and_split(tmp_path: Path) -> None:
    ids = np.arange(60) ** 2 % 4
    k5.write(tmp_path / "a.h5", x=ids, y=np.eye(9)[ids])
    y = k5.Column("y", labels="one_hot")
    module = k5.H5DataModule(
        tmp_path / "a.h5", x="x", y=y, balance=True, validation_split=0.2, stratify=True
    )
    assert module.num_classes == 9
    found, counts = np.unique(served_by(module.train).read_column("y"), return_counts=True)
    assert found.tolist() == [0, 1]
    assert len(set(counts)) == 1
