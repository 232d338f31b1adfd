"""One class id means one class in all the data that one model sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import kerash5 as k5
from kerash5._errors import ColumnError, LabelError, OptionError
from kerash5.cli._main import main
from kerash5.train._build import load_model

pytestmark = pytest.mark.one_backend

ANIMALS = ("bird", "cat", "dog")


def write_rows(path: Path, *names: str) -> str:
    """Write ten rows for each name, which are its classes in turn."""
    with h5py.File(path, "w") as file:
        count = 10 * len(names)
        file["x"] = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
        file["y"] = list(names) * 10
    return str(path)


@pytest.fixture
def train(tmp_path: Path) -> k5.H5Dataset:
    return open_rows(write_rows(tmp_path / "train.h5", *ANIMALS))


@pytest.fixture
def fewer(tmp_path: Path) -> str:
    return write_rows(tmp_path / "fewer.h5", "cat", "dog")


def open_rows(path: Any, **options: Any) -> k5.H5Dataset:
    return k5.H5Dataset(path, **{"x": "x", "y": "y", "batch_size": 5, **options})


def make_model(num_classes: int = 3) -> keras.Model:
    softmax = keras.layers.Dense(num_classes, activation="softmax")
    model = keras.Sequential([keras.Input((2,)), softmax])
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


def ids(dataset: k5.H5Dataset) -> set[int]:
    return {int(label) for _, labels in dataset.batches(0) for label in labels.reshape(-1)}


def test_fit_refuses_validation_whose_ids_mean_other_classes(
    train: k5.H5Dataset, fewer: str
) -> None:
    with pytest.raises(ColumnError, match=r"id 0 is 'cat' in .*'bird' in .*classes_of=train"):
        make_model().fit(train, validation_data=open_rows(fewer), verbose=0)


def test_one_id_for_two_classes_is_refused_too(train: k5.H5Dataset, tmp_path: Path) -> None:
    others = open_rows(write_rows(tmp_path / "others.h5", "bird", "cow"))
    with pytest.raises(ColumnError, match=r"id 1 is 'cow' in .*'cat' in"):
        make_model().fit(train, validation_data=others, verbose=0)


def test_each_of_several_outputs_is_compared(train: k5.H5Dataset, fewer: str) -> None:
    both = {"kind": "y", "same": "y"}
    one, other = open_rows(train.source.paths[0], y=both), open_rows(fewer, y=both)
    x = keras.Input((2,))
    model = keras.Model(x, {name: keras.layers.Dense(3, name=name)(x) for name in both})
    model.compile("sgd", dict.fromkeys(both, "sparse_categorical_crossentropy"))
    with pytest.raises(ColumnError, match="one id would mean two things"):
        model.fit(one, validation_data=other, verbose=0)


def test_classes_that_come_first_alike_agree(train: k5.H5Dataset, tmp_path: Path) -> None:
    held = open_rows(write_rows(tmp_path / "held.h5", "bird", "cat"))
    assert make_model().fit(train, validation_data=held, verbose=0).history["val_loss"]


def test_evaluate_knows_the_classes_that_fit_has_seen(train: k5.H5Dataset, fewer: str) -> None:
    model = make_model()
    assert model.evaluate(open_rows(fewer), verbose=0) > 0  # nobody knows better yet
    model.fit(train, verbose=0)
    with pytest.raises(ColumnError, match=r"'bird' in the data that this model was trained on"):
        model.evaluate(open_rows(fewer), verbose=0)
    assert model.evaluate(open_rows(fewer, classes_of=train), verbose=0) > 0


def test_a_trainers_model_knows_its_classes(
    train: k5.H5Dataset, fewer: str, tmp_path: Path
) -> None:
    model = make_model()
    trainer = k5.Trainer(max_epochs=1, run_dir=tmp_path / "run", enable_progress_bar=False)
    trainer.fit(model, train)
    with pytest.raises(ColumnError, match="one id would mean two things"):
        trainer.test(model, open_rows(fewer))
    with pytest.raises(ColumnError, match="one id would mean two things"):
        model.evaluate(open_rows(fewer), verbose=0)


def test_training_on_other_classes_replaces_those(train: k5.H5Dataset, fewer: str) -> None:
    model, other = make_model(), open_rows(fewer)
    model.fit(train, verbose=0)
    model.fit(other, verbose=0)
    assert model.evaluate(other, verbose=0) > 0


# In another process, from the folder of a run.


def fit_run(model: keras.Model, data: Any, folder: Path) -> k5.Run:
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    return k5.Trainer(max_epochs=1, run_dir=folder, **options).fit(model, data)


def test_a_run_knows_the_classes_it_was_trained_with(train: k5.H5Dataset, tmp_path: Path) -> None:
    run = fit_run(make_model(), train, tmp_path / "run")
    assert run.class_names == k5.Run.load(tmp_path / "run").class_names == {"y": ANIMALS}
    path = k5.write(tmp_path / "numbers.h5", x=np.zeros((6, 2)), y=np.arange(6) % 3)
    assert fit_run(make_model(), open_rows(path), tmp_path / "other").class_names == {}


def test_the_model_of_a_run_knows_its_classes(
    train: k5.H5Dataset, fewer: str, tmp_path: Path
) -> None:
    fit_run(make_model(), train, tmp_path / "run")
    model = load_model(tmp_path / "run", "best")
    model.compile("sgd", "sparse_categorical_crossentropy")
    words = r"id 0 is 'cat' in .* and 'bird' in the data that this model.*Run\.load\(run_dir\)"
    with pytest.raises(ColumnError, match=words):
        model.evaluate(open_rows(fewer), verbose=0)
    with pytest.raises(ColumnError, match=words):
        k5.Trainer().test(model, open_rows(fewer))
    known = open_rows(fewer, classes_of=k5.Run.load(tmp_path / "run"))
    assert (ids(known), known.class_names) == ({1, 2}, ANIMALS)
    assert k5.Trainer().test(model, known)["loss"] > 0
    assert k5.Trainer().predict(model, open_rows(fewer)).shape == (20, 3)  # y is not compared


def test_what_x_means_is_compared_when_a_run_predicts(fewer: str, tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.h5", *ANIMALS)

    def encoded(labels: Any) -> Any:
        return k5.Column("y", labels=labels, dtype="float32", shape=(1,))

    layers = [keras.Input((1,)), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    model.compile("sgd", "sparse_categorical_crossentropy")
    fit_run(model, open_rows(train, x=encoded(ANIMALS)), tmp_path / "run")
    loaded = load_model(tmp_path / "run", "best")
    other = k5.H5Dataset(fewer, x=encoded(["cat", "dog"]), batch_size=5)
    for out in (None, tmp_path / "answers.h5"):
        with pytest.raises(ColumnError, match=r"class id 0 is 'cat'"):
            k5.Trainer().predict(loaded, other, out=out)
    same = k5.H5Dataset(fewer, x=encoded(ANIMALS), batch_size=5)
    assert k5.Trainer().predict(loaded, same).shape == (20, 3)


def test_the_command_refuses_a_training_file_with_other_classes(
    tmp_path: Path, fewer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_rows(tmp_path / "train.h5", *ANIMALS)
    fit_run(make_model(), k5.H5DataModule(train, x="x", y="y", batch_size=5), tmp_path / "run")
    words = ("test", "--run", str(tmp_path / "run"), "--test", fewer)
    assert main([*words, "--weights", "last"]) == 0
    write_rows(tmp_path / "train.h5", "cat", "dog", "emu")
    capsys.readouterr()
    assert main(words) == 1
    assert "class id 0 is 'cat' in" in capsys.readouterr().err


# classes_of=.


def test_classes_of_gives_the_ids_of_training(train: k5.H5Dataset, fewer: str) -> None:
    assert ids(open_rows(fewer)) == {0, 1}
    module = k5.H5DataModule(train.source.paths[0], x="x", y="y")
    for known in (train, module):
        held = open_rows(fewer, classes_of=known)
        assert (ids(held), held.class_names, held.num_classes) == ({1, 2}, ANIMALS, 3)
    assert make_model().fit(train, validation_data=held, verbose=0).history["val_loss"]


def test_classes_of_keeps_ids_that_were_told(train: k5.H5Dataset, fewer: str) -> None:
    told = k5.Column("y", labels={"bird": 0, "cat": 4, "dog": 2})
    known = open_rows(train.source.paths[0], y=told)
    assert ids(open_rows(fewer, classes_of=known)) == {2, 4}


def test_classes_of_goes_by_the_place_in_y_not_by_the_path(train: k5.H5Dataset, fewer: str) -> None:
    with h5py.File(fewer, "r+") as file:
        file.move("y", "y_test")
    assert ids(open_rows(fewer, y="y_test", classes_of=train)) == {1, 2}
    several = open_rows(train.source.paths[0], y=("y", "y"))
    held = open_rows(fewer, y=("y_test", "y_test"), classes_of=several)
    assert {int(label) for _, (_, labels) in held.batches(0) for label in labels} == {1, 2}


def test_classes_of_serves_sources(train: k5.H5Dataset, fewer: str) -> None:
    source = k5.Source(fewer, x="x", label="y")
    assert ids(k5.H5Dataset(source, x="x", y="label", classes_of=train)) == {1, 2}
    assert ids(k5.H5Dataset(k5.Source(fewer, x="x", y="y"), classes_of=train)) == {1, 2}


def test_classes_of_groups_are_those_of_their_names(fewer: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "groups.h5", "w") as file:
        for name in ANIMALS:
            file[f"{name}/image"] = np.zeros((3, 2), np.float32)
    known = k5.H5Dataset(k5.classes_from_groups(tmp_path / "groups.h5"))
    assert ids(open_rows(fewer, classes_of=known)) == {1, 2}


def test_a_class_that_training_has_not_is_refused(train: k5.H5Dataset, tmp_path: Path) -> None:
    odd = open_rows(write_rows(tmp_path / "odd.h5", "cat", "wolf"), classes_of=train)
    with pytest.raises(LabelError, match=r"'wolf'.*not among its labels 'bird', 'cat', 'dog'"):
        ids(odd)


def test_classes_of_what_has_none_is_refused(fewer: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"classes_of='train.h5'; give the H5Dataset"):
        open_rows(fewer, classes_of="train.h5")
    path = k5.write(tmp_path / "numbers.h5", x=np.zeros((6, 2)), y=np.arange(6))
    run = k5.Run("mlp", "jax", 1, "runs/mlp")
    for known in (open_rows(path), run):
        with pytest.raises(OptionError, match=r"has no class names.*leave classes_of= out"):
            open_rows(fewer, classes_of=known)
