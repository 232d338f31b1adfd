"""The trainer's options by their names, and those that Lightning and Keras call otherwise."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

import h5py
import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import kerash5 as k5
from kerash5._errors import FileError, OptionError, RunError
from kerash5._options import DataOptions, TrainerOptions
from kerash5.feeds._served import served_by

pytestmark = pytest.mark.one_backend

NUM_ROWS: Final = 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = rng.normal(size=(NUM_ROWS, 3)).astype("f4")
        file["y"] = np.arange(NUM_ROWS) % 3
    return tmp_path / "rows.h5"


@pytest.fixture
def data(path: Path) -> k5.H5DataModule:
    return k5.H5DataModule(path, x="x", y="y", batch_size=8, validation_split=12)


def build() -> keras.Model:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, "softmax")])
    model.compile(
        keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def make_trainer(folder: Path, **options: Any) -> k5.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return k5.Trainer(**{**quiet, "run_dir": folder / "run", **options})


@pytest.mark.parametrize(
    ("made", "options"), [(k5.Trainer, TrainerOptions), (k5.H5DataModule, DataOptions)]
)
def test_the_options_are_what_help_shows(made: Any, options: Any) -> None:
    assert inspect.signature(made).parameters == inspect.signature(options).parameters
    shown = inspect.getdoc(made) or ""
    assert all(f"    {name}: " in shown for name in inspect.signature(options).parameters)


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"ema": 0.9}, "it is now ema_momentum="),
        ({"profile": "simple"}, "it is now profiler="),
        ({"checkpoint_every": "1h"}, "it is now train_time_interval="),
        ({"checkpoint_every_steps": 5}, "it is now every_n_train_steps="),
        ({"epochs": 3}, "it is max_epochs="),
        ({"default_root_dir": "."}, "run_dir="),
        ({"patience": 3}, "early_stopping="),
        ({"devices": 2}, "one process"),
        ({"max_epoch": 2}, "did you mean 'max_epochs'"),
        ({"mode": "up"}, "mode='up'; choose 'auto', 'min', 'max'"),
        ({"min_epochs": 5, "max_epochs": 4}, "min_epochs=5 is more than max_epochs=4"),
        ({"min_epochs": 0}, "min_epochs=0"),
        ({"min_steps": 5, "max_steps": 4}, "min_steps=5 is more than max_steps=4"),
        ({"min_steps": 0}, "min_steps=0"),
        ({"max_steps": 0}, "the number of training steps, one per batch"),
        ({"check_val_every_n_epoch": 5, "max_epochs": 4}, "nothing would be validated"),
        ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch=0"),
        ({"limit_test_batches": 0}, "limit_test_batches=0"),
    ],
    ids=str,
)
def test_an_option_that_is_none_is_refused_in_one_sentence(
    options: dict[str, Any], cure: str
) -> None:
    with pytest.raises(OptionError) as caught:
        k5.Trainer(**options)
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"ckpt_path": "last"}, "resume="),
        ({"val_dataloaders": 1}, "third argument"),
        ({"validation_data": 1}, "third argument"),
        ({"epochs": 3}, "max_epochs"),
        ({"class_weights": {}}, "did you mean 'class_weight'"),
    ],
    ids=str,
)
def test_a_keyword_of_fit_that_is_none_is_refused(
    data: k5.H5DataModule, tmp_path: Path, options: dict[str, Any], cure: str
) -> None:
    untyped: Any = make_trainer(tmp_path)
    with pytest.raises(OptionError, match=cure):
        untyped.fit(build(), data, **options)
    with pytest.raises(OptionError, match="second argument"):
        untyped.fit(build(), datamodule=data)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"validation": 0.2}, "validation_split=.*validation_data="),
        ({"num_workers": 2}, "threads="),
        ({"validation_split": 0.2, "validation_data": "rows.h5"}, "give one"),
        ({"validation_split": "rows.h5"}, "validation_data="),
        ({"validation_data": 0.2}, "validation_split="),
    ],
    ids=str,
)
def test_an_option_of_the_data_that_is_none_is_refused(
    path: Path, options: dict[str, Any], cure: str
) -> None:
    with pytest.raises(OptionError, match=cure):
        k5.H5DataModule(path, x="x", y="y", **options)


def test_two_data_sets_are_trained_and_validated_on_as_a_module_is(
    path: Path, data: k5.H5DataModule, tmp_path: Path
) -> None:
    assert data.validation is not None
    one, two = build(), build()
    of_module = make_trainer(tmp_path / "a", max_epochs=2).fit(one, data)
    of_two = make_trainer(tmp_path / "b", max_epochs=2).fit(two, data.train, data.validation)
    assert of_two.history == of_module.history
    for first, second in zip(one.get_weights(), two.get_weights(), strict=True):
        assert_array_equal(first, second)
    trainer = make_trainer(tmp_path / "c")
    with pytest.raises(OptionError, match="data module says itself"):
        trainer.fit(build(), data, data.validation)
    with pytest.raises(OptionError, match="validation is a str"):
        trainer.fit(build(), data.train, str(path))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="are trained on as well"):
        trainer.fit(build(), data.train, data.train)


class StopAlways(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = True


class StopInEpoch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.stop_training = True


@pytest.mark.parametrize(
    ("callback", "least", "expected"),
    [(StopAlways, None, 1), (StopAlways, 3, 3), (StopInEpoch, None, 1), (StopInEpoch, 2, 3)],
)
def test_min_epochs_are_made_whatever_callbacks_ask(
    data: k5.H5DataModule, tmp_path: Path, callback: Any, least: int | None, expected: int
) -> None:
    trainer = make_trainer(tmp_path, max_epochs=5, min_epochs=least, callbacks=[callback()])
    run = trainer.fit(build(), data)
    assert len(run.epochs) == expected
    rows = [epoch.num_rows for epoch in run.epochs]
    assert rows[: least or 0] == [28] * (least or 0)  # whole epochs


def test_min_epochs_hold_for_early_stopping_and_not_for_max_steps(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    model = build()
    model.optimizer.learning_rate = 0.0  # nothing improves
    options = {"max_epochs": 6, "early_stopping": 1, "min_epochs": 4}
    assert len(make_trainer(tmp_path / "a", **options).fit(model, data).epochs) == 4
    assert len(make_trainer(tmp_path / "b", **options, max_steps=5).fit(model, data).epochs) == 2


@pytest.mark.parametrize(
    ("callback", "least", "expected"),
    [
        (StopAlways, 3, [4]),
        (StopAlways, 5, [4, 4]),
        (StopInEpoch, 6, [4, 2]),
        (StopAlways, 99, 5 * [4]),
    ],
)
def test_min_steps_are_made_whatever_callbacks_ask(
    data: k5.H5DataModule, tmp_path: Path, callback: Any, least: int, expected: list[int]
) -> None:
    trainer = make_trainer(tmp_path, max_epochs=5, min_steps=least, callbacks=[callback()])
    run = trainer.fit(build(), data)
    assert [-(-epoch.num_rows // 8) for epoch in run.epochs] == expected


def test_min_steps_and_min_epochs_both_hold(data: k5.H5DataModule, tmp_path: Path) -> None:
    options = {"max_epochs": 5, "callbacks": [StopAlways()]}
    few = make_trainer(tmp_path / "a", **options, min_epochs=3, min_steps=2)
    assert len(few.fit(build(), data).epochs) == 3
    many = make_trainer(tmp_path / "b", **options, min_epochs=1, min_steps=9)
    assert len(many.fit(build(), data).epochs) == 3


def test_validate_uses_the_batches_that_fit_validates_on(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    model = build()
    trainer = make_trainer(tmp_path, max_epochs=1, limit_val_batches=1)
    expected = trainer.fit(model, data).epochs[0].metrics["val_loss"]
    assert_allclose(trainer.validate(model, data)["loss"], expected, rtol=1e-6)
    assert abs(k5.Trainer().validate(model, data)["loss"] - expected) > 1e-3


def test_validate_without_validation_is_refused(data: k5.H5DataModule) -> None:
    with pytest.raises(OptionError, match="limit_val_batches=0 switches validation off"):
        k5.Trainer(limit_val_batches=0).validate(build(), data)


def test_validation_every_nth_epoch_is_that_of_keras(data: k5.H5DataModule, tmp_path: Path) -> None:
    assert data.validation is not None
    expected, model = build(), build()
    history = expected.fit(
        data.train, validation_data=data.validation, validation_freq=2, epochs=5, verbose=0
    ).history
    trainer = make_trainer(tmp_path, max_epochs=5, check_val_every_n_epoch=2)
    run = trainer.fit(model, data)
    validated = ["val_loss" in epoch.metrics for epoch in run.epochs]
    assert validated == [False, True, False, True, False]
    found = [epoch.metrics["val_loss"] for epoch in run.epochs if "val_loss" in epoch.metrics]
    assert_allclose(found, history["val_loss"], rtol=1e-5)
    for one, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert run.best_epoch in (1, 3)


def test_epochs_without_validation_count_for_no_patience(
    data: k5.H5DataModule, tmp_path: Path
) -> None:
    model = build()
    model.optimizer.learning_rate = 0.0
    options = {"max_epochs": 12, "early_stopping": 2, "check_val_every_n_epoch": 2}
    run = make_trainer(tmp_path, **options).fit(model, data)
    assert len(run.epochs) == 6  # validated in epochs 1, 3 and 5: the best, then two no better


def test_mode_says_which_epoch_is_the_best(data: k5.H5DataModule, tmp_path: Path) -> None:
    for mode, choose in (("min", np.argmin), ("max", np.argmax)):
        trainer = make_trainer(tmp_path / mode, max_epochs=4, monitor="loss", mode=mode)
        run = trainer.fit(build(), data)
        assert run.best_epoch == int(choose(run.history["loss"]))


def test_tests_may_see_some_batches_only(path: Path, tmp_path: Path) -> None:
    model = build()
    data = k5.H5Dataset(path, x="x", y="y", batch_size=8)
    found = make_trainer(tmp_path, limit_test_batches=2).test(model, data)
    first = k5.H5Dataset(path, x="x", y="y", batch_size=8, rows=slice(0, 16))
    expected = model.evaluate(first, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_a_checkpoint_is_copied_and_resumed_from(data: k5.H5DataModule, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=2)
    assert trainer.callback_metrics == {}
    with pytest.raises(RunError, match="call fit first"):
        trainer.save_checkpoint(tmp_path / "saved")
    run = trainer.fit(build(), data)
    assert trainer.callback_metrics == run.epochs[-1].metrics
    saved = trainer.save_checkpoint(tmp_path / "saved")
    with pytest.raises(FileError, match="saved"):
        trainer.save_checkpoint(saved)
    whole = make_trainer(tmp_path / "whole", max_epochs=3).fit(build(), data)
    rest = make_trainer(tmp_path / "rest", max_epochs=3).fit(build(), data, resume=saved)
    assert rest.history["loss"] == whole.history["loss"]
    bare = make_trainer(tmp_path / "bare", max_epochs=1, enable_checkpointing=False)
    bare.fit(build(), data)
    with pytest.raises(RunError, match="no checkpoint"):
        bare.save_checkpoint(tmp_path / "none")


def add_one(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x + 1, y


def double(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x * 2, y


def test_a_transform_of_training_is_called_after_the_one_of_all(path: Path) -> None:
    plain = k5.H5DataModule(path, x="x", y="y", validation_split=12, shuffle=False)
    changed = k5.H5DataModule(
        path,
        x="x",
        y="y",
        validation_split=12,
        shuffle=False,
        transform=add_one,
        train_transform=double,
    )
    assert plain.validation is not None
    assert changed.validation is not None
    assert_array_equal(changed.train.read(0)[0], (plain.train.read(0)[0] + 1) * 2)
    assert_array_equal(changed.validation.read(0)[0], plain.validation.read(0)[0] + 1)
    alone = k5.H5DataModule(path, x="x", y="y", validation_split=12, train_transform=double)
    assert alone.validation is not None
    assert not served_by(alone.validation).is_transformed
    assert served_by(alone.train).is_transformed
    assert "described" in changed.config()["train_transform"]
