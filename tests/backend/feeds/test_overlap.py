"""Rows that are trained on are no rows to validate or test on, however their file is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kerash5 as k5
from kerash5._errors import OptionError
from kerash5.cli._jobs import run_test
from kerash5.feeds._overlap import find_overlap
from kerash5.train.loop._data import parts

pytestmark = pytest.mark.one_backend

NUM_ROWS: Final = 30


def write_rows(path: Path, count: int = NUM_ROWS) -> str:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
        file["y"] = np.arange(count) % 3
        file["other"] = -np.arange(count * 2, dtype=np.float32).reshape(count, 2)
        file["alias"] = h5py.SoftLink("/x")
        file["hard"] = file["x"]
    return str(path)


@pytest.fixture
def train(tmp_path: Path) -> str:
    return write_rows(tmp_path / "train.h5")


def open_rows(path: Any, x: str = "x", **options: Any) -> k5.H5Dataset:
    return k5.H5Dataset(path, x=x, y="y", batch_size=5, **options)


def open_module(train: Any, test: Any = None, **options: Any) -> k5.H5DataModule:
    return k5.H5DataModule(train, test, **{"x": "x", "y": "y", "batch_size": 5, **options})


def make_model() -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


def by_symlink(path: str) -> str:
    Path(f"{path}.link.h5").symlink_to(path)
    return f"{path}.link.h5"


def by_hard_link(path: str) -> str:
    os.link(path, f"{path}.hard.h5")
    return f"{path}.hard.h5"


def by_detour(path: str) -> str:
    folder = Path(path).parent
    return str(folder / ".." / folder.name / Path(path).name)


def by_list(path: str) -> list[str]:
    return [write_rows(Path(path).with_name("another.h5")), path]


def by_pattern(path: str) -> str:
    write_rows(Path(path).with_name("another.h5"))
    return str(Path(path).with_name("*.h5"))


def by_external_link(path: str) -> str:
    with h5py.File(Path(path).with_name("links.h5"), "w") as file:
        for name in ("x", "y"):
            file[name] = h5py.ExternalLink(path, name)
    return str(Path(path).with_name("links.h5"))


NAMES: Final[dict[str, Callable[[str], Any]]] = {
    "the same path": str,
    "a symbolic link": by_symlink,
    "a hard link": by_hard_link,
    "another path": by_detour,
    "one of a list": by_list,
    "a pattern": by_pattern,
    "external links": by_external_link,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("role", ["test", "validation_data"])
def test_a_file_that_is_trained_on_is_refused_by_any_name(
    train: str, role: str, name: Callable[[str], Any]
) -> None:
    other = name(train)
    with pytest.raises(OptionError, match=rf"30 of the \d+ rows to .*trained on.*give {role}="):
        open_module(train, **{role: other})


def test_a_pattern_of_training_files_that_holds_the_test_file_is_refused(train: str) -> None:
    pattern = by_pattern(train)
    with pytest.raises(OptionError, match=r"30 of the 30 rows to test on \(rows 0, 1, 2, 3, 4 and"):
        open_module(pattern, train)


@pytest.mark.parametrize("alias", ["alias", "hard"])
def test_one_data_set_by_another_name_is_refused(train: str, alias: str) -> None:
    with pytest.raises(OptionError, match="30 of the 30 rows to test on"):
        open_module(train, k5.Source(train, x=alias, y="y"))


def test_only_rows_that_both_serve_are_counted(train: str) -> None:
    with pytest.raises(OptionError, match=r"2 of the 30 rows to test on \(rows 4, 7 of 'x' in"):
        open_module(train, train, rows=[7, 4])
    with pytest.raises(OptionError, match=r"1 of the 30 rows to validate on \(row 9 of"):
        open_module(train, validation_data=train, rows=[9])


def test_other_columns_and_other_files_are_no_leak(train: str, tmp_path: Path) -> None:
    data = open_module(train, k5.Source(train, x="other", y="y"), validation_split=0.2)
    assert len(find_overlap(data.train, parts(data)[2] or data.train)) == 0
    copy = shutil.copy(train, tmp_path / "copy.h5")
    assert open_module(train, copy, validation_split=0.2).test is not None


def test_rows_that_are_validated_and_tested_on_are_warned_of(train: str, tmp_path: Path) -> None:
    copy = shutil.copy(train, tmp_path / "copy.h5")
    words = r"30 of the 30 rows to test on \(rows 0, .*copy.h5'\) are validated on as well.*0\.2"
    with pytest.warns(UserWarning, match=words) as noted:
        assert open_module(train, copy, validation_data=copy).test is not None
    assert [each.filename for each in noted] == [__file__]
    some = open_rows(copy, rows=[3, 29])
    with pytest.warns(UserWarning, match=r"2 of the 30 rows to test on \(rows 3, 29 of 'x'"):
        open_module(train, copy, validation_data=some)
    open_module(train, open_rows(copy, rows=slice(0, 3)), validation_data=some)


def test_inputs_that_share_one_table_are_no_leak(train: str) -> None:
    one = k5.H5Dataset(train, x={"a": "x", "b": "y"}, y="y")
    other = k5.H5Dataset(train, x={"a": "other", "b": "y"}, y="y")
    assert len(find_overlap(one, other)) == 0
    assert len(find_overlap(one, k5.H5Dataset(train, x={"a": "hard", "b": "y"}))) == NUM_ROWS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    trained=st.lists(st.integers(0, 2 * NUM_ROWS - 1), min_size=1),
    tested=st.lists(st.integers(0, NUM_ROWS - 1), min_size=1),
)
def test_the_overlap_is_the_intersection_of_the_rows(
    train: str, trained: list[int], tested: list[int]
) -> None:
    # Sorted by name: the other file's rows come first, so row i of `train` is row 30 + i there.
    first = Path(train).with_name("another.h5")
    if not first.exists():
        write_rows(first)
    both = open_rows([str(first), train], rows=trained)
    found = find_overlap(both, open_rows(train, rows=tested)).tolist()
    assert found == sorted({row - NUM_ROWS for row in trained} & {*tested})


# In Keras' own fit.


def test_fit_refuses_validation_on_training_rows_before_the_first_step(train: str) -> None:
    model, ds = make_model(), open_rows(train)
    before = model.get_weights()
    for other in (ds, open_rows(train), open_rows(train, rows=slice(20, None))):
        with pytest.raises(OptionError, match=r"rows to validate on.*validation_data="):
            model.fit(ds, validation_data=other, verbose=0)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_fit_takes_rows_that_are_not_trained_on(train: str) -> None:
    ds, held = open_rows(train, rows=slice(0, 20)), open_rows(train, rows=slice(20, None))
    history = make_model().fit(ds, validation_data=held, epochs=2, verbose=0).history
    assert len(history["val_loss"]) == 2
    own = open_rows(train, x="other")
    assert make_model().fit(ds, validation_data=own, epochs=1, verbose=0).history["val_loss"]


# On purpose.


def test_training_rows_can_be_evaluated_on_purpose(train: str, tmp_path: Path) -> None:
    model, data = make_model(), open_module(train, validation_split=0.2)
    model.fit(data.train, verbose=0)
    assert model.evaluate(data.train, verbose=0) > 0
    trainer = k5.Trainer(max_epochs=1, run_dir=tmp_path / "run", enable_progress_bar=False)
    trainer.fit(model, data)
    assert trainer.test(model, data.train)["loss"] > 0
    assert trainer.test(model, open_rows(train))["loss"] > 0


def test_the_command_tests_a_run_on_its_training_file(train: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer = k5.Trainer(max_epochs=1, run_dir=folder, enable_progress_bar=False)
    trainer.fit(make_model(), open_module(train))
    assert run_test(str(folder), test=train).test["loss"] > 0
