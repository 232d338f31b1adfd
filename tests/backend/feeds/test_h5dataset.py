"""H5Dataset as its user looks at it: batches by number, what it says of itself, pickles, errors."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import kerash5 as k5
from kerash5.batches._batches import Batch
from kerash5.feeds._served import served_by
from tests.backend.feeds.served import (
    BATCH_SIZE,
    NUM_ROWS,
    STEPS,
    STORES,
    Ledger,
    open_rows,
    planned,
    reading_threads,
)

KINDS = list(STORES)


@pytest.fixture
def animals(tmp_path: Path) -> str:
    """Six images of two named classes."""
    return k5.write(
        str(tmp_path / "animals.h5"),
        image=np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3),
        other=np.zeros((6, 2), np.float32),
        name=["dog", "cat", "dog", "dog", "cat", "cat"],
        label=np.array([1, 0, 1, 4, 0, 0]),
        flag=np.array([True, False] * 3),
        score=np.linspace(0, 1, 6),
    )


def numbers(batches: Any) -> list[list[int]]:
    return [batch[0].tolist() for batch in batches]


def halve(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return x // 2, y


# Batches by number.


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_pydataset_of_the_batches_of_epoch_0(kind: str, tmp_path: Path) -> None:
    ds = open_rows(tmp_path, kind)
    assert isinstance(ds, keras.utils.PyDataset)
    assert len(ds) == ds.num_batches == STEPS
    assert ds.num_rows == NUM_ROWS
    wanted = [rows.tolist() for rows in planned(ds, 0)]
    assert numbers(ds[index] for index in range(STEPS)) == wanted
    assert numbers(ds) == wanted
    assert ds[-1][0].tolist() == wanted[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_user_still_gets_epoch_0_after_and_within_training(kind: str, tmp_path: Path) -> None:
    ds = open_rows(tmp_path, kind, drop_last=True)
    wanted, looks = [rows.tolist() for rows in planned(ds, 0)], []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            looks.append(ds[batch][0].tolist())

    ledger = Ledger(len(ds))
    ledger.fit(ds, epochs=2, callbacks=[Look()])
    assert looks == wanted * 2
    assert ledger.served == ledger.expect(planned(ds, 0, 1))
    ledger.model.predict(ds, verbose=0)
    assert numbers(ds) == wanted
    assert len(ds) == ds.num_batches == STEPS - 1


@pytest.mark.parametrize("index", [STEPS, STEPS + 7, -STEPS - 1])
def test_a_number_outside_the_epoch_is_an_error(index: int, tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    with pytest.raises(k5.RowError, match=re.escape(f"batch {index} is outside [0, 11)")) as caught:
        ds[index]
    assert isinstance(caught.value, IndexError)
    assert served_by(ds).loop_error is None  # that is for what Keras' loops meet


@pytest.mark.usefixtures("earlier_data_sets_gone")
@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_an_epoch_are_the_planned(kind: str, tmp_path: Path) -> None:
    ds = open_rows(tmp_path, kind, threads=2)
    for epoch in (0, 1, 4):
        assert numbers(ds.batches(epoch)) == [rows.tolist() for rows in planned(ds, epoch)]
    assert numbers(ds.batches(1, start=8)) == [rows.tolist() for rows in planned(ds, 1)[8:]]
    assert numbers([ds.read(STEPS + 3)]) == [ds.plan.rows(STEPS + 3).tolist()]
    assert not reading_threads()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda ds: ds.batches(-1), "epochs count from 0"),
        (lambda ds: ds.batches(0, start=12), "batches from 0 to 11"),
        (lambda ds: ds.read(-1), "steps are counted from 0"),
    ],
)
def test_epochs_and_steps_that_do_not_exist(
    ask: Callable[[k5.H5Dataset], object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(k5.OptionError, match=words):
        ask(open_rows(tmp_path))


def test_waiting_is_counted_for_keras_only(tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    list(ds)
    ds.read(0)
    _ = ds[0]
    assert ds.wait_seconds == 0
    Ledger().fit(ds)
    assert ds.wait_seconds > 0


# What it says of itself.


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        ("image", (4, 3)),
        (k5.Column("image", shape=(4, 3, 1)), (4, 3, 1)),
        (("image", "other"), ((4, 3), (2,))),
        ({"i": "image", "o": ("other", "score")}, {"i": (4, 3), "o": ((2,), ())}),
    ],
    ids=["path", "column", "tuple", "dict"],
)
def test_input_shape_has_the_form_of_x(x: Any, shape: Any, animals: str) -> None:
    assert k5.H5Dataset(animals, x=x).input_shape == shape


@pytest.mark.parametrize(
    ("y", "number", "names"),
    [
        ("name", 2, ("cat", "dog")),
        (k5.Column("name", labels=["dog", "cat", "cow"]), 3, ("dog", "cat", "cow")),
        ("label", 5, None),
        (k5.Column("label", one_hot=7), 7, None),
        ("flag", 2, None),
        ("score", None, None),
        ("image", None, None),
        (("label", "flag"), None, None),
        (None, None, None),
    ],
    ids=str,
)
def test_classes(y: Any, number: int | None, names: object, animals: str) -> None:
    ds = k5.H5Dataset(animals, x="image", y=y)
    assert ds.num_classes == number
    assert ds.class_names == names


def test_describe_names_source_order_and_store(tmp_path: Path) -> None:
    words = open_rows(tmp_path, "windowed").describe()
    for part in ("103 rows in 11 batches of 10", "x: 'x'", "shuffle='chunks'", "two windows"):
        assert part in words
    assert "11 batches of 10, shuffle='rows'" in repr(open_rows(tmp_path))


def test_fingerprints_tell_data_and_plan_apart(tmp_path: Path, animals: str) -> None:
    ds = open_rows(tmp_path)
    assert served_by(ds).fingerprint() == served_by(open_rows(tmp_path, threads=2)).fingerprint()
    assert served_by(ds).fingerprint() != served_by(open_rows(tmp_path, seed=1)).fingerprint()
    assert served_by(ds).fingerprint() != served_by(k5.H5Dataset(animals, x="image")).fingerprint()


# Copies.


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_serves_the_same_batches(kind: str, tmp_path: Path) -> None:
    ds = open_rows(tmp_path, kind, transform=halve, seed=3)
    Ledger().model.fit(ds, verbose=0)
    copy = pickle.loads(pickle.dumps(ds))
    assert len(copy) == len(ds)
    assert numbers(copy.batches(2)) == numbers(ds.batches(2))
    assert served_by(copy).fingerprint() == served_by(ds).fingerprint()


def test_a_pickle_of_a_failed_data_set_has_no_error(tmp_path: Path) -> None:
    ds = open_rows(tmp_path)
    served_by(ds).loop_error = ValueError("boom")
    assert served_by(pickle.loads(pickle.dumps(ds))).loop_error is None


def test_select_rows_keeps_columns_and_options(tmp_path: Path) -> None:
    ds = open_rows(tmp_path, seed=4, transform=halve)
    part = ds.select_rows([5, 50, 100], batch_size=2, shuffle=False)
    assert numbers(part) == [[2, 25], [50]]
    assert len(ds) == STEPS
    ledger = Ledger()
    ledger.fit(ds.select_rows(slice(10, 30)))
    assert np.flatnonzero(ledger.served).tolist() == list(range(5, 15))


def test_read_column_gives_the_served_rows_in_order(animals: str) -> None:
    ds = k5.H5Dataset(animals, x="image", y="label", rows=[5, 3, 0])
    assert_array_equal(served_by(ds).read_column("y"), [0, 4, 1])
    with pytest.raises(k5.ColumnError, match="no single column 'sample_weight'"):
        served_by(ds).read_column("sample_weight")


def test_a_source_brings_its_columns_along(animals: str) -> None:
    source = k5.Source(animals, x="image", y="name", sample_weight="score")
    ds = k5.H5Dataset(source, batch_size=6, shuffle=False)
    batch: Batch = ds[0]
    assert [part.shape for part in batch] == [(6, 4, 3), (6,), (6,)]
    assert_array_equal(batch[1], [1, 0, 1, 1, 0, 0])


# What bad input gets.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"shuffle": "row"}, "shuffle='row'"),
        ({"workers": -1}, "threads=-1"),
        ({"threads": "two"}, "threads='two'"),
        ({"transform": 3}, "transform=3"),
        ({"rows": slice(0, 0)}, "rows= selects none"),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_named(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(k5.OptionError, match=re.escape(words)) as caught:
        open_rows(tmp_path, **options)
    assert isinstance(caught.value, ValueError)


def test_an_option_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(k5.OptionError, match="did you mean 'batch_size'"):
        open_rows(tmp_path, batchsize=3)
    ds = open_rows(tmp_path)
    with pytest.raises(k5.OptionError, match="threads=-2"):
        ds.workers = -2
    assert len(ds[0][0]) == BATCH_SIZE


def test_open_data_sets_serve_as_columns_of_a_file_that_closes(tmp_path: Path) -> None:
    k5.write(tmp_path / "a.h5", x=np.arange(12.0).reshape(6, 2), y=["a", "b"] * 3)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        train = k5.H5Dataset(x=file["x"], y=file["y"], shuffle=False, batch_size=6)
        again = k5.H5Dataset(x=file["x"], y=file["y"], classes_of=train, shuffle=False)
        module = k5.H5DataModule(file, x=file["x"], y=file["y"], shuffle=False)
    for dataset in (train, again, module.train):
        x, y = dataset.read(0)
        assert_array_equal(x[:, 0], [0, 2, 4, 6, 8, 10])
        assert_array_equal(y, [0, 1] * 3)
    assert (module.config()["train"], module.config()["x"]) == (str(tmp_path / "a.h5"), "x")
